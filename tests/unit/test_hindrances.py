"""What keeps a job's runs from starting, as Prefect's API tells it: said before anything is broken."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.drivers.prefect_api import Job
from gameday.faults.stop import Stop
from gameday.faults.strike import Strike
from gameday.model import Hindrance, Json
from gameday.plan import FailureTest, Inject
from gameday.run import Halt
from tasks import preflight

WAITS_S = 900.0
INTERVAL = {"schedule": {"interval": 900}, "active": True}
WELL: dict[str, Any] = {
    "deployment": {
        "id": "d",
        "paused": False,
        "schedules": [INTERVAL],
        "work_pool_name": "platform",
        "work_queue_name": "default",
        "global_concurrency_limit": None,
    },
    "pool": {"is_paused": False, "status": "READY", "concurrency_limit": None},
    "queue": {"id": "q", "is_paused": False, "concurrency_limit": None},
    "due_s": (600.0, 1500.0),
    "taken": 1,
}


class Told(Job):
    """A deployment on a server that says what the test says."""

    told: dict[str, Any]

    def _ask(self, method: str, path: str, body: Json = None) -> Any:
        if path.startswith("/deployments"):
            return self.told["deployment"]
        if path == "/work_pools/platform":
            return self.told["pool"]
        if path == "/work_pools/platform/queues/default":
            return self.told["queue"]
        if path == "/flow_runs/count":
            return self.told["taken"]
        assert path == "/flow_runs/filter"
        now = datetime.now(UTC)
        blank = dict.fromkeys(("start_time", "end_time", "state"))
        return [
            {"id": "r", "name": "r", "state_name": "Scheduled", "auto_scheduled": True, **blank}
            | {"expected_start_time": (now + timedelta(seconds=s)).isoformat()}
            for s in self.told["due_s"]
        ]


def job(**changes: Any) -> Told:
    made = Told("http://127.0.0.1:1/api", "offload-main/offload")
    told = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else changes.get(key, value)
            for key, value in WELL.items()}  # fmt: skip
    object.__setattr__(made, "told", told)
    return made


def test_a_job_that_would_run_has_no_hindrance() -> None:
    """Also with limits that leave a slot free."""
    assert job().hindrances(WAITS_S) == []
    limits = {"limit": 2, "active_slots": 1}
    free = {"pool": {"concurrency_limit": 2}, "queue": {"concurrency_limit": 2}}
    assert job(**free, deployment={"global_concurrency_limit": limits}).hindrances(WAITS_S) == []


HINDERED: dict[str, tuple[dict[str, Any], str, bool]] = {
    "deployment paused": (
        {"deployment": {"paused": True}},
        r"deployment offload-main/offload is paused\. Remedy",
        False,
    ),
    "schedule paused": (
        {"deployment": {"schedules": [{**INTERVAL, "active": False}]}},
        r"all 1 schedules of deployment offload-main/offload are paused\. Remedy: prefect deployment schedule resume",
        False,
    ),
    "no schedule": (
        {"deployment": {"schedules": []}},
        r"no scheduled run will come: offload-main/offload has none",
        False,
    ),
    "far future": ({"due_s": (86_400.0,)}, r"is due in 86\d{3} s, and the test waits 900 s for it\. Remedy", False),
    "nothing planned": ({"due_s": ()}, r"has planned no run of deployment offload-main/offload\. Remedy", True),
    "pool paused": ({"pool": {"is_paused": True}}, r"work pool platform is paused\. Remedy", False),
    "no worker": ({"pool": {"status": "NOT_READY"}}, r"work pool platform has no worker online\. Remedy", True),
    "pool full": ({"pool": {"concurrency_limit": 1}}, r"limit of work pool platform is full: 1 of 1 slots", True),
    "pool closed": ({"pool": {"concurrency_limit": 0}}, r"limit of work pool platform is full: 1 of 0 slots", False),
    "queue paused": ({"queue": {"is_paused": True}}, r"work queue default of pool platform is paused\. Remedy", False),
    "queue full": ({"queue": {"concurrency_limit": 1}}, r"limit of work queue default of pool platform is full", True),
    "deployment full": (
        {"deployment": {"global_concurrency_limit": {"limit": 1, "active_slots": 1}}},
        r"limit of deployment offload-main/offload is full: 1 of 1 slots are taken\. Remedy",
        True,
    ),
}


@pytest.mark.parametrize("case", HINDERED)
def test_a_hindrance_is_named_with_its_remedy(case: str) -> None:
    """Each with the thing's own name; what may be over by itself is waited for."""
    changes, told, passes = HINDERED[case]
    (found,) = job(**changes).hindrances(WAITS_S)
    assert found.passes is passes
    assert re.search(told, found.why), found.why


def test_a_run_that_is_only_asked_for_needs_no_schedule() -> None:
    """A test that does not wait for a scheduled run is not refused for one."""
    assert job(deployment={"schedules": []}).hindrances(None) == []


# ---- before the strike -----------------------------------------------------------------------------------------------


class Asked:
    """A job that answers each look with the next of these, and then with the last one."""

    def __init__(self, *looks: list[Hindrance]) -> None:
        self.looks = list(looks)
        self.within_s: list[float | None] = []

    def hindrances(self, scheduled_within_s: float | None) -> list[Hindrance]:
        self.within_s.append(scheduled_within_s)
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def run_of(asked: Asked, fault: Any, archive: bool) -> Any:
    test = FailureTest(plan=(Inject(fault),), mttr_max_s=300, drain_max_s=420, checks=(), archive=archive)
    config = SimpleNamespace(archive=SimpleNamespace(job="offload"))
    return SimpleNamespace(test=test, lasts=lambda: None, stack=SimpleNamespace(config=config, job=lambda name: asked))


STRIKE = Strike("worker", "offload", "offload::before_read", "1*kill")
PAUSED = Hindrance("deployment offload-main/offload is paused. Remedy: resume it")
FULL = Hindrance("work pool platform has no worker online. Remedy: start one", passes=True)


@pytest.mark.parametrize(
    ("fault", "archive", "within_s"), [(STRIKE, True, 420), (STRIKE, False, None), (Stop("s3"), True, 420)]
)
def test_a_paused_job_ends_the_run_before_anything_is_broken(fault: Any, archive: bool, within_s: float | None) -> None:
    """Not fifteen minutes after the strike, with "not recovered"."""
    asked = Asked([FULL, PAUSED])
    with pytest.raises(Halt, match=r"nothing was broken, for the job would not run: .*worker online.*; .*is paused"):
        preflight._look_at_jobs(run_of(asked, fault, archive))
    assert asked.within_s == [within_s]


def test_what_passes_by_itself_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was just started is not online yet; one that stays away ends the run."""
    monkeypatch.setattr(preflight, "PASSES_WITHIN_S", 1.2)
    preflight._look_at_jobs(run_of(Asked([FULL], []), STRIKE, True))
    with pytest.raises(Halt, match="no worker online"):
        preflight._look_at_jobs(run_of(Asked([FULL]), STRIKE, True))


def test_a_busy_machine_is_named_where_the_archive_is_not_filled_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job may have had no time either."""
    monkeypatch.setattr(preflight, "FIRST_RUN_S", 0.0)
    job = SimpleNamespace(interval_s=lambda: 0.01, runs=lambda since_us: [])
    export = SimpleNamespace(commits=lambda after: []), job
    run: Any = SimpleNamespace(
        held=lambda: None, lasts=lambda: None, stack=SimpleNamespace(export=lambda: export), busy=lambda since_ns: None
    )
    with pytest.raises(Halt, match=r"^the archive is not being filled: "):
        preflight._await_export(run)
    run.busy = lambda since_ns: "for 9 of 9 s"
    with pytest.raises(Halt, match=r"^the machine was busy \(for 9 of 9 s\): the archive is not being filled: "):
        preflight._await_export(run)


def test_a_test_without_a_job_asks_nothing() -> None:
    """A stack may have an archive whose job is paused; this test is not about it."""
    asked = Asked([PAUSED])
    preflight._look_at_jobs(run_of(asked, Stop("broker"), False))
    assert asked.within_s == []
