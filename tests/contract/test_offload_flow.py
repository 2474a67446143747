"""The offload as Prefect runs it: its runs are told truthfully when they fail, and none is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from compose.ports import free_ports
from compose.servers import prefect
from compose.service import answers
from gameday.state import ROOT
from gameday.system.polling import until
from gameday.system.process import Process
from pipelines.trades.offload import flow
from pipelines.trades.offload.worker import RUNS_AT_ONCE
from tests.contract.conftest import PASSWORD, prefect_environment
from tests.contract.sockets import nobody
from tests.offloadrig import Offload, Servers, fired, names

DEPLOYMENT = "iceberg-offload-main/iceberg-offload-15min"
RUN_S = 120.0
NEVER_S = "86400"
QUERY_S = "0.5"
"""How often the worker asks for runs; a stack's asks every two seconds, at less cost."""

AHEAD_S = 9.0
"""Less than the 10 s that a worker looks ahead."""


class Platform:
    """A Prefect server with the two deployments, a worker that can be killed, and what the offload needs."""

    def __init__(self, api: str, offload: Offload, folder: Path) -> None:
        self.offload, self._folder, self._api = offload, folder, api
        (self._health,) = free_ports(1)
        self._worker: subprocess.Popen[bytes] | None = None
        self.client: SyncPrefectClient = get_client(sync_client=True)

    def register(self, **settings: str) -> None:
        """As its operator does."""
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.trades.offload.flow"],
            cwd=ROOT,
            env={**os.environ, **prefect_environment(self._api), **self.offload.environment, **settings},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    @contextmanager
    def every(self, interval_s: int) -> Iterator[None]:
        """On this schedule, and then on none that a test lives to see. In this process, which has Prefect already."""
        with pytest.MonkeyPatch.context() as here:
            for name, value in self.offload.environment.items():
                here.setenv(name, value)
            here.setenv("OFFLOAD_INTERVAL_S", str(interval_s))
            assert flow.main() == 0
            try:
                yield
            finally:
                here.setenv("OFFLOAD_INTERVAL_S", NEVER_S)
                assert flow.main() == 0

    def start_worker(self) -> None:
        service = prefect.worker(
            "offload-worker",
            self._folder,
            self._folder,
            urlsplit(self._api).port or 0,
            PASSWORD,
            self._health,
            {**self.offload.environment, "PREFECT_WORKER_QUERY_SECONDS": QUERY_S},
            ("-m", "pipelines.trades.offload.worker"),
        )
        with service.log.open("ab") as log:
            self._worker = subprocess.Popen(
                service.argv, cwd=service.cwd, env={**os.environ, **service.env}, stdout=log, stderr=log
            )
        until(lambda: answers(service.ready, 1.0), RUN_S, 0.1, "the worker")

    def kill_worker(self) -> None:
        if self._worker:
            self._worker.kill()
            self._worker.wait()
            self._worker = None

    def deployment_id(self) -> UUID:
        return self.client.read_deployment_by_name(DEPLOYMENT).id

    def trigger(self, **environment: str) -> UUID:
        """Ask for a run, with more in the environment of that run alone."""
        more: Mapping[str, Any] = {"env": {**environment}} if environment else {}
        return self.client.create_flow_run_from_deployment(self.deployment_id(), job_variables=dict(more)).id

    def ended(self, run: UUID) -> FlowRun:
        def end() -> FlowRun | None:
            found = self.client.read_flow_run(run)
            return found if found.state and found.state.is_final() else None

        return until(end, RUN_S, 0.2, "the run's end")

    def scheduled(self) -> list[FlowRun]:
        """All runs of the deployment, by the time they were due."""
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment_id()]))
        found = self.client.read_flow_runs(deployment_filter=wanted, limit=200)
        return sorted(found, key=due)


@pytest.fixture(scope="module")
def platform(prefect_api_url: str, around: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Registered with an interval that no test lives to see, and a worker."""
    folder = tmp_path_factory.mktemp("platform")
    server = prefect_environment(prefect_api_url)
    here = {PREFECT_API_URL: server["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: server["PREFECT_API_AUTH_STRING"]}
    with temporary_settings(here):
        platform = Platform(prefect_api_url, Offload(around, next(names)), folder)
        platform.register(OFFLOAD_INTERVAL_S=NEVER_S)
        platform.start_worker()
        try:
            yield platform
        finally:
            platform.kill_worker()


def test_a_run_moves_what_there_is(platform: Platform) -> None:
    """And ends as completed."""
    platform.offload.write(100)
    platform.offload.commit()
    run = platform.ended(platform.trigger())
    assert run.state_name == "Completed", run.state
    assert platform.offload.whole()


def test_a_run_that_fails_says_why_in_one_line(platform: Platform) -> None:
    """What is away, where it was looked for, what to do."""
    with nobody() as port:
        run = platform.ended(platform.trigger(OFFLOAD_S3_ENDPOINT=f"http://127.0.0.1:{port}"))
    assert run.state is not None
    message = run.state.message or ""
    assert run.state.name == "Failed"
    assert f"S3 at http://127.0.0.1:{port} does not take part" in message
    assert "Remedy: start it, or mend the link to it" in message
    assert len(message) < 500


def test_one_run_can_be_armed_and_killed_alone(platform: Platform) -> None:
    """By the environment of its job: the flow run is told as crashed, and the next one goes on."""
    platform.offload.write(100, first=101)
    platform.offload.commit()
    kill = {"FAILPOINTS_ENABLE": "1", "FAILPOINTS": "offload::after_data_file=kill"}
    assert platform.ended(platform.trigger(**kill)).state_name == "Crashed"
    assert platform.offload.place().rows == 100
    assert platform.ended(platform.trigger()).state_name == "Completed"
    assert platform.offload.whole()


def test_a_run_whose_worker_was_killed_is_not_left_running(platform: Platform, tmp_path: Path) -> None:
    """The next worker ends its process and tells it as crashed."""
    evidence = tmp_path / "evidence"
    platform.offload.write(100, first=201)
    platform.offload.commit()
    asleep = {"FAILPOINTS": "offload::before_read=1*sleep(600000)", "FAILPOINTS_EVIDENCE": str(evidence)}
    run = platform.trigger(FAILPOINTS_ENABLE="1", **asleep)
    fired(evidence)
    pid = platform.client.read_flow_run(run).infrastructure_pid
    platform.kill_worker()
    platform.start_worker()
    assert platform.ended(run).state_name == "Crashed"
    until(lambda: Process.of(int(pid or 0)) is None, 10, 0.1, "the end of its process")


def test_a_run_that_a_killed_worker_had_taken_and_not_begun_is_the_next_ones(platform: Platform) -> None:
    """Workers take runs ahead of their time: no slot of the schedule is lost with one, also when its time comes while
    no worker is there."""
    at = datetime.now(UTC) + timedelta(seconds=AHEAD_S)
    run = platform.client.create_flow_run_from_deployment(
        platform.deployment_id(), state=Scheduled(scheduled_time=at)
    ).id
    pid = until(lambda: platform.client.read_flow_run(run).infrastructure_pid, RUN_S, 0.05, "the worker to take it")
    platform.kill_worker()
    until(lambda: Process.of(int(pid)) is None, 5, 0.02, "the end of its process")
    until(lambda: datetime.now(UTC) > at, AHEAD_S, 0.1, "its time")
    platform.start_worker()
    ended = platform.ended(run)
    assert (ended.state_name, ended.run_count) == ("Completed", 1)
    assert ended.start_time is not None
    assert ended.start_time >= at - timedelta(seconds=1)  # Prefect waits whole seconds


@pytest.mark.suite("offload")
def test_runs_that_come_due_while_the_worker_is_full_are_not_made_up(platform: Platform, tmp_path: Path) -> None:
    """A machine that was too slow for its schedule once would stay too slow with all that it missed."""
    known = len(skipped(platform))
    evidence = tmp_path / "evidence"
    asleep = {"FAILPOINTS": "offload::before_read=1*sleep(600000)", "FAILPOINTS_EVIDENCE": str(evidence)}
    platform.offload.write(100, first=301)
    platform.offload.commit()
    full = [platform.trigger(FAILPOINTS_ENABLE="1", **asleep) for _ in range(RUNS_AT_ONCE)]
    try:
        until(lambda: all(platform.client.read_flow_run(run).start_time for run in full), RUN_S, 0.2, "a full worker")
        with platform.every(3):
            until(lambda: len(skipped(platform)) >= known + 3, RUN_S, 0.5, "skipped runs")
    finally:
        platform.kill_worker()
        platform.start_worker()
    assert {platform.ended(run).state_name for run in full} == {"Crashed"}


@pytest.mark.suite("offload")
def test_runs_that_no_worker_was_there_for_are_not_made_up_all_at_once(platform: Platform) -> None:
    """The last is; the others are told as cancelled."""
    platform.kill_worker()
    with platform.every(3):
        until(lambda: len(overdue(platform)) >= 4, RUN_S, 0.5, "overdue runs")
        platform.start_worker()
        assert len(skipped(platform)) >= 3


def overdue(platform: Platform) -> list[FlowRun]:
    """The schedule's runs whose time has passed, and that nobody has taken."""
    now = datetime.now(UTC)
    return [run for run in on_schedule(platform, "Scheduled", "Late") if due(run) < now]


def skipped(platform: Platform) -> list[FlowRun]:
    """The schedule's runs that were cancelled for a later one, and say so."""
    cancelled = on_schedule(platform, "Cancelled")
    assert {run.state.message for run in cancelled if run.state} <= {"No worker was free at its time."}
    return cancelled


def on_schedule(platform: Platform, *states: str) -> list[FlowRun]:
    """The schedule's runs in these states."""
    return [run for run in platform.scheduled() if run.auto_scheduled and run.state_name in states]


def due(run: FlowRun) -> datetime:
    """When it was to start."""
    return run.expected_start_time or datetime.max.replace(tzinfo=UTC)
