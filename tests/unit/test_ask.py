"""Runs of a job that a plan asks for, and the strike from outside on what does their work: against a host, a job and an
archive in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gameday.errors import ConfigError, GamedayError
from gameday.faults.ambush import Ambush
from gameday.faults.ask import Ask
from gameday.faults.stop import Stop
from gameday.faults.strike import Strike
from gameday.model import JobRun
from gameday.plan import FailureTest, Heal, Inject
from gameday.ports import Asks, Fault, Held
from gameday.run import Run
from gameday.stack.live import Stack
from gameday.stack.registry import fault_from, fault_kind
from gameday.state import State
from tests.fakes import MemoryHost

RUNS = JobRun("id", "brave-otter", "Running", 1, None)
WAITS = JobRun("id", "brave-otter", "Scheduled", None, None)
ENDED = JobRun("id", "brave-otter", "Completed", 1, 2)
ENGINE = Ambush("web", "offload", "written")


class MemoryJob:
    """One run, in the state that the test gives it."""

    def __init__(self) -> None:
        self.run: JobRun | None = None
        self.other: JobRun | None = None
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.withdrawn: list[str] = []

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        self.asked.append((key, env))
        self.run = WAITS
        return "id"

    def find(self, key: str) -> JobRun | None:
        return self.run

    def withdraw(self, key: str) -> None:
        self.withdrawn.append(key)

    def runs(self, since_us: int) -> list[JobRun]:
        return [run for run in (self.run, self.other) if run is not None]


class MemoryArchive:
    """Data files, and which of them a commit names."""

    def __init__(self) -> None:
        self.files: set[str] = {"lake/data/old"}
        self.commit: set[str] = {"lake/data/old"}

    def stored(self) -> set[str]:
        return set(self.files)

    def named(self) -> set[str]:
        return set(self.commit)


class MemoryStack:
    """Just enough of a Stack."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        self.machine, self.work, self.table = MemoryHost(), MemoryJob(), MemoryArchive()

    def host(self, role: str) -> MemoryHost:
        return self.machine

    def job(self, name: str) -> MemoryJob:
        return self.work

    def export(self) -> tuple[MemoryArchive, MemoryJob]:
        return self.table, self.work


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStack:
    return MemoryStack(tmp_path)


def begun(fault: Fault, memory: MemoryStack) -> tuple[Stack, Any]:
    stack = cast(Stack, memory)
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    return stack, before


@pytest.mark.parametrize("fault", [Ask("web", "offload"), ENGINE, Ambush("web", "offload", "committed")], ids=str)
def test_it_is_a_fault_that_asks_and_survives_the_journal(fault: Fault) -> None:
    """Kind and fields are all that another process needs; nothing lasts that a plan's heal would end."""
    assert (isinstance(fault, Asks), isinstance(fault, Held)) == (True, False)
    assert fault_from(fault_kind(fault), vars(fault)) == fault
    assert isinstance(Strike("w", "offload", "p", "kill"), Asks)


def test_a_run_that_was_asked_for_is_proved_once_it_has_started(memory: MemoryStack) -> None:
    """Without anything in its environment; its heal withdraws it."""
    fault = Ask("web", "offload")
    stack, before = begun(fault, memory)
    assert memory.work.asked == [(before["key"], {})]
    assert fault.proof(stack, before) is None
    memory.work.run = RUNS
    assert fault.proof(stack, before) == "web: run brave-otter (id) has started"
    fault.heal(stack, before)
    assert memory.work.withdrawn == [before["key"]]
    assert memory.machine.calls == []


def test_an_engine_is_killed_when_a_file_is_there_that_no_commit_names(memory: MemoryStack) -> None:
    """Not before, and not for one that was there already; the proof says what had been committed when it was dead."""
    memory.table.files.add("lake/data/orphan")
    stack, before = begun(ENGINE, memory)
    memory.work.run = RUNS
    assert ENGINE.proof(stack, before) is None
    assert memory.machine.calls == []
    memory.table.files.add("lake/data/new.parquet")
    told = ENGINE.proof(stack, before)
    assert told == "web: pid 1 was killed in run brave-otter, which had not committed new.parquet"
    assert memory.machine.calls == [("kill", "web", 1)]
    assert ENGINE.struck_ns(stack, before) > 0


def test_an_engine_is_killed_when_a_commit_names_a_new_file(memory: MemoryStack) -> None:
    """One that is only written is not enough."""
    fault = Ambush("web", "offload", "committed")
    stack, before = begun(fault, memory)
    memory.work.run = RUNS
    memory.table.files.add("lake/data/new.parquet")
    assert fault.proof(stack, before) is None
    memory.table.commit.add("lake/data/new.parquet")
    assert fault.proof(stack, before) == "web: pid 1 was killed in run brave-otter, which had committed new.parquet"


def test_what_another_run_has_written_is_no_strike(memory: MemoryStack) -> None:
    """Before the run that was asked for has started, or beside it: it is not that run's, now or later."""
    fault = Ambush("web", "offload", "committed")
    stack, before = begun(fault, memory)
    other = replace(RUNS, id="other")
    for run, beside, files in (
        (WAITS, other, {"one"}),
        (RUNS, other, {"two"}),
        (RUNS, replace(ENDED, id="other"), set()),
    ):
        memory.work.run, memory.work.other = run, beside
        memory.table.files |= files
        memory.table.commit |= files
        assert fault.proof(stack, before) is None
    assert memory.machine.calls == []
    memory.table.files.add("mine")
    memory.table.commit.add("mine")
    assert "had committed mine" in (fault.proof(stack, before) or "")


@pytest.mark.parametrize(("ends", "struck"), [("Completed", False), ("Failed", True), ("Running", True)])
def test_a_run_that_was_quicker_is_no_strike(
    memory: MemoryStack, monkeypatch: pytest.MonkeyPatch, ends: str, struck: bool
) -> None:
    """Its work was done when the engine died; one that fails by it at once is struck. Nobody is killed again."""
    stack, before = begun(ENGINE, memory)
    memory.work.run = RUNS
    memory.table.files.add("lake/data/new.parquet")
    kill = memory.machine.kill

    def killed(role: str, identity: Any) -> None:
        kill(role, identity)
        memory.work.run = replace(RUNS, state=ends, ended_us=None if ends == "Running" else 2)

    monkeypatch.setattr(memory.machine, "kill", killed)
    assert (ENGINE.proof(stack, before) is not None) is struck
    memory.machine.start("web")
    assert ENGINE.proof(stack, before) is None
    assert [call[0] for call in memory.machine.calls] == ["kill", "start"]


def test_nobody_is_killed_for_a_run_that_is_over(memory: MemoryStack) -> None:
    """It was quicker than the look."""
    stack, before = begun(ENGINE, memory)
    memory.work.run = ENDED
    memory.table.files.add("lake/data/new.parquet")
    assert ENGINE.proof(stack, before) is None
    assert memory.machine.calls == []


def test_an_engine_that_never_came_back_is_started(memory: MemoryStack) -> None:
    """Twice as well as once, and whether or not the act was reached."""
    stack = cast(Stack, memory)
    before = ENGINE.before(stack)
    memory.machine.running["web"] = None
    for _ in range(2):
        ENGINE.heal(stack, before)
    assert memory.machine.identity("web") is not None
    assert memory.work.withdrawn == [before["key"]] * 2


def test_what_does_not_run_or_has_no_such_moment_is_refused(memory: MemoryStack) -> None:
    """Before anything is asked for."""
    memory.machine.running["web"] = None
    with pytest.raises(GamedayError, match="web does not run"):
        ENGINE.before(cast(Stack, memory))
    with pytest.raises(ConfigError, match="written, committed"):
        Ambush("web", "offload", "sometime")
    assert memory.work.asked == []


def test_a_run_that_is_asked_for_is_the_harm_where_nothing_else_is_done() -> None:
    """Beside a fault it is what meets it."""
    alone = FailureTest(plan=(Inject(Ask("worker", "job")),), mttr_max_s=1, checks=())
    beside = replace(alone, plan=(Inject(Stop("store")), Inject(Ask("worker", "job")), Heal()))
    told = [Run.component.fget(cast("Run", SimpleNamespace(test=test))) for test in (alone, beside)]  # type: ignore[attr-defined]
    assert told == ["worker", "store"]
