"""Asks many times a second: does the server answer, how far are a stream and a group, are entries served.

A group's position is the lowest entry that it was given and has not acknowledged. Slots are "stream/0", positions are
the ids of entries as numbers (talk.place_of).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gameday.drivers.redis_streams.talk import Server, Talk, after, place_of
from gameday.errors import DriverError
from gameday.model import Position
from gameday.stack.config import Redis
from gameday.system.tls import PLAIN, Tls

__all__ = ["Cursor", "Lag", "Probe", "Serving"]

ASK_WITHIN_S = 0.9
"""For one reading of a cursor: less than the probe's deadline."""

PENDING_LOOKED_AT = 1_000
"""How many of the entries that a group has not acknowledged are read to count their deliveries."""


@dataclass(frozen=True)
class Probe:
    """Probes that a new connection can log in and gets an answer to PING. A server that still loads its data from disk
    does not serve."""

    url: Redis
    timeout_s: float
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0}. Raises DriverError if there is no such answer within timeout_s."""
        server = Server(self.url, self.tls)
        found = server.ask(lambda talk: talk("PING"), self.timeout_s, "PING")
        if found != b"PONG":
            raise DriverError(f"PING at {server} is answered with {str(found)[:80]}", definite=True)
        return {"": 1.0}


@dataclass(frozen=True)
class Cursor:
    """A consumer group's position in a stream: the lowest entry that it has not acknowledged, else the one after the
    last that it was given. A group that has nothing left is at the stream's end, even if the last entries are deleted.
    """

    url: Redis
    topic: str
    group: str
    tls: Tls = PLAIN

    def position(self) -> Position:
        """Return the place of the next entry that is not acknowledged."""
        return {f"{self.topic}/0": self._ask(self._position)}

    def end(self) -> Position:
        """Return the place after the last entry that there ever was."""
        return {f"{self.topic}/0": self._ask(self._end)}

    def _position(self, talk: Talk) -> int:
        end = self._end(talk)
        group = talk.group(self.topic, self.group)
        if group["pending"]:
            lowest = talk("XPENDING", self.topic, self.group)[1]
            if lowest is not None:
                return place_of(lowest)
        given = after(group["last-delivered-id"])
        return max(given, end) if group.get("lag") == 0 else given

    def _end(self, talk: Talk) -> int:
        return after(talk.stream(self.topic)["last-generated-id"])

    def _ask(self, question: Any) -> Any:
        return Server(self.url, self.tls).ask(question, ASK_WITHIN_S, f"group {self.group} of stream {self.topic}")


@dataclass(frozen=True)
class Lag:
    """Probes how many entries a consumer group has left."""

    url: Redis
    topic: str
    group: str
    timeout_s: float
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return "": not delivered or not acknowledged; ".unacked": delivered and not acknowledged; ".redelivered": of
        the first PENDING_LOOKED_AT of these, delivered more than once. Raises DriverError also if the server doesn't
        know the first number, such as after deletions in the middle of a stream."""
        what = f"group {self.group} of stream {self.topic}"
        return Server(self.url, self.tls).ask(self._left, self.timeout_s, what)

    def _left(self, talk: Talk) -> Mapping[str, float]:
        group = talk.group(self.topic, self.group)
        lag, unacked = group.get("lag"), float(group["pending"])
        if lag is None:
            raise ValueError("it does not know how many entries are not delivered, because some were deleted")
        pending = talk("XPENDING", self.topic, self.group, "-", "+", PENDING_LOOKED_AT) if unacked else []
        again = sum(1 for *_, delivered in pending if delivered > 1)
        return {"": float(lag) + unacked, ".unacked": unacked, ".redelivered": float(again)}


@dataclass(frozen=True)
class Serving:
    """Probes that each stream exists, and that the server returns its last entry."""

    url: Redis
    topics: Sequence[str]
    timeout_s: float
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return "stream/0" -> 1.0. Raises DriverError unless all streams serve within timeout_s; an empty one serves
        by saying so."""
        server = Server(self.url, self.tls)
        return server.ask(self._served, self.timeout_s, f"streams {', '.join(self.topics)}")

    def _served(self, talk: Talk) -> Mapping[str, float]:
        for topic in self.topics:
            if talk.stream(topic)["length"] and not talk("XREVRANGE", topic, "+", "-", "COUNT", 1):
                raise ValueError(f"no entry came from {topic}")
        return {f"{topic}/0": 1.0 for topic in self.topics}
