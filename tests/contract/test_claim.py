"""The lease's row, on a real Postgres, as machines see it that can't see each other's processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from gameday.errors import Busy, ConfigError, GamedayError, NotUp
from gameday.faults.noop import Noop
from gameday.faults.stop import Stop
from gameday.stack.live import open_stack
from gameday.system.polling import until
from gameday.system.process import Process, boot_ns
from gameday.undo import claim, guardian, lease, mending
from gameday.undo.guardian import DISPLACED, Guardian
from gameday.undo.journal import Journal
from gameday.undo.reconciler import Reconciler
from tests.fakes import Supervisor

AWAY = "postgresql://nobody@127.0.0.1:1/none"


def holder(run: str, process: Process | None = None) -> lease.Holder:
    process = process or Process.me()
    now_us = time.time_ns() // 1000
    return lease.Holder(run, "broker_restart", process, process, now_us, now_us + 60_000_000, boot_ns() + 60 * 10**9)


@contextmanager
def on(machine: str, monkeypatch: pytest.MonkeyPatch, boot: str = "its boot") -> Iterator[None]:
    """Within, this process is on another machine."""
    here = {"machine": machine, "machine_id": f"id of {machine}", "boot_id": boot, "pids": "pid:[1]"}
    with monkeypatch.context() as patched:
        patched.setattr(claim, "place", lambda: here)
        yield


@pytest.fixture
def ended() -> Process:
    """A process that is gone."""
    child = subprocess.Popen(["sleep", "1000"])
    process = Process.of(child.pid)
    child.kill()
    child.wait()
    assert process is not None
    return process


def test_the_second_machine_is_told_who_holds_the_stack_since_when(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to do there, or here if that one is gone for good."""
    with on("alpha", monkeypatch):
        held = claim.take(dsn, "trades", holder("run-1"))
    with on("beta", monkeypatch), pytest.raises(Busy) as told:
        claim.take(dsn, "trades", holder("run-2"))
    for text in ("run run-1 (broker_restart) on machine alpha since 20", "until 20", "abort", "--displace alpha"):
        assert text in str(told.value)
    held.release()
    with on("beta", monkeypatch):
        assert claim.take(dsn, "trades", holder("run-2")).token == held.token + 1


def test_stacks_do_not_share_an_owner(dsn: str) -> None:
    """One row a stack."""
    assert claim.take(dsn, "trades", holder("run-1")).holds()
    assert claim.take(dsn, "orders", holder("run-2")).holds()


def test_a_dead_owner_of_this_machine_needs_no_person(dsn: str, ended: Process) -> None:
    """Its process is looked for among the same processes."""
    lost = claim.take(dsn, "trades", holder("run-1", ended))
    assert claim.elsewhere(dsn, "trades") is None
    assert claim.take(dsn, "trades", holder("run-2")).holds()
    assert not lost.holds()


def test_a_living_owner_of_this_machine_is_busy_whatever_its_state_folder(dsn: str) -> None:
    """The lock is one folder's; the row is the stack's."""
    claim.take(dsn, "trades", holder("run-1"))
    with pytest.raises(Busy, match="run-1"):
        claim.take(dsn, "trades", holder("run-2"))


def test_a_machine_that_has_booted_since_holds_nothing(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ran there is gone."""
    with on("alpha", monkeypatch, boot="before"):
        claim.take(dsn, "trades", holder("run-1"))
    with on("alpha", monkeypatch, boot="after"):
        assert claim.take(dsn, "trades", holder("run-2")).holds()


def test_a_container_of_the_same_machine_is_another_machine(
    dsn: str, ended: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes have other numbers: that none has this one says nothing."""
    inside = {**claim.place(), "pids": "pid:[1]"}
    with monkeypatch.context() as patched:
        patched.setattr(claim, "place", lambda: inside)
        claim.take(dsn, "trades", holder("run-1", ended))
    with pytest.raises(Busy, match="run-1"):
        claim.take(dsn, "trades", holder("run-2"))


def test_a_container_that_sees_the_machines_processes_is_no_other_machine(
    dsn: str, ended: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image has no machine id of its own; a living owner is busy for it, and a dead one needs no person."""
    claim.take(dsn, "trades", holder("run-1"))
    claim.take(dsn, "quotes", holder("run-1", ended))
    inside = {**claim.place(), "machine_id": ""}
    monkeypatch.setattr(claim, "place", lambda: inside)
    with pytest.raises(Busy, match="run-1"):
        claim.take(dsn, "trades", holder("run-2"))
    assert claim.take(dsn, "quotes", holder("run-2")).holds()


def test_only_a_person_displaces_and_must_name_the_machine(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The displaced one finds that its token is no longer the stack's; its release changes nothing."""
    with on("alpha", monkeypatch):
        lost = claim.take(dsn, "trades", holder("run-1"))
    with pytest.raises(ConfigError, match="no run on machine 'gamma' holds stack trades: run run-1 on machine alpha"):
        claim.displace(dsn, "trades", "gamma")
    assert claim.displace(dsn, "trades", "alpha") == "run-1"
    assert not lost.holds()
    with on("beta", monkeypatch):
        mine = claim.take(dsn, "trades", holder("run-2"))
        lost.release()
        assert mine.holds()
    with pytest.raises(ConfigError, match="nobody does"):
        claim.displace(dsn, "orders", "alpha")


def test_of_many_racing_machines_one_wins(dsn: str, ended: Process) -> None:
    """Also for a dead owner's stack."""
    claim.take(dsn, "trades", holder("run-0", ended))

    def take(number: int) -> bool:
        try:
            claim.take(dsn, "trades", holder(f"run-{number}"))
        except Busy:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(1, 17))) == 1


def test_postgres_away_is_no_free_stack() -> None:
    """Who can't be told that the stack is free does not take it."""
    with pytest.raises(NotUp):
        claim.take(AWAY, "trades", holder("run-1"))


# ---- what the guardian makes of it -----------------------------------------------------------------------------------


@pytest.fixture
def supervisor(tmp_path: Path, dsn: str) -> Iterator[Supervisor]:
    """Its stack may be reached from several machines, and its history is on Postgres."""
    with Supervisor(tmp_path) as running:
        text = running.stack.path.read_text().replace(AWAY, dsn)
        running.stack.path.write_text("several_machines = true\n" + text)
        running.stack = open_stack(running.stack.path, running.state)
        yield running


def test_a_run_holds_the_row_for_its_life(supervisor: Supervisor, dsn: str) -> None:
    """Taken by its guardian, given back at its end; a second state folder is told."""
    held = Guardian.start(supervisor.stack, "r1", "broker_restart", 60)
    try:
        with pytest.raises(Busy, match=r"run r1 \(broker_restart\) on machine"):
            claim.take(dsn, "toy", holder("r2"))
    finally:
        held.close()
    assert claim.elsewhere(dsn, "toy") is None


def test_a_displaced_run_neither_acts_nor_heals(supervisor: Supervisor, dsn: str) -> None:
    """Its guardian lets go; what it broke is mended when the other machine's run is over."""
    held = Guardian.start(supervisor.stack, "r1", "broker_restart", 60)
    held.inject(Stop("web"))
    claim.displace(dsn, "toy", str(claim.place()["machine"]))
    other = claim.take(dsn, "toy", holder("r2"))
    until(lambda: not held.alive, within_s=5, what="the guardian's end")
    assert held.end == DISPLACED
    with pytest.raises(GamedayError, match="taken over from another machine"):
        held.inject(Stop("web"))
    with pytest.raises(Busy, match="run r2"):
        held.close()
    assert Reconciler(supervisor.stack.path, supervisor.state).look() == []
    with pytest.raises(Busy, match="run r2"):
        mending.heal_open(supervisor.stack, "gameday heal", "asked")
    assert supervisor.pid() is None
    other.release()
    mending.heal_open(supervisor.stack, "gameday heal", "asked")
    assert supervisor.pid() is not None


def test_a_frozen_guardian_that_was_displaced_does_nothing_when_it_wakes(supervisor: Supervisor, dsn: str) -> None:
    """It asks before it heals, for its last answer is old."""
    held = Guardian.start(supervisor.stack, "r1", "broker_restart", 60)
    held.inject(Stop("web"))
    current = lease.holder(supervisor.state)
    assert current is not None
    current.guardian.send(signal.SIGSTOP)
    claim.displace(dsn, "toy", str(claim.place()["machine"]))
    other = claim.take(dsn, "toy", holder("r2"))
    old_ns = boot_ns() + int(guardian.CLAIM_OLD_S * 1e9)
    until(lambda: boot_ns() > old_ns, within_s=10, what="the answer to be old")
    current.guardian.send(signal.SIGTERM)
    current.guardian.send(signal.SIGCONT)
    until(lambda: not current.guardian.alive, within_s=10, what="the guardian's end")
    assert supervisor.pid() is None
    other.release()
    held.close()
    assert supervisor.pid() is not None


def test_postgres_away_stops_the_act_and_not_the_heal(supervisor: Supervisor, dsn: str, database: str) -> None:
    """Who can't tell that the stack is still its own breaks nothing more, and mends what it broke, at once."""
    held = Guardian.start(supervisor.stack, "r1", "broker_restart", 60)
    held.inject(Stop("web"))
    name = dsn.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    with pytest.raises(NotUp):
        held.inject(Noop("web"))
    began = time.monotonic()
    current = lease.holder(supervisor.state)
    assert current is not None
    os.kill(current.guardian.pid, signal.SIGTERM)
    until(lambda: supervisor.pid() is not None, within_s=5, every_s=0.005, what="the heal")
    assert time.monotonic() - began < 0.5
    held.close()
    assert Journal(supervisor.state.journal).open_acts() == []
