"""Wraps a backend for the programs: each call has a failpoint before it is sent and one after the answer, and is
counted.

Before it nothing is sent: `return(why)` makes the call fail definitely. After it the broker has carried it out:
`return(why)` loses its answer, so that the outcome is unknown. Delays, pauses and kills are the same at both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from failpoints import Point, point
from pipelines.router.backends import Backend, Delivery, Info, Names, Unconnected, Unpublished
from pipelines.router.metrics import Metrics
from pipelines.router.settings import LABELS, REQUESTS

__all__ = ["OPERATIONS", "Wire"]

OPERATIONS = ("connect", "publish", "fetch", "ack", "nak", "dead")

BEFORE: Mapping[str, Point] = {
    name: point(f"broker::before_{name}", f"{name}: nothing is sent; return(why): it fails", returns=str)
    for name in OPERATIONS
}
AFTER: Mapping[str, Point] = {
    name: point(
        f"broker::after_{name}", f"{name}: the broker has done it; return(why): its answer is lost", returns=str
    )
    for name in OPERATIONS
}

CONNECT_WAIT_S = (0.05, 2.0)
"""The first and the longest wait between two attempts to connect."""

LOOK_EVERY_S = 1.0
REJECTED, EXHAUSTED = "rejected", "exhausted"
"""Why a message becomes a dead letter: it can't be handled, or was never answered."""

log = structlog.get_logger()


class Wire:
    """names: the backend's. most: how often a message may be delivered, if the broker doesn't limit that itself. Only
    one thread may use it, as with the backend."""

    def __init__(
        self, backend: Backend, names: Names, metrics: Metrics, defect: str = "", most: int | None = None
    ) -> None:
        self._backend, self._metrics, self._defect, self._most = backend, metrics, defect, most
        self._stream = LABELS[names.requests]
        self._looked_s = float("-inf")
        self.up = False
        """Whether the broker answered at the last look."""
        self._forgotten = False
        self._unheard = False
        """Whether the broker did not confirm an answer to what was fetched last. One that was started again confirms
        none to what it had handed out before, and each would be waited for: the rest is handed out again."""
        self._ended = threading.Event()

    def connect(self, ended: threading.Event) -> None:
        """Try until it is connected, or `ended` is set. Later calls wait on the same event."""
        self._ended = ended
        wait_s = CONNECT_WAIT_S[0]
        while not ended.is_set():
            try:
                self._hit(BEFORE["connect"], Unconnected)
                self._backend.connect()
                self._hit(AFTER["connect"], Unconnected)
            except Unconnected as e:
                log.warning("not_connected", why=str(e))
                self._metrics.connected(False)
                ended.wait(wait_s)
                wait_s = min(2 * wait_s, CONNECT_WAIT_S[1])
            else:
                self.up = True
                self._metrics.connects()
                self._metrics.connected(True)
                return

    def publish(self, to: str, id: str, payload: bytes) -> None:
        """As the backend's."""
        try:
            self._hit(BEFORE["publish"], lambda why: Unpublished(why, definite=True))
            self._backend.publish(to, id, payload)
            self._hit(AFTER["publish"], lambda why: Unpublished(why, definite=False))
        except Unpublished as e:
            self._published(to, "refused" if e.definite else "unknown")
            self._look()  # a batch may be long: report before its end that the broker is away
            raise
        self._published(to, "done")

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        """Fetch as the backend does; once a second look also at what is left."""
        self._look()
        self._unheard = False
        if self._forgotten:
            self._ended.wait(within_s)
            return []
        if BEFORE["fetch"].on is not None and BEFORE["fetch"]() is not None:
            return []
        found = self._backend.fetch(most, within_s)
        if AFTER["fetch"].on is not None and AFTER["fetch"]() is not None:
            return []
        for one in found:
            self._metrics.delivered(self._stream, one.attempt, one.id)
        return [one for one in found if not self._exhausted(one)]

    def ack(self, delivery: Delivery) -> bool:
        """As the backend's."""
        return self._answer("ack", delivery, lambda: self._backend.ack(delivery))

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        """As the backend's."""
        return self._answer("nak", delivery, lambda: self._backend.nak(delivery, delay_s, why))

    def dead(self, delivery: Delivery, why: str, reason: str = REJECTED) -> bool:
        """Write a dead letter as the backend does. reason: REJECTED, or EXHAUSTED."""
        said = self._answer("dead", delivery, lambda: self._backend.dead(delivery, why))
        if said:
            self._metrics.dead(self._stream, reason)
        return said

    def _exhausted(self, delivery: Delivery) -> bool:
        """Whether it was delivered as often as it may before this; then make it a dead letter."""
        if self._most is None or delivery.attempt <= self._most:
            return False
        self.dead(delivery, f"handed out {self._most} times", EXHAUSTED)
        return True

    def _published(self, to: str, outcome: str) -> None:
        if to != REQUESTS.dead:  # dead letters are counted by `dead`
            self._metrics.published(LABELS[to], outcome)

    def _answer(self, kind: str, delivery: Delivery, give: Callable[[], bool]) -> bool:
        said = False
        if not self._unheard and (BEFORE[kind].on is None or BEFORE[kind]() is None):
            said = give()
            self._unheard = not said
            if AFTER[kind].on is not None and AFTER[kind]() is not None:
                said = False
        self._metrics.answered(self._stream, kind, said, delivery.id)
        if not said:
            log.warning("unanswered", kind=kind, id=delivery.id)
            self._look()
        return said

    def _look(self) -> None:
        """Look whether the broker answers, and what it has left for this group."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        info: Info = self._backend.info()
        self._looked_s = time.monotonic()
        if info.connected and not self.up:
            self._metrics.connects()
        self.up = info.connected
        self._forgotten |= self._defect == "forget_after_reconnect" and not info.connected
        self._metrics.connected(info.connected)
        if info.connected:
            self._metrics.pending(self._stream, info.pending, info.unanswered)

    @staticmethod
    def _hit(at: Point, error: Callable[[str], Exception]) -> None:
        if at.on is not None and (instead := at()) is not None:
            raise error(str(instead.value))
