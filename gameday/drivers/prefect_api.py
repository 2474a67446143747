"""A job that is a deployment on a Prefect server, through its REST API: gameday's core does not import Prefect."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from gameday.errors import ConfigError, DriverError
from gameday.model import JobRun, Json

__all__ = ["Job"]

ASK_WITHIN_S = 5.0
RUNS_MAX = 200
"""Prefect's own limit for one page; a run of a failure test sees a handful."""


@dataclass(frozen=True)
class Job:
    """api_url: http://host:port/api. deployment: "flow/deployment"."""

    api_url: str
    deployment: str

    def __post_init__(self) -> None:
        if urlsplit(self.api_url).scheme != "http" or self.deployment.count("/") != 1:
            raise ConfigError(
                f"job {self.deployment!r} at {self.api_url!r}. Remedy: deployment = 'flow/deployment', an http address"
            )

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask for one run now, with this environment; its id. The same key asks for the same run again."""
        wanted: Json = {"idempotency_key": key, "tags": ["gameday"]}
        if env:
            wanted["job_variables"] = {"env": dict(env)}
        made = self._ask("POST", f"/deployments/{self._id()}/create_flow_run", wanted)
        return str(made["id"])

    def find(self, key: str) -> JobRun | None:
        """The run that was asked for under this key."""
        wanted = {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 1}
        return next(map(_job_run, self._ask("POST", "/flow_runs/filter", wanted)), None)

    def withdraw(self, key: str) -> None:
        """Make sure that a run asked for under this key, and not yet started, never starts."""
        run = self.find(key)
        if run is not None and run.waits:
            state = {"state": {"type": "CANCELLED", "message": "withdrawn by gameday"}, "force": True}
            self._ask("POST", f"/flow_runs/{run.id}/set_state", state)

    def interval_s(self) -> float | None:
        """The time between two scheduled runs; None without an active schedule of a fixed interval.

        A cron schedule's interval is the time between the next two runs that the server has planned.
        """
        found = self._ask("GET", f"/deployments/{self._id()}")
        for one in found.get("schedules") or ():
            if one.get("active") and "interval" in one["schedule"]:
                return float(one["schedule"]["interval"])
        planned = [run.due_us for run in self.runs(time.time_ns() // 1000) if run.scheduled and run.due_us]
        return None if len(planned) < 2 else (planned[1] - planned[0]) / 1e6

    def runs(self, since_us: int) -> Sequence[JobRun]:
        """The runs that were due or started since then, oldest first."""
        flow, _, name = self.deployment.partition("/")
        wanted = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [name]}},
            "flow_runs": {"expected_start_time": {"after_": datetime.fromtimestamp(since_us / 1e6, UTC).isoformat()}},
            "sort": "EXPECTED_START_TIME_ASC",
            "limit": RUNS_MAX,
        }
        return [_job_run(run) for run in self._ask("POST", "/flow_runs/filter", wanted)]

    def _id(self) -> str:
        flow, _, name = self.deployment.partition("/")
        return str(self._ask("GET", f"/deployments/name/{quote(flow)}/{quote(name)}")["id"])

    def _ask(self, method: str, path: str, body: Json = None) -> Any:
        looks = method == "GET" or path.endswith("/filter")
        parts = urlsplit(self.api_url)
        what = f"{method} {self.api_url}{path}"
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ASK_WITHIN_S)
        try:
            connection.connect()
        except OSError as e:
            raise DriverError(f"{what}: {e}", definite=True) from e
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, parts.path + path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise DriverError(f"{what} answered {answer.status}: {text[:200]!r}", definite=answer.status < 500)
            return json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise DriverError(f"{what}: {e or type(e).__name__}", definite=looks) from e
        finally:
            connection.close()


def _job_run(run: Mapping[str, Any]) -> JobRun:
    return JobRun(
        id=str(run["id"]),
        name=str(run["name"]),
        state=str(run["state_name"]),
        started_us=_us(run["start_time"]),
        ended_us=_us(run["end_time"]),
        message=str((run["state"] or {}).get("message") or ""),
        due_us=_us(run["expected_start_time"]),
        scheduled=bool(run["auto_scheduled"]),
    )


def _us(text: str | None) -> int | None:
    """ISO time to microseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1e6) if text else None
