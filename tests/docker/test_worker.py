"""A run by the worker in a container: it reaches the engine through the filter alone, and kills past it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.conftest import Platform

RUN_S = 300
pytestmark = [pytest.mark.suite("docker"), pytest.mark.timeout(RUN_S + 300)]


@pytest.mark.parametrize("how", ["sigkill", "stop"])
def test_a_deployment_runs_in_the_worker_and_passes(nights: Platform, tmp_path: Path, how: str) -> None:
    """`prefect deployment run` ends Completed; what was found is in the state folder that all share, and in history."""
    prefect = str(Path(sys.executable).with_name("prefect"))
    ask = ("deployment", "run", "feed-handler-crash/containers", "-p", f"how={how}", "--watch")
    done = subprocess.run(
        nights.containers.engine.at(prefect, *ask),
        env={
            **os.environ,
            "PREFECT_API_URL": f"http://127.0.0.1:{nights.containers.env['PREFECT_PORT']}/api",
            "PREFECT_API_AUTH_STRING": f"gameday:{nights.containers.env['PREFECT_PASSWORD']}",
            "PREFECT_HOME": str(tmp_path),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(nights.gameday("history", "--json").stdout)["results"]
    last = max(told, key=lambda result: result["started"])
    assert (last["test"], last["params"]["how"], last["verdict"]) == ("feed_handler_crash", how, "pass")
    assert nights.state.report(last["night"]).exists()
