"""Runs of the offload are forked from a process that has done their imports, and are as good as started anew."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest
from prefect.runner import _starter_engine

from gameday.state import ROOT
from pipelines.trades.offload import waiting, worker
from pipelines.trades.offload.warm import Warm

RUN = """
import json, os, signal, sys, threading
from pathlib import Path
import prefect.settings
about = {
    "pid": os.getpid(), "parent": os.getppid(), "environment": dict(os.environ), "folder": os.getcwd(),
    "threads": [thread.name for thread in threading.enumerate()],
    "tasks": [Path(f"/proc/self/task/{task}/comm").read_text().strip() for task in os.listdir("/proc/self/task")],
    "ours": [name for name in sys.modules if name.startswith(("pipelines.trades.offload.", "failpoints"))],
    "sockets": [link for fd in os.listdir("/proc/self/fd") for link in [os.path.realpath(f"/proc/self/fd/{fd}")]
                if "socket:" in link],
    "level": prefect.settings.get_current_settings().logging.level,
    "term": str(signal.getsignal(signal.SIGTERM)),
}
known = set(sys.modules)
from pipelines.trades.offload import engine, flow, maintenance
about["imported"] = sorted({name.partition(".")[0] for name in set(sys.modules) - known})
Path(os.environ["TOLD"]).write_text(json.dumps(about))
if "SIGNAL" in os.environ:
    os.kill(os.getpid(), int(os.environ["SIGNAL"]))
sys.exit(int(os.environ["EXIT"]))
"""

WORKER = """
import asyncio, json, os, sys
from pipelines.trades.offload.warm import Warm

async def work():
    warm, codes = Warm(), []
    for kill, env in json.loads(sys.argv[1]):
        if kill:
            warm._process.kill()
            warm._process.wait()
        run = await warm.run("told", env, sys.argv[2])
        await run.wait()
        codes.append([run.pid, run.returncode])
    return codes

codes = asyncio.run(work())
print(json.dumps({"pid": os.getpid(), "codes": codes}))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, int, int, dict[str, Any]]]:
    """Three: one that ends with 7, one that is killed, and one after the warm process was. Of each the worker's pid,
    its own as the worker knows it, its exit code, and what it told."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "told.py").write_text(RUN)
    told = [folder / f"{number}.json" for number in range(3)]
    orders = [
        (False, {"TOLD": str(told[0]), "EXIT": "7", "PREFECT_LOGGING_LEVEL": "ERROR"}),
        (False, {"TOLD": str(told[1]), "EXIT": "0", "SIGNAL": "9"}),
        (True, {"TOLD": str(told[2]), "EXIT": "0"}),
    ]
    done = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(orders), str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "PREFECT_LOGGING_LEVEL": "INFO", "OF_THE_WORKER": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    return [
        (answer["pid"], pid, code, json.loads(file.read_text()))
        for (pid, code), file in zip(answer["codes"], told, strict=True)
    ]


def test_each_run_is_a_process_of_its_own_whose_end_the_worker_sees(
    runs: list[tuple[int, int, int, dict[str, Any]]],
) -> None:
    """Also when the warm process died: the next one is made for it."""
    assert [code for _, _, code, _ in runs] == [7, -9, 0]
    assert len({pid for _, pid, _, _ in runs}) == 3
    for parent, pid, _, told in runs:
        assert (told["pid"], told["parent"]) == (pid, parent)


def test_a_run_has_its_own_environment_folder_and_settings(
    runs: list[tuple[int, int, int, dict[str, Any]]], tmp_path: Path
) -> None:
    """And none of the worker's, of the warm process or of the run before."""
    told = [told for *_, told in runs]
    assert set(told[0]["environment"]) == {"TOLD", "EXIT", "PREFECT_LOGGING_LEVEL"}
    assert set(told[2]["environment"]) == {"TOLD", "EXIT"}
    assert [about["level"] for about in told] == ["ERROR", "INFO", "INFO"]
    assert {about["folder"] for about in told} == {str(Path(told[0]["environment"]["TOLD"]).parent)}


def test_a_run_inherits_nothing_that_lives(runs: list[tuple[int, int, int, dict[str, Any]]]) -> None:
    """No thread but its own (and the one of Arrow's allocator, which comes with the import), no socket, no handler."""
    for *_, told in runs:
        assert told["threads"] == ["MainThread"]
        assert len([name for name in told["tasks"] if name != "jemalloc_bg_thd"]) == 1
        assert told["sockets"] == []
        assert told["term"] == "0"


def test_a_run_imports_our_modules_alone(runs: list[tuple[int, int, int, dict[str, Any]]]) -> None:
    """Ours anew, for failpoints look at their environment; of others' none, for that is what takes the time."""
    for *_, told in runs:
        assert told["ours"] == []
        assert set(told["imported"]) <= {"pipelines", "failpoints"}


def test_the_registered_command_is_forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prefect's own starter hands it over, with the environment of that run."""
    flow_run = SimpleNamespace(id=uuid4())
    forked = AsyncMock(return_value=SimpleNamespace(pid=1, returncode=0, wait=AsyncMock()))
    monkeypatch.setattr(Warm, "run", forked)
    asyncio.run(_started(monkeypatch, waiting.COMMAND, flow_run, tmp_path))
    forked.assert_awaited_once()
    module, env, folder = forked.await_args_list[0].args
    assert (module, folder) == (waiting.__name__, str(tmp_path))
    assert (env["PREFECT__FLOW_RUN_ID"], env["MORE"]) == (str(flow_run.id), "1")


def test_another_command_is_carried_out_as_prefect_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A deployment may name any."""
    monkeypatch.setattr(Warm, "run", AsyncMock(side_effect=AssertionError("it was forked")))
    command = ["/bin/sh", "-c", "echo $MORE > told"]
    asyncio.run(_started(monkeypatch, command, SimpleNamespace(id=uuid4()), tmp_path))
    assert (tmp_path / "told").read_text() == "1\n"


async def _started(monkeypatch: pytest.MonkeyPatch, command: list[str], flow_run: Any, folder: Path) -> None:
    """As Prefect's process worker starts a run of a deployment with a command."""
    monkeypatch.setattr(_starter_engine, "run_process", worker._forking(Warm.__new__(Warm)))
    starter = _starter_engine.EngineCommandStarter(command=shlex.join(command), cwd=folder, env={"MORE": "1"})
    await starter.start(flow_run)
