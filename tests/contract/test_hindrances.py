"""What keeps a job's runs from starting, told by a real Prefect server: paused, filled, put off in turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gameday.drivers.prefect_api import Api, Job
from gameday.system.polling import until

WITHIN_S = 60.0
WAITS_S = 900.0
INTERVAL_S = 600

Ask = Callable[..., Any]


@pytest.fixture
def ask(prefect_api_url: str) -> Ask:
    """One request: method, path, body."""
    return Api(prefect_api_url).ask


def test_what_keeps_a_job_from_running_is_told(prefect_api_url: str, ask: Ask) -> None:
    """A worker that is away, a paused pool, queue, schedule and deployment, a full limit, a schedule in the far future;
    and nothing once all is as it should be."""
    ask("POST", "/work_pools/", {"name": "lake", "type": "process"})
    wanted = {"name": "hourly", "flow_id": ask("POST", "/flows/", {"name": "export"})["id"], "work_pool_name": "lake"}
    schedule = {"schedule": {"interval": INTERVAL_S}, "active": True}
    made = ask("POST", "/deployments/", {**wanted, "schedules": [schedule]})["id"]
    job = Job(prefect_api_url, "export/hourly")

    assert "work pool lake has no worker online" in "; ".join(one.why for one in job.hindrances(WAITS_S))

    def told() -> str:
        """While a worker lives."""
        ask("POST", "/work_pools/lake/workers/heartbeat", {"name": "w"})
        return "; ".join(one.why for one in job.hindrances(WAITS_S))

    until(lambda: not told(), WITHIN_S, every_s=0.5, what="a planned run, and nothing in its way")
    pool, queue = "/work_pools/lake", "/work_pools/lake/queues/default"
    paused, well = {"is_paused": True}, {"is_paused": False}
    none, unlimited = {"concurrency_limit": 0}, {"concurrency_limit": None}
    for path, body, back, words in (
        (pool, paused, well, "work pool lake is paused"),
        (pool, none, unlimited, "limit of work pool lake is full: 0"),
        (queue, paused, well, "work queue default of pool lake is paused"),
        (queue, none, unlimited, "limit of work queue default of pool lake is full: 0"),
        (f"/deployments/{made}", {"paused": True}, {"paused": False}, "deployment export/hourly is paused"),
    ):
        ask("PATCH", path, body)
        assert words in told(), (path, body)
        ask("PATCH", path, back)
        until(lambda: not told(), WITHIN_S, every_s=0.5, what=f"no trace of {words!r}")
    (known,) = ask("GET", f"/deployments/{made}/schedules")
    ask("PATCH", f"/deployments/{made}/schedules/{known['id']}", {"active": False})
    assert "all 1 schedules of deployment export/hourly are paused" in told()
    assert job.hindrances(None) == []
    far = datetime.now(UTC) + timedelta(hours=12)
    daily = {"cron": f"{far.minute} {far.hour} * * *"}
    ask("PATCH", f"/deployments/{made}", {"schedules": [{"schedule": daily, "active": True}]})
    until(lambda: "is due in 4" in told(), WITHIN_S, every_s=0.5, what="a run in half a day to be planned")
    running = ask("POST", f"/deployments/{made}/create_flow_run", {"state": {"type": "RUNNING"}})["id"]
    ask("PATCH", "/work_pools/lake", {"concurrency_limit": 1})
    until(lambda: "work pool lake is full: 1 of 1" in told(), WITHIN_S, every_s=0.5, what="the full pool")
    ask("POST", f"/flow_runs/{running}/set_state", {"state": {"type": "COMPLETED"}, "force": True})
    assert "full" not in told()
