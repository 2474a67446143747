"""Who holds the stack."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gameday.errors import Busy, GamedayError
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.undo import lease

ME = Process.me()

HOLD = """
import sys, time
from pathlib import Path
from gameday.undo import lease
from gameday.system.process import Process
from gameday.state import State
lease.take(State(Path(sys.argv[1])), "r1", "broker_restart", Process.of(int(sys.argv[2])), float(sys.argv[3]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path)


@contextmanager
def guardian(state: State, owner: int, ttl_s: float = 60) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the stack for the run of process `owner`."""
    command = [sys.executable, "-c", HOLD, str(state.root), str(owner), str(ttl_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        try:
            yield child
        finally:
            child.kill()


def test_nobody_holds_a_fresh_stack(state: State) -> None:
    """Before anyone took it, and after it was given back, the stack is free."""
    assert lease.holder(state) is None
    held, mine = lease.take(state, "r1", "broker_restart", ME, 60)
    assert lease.holder(state) == mine
    held.release()
    held.release()
    assert lease.holder(state) is None


def test_the_second_is_told_who_holds_it_since_when(state: State) -> None:
    """Busy names the run, its test, its process, since when and until when, and the way out."""
    began = time.monotonic()
    with sleeper() as owner, guardian(state, owner.pid), pytest.raises(Busy) as refused:
        lease.take(state, "r2", "noop", ME, 60)
    text = str(refused.value)
    for part in ("run r1", "broker_restart", f"process {owner.pid}", "since 20", "until 20", "gameday abort"):
        assert part in text
    assert time.monotonic() - began < 5


def test_death_frees_the_stack(state: State) -> None:
    """The lock goes with the guardian's process, however that ends."""
    with sleeper() as owner:
        with guardian(state, owner.pid) as other:
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert lease.holder(state) is None
        lease.take(state, "r2", "noop", ME, 60)[0].release()


def test_a_frozen_guardian_of_a_dead_run_is_displaced(state: State) -> None:
    """Nobody else would ever free the stack. It is killed before the lock passes on, so it can't act later."""
    with sleeper() as owner, guardian(state, owner.pid) as other:
        other.send_signal(signal.SIGSTOP)
        owner.kill()
        owner.wait()
        held, mine = lease.take(state, "r2", "noop", ME, 60)
        assert other.wait(5) == -signal.SIGKILL
        assert lease.holder(state) == mine
        held.release()


def test_a_guardian_long_past_its_time_is_displaced(state: State) -> None:
    """One that is frozen beyond its run's time to live can't keep the stack, even while its owner lives."""
    with sleeper() as owner, guardian(state, owner.pid, ttl_s=-lease.EXPIRED_S - 1) as other:
        other.send_signal(signal.SIGSTOP)
        lease.take(state, "r2", "noop", ME, 60)[0].release()
        assert other.wait(5) == -signal.SIGKILL


def test_a_frozen_guardian_of_a_live_run_is_left_alone(state: State) -> None:
    """A live run is never displaced; its own process deals with its guardian."""
    with sleeper() as owner, guardian(state, owner.pid) as other:
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(Busy):
            lease.take(state, "r2", "noop", ME, 60)
        assert other.poll() is None


def test_a_reused_pid_is_not_killed(state: State) -> None:
    """owner.json may name a pid that is another process's by now: start time and boot tell."""
    held, _ = lease.take(state, "r1", "broker_restart", ME, 60)
    text = state.owner.read_text()
    with sleeper() as innocent:
        found = Process.of(innocent.pid)
        assert found is not None
        stale = text.replace(f'"pid": {ME.pid}', f'"pid": {found.pid}')
        assert f'"pid": {found.pid}' in stale
        held.release()
        state.owner.write_text(stale)
        assert lease.holder(state) is None
        lease.take(state, "r2", "noop", ME, 60)[0].release()
        assert innocent.poll() is None


@pytest.mark.parametrize("wrong", [{"start_ticks": 1}, {"boot_id": "another boot"}])
def test_signals_reach_only_the_very_process(wrong: dict[str, object]) -> None:
    """Same pid, but another start or another boot: not signalled."""
    with sleeper() as innocent:
        found = Process.of(innocent.pid)
        assert found is not None
        assert not Process.parse({**found.json(), **wrong}).send(signal.SIGKILL)
        assert innocent.poll() is None
        assert found.send(signal.SIGKILL)
        assert innocent.wait() == -signal.SIGKILL


def test_a_zombie_is_not_alive() -> None:
    """A process that nobody has reaped yet has ended all the same."""
    with sleeper() as child:
        found = Process.of(child.pid)
        assert found is not None
        child.kill()
        until(lambda: not found.alive, within_s=5)
        assert Process.of(child.pid) is None


def test_of_many_racing_for_a_dead_runs_stack_one_wins(state: State) -> None:
    """Take-overs may race: one gets the stack, the others are told who did."""
    won: list[lease.Lease] = []
    lost: list[Busy] = []

    def race(n: int) -> None:
        try:
            won.append(lease.take(state, f"r{n}", "noop", ME, 60)[0])
        except Busy as e:
            lost.append(e)

    with sleeper() as owner, guardian(state, owner.pid) as other:
        other.send_signal(signal.SIGSTOP)
        owner.kill()
        owner.wait()
        racers = [threading.Thread(target=race, args=(n,)) for n in range(4)]
        for r in racers:
            r.start()
        for r in racers:
            r.join()
    assert len(won) == 1
    assert len(lost) == 3
    won[0].release()


def test_a_nameless_holder_is_waited_for(state: State) -> None:
    """Who mends for a moment isn't a run: one waits for it instead of giving up."""
    mending = lease.take_to_mend(state)
    timer = threading.Timer(0.2, mending.release)
    timer.start()
    lease.take(state, "r1", "noop", ME, 60)[0].release()
    timer.join()


def test_a_nameless_holder_that_stays_is_told(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded, and the error names the file that is locked."""
    monkeypatch.setattr(lease, "PATIENCE_S", 0.1)
    with lease.take_to_mend(state), pytest.raises(Busy, match="lock is locked by a process that"):
        lease.take(state, "r1", "noop", ME, 60)


def test_children_do_not_inherit_the_lock(state: State) -> None:
    """A child that outlives the holder must not keep the stack."""
    held, _ = lease.take(state, "r1", "noop", ME, 60)
    with subprocess.Popen(["sleep", "1000"], close_fds=False) as child:
        held.release()
        lease.take(state, "r2", "noop", ME, 60)[0].release()
        child.kill()


def test_a_hold_lasts_until_its_time_or_release(state: State) -> None:
    """`gameday hold` keeps scheduled nights away, and says who and until when."""
    assert lease.hold_reason(state) is None
    lease.hold(state, None)
    assert "until gameday release" in (lease.hold_reason(state) or "")
    lease.release(state)
    lease.release(state)
    assert lease.hold_reason(state) is None
    lease.hold(state, datetime.now(UTC) + timedelta(hours=8))
    assert "UTC" in (lease.hold_reason(state) or "")
    lease.hold(state, datetime.now(UTC) - timedelta(seconds=1))
    assert lease.hold_reason(state) is None


def test_a_damaged_hold_is_an_error(state: State) -> None:
    """What can't be read is never taken for "nights may start"."""
    state.hold.write_text("{")
    with pytest.raises(GamedayError, match=r"hold\.json"):
        lease.hold_reason(state)
