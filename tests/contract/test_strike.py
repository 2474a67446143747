"""A failpoint in a run that doesn't exist yet: a real Prefect server, a real worker, a flow's own process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from compose.ports import free_ports
from compose.servers import prefect
from gameday.errors import ConfigError
from gameday.faults.strike import Strike
from gameday.model import JobRun
from gameday.run import in_the_way
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from gameday.system.polling import until
from tests.contract.conftest import PASSWORD, serving
from tests.trades import TAPED

WITHIN_S = 60.0

CONFIG = """
name = "batch"
history = "postgresql://nobody"
prefect = {{ api_url = "{api}" }}
hosts.local = {{}}
components.worker = {{ opt_in = true, probes.answer = {{ driver = "http", url = "{health}" }} }}
jobs.export = {{ driver = "prefect_api", api_url = "{api}", deployment = "export/hourly" }}
""" + TAPED.format(url="{health}", role="worker")

FLOW = """
from pathlib import Path

import failpoints
from gameday.system.polling import until
from prefect import flow

HALFWAY = failpoints.point("export::halfway", "half is written")

@flow
def export() -> None:
    until(lambda: not Path(__file__).with_name("closed").exists(), 60)
    failpoints.listen()
    HALFWAY()
"""

REGISTER = """
import sys
from prefect.flows import Flow
Flow.from_source(source=sys.argv[1], entrypoint="export_flow.py:export").to_deployment(
    name="hourly", work_pool_name=sys.argv[2]
).apply()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, prefect_api_url: str) -> Iterator[Stack]:
    """A stack whose only job is the deployment export/hourly, served by a worker."""
    folder: Path = tmp_path_factory.mktemp("strike")
    (folder / "export_flow.py").write_text(FLOW)
    server = urlsplit(prefect_api_url).port or 0, PASSWORD
    (health,) = free_ports(1)
    service = prefect.worker(
        "prefect-worker", folder / "worker", folder / "home", *server, health, {"PYTHONPATH": str(ROOT)}
    )
    config = folder / "gameday.toml"
    config.write_text(CONFIG.format(api=prefect_api_url, health=f"http://127.0.0.1:{health}/health"))
    with serving(service):
        env = {**os.environ, **prefect.environment(folder / "home", *server)}
        argv = [sys.executable, "-c", textwrap.dedent(REGISTER), str(folder), "gameday"]
        subprocess.run(argv, env=env, cwd=ROOT, check=True, timeout=WITHIN_S)
        yield open_stack(config, State(folder / "state").ensure())


def begin(stack: Stack, fault: Strike) -> Any:
    before = fault.before(stack)
    fault.act(stack, before, "run-7")
    return before


def struck(stack: Stack, fault: Strike, before: Any) -> str:
    """The proof, once there is one."""
    until(lambda: fault.proof(stack, before), WITHIN_S, every_s=0.1, what="the strike")
    return str(fault.proof(stack, before))


def ended(stack: Stack, key: str) -> str:
    """The state in which the run asked for under this key came to its end."""
    found: list[JobRun] = []

    def over() -> bool:
        run = stack.job("export").find(key)
        found[:] = [run] if run is not None else []
        return run is not None and run.ended_us is not None

    until(over, WITHIN_S, every_s=0.1, what=f"the end of run {key}")
    return found[0].state


def test_a_run_is_struck_in_its_own_process_and_no_other_is(stack: Stack) -> None:
    """The proof names the run; what a strike left in the environment of one run is not in that of the next."""
    fault = Strike("worker", "export", "export::halfway", "1*kill")
    before = begin(stack, fault)
    proof = struck(stack, fault, before)
    job = stack.job("export")
    run = job.find(before["key"])
    assert run is not None
    assert f"fired 1*kill[global] in run {run.name} ({run.id}), pid " in proof
    (fired,) = stack.run_points(before["folder"]).firings("export::halfway")
    assert fired["run"] == "run-7"
    fault.heal(stack, before)
    job.trigger("the next", {})
    assert ended(stack, "the next") == "Completed"


def test_a_paused_run_goes_on_when_it_is_healed(stack: Stack) -> None:
    """Healed twice as well as once, it ends as if nothing had been."""
    fault = Strike("worker", "export", "export::halfway", "1*pause[global]")
    before = begin(stack, fault)
    struck(stack, fault, before)
    assert fault.holds(stack, before)
    fault.heal(stack, before)
    fault.heal(stack, before)
    assert ended(stack, before["key"]) == "Completed"


def test_a_run_is_in_the_way_of_the_next_until_it_has_ended(stack: Stack) -> None:
    """From when it is asked for: two at once would share the work, and either may find none."""
    fault = Strike("worker", "export", "export::halfway", "1*pause[global]")
    before = begin(stack, fault)
    job = stack.job("export")
    asked = job.find(before["key"])
    assert asked is not None
    assert [run.id for run in in_the_way(job)] == [asked.id]
    struck(stack, fault, before)
    assert [run.id for run in in_the_way(job)] == [asked.id]
    fault.heal(stack, before)
    ended(stack, before["key"])
    assert in_the_way(job) == ()


def test_what_never_fires_proves_nothing_and_leaves_nothing(stack: Stack) -> None:
    """Asked for, and healed at once: the run never starts, or comes to its end unharmed."""
    fault = Strike("worker", "export", "export::halfway", "9*off->1*kill")
    before = begin(stack, fault)
    fault.heal(stack, before)
    assert ended(stack, before["key"]) in ("Cancelled", "Completed")
    assert fault.proof(stack, before) is None


def test_a_run_that_is_starting_when_it_is_healed_comes_to_no_harm(stack: Stack) -> None:
    """Its process has what it is to arm in its environment, and finds nothing; nobody waits for it."""
    fault, job = Strike("worker", "export", "export::halfway", "1*kill"), stack.job("export")
    closed = stack.path.with_name("closed")
    closed.touch()
    before = begin(stack, fault)

    def starting() -> bool:
        run = job.find(before["key"])
        return run is not None and not run.waits

    until(starting, WITHIN_S, every_s=0.1, what="the run's start")
    fault.heal(stack, before)
    closed.unlink()
    assert ended(stack, before["key"]) == "Completed"
    assert fault.proof(stack, before) is None


def test_a_job_that_does_not_exist_is_named(stack: Stack) -> None:
    """With what there is instead."""
    fault = replace(Strike("worker", "export", "a", "kill"), job="exprot")
    with pytest.raises(ConfigError, match=r"no job 'exprot'.*export"):
        fault.before(stack)
