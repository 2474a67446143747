"""Asks a Prefect server through its REST API, and runs a job that is a deployment there. It doesn't import Prefect."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from gameday.errors import ConfigError, DriverError
from gameday.model import Hindrance, JobRun, Json
from gameday.stack.config import Http, PrefectConfig
from gameday.system import address
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["Api", "Job", "Refused"]

ASK_WITHIN_S = 5.0
"""For one piece of an answer; twice as long for all of it."""
RUNS_MAX = 200
"""Prefect's own limit for one page; a failure test's run sees a few."""


class Refused(DriverError):
    """The server does not accept the credentials."""


@dataclass(frozen=True)
class Api:
    """api_url: http://host:port/api. auth_string: the PREFECT_SERVER_API_AUTH_STRING with which your own server was
    started. api_key: one of Prefect Cloud's. If both are "", the user and password in the address are used.
    """

    api_url: Http
    tls: Tls = PLAIN
    auth_string: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def ask(self, method: str, path: str, body: Json = None, patience_s: float | None = None) -> Any:
        """Ask one question. patience_s: for each piece of the answer; all of it may take twice as long.

        Raises Refused for 401 and 403, else DriverError.
        """
        patience_s = ASK_WITHIN_S if patience_s is None else patience_s
        looks = method == "GET" or path.endswith(("/filter", "/count"))
        what = f"{method} {self.api_url}{path}"
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self._login}
        try:
            answer = ask(
                method, f"{self.api_url}{path}", 2 * patience_s, patience_s=patience_s,
                body=content, headers=headers, tls=self.tls,
            )  # fmt: skip
            if answer.status in (401, 403):
                raise Refused(f"{what} answered {answer.status}: {self._not_let_in()}", definite=True)
            if answer.status >= 400:
                raise DriverError(
                    f"{what} answered {answer.status}: {answer.body[:200]!r}", definite=answer.status < 500
                )
            return json.loads(answer.body) if answer.body else None
        except (Unanswered, ValueError) as e:
            sent = not isinstance(e, Unanswered) or e.sent
            raise DriverError(f"{what}: {e}", definite=looks or not sent) from e

    @classmethod
    def of(cls, server: PrefectConfig) -> Api:
        """Return the API of gameday's own server, from [prefect]."""
        login = server.auth_string.get_secret_value(), server.api_key.get_secret_value()
        return cls(server.api_url, Tls(server.ca), *login)

    @property
    def _login(self) -> Mapping[str, str]:
        if self.auth_string:
            return {"Authorization": f"Basic {b64encode(self.auth_string.encode()).decode()}"}
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def _not_let_in(self) -> str:
        if self.auth_string:
            return (
                "it does not take this auth_string. Remedy: auth_string, beside api_url in gameday.toml, as the "
                "server's PREFECT_SERVER_API_AUTH_STRING has it"
            )
        if self.api_key:
            return (
                "it does not take this api_key, or gives it no right to this. Remedy: api_key, beside api_url in "
                "gameday.toml, as Prefect Cloud gave it, and the workspace in api_url"
            )
        if address.of(self.api_url).user is not None:
            return "it does not take the user and password in this address. Remedy: those of its auth string"
        return (
            "it wants to know who asks. Remedy: beside api_url in gameday.toml, auth_string as the server's "
            "PREFECT_SERVER_API_AUTH_STRING has it, or api_key as Prefect Cloud gave it"
        )


@dataclass(frozen=True)
class Job:
    """deployment: "flow/deployment". The other fields are those of Api."""

    api_url: Http
    deployment: str
    tls: Tls = PLAIN
    auth_string: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.deployment.count("/") != 1:
            raise ConfigError(f"job {self.deployment!r} at {self.api_url}. Remedy: deployment = 'flow/deployment'")

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask for one run now, with this environment. Return its id. The same key asks for the same run again."""
        wanted: Json = {"idempotency_key": key, "tags": ["gameday"]}
        if env:
            wanted["job_variables"] = {"env": dict(env)}
        made = self._ask("POST", f"/deployments/{self._id()}/create_flow_run", wanted)
        return str(made["id"])

    def find(self, key: str) -> JobRun | None:
        """Return the run that was asked for under this key."""
        wanted = {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 1}
        return next(map(_job_run, self._ask("POST", "/flow_runs/filter", wanted)), None)

    def withdraw(self, key: str) -> None:
        """Make sure that a run asked for under this key, and not yet started, never starts."""
        run = self.find(key)
        if run is not None and run.waits:
            state = {"state": {"type": "CANCELLED", "message": "withdrawn by gameday"}, "force": True}
            self._ask("POST", f"/flow_runs/{run.id}/set_state", state)

    def interval_s(self) -> float | None:
        """Return the time between two scheduled runs; None without an active schedule of a fixed interval.

        A cron schedule's interval is the time between the next two runs that the server has planned.
        """
        found = self._ask("GET", f"/deployments/{self._id()}")
        for one in found.get("schedules") or ():
            if one.get("active") and "interval" in one["schedule"]:
                return float(one["schedule"]["interval"])
        planned = [run.due_us for run in self.runs(time.time_ns() // 1000) if run.scheduled and run.due_us]
        return None if len(planned) < 2 else (planned[1] - planned[0]) / 1e6

    def hindrances(self, scheduled_within_s: float | None) -> Sequence[Hindrance]:
        """Return what keeps a run from starting: the deployment, a schedule, the work pool or the work queue is paused,
        full, without a worker, or due too late."""
        found = self._ask("GET", f"/deployments/{self._id()}")
        if found.get("paused"):
            return [Hindrance(f"deployment {self.deployment} is paused. Remedy: resume it on its page in Prefect")]
        soon = [] if scheduled_within_s is None else self._of_schedule(found, scheduled_within_s)
        return [*soon, *self._of_pool(found), *self._of_limit(found)]

    def _of_schedule(self, deployment: Mapping[str, Any], within_s: float) -> Iterator[Hindrance]:
        name = self.deployment
        schedules = deployment.get("schedules") or ()
        if not any(one.get("active") for one in schedules):
            why = f"all {len(schedules)} schedules of deployment {name} are paused" if schedules else f"{name} has none"
            yield Hindrance(f"no scheduled run will come: {why}. Remedy: prefect deployment schedule resume {name} ID")
            return
        now_us = time.time_ns() // 1000
        due_us = min((r.due_us for r in self.runs(now_us) if r.scheduled and r.due_us), default=None)
        if due_us is None:
            yield Hindrance(f"the server has planned no run of deployment {name}. Remedy: look at its schedules", True)
        elif (in_s := (due_us - now_us) / 1e6) > within_s:
            yield Hindrance(
                f"the next scheduled run of deployment {name} is due in {in_s:.0f} s, and the test waits "
                f"{within_s:.0f} s for it. Remedy: a schedule with less time between its runs, or a larger mttr_max_s"
            )

    def _of_pool(self, deployment: Mapping[str, Any]) -> Iterator[Hindrance]:
        name = deployment.get("work_pool_name")
        if not name:
            return
        pool = self._ask("GET", f"/work_pools/{quote(name)}")
        if pool.get("is_paused"):
            yield Hindrance(f"work pool {name} is paused. Remedy: prefect work-pool resume {name}")
        elif pool.get("status") == "NOT_READY":
            yield Hindrance(f"work pool {name} has no worker online. Remedy: prefect worker start --pool {name}", True)
        if (limit := pool.get("concurrency_limit")) is not None:
            yield from _full(f"work pool {name}", limit, self._taken({"work_pools": {"name": {"any_": [name]}}}))
        if queue_name := deployment.get("work_queue_name"):
            queue = self._ask("GET", f"/work_pools/{quote(name)}/queues/{quote(queue_name)}")
            where = f"work queue {queue_name} of pool {name}"
            if queue.get("is_paused"):
                yield Hindrance(f"{where} is paused. Remedy: prefect work-queue resume {queue_name} --pool {name}")
            if (limit := queue.get("concurrency_limit")) is not None:
                taken = self._taken({"work_pool_queues": {"id": {"any_": [queue["id"]]}}})
                yield from _full(where, limit, taken)

    def _of_limit(self, deployment: Mapping[str, Any]) -> Iterator[Hindrance]:
        limit = deployment.get("global_concurrency_limit")
        if limit and limit.get("active", True):
            yield from _full(f"deployment {self.deployment}", limit["limit"], limit.get("active_slots") or 0)

    def _taken(self, of: Json) -> int:
        """Return how many runs have a slot."""
        states = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
        return int(self._ask("POST", "/flow_runs/count", {**of, **states}))

    def runs(self, since_us: int) -> Sequence[JobRun]:
        """Return the runs that were due or started since then, oldest first."""
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
        return Api(self.api_url, self.tls, self.auth_string, self.api_key).ask(method, path, body)


def _full(what: str, limit: int, taken: int) -> Iterator[Hindrance]:
    """Yield the hindrance that a concurrency limit has no free slot. One may become free, unless the limit is 0."""
    if taken >= limit:
        yield Hindrance(
            f"the concurrency limit of {what} is full: {taken} of {limit} slots are taken. Remedy: wait for these "
            f"runs, end those that hang, or raise the limit",
            passes=limit > 0,
        )


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
    """Convert an ISO time to microseconds since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1e6) if text else None
