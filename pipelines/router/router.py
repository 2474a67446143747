"""A router: python -m pipelines.router.router --backend jetstream --name router-a --port P, and the environment's
BROKER_URL; ROUTER_DEFECT is one of defects.py, to show that it is found.

It takes requests, decides (a pure function), publishes the decision, and then acknowledges the request. So a request
that is acknowledged has a decision, wherever the router dies, and a decision may be there twice, under one id. A
request that can't be handled is handed back, with a longer delay each time; at its last delivery it becomes a dead
letter. If the broker takes no decision, the router tries again in place, for half of the time that the broker waits.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import structlog

from failpoints import point
from pipelines.router.backends import Delivery, Unpublished
from pipelines.router.deciding import Unhandled, backoff_s, decide, decision, read
from pipelines.router.metrics import Metrics
from pipelines.router.serving import Program, run
from pipelines.router.settings import ADDRESS, DECISIONS, MAX_DELIVER, REQUESTS, backend, common, defect
from pipelines.router.wire import Wire

__all__ = ["Router", "main"]

BATCH = 20
"""How many requests are taken at once: all are handled well within the time that the broker waits."""

FETCH_WITHIN_S = 0.5
AGAIN_AFTER_S = 0.05
"""The wait before a decision is published again, in place."""

SHORT_WAIT_S, LONG_WORK_S, LONG_EVERY = 1.0, 1.5, 100
"""For a defect: the broker waits SHORT_WAIT_S, and one in LONG_EVERY requests takes LONG_WORK_S."""

CRASHED = 70
"""The exit code of a router that a request has ended."""

UNENDING = ("nak_loop", "no_dead_letter")
"""Defects without a limit of deliveries."""

BEFORE_DECIDE = point("router::before_decide", "a request was handed out, and nothing of it is done")
BEFORE_PUBLISH = point("router::before_publish", "it is decided, and nobody knows")
BETWEEN = point("router::between_publish_and_ack", "the decision is published, and the request not acknowledged")
AFTER_ACK = point("router::after_ack", "the request is acknowledged: it must never come again")
AFTER_DEAD_ACK = point(
    "router::after_dead_ack", "a defect: a request that is to be dead is acknowledged, and its letter not written"
)

log = structlog.get_logger()


class Router:
    """Routes requests. `work` goes on until the program has ended."""

    def __init__(self, wire: Wire, name: str, program: Program, ack_wait_s: float, defect: str = "") -> None:
        self._wire, self._name, self._program, self._defect = wire, name, program, defect
        self._ack_wait_s = ack_wait_s
        self._unsent: list[tuple[str, bytes]] = []

    def work(self) -> None:
        """Take requests, and handle them one after the other."""
        self._program.trouble["broker"] = "not connected yet"
        self._wire.connect(self._program.ended)
        while not self._program.ended.is_set():
            for delivery in self._wire.fetch(BATCH, FETCH_WITHIN_S):
                self._handle(delivery)
            for id_, payload in self._unsent:
                self._published(id_, payload, 0.0)
            self._unsent.clear()
            if self._wire.up:
                self._program.trouble.pop("broker", None)
            else:
                self._program.trouble["broker"] = "it does not answer"

    def _handle(self, delivery: Delivery) -> None:
        if BEFORE_DECIDE.on is not None:
            BEFORE_DECIDE()
        try:
            request = read(delivery.payload)
            self._take_time(request)
            made = decision(request, decide(request), self._name, delivery.attempt)
        except Unhandled as e:
            self._refused(delivery, str(e))
            return
        if self._defect == "ack_first":
            self._wire.ack(delivery)
        if BEFORE_PUBLISH.on is not None:
            BEFORE_PUBLISH()
        if self._defect == "publish_unawaited":
            self._unsent.append((delivery.id, made))
        elif not self._published(delivery.id, made, self._ack_wait_s / 2) and self._defect not in (
            "fail_open",
            "ack_first",
        ):
            self._wire.nak(delivery, backoff_s(delivery.attempt), "the broker takes no decision")
            return
        if BETWEEN.on is not None:
            BETWEEN()
        if self._defect != "ack_first":
            self._wire.ack(delivery)
        if AFTER_ACK.on is not None:
            AFTER_ACK()

    def _published(self, id: str, payload: bytes, within_s: float) -> bool:
        """Publish the decision. Return whether the broker has it. A retry has the same id, so that it is there once."""
        deadline = time.monotonic() + (0.0 if self._defect in ("fail_open", "ack_first") else within_s)
        while True:
            try:
                self._wire.publish(DECISIONS.requests, id, payload)
                return True
            except Unpublished as e:
                log.warning("not_published", id=id, definite=e.definite, why=str(e))
                if time.monotonic() + AGAIN_AFTER_S >= deadline or self._program.ended.wait(AGAIN_AFTER_S):
                    return False

    def _refused(self, delivery: Delivery, why: str) -> None:
        """Hand back a request that can't be handled; at its last delivery make it a dead letter."""
        if self._defect == "poison_blocks":
            while not self._program.ended.wait(AGAIN_AFTER_S):
                log.warning("tried_again", id=delivery.id, why=why)
        if delivery.attempt < MAX_DELIVER or self._defect in UNENDING:
            delay_s = 0.0 if self._defect == "nak_loop" else backoff_s(delivery.attempt)
            self._wire.nak(delivery, delay_s, why)
        elif self._defect == "drop_exhausted":
            self._wire.ack(delivery)
        elif self._defect == "dead_after_ack":
            self._wire.ack(delivery)
            if AFTER_DEAD_ACK.on is not None:
                AFTER_DEAD_ACK()
            self._wire.publish(REQUESTS.dead, delivery.id, delivery.payload)
        else:
            told = "" if self._defect == "dead_without_reason" else why
            log.info("dead", id=delivery.id, why=why, attempt=delivery.attempt)
            self._wire.dead(delivery, told)

    def _take_time(self, request: dict[str, Any]) -> None:
        """Crash or take time for two of the poison kinds, and for a defect."""
        if request["kind"] == "crashes":
            log.error("crashed", id=request["id"])
            os._exit(CRASHED)
        if request["kind"] == "slow":
            self._program.ended.wait(1.5 * self._ack_wait_s)
            raise Unhandled("it took longer than the broker waits")
        if self._defect == "short_wait" and request["n"] % LONG_EVERY == 0:
            self._program.ended.wait(LONG_WORK_S)


def main() -> int:
    """Run until SIGTERM. Exit 1: an unexpected error; 2: the port can't be used."""
    parser = common("Decides requests, and publishes what is decided.")
    parser.add_argument("--name", required=True, help="as decisions tell it")
    options = parser.parse_args()
    planted = defect(parser)
    program, metrics = Program(), Metrics(options.backend, planted)
    address = os.environ[ADDRESS]
    wait_s = SHORT_WAIT_S if planted == "short_wait" else options.ack_wait
    held = backend(options.backend, address, REQUESTS, wait_s)
    most = MAX_DELIVER if held.caps.dead == "router" and planted not in UNENDING else None
    router = Router(Wire(held, REQUESTS, metrics, planted, most), options.name, program, wait_s, planted)
    return run(options.name, program, {"router": router.work}, metrics.text, options.host, options.port)


if __name__ == "__main__":
    sys.exit(main())
