"""A team's flow: it lives in the worker's container, and has the engine's do the work."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.flows import Flow
from prefect.schedules import Interval

from gameday.state import ROOT

POOL = "iceberg-offload"
INTERVAL_S = 45
ENGINE = "http://spark-iceberg:8080/offload"
PATIENCE_S = 120


@flow(name="iceberg-offload-main", timeout_seconds=PATIENCE_S)
def offload() -> Any:
    """Ask, and wait for the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(ENGINE, method="POST"), timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as e:
        raise RuntimeError(f"the engine failed: {e.read().decode()[:300]}") from None
    except OSError as e:
        raise RuntimeError(f"the engine is away: {e}") from None


def deploy() -> None:
    """iceberg-offload-main/iceberg-offload-15min; quicker than its name, for a test."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
    found = cast("Flow[..., Any]", Flow.from_source(source=str(ROOT), entrypoint="tests/docker/theirs/flow.py:offload"))
    deployment: Any = found.to_deployment(
        name="iceberg-offload-15min",
        work_pool_name=POOL,
        schedule=Interval(timedelta(seconds=INTERVAL_S), anchor_date=datetime(2026, 1, 1, tzinfo=UTC)),
        job_variables={"command": f"{sys.executable} -m prefect.engine"},
    )
    deployment.apply()
