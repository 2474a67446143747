"""Restarts what has failed of a connector: python -m pipelines.cdc.connect_watch --url URL --connector NAME.

Connect leaves a task that has failed as it is, for ever. Each restart waits twice as long as the one before. A task
that fails for its replication slot is left alone: the slot's end is a gap in what was captured, and how it is closed is
for a person to decide (runbooks/cdc).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

import structlog

from pipelines.trades.lines import log_json

__all__ = ["Watch", "for_a_person", "main"]

LOOK_EVERY_S = 1.0
ANSWER_WAIT_S = 5.0
BACKOFF_S = (1.0, 60.0)
"""Between two restarts: the first wait, and the longest. The first restart is at once."""

WELL_AFTER_S = 60.0
"""Who has run for so long is restarted at once when it fails again."""

SLOT = ("no longer available on the server", "Cannot obtain valid replication slot", "can no longer get changes from")
"""What Debezium or Postgres says of a slot that is gone, or that has lost what it needs."""

log = structlog.get_logger()


def for_a_person(trace: str) -> bool:
    """Whether a task has failed for its slot."""
    return any(words in trace for words in SLOT)


class Watch:
    """Looks at one connector, and restarts what of it has failed."""

    def __init__(self, url: str, connector: str) -> None:
        self._url = f"{url}/connectors/{connector}"
        self._wait_s, self._restarted_s = 0.0, float("-inf")
        self._left_alone = False

    def look(self) -> bool:
        """Look once; whether a restart was asked for. Raises OSError or ValueError when Connect does not answer."""
        told: Mapping[str, Any] = json.loads(self._asked("GET", "/status"))
        failed = [part for part in (told["connector"], *told["tasks"]) if part["state"] == "FAILED"]
        since_s = time.monotonic() - self._restarted_s
        if not failed:
            self._left_alone = False
            if since_s > WELL_AFTER_S:
                self._wait_s = 0.0
            return False
        trace = "\n".join(str(part.get("trace", "")) for part in failed)
        why = next((line for line in reversed(trace.splitlines()) if line.startswith("Caused by: ")), trace[:200])
        if for_a_person(trace):
            if not self._left_alone:
                log.error("left_alone", why=why, remedy="runbooks/cdc: what was captured has a gap")
            self._left_alone = True
            return False
        if since_s < self._wait_s:
            return False
        self._restarted_s = time.monotonic()
        self._asked("POST", "/restart?includeTasks=true&onlyFailed=true")
        self._wait_s = min(max(BACKOFF_S[0], 2 * self._wait_s), BACKOFF_S[1])
        log.warning("restarted", why=why, next_wait_s=self._wait_s)
        return True

    def _asked(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_WAIT_S) as answer:
            body: bytes = answer.read()
        return body


def main() -> int:
    """Watch until SIGTERM."""
    parser = argparse.ArgumentParser(description="Restarts what has failed of a connector.")
    parser.add_argument("--url", required=True, help="http://HOST:PORT of Kafka Connect")
    parser.add_argument("--connector", required=True)
    options = parser.parse_args()
    log_json()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    watch, well = Watch(options.url, options.connector), True
    while not stop.wait(LOOK_EVERY_S):
        try:
            watch.look()
            well = True
        except (OSError, ValueError, KeyError) as e:
            if well:
                log.warning("no_answer", why=str(e))
            well = False
    return 0


if __name__ == "__main__":
    sys.exit(main())
