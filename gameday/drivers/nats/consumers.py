"""Asks many times a second: does the server answer, how far are a stream and a consumer, are messages served.

A consumer's position is its ack floor: everything up to it is acknowledged. Slots are "stream/0", positions are
JetStream's sequence numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zlib import crc32

from gameday.drivers.nats.server import Asks, Session
from gameday.errors import DriverError
from gameday.model import Kept, Position
from gameday.stack.config import Nats
from gameday.system.tls import PLAIN, Tls

__all__ = ["Cursor", "Lag", "Probe", "Serving", "since_1970_s"]

ASK_WITHIN_S = 0.9
"""For one reading of a cursor: less than the probe's deadline."""

KEPT_WITHIN_S = 5.0

NS = 1_000_000_000


@dataclass(frozen=True)
class Probe(Asks):
    """Probes that a new connection can log in and gets an answer to its ping. server: the server_name that it must
    have; "": any."""

    url: Nats
    timeout_s: float
    server: str = ""
    credentials: str = ""
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0}. Raises DriverError if nobody answers within timeout_s, or another server than `server`."""

        async def name(session: Session) -> str:
            await session.client.flush(self.timeout_s)  # type: ignore[arg-type]  # it says int
            return str(session.info.get("server_name", ""))

        found = self._server.ask(name, self.timeout_s, "a ping")
        if self.server and found != self.server:
            raise DriverError(f"{self._server} is answered by server {found!r}, not {self.server!r}", definite=True)
        return {"": 1.0}


@dataclass(frozen=True)
class Cursor(Asks):
    """A durable consumer's position in a stream: after the message up to which all are acknowledged.

    A consumer that has nothing left to deliver or to acknowledge is at the stream's end, even if the last messages have
    other subjects. One beyond the end stays there: its stream has lost messages, and reuses their numbers.
    """

    url: Nats
    topic: str
    consumer: str
    credentials: str = ""
    tls: Tls = PLAIN

    def position(self) -> Position:
        """Return the sequence number after the ack floor."""
        end, consumer = self._ask(self._both, ASK_WITHIN_S)
        return {self._slot: _position(end, consumer)}

    def end(self) -> Position:
        """Return the sequence number that the next message will get."""

        async def last(session: Session) -> int:
            return int((await session.stream(self.topic))["state"]["last_seq"]) + 1

        return {self._slot: self._ask(last, ASK_WITHIN_S)}

    def kept(self) -> Mapping[str, Kept]:
        """Return what the stream keeps for the consumer. A retention by time is read; one by messages or bytes shows
        only in what it has deleted."""
        return {self._slot: self._ask(self._kept, KEPT_WITHIN_S)}

    async def _both(self, session: Session) -> tuple[int, Mapping[str, Any]]:
        """Return the stream's end, then the consumer: one that was at the end has left at most what came since."""
        end = int((await session.stream(self.topic))["state"]["last_seq"]) + 1
        return end, await session.api(f"CONSUMER.INFO.{self.topic}.{self.consumer}")

    async def _kept(self, session: Session) -> Kept:
        before = await session.stream(self.topic)
        state, max_age_ns = before["state"], int(before["config"].get("max_age") or 0)
        position = _position(*await self._both(session))
        after = (await session.stream(self.topic))["state"]
        end = int(after["last_seq"]) + 1
        unread = await session.message(self.topic, seq=max(1, position), next_by_subj=">")
        now_s = time.time()
        age_s = None if unread is None else max(0.0, now_s - since_1970_s(unread["time"]))
        retention_s = max_age_ns / NS if max_age_ns else None
        return Kept(
            position=position,
            start=int(state["first_seq"]),
            end=end,
            expired=position if retention_s is None else max(position, await self._young(session, now_s - retention_s)),
            unread_s=age_s,
            retention_s=retention_s,
        )

    async def _young(self, session: Session, since_s: float) -> int:
        """Return the number of the first message that came since then; the end if none did."""
        return await first_since(session, self.topic, since_s)

    def _ask(self, question: Any, within_s: float) -> Any:
        return self._server.ask(question, within_s, f"consumer {self.consumer} of stream {self.topic}")

    @property
    def _slot(self) -> str:
        return f"{self.topic}/0"


@dataclass(frozen=True)
class Lag(Asks):
    """Probes how many messages a consumer has left."""

    url: Nats
    topic: str
    consumer: str
    timeout_s: float
    credentials: str = ""
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return "": not delivered or not acknowledged; ".unacked": delivered and not acknowledged; ".redelivered": the
        latter that were delivered more than once."""

        async def left(session: Session) -> Any:
            return await session.api(f"CONSUMER.INFO.{self.topic}.{self.consumer}")

        found = self._server.ask(left, self.timeout_s, f"consumer {self.consumer} of stream {self.topic}")
        pending, unacked = float(found["num_pending"]), float(found["num_ack_pending"])
        return {"": pending + unacked, ".unacked": unacked, ".redelivered": float(found["num_redelivered"])}


@dataclass(frozen=True)
class Serving(Asks):
    """Probes that each stream has a leader, and that it returns the stream's last message."""

    url: Nats
    topics: Sequence[str]
    timeout_s: float
    credentials: str = ""
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return "stream/0" -> a number that stands for its leader. Raises DriverError unless all streams serve within
        timeout_s; an empty one serves by saying so."""
        return self._server.ask(self._served, self.timeout_s, f"streams {', '.join(self.topics)}")

    async def _served(self, session: Session) -> Mapping[str, float]:
        found = {}
        for topic in self.topics:
            told = await session.stream(topic)
            state, leader = told["state"], (told.get("cluster") or {}).get("leader") or session.info["server_name"]
            if state["messages"] and await session.message(topic, seq=state["last_seq"]) is None:
                raise ValueError(f"no message came from {topic}")
            found[f"{topic}/0"] = float(crc32(leader.encode()))
        return found


async def first_since(session: Session, topic: str, since_s: float) -> int:
    """Return the number of the first message that came since then, seconds since 1970; if none did, the next number.
    A stream's times ascend with its numbers."""
    state = (await session.stream(topic))["state"]
    low, high = max(1, int(state["first_seq"])), int(state["last_seq"]) + 1
    while low < high:
        middle = (low + high) // 2
        found = await session.message(topic, seq=middle, next_by_subj=">")
        if found is None or since_1970_s(found["time"]) >= since_s:
            high = middle
        else:
            low = int(found["seq"]) + 1
    return low


def since_1970_s(time: str) -> float:
    """Read a time as NATS writes it: in UTC, with up to nine decimals of a second."""
    return datetime.fromisoformat(time).timestamp()


def _position(end: int, consumer: Mapping[str, Any]) -> int:
    floor = int(consumer["ack_floor"]["stream_seq"]) + 1
    idle = not consumer["num_pending"] and not consumer["num_ack_pending"]
    return max(floor, end) if idle else floor
