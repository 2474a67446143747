"""The small drivers against their real servers: Postgres, and Prefect's API."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gameday.drivers import postgres, prefect_api
from gameday.errors import ConfigError, DriverError


def test_postgres_answers(database: str) -> None:
    """A fresh connection each time."""
    probe = postgres.Probe(database, timeout_s=5.0)
    assert [probe.read() for _ in range(3)] == [{"": 1.0}] * 3


def test_a_refused_password_is_an_error_that_does_not_tell_it(database: str) -> None:
    """The message names the server, and no secret."""
    user, _, server = database.partition("@")
    with pytest.raises(DriverError, match="password authentication failed") as caught:
        postgres.Probe(f"{user}-wrong-secret@{server}", timeout_s=5.0).read()
    assert "wrong-secret" not in str(caught.value)


def _post(api: str, path: str, body: Any) -> Any:
    return prefect_api.Api(api).ask("POST", path, body)


def test_a_job_is_triggered_and_its_runs_are_told(prefect_api_url: str) -> None:
    """States in Prefect's own words; only runs since the given time."""
    flow = _post(prefect_api_url, "/flows/", {"name": "offload"})
    _post(prefect_api_url, "/deployments/", {"name": "every 15", "flow_id": flow["id"]})
    job = prefect_api.Job(prefect_api_url, "offload/every 15")
    before_us = time.time_ns() // 1000 - 1_000_000
    assert job.runs(before_us) == []
    first = job.trigger("first", {"FAILPOINTS": "a=kill"})
    assert job.trigger("first", {}) == first
    (run,) = job.runs(before_us)
    assert (run.id, run.state, run.started_us, run.ended_us) == (first, "Scheduled", None, None)
    for state in ("RUNNING", "FAILED"):
        told = {"state": {"type": state, "name": state.capitalize(), "message": "no space left"}, "force": True}
        _post(prefect_api_url, f"/flow_runs/{first}/set_state", told)
    (run,) = job.runs(before_us)
    assert (run.state, run.message) == ("Failed", "no space left")
    assert run.started_us is not None
    assert run.ended_us is not None
    assert before_us < run.started_us <= run.ended_us
    second = job.trigger("second", {})
    assert [r.id for r in job.runs(before_us)] == [first, second]
    assert job.runs(time.time_ns() // 1000 + 3_600_000_000) == []


def test_a_run_that_has_not_started_can_be_withdrawn(prefect_api_url: str) -> None:
    """It is found by its key and never starts; one that runs, or that nobody asked for, is left alone."""
    flow = _post(prefect_api_url, "/flows/", {"name": "withdrawn"})
    _post(prefect_api_url, "/deployments/", {"name": "every 15", "flow_id": flow["id"]})
    job = prefect_api.Job(prefect_api_url, "withdrawn/every 15")
    waiting, begun = job.trigger("waiting", {}), job.trigger("begun", {})
    _post(prefect_api_url, f"/flow_runs/{begun}/set_state", {"state": {"type": "RUNNING"}, "force": True})
    for key in ("waiting", "begun", "nobody's"):
        job.withdraw(key)
    states = {run.id: run.state for run in map(job.find, ("waiting", "begun")) if run is not None}
    assert states == {waiting: "Cancelled", begun: "Running"}
    assert job.find("nobody's") is None


def test_the_interval_of_a_schedule_is_told(prefect_api_url: str) -> None:
    """None without a schedule, or with one that is switched off."""
    flow = _post(prefect_api_url, "/flows/", {"name": "timed"})
    for name, schedules, interval_s in (
        ("never", [], None),
        ("half", [{"schedule": {"interval": 30.0}, "active": True}], 30.0),
        ("off", [{"schedule": {"interval": 30.0}, "active": False}], None),
    ):
        _post(prefect_api_url, "/deployments/", {"name": name, "flow_id": flow["id"], "schedules": schedules})
        assert prefect_api.Job(prefect_api_url, f"timed/{name}").interval_s() == interval_s


def test_an_unknown_deployment_is_a_definite_error(prefect_api_url: str) -> None:
    """Nothing was started."""
    with pytest.raises(DriverError, match="404") as caught:
        prefect_api.Job(prefect_api_url, "nosuch/deployment").trigger("key", {})
    assert caught.value.definite


def test_a_malformed_deployment_name_is_a_configuration_error() -> None:
    """Before anything is contacted."""
    with pytest.raises(ConfigError, match="flow/deployment"):
        prefect_api.Job("http://127.0.0.1:1/api", "offload")
