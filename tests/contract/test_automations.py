"""The watchman is watched, by a real Prefect server: it tells when runs of gameday's own fail, die, fall silent, are
late."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from deployments.automations import automate
from gameday.drivers.prefect_api import Api
from gameday.system.polling import until
from tests.contract.conftest import prefect_environment
from tests.contract.sockets import Answering

TOLD_WITHIN_S = 60.0
SILENT_S = 12.0
"""Prefect takes no proactive automation of less than ten seconds."""


def register(api_url: str, alert_url: str) -> list[str]:
    """In this process; what registers all as a user does is in test_deployments.py."""
    server = prefect_environment(api_url)
    here = {PREFECT_API_URL: server["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: server["PREFECT_API_AUTH_STRING"]}
    with temporary_settings(here):
        return automate(SecretStr(alert_url) if alert_url else None, SILENT_S)


@pytest.fixture(scope="module")
def inbox(prefect_api_url: str) -> Iterator[Answering]:
    """Where the alerts arrive."""
    with Answering({}) as receiving:
        register(prefect_api_url, f"http://127.0.0.1:{receiving.port}/")
        yield receiving


class Prefect:
    """Just enough of the server's REST API."""

    def __init__(self, api_url: str) -> None:
        self._url = api_url

    def ask(self, path: str, body: Any = None) -> Any:
        return Api(self._url).ask("GET" if body is None else "POST", path, body)

    def run(self, *tags: str, deployed: bool = False) -> str:
        """A flow run that is Running, with nobody behind it; its id."""
        flow = self.ask("/flows/", {"name": "broker-restart"})["id"]
        wanted = {"flow_id": flow, "tags": list(tags), "state": {"type": "PENDING"}}
        if deployed:
            wanted["deployment_id"] = self.ask("/deployments/", {"name": "on-demand", "flow_id": flow})["id"]
        run = str(self.ask("/flow_runs/", wanted)["id"])
        self.enter(run, "RUNNING")
        return run

    def enter(self, run: str, state: str, name: str | None = None) -> None:
        self.ask(f"/flow_runs/{run}/set_state", {"state": {"type": state, "name": name}, "force": True})

    def state(self, run: str) -> str:
        return str(self.ask(f"/flow_runs/{run}")["state_type"])

    def beat(self, run: str, *tags: str) -> None:
        """What a flow that lives says every thirty seconds."""
        related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
            "related": related,
            "payload": {},
            "id": str(uuid4()),
        }
        self.ask("/events", [event])


@pytest.fixture
def prefect(prefect_api_url: str) -> Prefect:
    return Prefect(prefect_api_url)


def named(inbox: Answering, prefect: Prefect, run: str) -> list[str]:
    """The alerts about this run."""
    name = prefect.ask(f"/flow_runs/{run}")["name"]
    return [text for text in inbox.posted if name in text]


def test_registering_twice_leaves_each_once(prefect: Prefect, prefect_api_url: str, inbox: Answering) -> None:
    """Under names that begin with ours; nobody else's are touched."""
    names = register(prefect_api_url, f"http://127.0.0.1:{inbox.port}/")
    assert len(names) == 4
    known = [a["name"] for a in prefect.ask("/automations/filter", {})]
    assert sorted(name for name in known if name.startswith("gameday: ")) == sorted(names)


def test_a_crashed_run_is_told(prefect: Prefect, inbox: Answering) -> None:
    """With what to do; a run that isn't gameday's is somebody else's business."""
    other, mine = prefect.run("platform"), prefect.run("gameday")
    for run in (other, mine):
        prefect.enter(run, "CRASHED", "Crashed")
    until(lambda: named(inbox, prefect, mine), TOLD_WITHIN_S, every_s=0.2, what="the alert")
    told = json.loads(named(inbox, prefect, mine)[0])
    assert told["about"] == "gameday itself: a run crashed"
    assert told["flow"] == "broker-restart"
    assert "gameday heal" in told["remedy"]
    assert named(inbox, prefect, other) == []


@pytest.mark.parametrize("state", ["Fail", "Failed"])
def test_a_failed_run_of_a_deployment_is_told(prefect: Prefect, inbox: Answering, state: str) -> None:
    """Whether by its verdict or by an error; the tests inside a night are not told one by one, nor other verdicts."""
    inside, other, night = (
        prefect.run("gameday"),
        prefect.run("gameday", deployed=True),
        prefect.run("gameday", deployed=True),
    )
    prefect.enter(inside, "FAILED", state)
    prefect.enter(other, "FAILED", "Unknown")
    prefect.enter(night, "FAILED", state)
    until(lambda: named(inbox, prefect, night), TOLD_WITHIN_S, every_s=0.2, what="the alert")
    assert json.loads(named(inbox, prefect, night)[0])["about"] == "gameday itself: a run failed"
    assert named(inbox, prefect, inside) == []
    assert named(inbox, prefect, other) == []


def test_a_run_that_falls_silent_is_marked_crashed_and_told(prefect: Prefect, inbox: Answering) -> None:
    """It said once that it lives, and never again; one that ended in time is left alone, also when its last heartbeat
    arrives after its end."""
    silent, ended, late = prefect.run("gameday"), prefect.run("gameday"), prefect.run("gameday")
    for run in (late, ended):
        prefect.beat(run, "gameday")
        prefect.enter(run, "COMPLETED", "Completed")
    prefect.beat(late, "gameday")
    prefect.beat(silent, "gameday")  # after the late one: when this is marked, that one's time was over too
    until(lambda: prefect.state(silent) == "CRASHED", SILENT_S + TOLD_WITHIN_S, every_s=0.5, what="the mark")
    until(lambda: named(inbox, prefect, silent), TOLD_WITHIN_S, every_s=0.2, what="the alert")
    for run in (ended, late):
        assert prefect.state(run) == "COMPLETED"
        assert named(inbox, prefect, run) == []


def test_without_an_address_a_silent_run_is_marked_all_the_same(prefect: Prefect, prefect_api_url: str) -> None:
    """Nobody is told, and no automation without an action is left."""
    try:
        assert register(prefect_api_url, "") == ["gameday: a run fell silent"]
    finally:
        known = [a for a in prefect.ask("/automations/filter", {}) if a["name"].startswith("gameday: ")]
        assert len(known) == 1


def test_a_run_that_did_not_begin_is_waited_for(prefect: Prefect) -> None:
    """The condition of being late is Prefect's own state; what is expected after it is a beginning or an end."""
    from deployments import automations

    trigger = automations._missing({automations.RUNNING, *automations.ENDS}, automations.LATE, 120.0)
    assert trigger.within == timedelta(seconds=120)
    assert trigger.after == {"prefect.flow-run.Late"}
    assert "prefect.flow-run.Running" in trigger.expect
