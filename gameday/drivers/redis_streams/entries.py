"""Reads a stream of Redis or Valkey as a hop: which records its end holds, in which order, and which are repeated.

An entry's place in the log is its id as a number, so places are not dense: only reading shows how many entries are
between two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from gameday.drivers._log import READ_RECORDS_S_MIN, READ_WITHIN_S, Raw, Slot, Span, T, UrlHop
from gameday.drivers.redis_streams.talk import ADDED_BITS, NONE, Server, Talk, after, id_of, place_of
from gameday.stack.config import Redis

__all__ = ["Hop", "raw"]

BATCH_ENTRIES = 2_000
"""So many fit into the processor's cache while they become columns."""

CLOCK_MS_MIN = 100_000_000_000
"""An id below this (the year 1973) is no time: its writer numbers the entries itself."""


@dataclass
class Hop(UrlHop):
    """topics: keys of streams. field: the field of an entry that holds the message, the others are its headers; "": the
    message is an object of all fields."""

    url: Redis
    field: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._begins: dict[str, bytes] = {}

    def _asking(self) -> AbstractContextManager[None]:
        return _nothing()

    def _bounds(self) -> dict[Slot, Span]:
        """Return the bounds. A stream that still has its first entry begins at 0, as a log does."""

        def bounds(talk: Talk) -> dict[Slot, Span]:
            return {(topic, 0): self._span(topic, talk.stream(topic)) for topic in self.topics}

        return self._ask(bounds, READ_WITHIN_S)

    def _spans_since(self, since_us: int) -> dict[Slot, Span]:
        """Return the spans by the entries' ids. Ids that are no times count as of 1970: none came since then."""

        def spans(talk: Talk) -> dict[Slot, Span]:
            found: dict[Slot, Span] = {}
            for topic in self.topics:
                end = after(talk.stream(topic)["last-generated-id"])
                found[topic, 0] = (min(end, -(-since_us // 1000) << ADDED_BITS), end)
            return found

        return self._ask(spans, READ_WITHIN_S)

    def _before(self, slot: Slot, offset: int, records: int) -> int:
        def before(talk: Talk) -> int:
            found = talk("XREVRANGE", slot[0], id_of(offset - 1), "-", "COUNT", records)
            return place_of(found[-1][0]) if len(found) == records else 0

        return self._ask(before, READ_WITHIN_S + records / READ_RECORDS_S_MIN) if offset > 0 else 0

    def _near(self, start: int, end: int) -> int:
        return start

    def _count(self, bounds: Mapping[Slot, Span]) -> int:
        return self._ask(lambda talk: sum(int(talk("XLEN", topic)) for topic, _ in bounds), READ_WITHIN_S)

    def _left_out(self, spans: Mapping[Slot, Span], read: Mapping[Slot, int]) -> int:
        """Count 1 for each stream in which single entries were deleted: the server doesn't say how many."""

        def deleted(talk: Talk) -> int:
            highest = {slot: talk.stream(slot[0]).get("max-deleted-entry-id", NONE) for slot in spans}
            return sum(1 for slot, (start, stop) in spans.items() if start < stop and after(highest[slot]) > start)

        return self._ask(deleted, READ_WITHIN_S)

    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], T]) -> dict[Slot, list[T]]:
        reading: dict[Slot, list[T]] = {slot: [] for slot in spans}
        wanted = {slot: span for slot, span in spans.items() if span[0] < span[1]}
        if not wanted:
            return reading

        def read(talk: Talk) -> None:
            for (topic, partition), (start, stop) in wanted.items():
                while start < stop:
                    found = talk("XRANGE", topic, id_of(start), id_of(stop - 1), "COUNT", BATCH_ENTRIES)
                    if found:
                        reading[topic, partition].append(
                            parse([raw((topic, partition), self.field, *one) for one in found])
                        )
                    start = place_of(found[-1][0]) + 1 if len(found) == BATCH_ENTRIES else stop

        self._ask(read, READ_WITHIN_S + self._count(wanted) / READ_RECORDS_S_MIN)
        return reading

    def _span(self, topic: str, told: Mapping[str, Any]) -> Span:
        """Return a stream's span. Its first entry is known to be the first ever while none is deleted, and later as
        long as it is the same: an entry that was deleted after it doesn't change that."""
        end, first = after(told["last-generated-id"]), told["first-entry"]
        if told.get("entries-added") == told["length"]:
            self._begins = {**self._begins, topic: first[0]} if first else self._begins
            return 0, end
        if first and self._begins.get(topic) == first[0]:
            return 0, end
        return (place_of(first[0]) if first else end), end

    def _ask(self, question: Callable[[Talk], T], within_s: float) -> T:
        return Server(self.url, self.tls).ask(question, within_s, f"streams {', '.join(self.topics)}")


def raw(slot: Slot, field: str, entry: bytes, fields: Sequence[bytes]) -> Raw:
    """Make a message of an entry. field: see Hop."""
    place = place_of(entry)
    held = dict(zip(fields[::2], fields[1::2], strict=True))
    stamp_ms = place >> ADDED_BITS
    value = held.pop(field.encode(), b"") if field else _object(held)
    headers = [(name.decode(errors="replace"), text) for name, text in held.items()] if field else []
    return Raw((slot, place), stamp_ms if stamp_ms >= CLOCK_MS_MIN else None, value, None, headers)


def _object(held: Mapping[bytes, bytes]) -> bytes:
    """Return the fields as a JSON object. With bytes that are no text it is not JSON, so the message is malformed."""
    try:
        return orjson.dumps({name.decode(): text.decode() for name, text in held.items()})
    except UnicodeDecodeError:
        return b"\xff".join(held.values())


@contextmanager
def _nothing() -> Iterator[None]:
    """Do nothing: each question handles its own errors."""
    yield
