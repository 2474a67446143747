"""Publishes the canary's records. This side sends each only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from nats.errors import Error, MaxPayloadError, NoRespondersError

from gameday.drivers.nats.server import Asks, Session
from gameday.model import Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Nats
from gameday.system.tls import PLAIN, Tls

__all__ = ["Canary"]

DENIED = "permissions violation for publish"


@dataclass(frozen=True)
class Canary(Asks):
    """Publishes this text to the subject, which belongs to a JetStream stream. headers: those of each message;
    Nats-Msg-Id is not needed, because nothing is sent again."""

    url: Nats
    subject: str
    text: str
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: str = ""
    tls: Tls = PLAIN

    def send(self, known: Mapping[str, str]) -> Sent:
        """Send one record. done: a stream has stored it. refused: a stream has not stored it, no stream has the
        subject, publishing isn't allowed, or nothing could be sent."""
        sent = False

        async def publish(session: Session) -> Sent:
            nonlocal sent
            sent = True
            subject, body = filled(self.subject, known), filled(self.text, known).encode()
            headers = {name: filled(text, known) for name, text in self.headers.items()}
            try:
                answer = await session.request(subject, body, headers or None, self.timeout_s)
            except NoRespondersError:
                return Sent(Outcome.REFUSED, f"no stream has the subject {subject}")
            except MaxPayloadError as e:
                return Sent(Outcome.REFUSED, str(e))
            except TimeoutError:
                if any(DENIED in str(told).lower() for told in session.told):
                    return Sent(Outcome.REFUSED, str(session.told[-1]))
                return Sent(Outcome.UNKNOWN, f"no word of it within {self.timeout_s:g} s")
            return _outcome(answer.data)

        try:
            return self._server.talk(publish, 2 * self.timeout_s)
        except (OSError, Error) as e:
            why = f"{self._server}: {self._server.words(e, self.timeout_s)}"
            return Sent(Outcome.UNKNOWN, why) if sent else Sent(Outcome.REFUSED, f"nothing was sent: {why}")


def _outcome(answer: bytes) -> Sent:
    """Read a stream's acknowledgement. Another answer, such as another subscriber's, leaves the outcome unknown."""
    try:
        told = orjson.loads(answer)
        if "error" in told:
            return Sent(Outcome.REFUSED, str(told["error"].get("description", told["error"])))
        if told.get("stream") and told.get("seq"):
            return Sent(Outcome.DONE)
    except (ValueError, AttributeError, TypeError):
        pass
    return Sent(Outcome.UNKNOWN, f"the answer is no acknowledgement of a stream: {answer[:80]!r}")
