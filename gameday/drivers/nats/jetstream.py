"""Reads a JetStream stream as a hop: which records its end holds, in which order, and which are repeated.

It asks the stream's leader for each message by its number: that changes nothing, needs no consumer, and works for a
stream of any retention. It asks no replica, which may be behind.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from gameday.drivers._log import READ_RECORDS_S_MIN, READ_WITHIN_S, Raw, Slot, Span, T, UrlHop
from gameday.drivers.nats.consumers import first_since, since_1970_s
from gameday.drivers.nats.server import Asks, Session
from gameday.stack.config import Nats

__all__ = ["Hop", "raw"]

AT_ONCE = 500
"""How many questions are under way at once."""

DELETES = ("DEL", "PURGE")
"""The values of the header KV-Operation in a key-value store's message that deletes."""


@dataclass
class Hop(Asks, UrlHop):
    """topics: streams of JetStream. `$key` is a message's subject, `$offset` its sequence number."""

    url: Nats
    credentials: str = ""

    def __post_init__(self) -> None:
        Asks.__post_init__(self)
        UrlHop.__post_init__(self)

    def _asking(self) -> AbstractContextManager[None]:
        return _nothing()

    def _bounds(self) -> dict[Slot, Span]:
        """Return the bounds. A stream that still has its first message begins at 0, as a log does."""

        async def bounds(session: Session) -> dict[Slot, Span]:
            found: dict[Slot, Span] = {}
            for topic in self.topics:
                state = (await session.stream(topic))["state"]
                first, end = int(state["first_seq"]), int(state["last_seq"]) + 1
                low = first if state["messages"] else end
                found[topic, 0] = (0 if low <= 1 else low, end)
            return found

        return self._ask(bounds, READ_WITHIN_S)

    def _spans_since(self, since_us: int) -> dict[Slot, Span]:
        async def spans(session: Session) -> dict[Slot, Span]:
            found: dict[Slot, Span] = {}
            for topic in self.topics:
                end = int((await session.stream(topic))["state"]["last_seq"]) + 1
                found[topic, 0] = (min(end, await first_since(session, topic, since_us / 1_000_000)), end)
            return found

        return self._ask(spans, READ_WITHIN_S)

    def _left_out(self, spans: Mapping[Slot, Span], read: Mapping[Slot, int]) -> int:
        return sum(max(0, stop - max(1, start) - read[slot]) for slot, (start, stop) in spans.items())

    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], T]) -> dict[Slot, list[T]]:
        reading: dict[Slot, list[T]] = {slot: [] for slot in spans}
        wanted = {slot: (max(1, start), stop) for slot, (start, stop) in spans.items() if max(1, start) < stop}
        if not wanted:
            return reading
        within_s = READ_WITHIN_S + sum(stop - start for start, stop in wanted.values()) / READ_RECORDS_S_MIN

        async def read(session: Session) -> None:
            for (topic, partition), (start, stop) in wanted.items():
                for first in range(start, stop, AT_ONCE):
                    numbers = range(first, min(first + AT_ONCE, stop))
                    asked = asyncio.gather(*(session.message(topic, seq=number) for number in numbers))
                    try:
                        found = await asyncio.wait_for(asked, READ_WITHIN_S)
                    except TimeoutError:
                        raise ValueError(f"{topic} gives nothing beyond {first} of {stop}: timed out") from None
                    messages = [raw((topic, partition), one) for one in found if one is not None]
                    if messages:
                        reading[topic, partition].append(parse(messages))

        self._ask(read, within_s)
        return reading

    def _ask(self, question: Any, within_s: float) -> Any:
        return self._server.ask(question, within_s, f"streams {', '.join(self.topics)}")


def raw(slot: Slot, found: Mapping[str, Any]) -> Raw:
    """Make a message of what JetStream's API returns."""
    headers = _headers(base64.b64decode(found.get("hdrs", "")))
    deletes = any(name == "KV-Operation" and value.decode() in DELETES for name, value in headers)
    value = None if deletes else base64.b64decode(found.get("data", ""))
    stamp_ms = int(since_1970_s(found["time"]) * 1000)
    return Raw((slot, int(found["seq"])), stamp_ms, value, found["subject"].encode(), headers)


def _headers(block: bytes) -> list[tuple[str, bytes]]:
    lines = [line.partition(b":") for line in block.split(b"\r\n")[1:] if line]
    return [(name.decode(errors="replace"), value.strip()) for name, _, value in lines]


@contextmanager
def _nothing() -> Iterator[None]:
    """Do nothing: each question handles its own errors."""
    yield
