"""Adds the canary's records to a stream. This side sends each only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from gameday.drivers.redis_streams.talk import Server, Talk
from gameday.errors import DriverError
from gameday.model import Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Redis
from gameday.system.tls import PLAIN, Tls

__all__ = ["Canary"]

ANSWERS = (ResponseError, BusyLoadingError, AuthenticationError)
"""The server's answers to a command that it does not carry out."""


@dataclass(frozen=True)
class Canary:
    """Adds an entry with these values, by field, to the stream. id: that of each entry; "*": the server's choice. The
    stream must exist: it is not created."""

    url: Redis
    topic: str
    values: Mapping[str, str]
    timeout_s: float
    id: str = "*"
    tls: Tls = PLAIN

    def send(self, known: Mapping[str, str]) -> Sent:
        """Send one record. done: the server returns the entry's id. refused: it answers with an error, there is no such
        stream, or nothing could be sent."""
        server = Server(self.url, self.tls)
        pairs = [word for name, text in self.values.items() for word in (name, filled(text, known))]
        words = ["XADD", filled(self.topic, known), "NOMKSTREAM", filled(self.id, known), *pairs]
        sent = False

        def add(talk: Talk) -> Sent:
            nonlocal sent
            sent = True
            try:
                added = talk(*words)
            except ANSWERS as e:
                return Sent(Outcome.REFUSED, str(e))
            return Sent(Outcome.REFUSED, f"there is no stream {words[1]}") if added is None else Sent(Outcome.DONE)

        try:
            return server.talk(add, 2 * self.timeout_s, "XADD")
        except (OSError, RedisError, DriverError) as e:
            why = str(e) if isinstance(e, DriverError) else f"XADD at {server}: {server.words(e, self.timeout_s)}"
            return Sent(Outcome.UNKNOWN, why) if sent else Sent(Outcome.REFUSED, f"nothing was sent: {why}")
