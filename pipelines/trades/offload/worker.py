"""The worker of the work pool `platform`: python -m pipelines.trades.offload.worker.

It is Prefect's own worker, with three additions. It ends flow runs of a worker that was killed, with their processes,
and marks them as crashed, or schedules them again if they had not begun: otherwise they count as running for ever. It
cancels scheduled runs whose time has passed, except the last: otherwise all runs of an outage would start at once, and
a machine that was too slow once would stay too slow. It forks a run's process from one that has done its imports
(warm.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.abc
import httpx
import structlog
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.runner import _starter_engine
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.utilities import processutils
from prefect.workers.process import ProcessWorker

from pipelines.trades.offload import waiting
from pipelines.trades.offload.flow import POOL
from pipelines.trades.offload.warm import Run, Warm

__all__ = ["main"]

NAME = "platform"
RUNS_AT_ONCE = 2
"""On a machine that is too slow for the schedule, more runs at once would slow each other down until none ends."""

OVERDUE_EVERY_S = 10.0
RUNS_MAX = 200
"""One page of Prefect's API; the next start finds the rest."""

log = structlog.get_logger()


async def serve() -> None:
    """Clean up, then serve the pool until the process ends."""
    warm = Warm()
    warm.begin()
    vars(_starter_engine)["run_process"] = _forking(warm)  # where Prefect's own comment says to
    async with get_client() as client:
        await _end_orphans(client)
        await _skip_overdue(client)
        keeping_up = asyncio.create_task(_keep_up(client))
        try:
            await ProcessWorker(work_pool_name=POOL, name=NAME, limit=RUNS_AT_ONCE).start(with_healthcheck=True)
        finally:
            keeping_up.cancel()


def _forking(warm: Warm) -> Callable[..., Any]:
    """Return Prefect's run_process for the command that flow.py registers: a module of this Python, with the worker's
    output. Other commands are run as Prefect does."""

    async def run_process(
        command: list[str],
        *,
        stream_output: bool,
        task_status: anyio.abc.TaskStatus[Any],
        task_status_handler: Callable[[Any], Any],
        env: dict[str, str],
        cwd: Path,
        **more: Any,
    ) -> Run | anyio.abc.Process:
        if command != waiting.COMMAND or not stream_output or more:
            return await processutils.run_process(
                command,
                stream_output=stream_output,
                task_status=task_status,
                task_status_handler=task_status_handler,
                env=env,
                cwd=cwd,
                **more,
            )
        run = await warm.run(waiting.__name__, env, str(cwd))
        task_status.started(task_status_handler(run))
        await run.wait()
        return run

    return run_process


async def _end_orphans(client: PrefectClient) -> None:
    """End an earlier worker's runs: the pool has one worker, so what runs when it starts is not its own."""
    for run in await _runs(client, StateType.RUNNING, StateType.PENDING, StateType.CANCELLING):
        if _is_alive(run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(run.infrastructure_pid or ""), signal.SIGKILL)
        state: State[Any] = Crashed(message="Its worker was killed.")
        if run.state_type is StateType.PENDING:  # a worker takes them up to 10 s before their time
            state = Scheduled(scheduled_time=run.expected_start_time, message="Its worker was killed before it began.")
        # One that has ended since it was read stays as it ended: out of Running, Prefect's own rules see to that.
        await client.set_flow_run_state(run.id, state, force=run.state_type is not StateType.RUNNING)
        log.warning("orphan_ended", run=run.name, process=run.infrastructure_pid, state=state.name)


async def _keep_up(client: PrefectClient) -> None:
    while True:
        await asyncio.sleep(OVERDUE_EVERY_S)
        with contextlib.suppress(httpx.HTTPError, ObjectNotFound):  # the server or a run is gone: look again
            await _skip_overdue(client)


async def _skip_overdue(client: PrefectClient) -> None:
    now = datetime.now(UTC)
    due: dict[object, list[FlowRun]] = {}
    for run in await _runs(client, StateType.SCHEDULED):
        if run.auto_scheduled and run.expected_start_time is not None and run.expected_start_time < now:
            due.setdefault(run.deployment_id, []).append(run)
    for runs in due.values():
        for run in runs[:-1]:
            await client.set_flow_run_state(run.id, Cancelled(message="No worker was free at its time."), force=True)
        if runs[:-1]:
            log.warning("overdue_skipped", runs=len(runs) - 1)


async def _runs(client: PrefectClient, *states: StateType) -> Sequence[FlowRun]:
    """Return the pool's flow runs in these states, sorted by due time."""
    try:
        return await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=RUNS_MAX,
        )
    except ObjectNotFound:
        return ()


def _is_alive(run: FlowRun) -> bool:
    """Whether that process is still this run's: the pid may be another process's by now."""
    try:
        name = Path(f"/proc/{run.infrastructure_pid}/comm").read_bytes()
    except OSError:
        return False
    return name.strip() == waiting.name_of(str(run.id))


def main() -> int:
    """Serve until SIGTERM."""
    os.environ[waiting.WORKER] = str(os.getpid())
    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
