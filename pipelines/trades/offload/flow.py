"""The offload as Prefect flows; the only module of the pipelines that knows Prefect.

`python -m pipelines.trades.offload.flow` registers iceberg-offload-main/iceberg-offload-15min and
iceberg-maintenance/iceberg-maintenance in the work pool `platform`, with the intervals of the settings. The flows read
their settings from the environment of the worker that runs them.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow
from prefect.schedules import Interval

import failpoints
from pipelines.trades.offload import waiting
from pipelines.trades.offload.settings import OffloadError, Settings

__all__ = ["POOL", "main", "maintain", "offload"]

POOL = "platform"
SOURCE = Path(__file__).resolve().parents[3]

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""Slots must not depend on the time of registration: else runs of an earlier registration would be added."""

TIMEOUT_S = 600
"""A run that hangs without a client's time-out (such as with a frozen Postgres) ends as failed after so long."""


@flow(name="iceberg-offload-main", timeout_seconds=TIMEOUT_S)
def offload() -> dict[str, Any]:
    """Move silver trades to the Iceberg table."""
    waiting.over()
    from pipelines.trades.offload import engine  # declares the points that this run's environment may arm

    failpoints.listen()
    done = engine.run(Settings.of(os.environ))
    return {"rows": done.rows, "commits": done.commits, "seconds": done.seconds}


@flow(name="iceberg-maintenance", timeout_seconds=TIMEOUT_S)
def maintain() -> dict[str, Any]:
    """Expire snapshots and sweep orphans of the Iceberg table."""
    waiting.over()
    from pipelines.trades.offload import maintenance

    done = maintenance.run(Settings.of(os.environ))
    return {"expired": done.expired, "swept": done.swept, "aborted": done.aborted}


def main() -> int:
    """Register both. Idempotent. Exit 2: the settings are wrong."""
    try:
        settings = Settings.of(os.environ)
    except OffloadError as e:
        sys.stderr.write(f"offload: {e}\n")
        return 2
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    _deploy("offload", "iceberg-offload-15min", settings.interval_s, ANCHOR)
    between = ANCHOR + timedelta(seconds=settings.interval_s / 2)
    _deploy("maintain", "iceberg-maintenance", settings.maintenance_interval_s, between)
    return 0


def _deploy(function: str, name: str, interval_s: int, anchor: datetime) -> None:
    """Each run is one process of the worker's own: by itself the worker would start three, in a session of theirs."""
    entrypoint = f"{Path(__file__).resolve().relative_to(SOURCE)}:{function}"
    found = cast("Flow[..., Any]", Flow.from_source(source=str(SOURCE), entrypoint=entrypoint))
    deployment = found.to_deployment(
        name=name,
        work_pool_name=POOL,
        tags=["platform"],
        schedule=Interval(timedelta(seconds=interval_s), anchor_date=anchor),
        job_variables={"command": shlex.join(waiting.COMMAND)},
    )
    deployment.apply()  # type: ignore[union-attr]


if __name__ == "__main__":
    sys.exit(main())
