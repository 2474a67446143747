"""Keeps the connector's tasks alive: python -m pipelines.cdc.connect_watch --connect URL --connector NAME --slot SLOT,
and the environment's SOURCE_URL.

Kafka Connect never restarts a task that has FAILED; this does, with a growing wait. It does not restart a task whose
replication slot is lost: a new slot would begin after what was written meanwhile, so these changes would be missing
without a message. A person has to decide on that repair; the runbook describes it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import psycopg
import structlog

from pipelines.cdc.schema import EXAMPLE, SOURCE
from pipelines.trades.addresses import DSN, given
from pipelines.trades.lines import log_json

__all__ = ["Unanswered", "Watch", "main"]

LOOK_EVERY_S = 1.0
BACKOFF_S = (1.0, 60.0)
"""The first and the longest wait between two restarts."""

WELL_AFTER_S = 30.0
"""A task that has run for so long counts as well: the next restart waits the shortest time again."""

ANSWER_WITHIN_S = 3
FAILED = "FAILED"

log = structlog.get_logger()


class Unanswered(Exception):
    """Connect or the source gave no answer; the message says which, and why."""


class Watch:
    """Looks, and restarts what has failed when its time has come."""

    def __init__(self, url: str, connector: str, source: str, slot: str) -> None:
        self._url = f"{url.rstrip('/')}/connectors/{quote(connector, safe='')}"
        self._source, self._slot = source, slot
        self._wait_s = BACKOFF_S[0]
        self._not_before_s = self._failed_s = 0.0

    def look(self) -> str:
        """Look once. Return "well"; "restarted"; "waiting" for the time of the next restart; "lost": the slot is lost,
        and nothing is done. Raises Unanswered: the state is unknown, and nothing is done."""
        status = self._asked("GET", "/status")
        failed = [task for task in (status["connector"], *status["tasks"]) if task["state"] == FAILED]
        if not failed:
            if time.monotonic() - self._failed_s > WELL_AFTER_S:
                self._wait_s = BACKOFF_S[0]
            return "well"
        self._failed_s = time.monotonic()
        if why := self._lost():
            log.error("slot_lost", why=why, remedy="the runbook slot_lost: nothing is restarted here")
            return "lost"
        if time.monotonic() < self._not_before_s:
            return "waiting"
        self._asked("POST", "/restart?includeTasks=true&onlyFailed=true")
        trace = str(failed[0].get("trace", "")).strip().splitlines()
        log.warning("restarted", why=trace[0] if trace else "no trace", wait_s=self._wait_s)
        self._not_before_s = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, BACKOFF_S[1])
        return "restarted"

    def _lost(self) -> str:
        """Say why the slot can't go on where the connector was; "": it can, or the connector hasn't begun yet."""
        sql = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"
        try:
            with psycopg.connect(self._source, connect_timeout=ANSWER_WITHIN_S) as connection:
                row = connection.execute(sql, [self._slot]).fetchone()
        except psycopg.Error as e:
            raise Unanswered(f"the source: {e}") from e
        if row is not None:
            return f"slot {self._slot} is lost" if row[0] == "lost" else ""
        return f"slot {self._slot} is gone" if self._asked("GET", "/offsets")["offsets"] else ""

    def _asked(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                return json.loads(answer.read() or b"null")
        except (OSError, ValueError) as e:
            raise Unanswered(f"Connect: {method} {path}: {e}") from e


def main() -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(description="Restarts the connector's failed tasks.")
    parser.add_argument("--connect", required=True, help="Connect's URL")
    parser.add_argument("--connector", required=True)
    parser.add_argument("--slot", required=True, help="the connector's replication slot")
    options = parser.parse_args()
    source = given(parser, SOURCE, DSN, EXAMPLE)
    log_json()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch = Watch(options.connect, options.connector, source, options.slot)
    told = ""
    while not stop.wait(LOOK_EVERY_S):
        try:
            watch.look()
            told = ""
        except Unanswered as e:
            if told != (told := str(e)):
                log.warning("unanswered", why=told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
