"""Probes a connector of Kafka Connect by its REST interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gameday.errors import DriverError
from gameday.stack.config import Http
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["Probe"]

RUNNING = "RUNNING"


@dataclass(frozen=True)
class Probe:
    """A connector and each of its tasks must be RUNNING.

    That proves little: Connect says RUNNING while the database or the broker is away, because a task retries inside.
    The stream shows whether records come. This probe finds a task that has FAILED and stays so, while its connector is
    RUNNING and the server answers 200.
    """

    url: Http
    connector: str
    timeout_s: float
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0, ".tasks": how many}. Raises DriverError if it or a task does not run, or it has no task."""
        where = f"{self.url.rstrip('/')}/connectors/{quote(self.connector, safe='')}"
        try:
            answer = ask("GET", f"{where}/status", self.timeout_s, tls=self.tls)
        except Unanswered as e:
            raise DriverError(f"connector {self.connector} at {self.url}: {e}", definite=True) from e
        if answer.status == HTTPStatus.NOT_FOUND:
            raise DriverError(f"Connect at {self.url} has no connector {self.connector}", definite=True)
        if answer.status != HTTPStatus.OK:
            raise DriverError(f"GET {where}/status answered {answer.status}", definite=True)
        try:
            told = json.loads(answer.body)
            if wrong := _wrong(told):
                raise DriverError(f"connector {self.connector} at {self.url}: {wrong}", definite=True)
            return {"": 1.0, ".tasks": float(len(told["tasks"]))}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise DriverError(f"GET {where}/status: {e!r} in {answer.body[:200]!r}", definite=True) from e


def _wrong(told: Mapping[str, Any]) -> str:
    """Say what doesn't run, and why."""
    if told["connector"]["state"] != RUNNING:
        return _of("it", told["connector"])
    if idle := [task for task in told["tasks"] if task["state"] != RUNNING]:
        return _of(f"task {idle[0]['id']}", idle[0])
    return "" if told["tasks"] else "it runs and has no task"


def _of(what: str, part: Mapping[str, Any]) -> str:
    trace = [line.strip() for line in part.get("trace", "").splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in trace if line.startswith("Caused by: ")]
    why = (causes or trace[:1] or [""])[-1]
    failed = ". Connect does not restart it. Remedy: POST .../restart?includeTasks=true&onlyFailed=true"
    return f"{what} is {part['state']}{f': {why}' if why else ''}{failed if part['state'] == 'FAILED' else ''}"
