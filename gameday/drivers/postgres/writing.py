"""Writes the canary's records with a statement of the user's, and takes them away with another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gameday.drivers.postgres.session import Refused, Session
from gameday.errors import DriverError
from gameday.model import Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Postgres

__all__ = ["Canary"]

UNSURE = ("08", "57P", "40003")
"""SQLSTATEs after which a commit may have happened: the connection failed, the server ends, completion unknown."""


@dataclass
class Canary:
    """Carries out `text`, SQL such as INSERT INTO orders VALUES ({n}, '{key}', '{now}'), as one transaction."""

    dsn: Postgres
    text: str
    timeout_s: float
    _idle: list[Session] = field(default_factory=list, init=False, repr=False)

    def send(self, known: Mapping[str, str]) -> Sent:
        """done: it is committed. refused: the server answered with an error, or could not be reached."""
        try:
            session = self._taken()
        except DriverError as e:
            return Sent(Outcome.REFUSED, f"nothing was sent: {e}")
        try:
            session.rows(filled(self.text, known))
        except DriverError as e:
            session.abandon()
            definite = isinstance(e, Refused) and e.state and not e.state.startswith(UNSURE)
            return Sent(Outcome.REFUSED if definite else Outcome.UNKNOWN, str(e))
        except BaseException:
            session.abandon()
            raise
        self._idle.append(session)
        return Sent(Outcome.DONE)

    def _taken(self) -> Session:
        """A session that has not ended, with its time before it; another thread may be quicker."""
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:
                break
            if not session.ended():
                session.allow(self.timeout_s)
                return session
            session.abandon()
        return Session(self.dsn, self.timeout_s)
