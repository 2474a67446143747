"""Undo that survives: real guardians, a supervisor with real processes, and every kind of death."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest

from gameday.errors import Busy, ConfigError, DriverError, GamedayError
from gameday.faults.kill import Kill
from gameday.faults.noop import Noop
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.model import Act, Json
from gameday.ports import Fault
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.undo import guardian, lease, mending
from gameday.undo.guardian import PIPE_BYTES, SOMEONE_ELSE, Guardian
from gameday.undo.journal import Journal
from gameday.undo.reconciler import Reconciler
from tests.contract.sockets import Answering
from tests.fakes import Supervisor, fill, refuse, small_disk

HEALED_WITHIN_S = 0.5
"""After the run's death; the component's own start (a sleep) takes no time."""

START_WITHIN_S = 2.0
"""A guardian's start on a busy machine; alone it takes under 0.4 s."""

RUN = """
import sys
from pathlib import Path
from gameday.undo.guardian import Guardian
from gameday.stack.live import open_stack
from gameday.state import State
stack = open_stack(Path(sys.argv[1]) / "gameday.toml", State(Path(sys.argv[1])))
from {module} import {fault}
guardian = Guardian.start(stack, "r1", "feed_handler_crash", 60)
act = guardian.inject({fault}("web"))
print(guardian.prove(act.id, 5).proof, flush=True)
sys.stdin.read()
"""


FROST = '''
"""A fault of one's own, in a file beside gameday.toml."""

from dataclasses import dataclass

from gameday.faults.pause import Pause


@dataclass(frozen=True)
class Freeze(Pause):
    """As gameday's own."""
'''


STEPPED = """
import time
from pathlib import Path

real, file = time.time_ns, Path("{file}")

def stepped():
    return real() + (int(file.read_text()) if file.exists() else 0) * 10**9

time.time_ns, time.time = stepped, lambda: stepped() / 1e9
"""
"""The wall clock as a process sees it that was stepped."""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path) as running:
        yield running


@pytest.fixture
def stack(supervisor: Supervisor) -> Stack:
    return supervisor.stack


@contextmanager
def guarded(stack: Stack, run: str = "r1", ttl_s: float = 60) -> Iterator[Guardian]:
    held = Guardian.start(stack, run, "feed_handler_crash", ttl_s)
    try:
        yield held
    finally:
        held.close()


@contextmanager
def running(stack: Stack, fault: type | str) -> Iterator[subprocess.Popen[str]]:
    """A run in a process of its own that has injected the fault, proved it, and waits. fault: a class, or module:Class
    beside gameday.toml."""
    module, _, name = fault.partition(":") if isinstance(fault, str) else (fault.__module__, "", fault.__name__)
    script = RUN.format(module=module, fault=name)
    command = [sys.executable, "-c", script, str(stack.state.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert "web" in run.stdout.readline()
        try:
            yield run
        finally:
            run.kill()
    until(lambda: lease.holder(stack.state) is None, within_s=10, what="the guardian's end")


def holder(stack: Stack) -> Process:
    """The guardian that holds the stack."""
    found = lease.holder(stack.state)
    assert found is not None
    return found.guardian


def acts(stack: Stack, run: str = "r1") -> tuple[Act, ...]:
    return Journal(stack.state.journal).acts(run)


def healed_within(supervisor: Supervisor, within_s: float = HEALED_WITHIN_S) -> None:
    """The component runs unfrozen again, and the journal says so."""
    until(lambda: not mending.nothing_left(supervisor.stack), within_s, every_s=0.002, what="nothing to be left")
    until(lambda: not Journal(supervisor.state.journal).open_acts(), 5, what="the journal to say so")


# ---- the ordinary way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Restart("web"), Restart("web", how="sigkill"), Kill("web"), Noop("web")], ids=str)
def test_what_strikes_once_bites_and_is_over_at_the_close(supervisor: Supervisor, fault: Fault) -> None:
    """Journal, act, proof; healing all that is held leaves it alone; the close notes that nothing is left."""
    with guarded(supervisor.stack) as held:
        act = held.inject(fault)
        assert act.done_ns is not None
        assert held.prove(act.id, 5).proof
        assert held.heal(None, "the end of the plan") == []
        assert mending.nothing_left(supervisor.stack) == []
        held.close()
        assert [a.healed_by for a in held.acts()] == ["r1"]
        assert [a.healed_why for a in held.acts()] == ["its run ended"]
        assert held.end == "its run ended"
    assert mending.nothing_left(supervisor.stack) == []


@pytest.mark.parametrize("fault", [Stop("web"), Stop("web", how="sigkill"), Pause("web")], ids=str)
def test_what_is_held_lasts_until_the_heal(supervisor: Supervisor, fault: Fault) -> None:
    """A held fault is seen as left over until it is healed, and its healing is the run's own."""
    with guarded(supervisor.stack) as held:
        act = held.inject(fault)
        assert held.prove(act.id, 5).proof
        assert len(mending.nothing_left(supervisor.stack)) == 1
        (healed,) = held.heal(None, "the end of the plan")
        assert (healed.id, healed.healed_by, healed.healed_why) == (act.id, "r1", "the end of the plan")
        assert mending.nothing_left(supervisor.stack) == []
        assert held.close() == []


def test_the_plans_heal_waits_for_nothing_to_serve(supervisor: Supervisor) -> None:
    """The run measures how long the component takes: its act is undone at once, and healed when it serves, with the
    undo's time. Meanwhile nothing takes it for someone else's undo."""
    supervisor.serves = False
    with guarded(supervisor.stack) as held:
        act = held.inject(Stop("web"))
        assert held.prove(act.id, 5).proof
        (undone,) = held.heal(None, "the plan's heal")
        assert supervisor.pid() is not None
        assert (undone.undone, undone.healed_ns) == (True, None)
        assert [a.id for a in Journal(supervisor.state.journal).open_acts()] == [act.id]
        (again,) = held.heal(None, "the end of the plan")
        assert (again.undone_ns, again.healed_ns) == (undone.undone_ns, None)
        supervisor.serves = True
        until(lambda: not Journal(supervisor.state.journal).open_acts(), 5, what="the journal to say that it serves")
        (healed,) = held.acts()
        assert (healed.healed_ns, healed.healed_by) == (undone.undone_ns, "r1")
        assert held.close() == []


def test_a_killed_runs_component_is_back_at_once_and_healed_when_it_serves(supervisor: Supervisor) -> None:
    """The undo does not wait for the start, and the word for it does."""
    with running(supervisor.stack, Stop) as run:
        supervisor.serves = False
        run.kill()
        until(supervisor.pid, HEALED_WITHIN_S, every_s=0.002, what="the process to be back")
        until(lambda: acts(supervisor.stack)[0].undone, 5, what="the journal to say so")
        assert acts(supervisor.stack)[0].healed_ns is None
        waiting = holder(supervisor.stack)
        assert Reconciler(supervisor.stack.path, supervisor.state).look() == []
        assert waiting.alive  # it would be displaced for nothing
        supervisor.serves = True
    (act,) = acts(supervisor.stack)
    assert (act.healed_by, act.healed_ns) == ("r1", act.undone_ns)


def test_a_fault_beside_gameday_toml_is_mended_when_its_run_dies(supervisor: Supervisor) -> None:
    """The guardian finds its class by the name in the journal, in a process that never saw the failure test."""
    (supervisor.state.root / "frost.py").write_text(FROST)
    with running(supervisor.stack, "frost:Freeze") as run:
        (act,) = acts(supervisor.stack)
        assert (act.fault, act.args) == ("frost:Freeze", {"component": "web"})
        run.kill()
        healed_within(supervisor, 10)


def test_what_does_not_serve_when_the_guardian_dies_is_the_reconcilers(supervisor: Supervisor) -> None:
    """It tries again at each look, names what is missing, and notes it as healed once it serves."""
    stack = supervisor.stack
    with running(stack, Stop) as run:
        supervisor.serves = False
        guarding = holder(stack)
        run.kill()
        until(lambda: acts(stack)[0].undone, 5, what="the undo")
        guarding.send(signal.SIGKILL)
        until(lambda: lease.holder(stack.state) is None, 5, what="the guardian's end")
        reconciler = Reconciler(stack.path, stack.state)
        assert reconciler.look() == []
        assert acts(stack)[0].healed_ns is None
        with pytest.raises(GamedayError, match=r"not healed: stop of web \(run r1\): web \(pid \d+\) was started and"):
            mending.mend(stack, "somebody", "asked", 0.1).check()
        supervisor.serves = True
        (healed,) = reconciler.look()
    assert (healed.healed_by, healed.id) == ("the reconciler", acts(stack)[0].id)


def test_a_supervisor_that_does_nothing_gives_no_proof(supervisor: Supervisor) -> None:
    """A restart that changed nothing has no proof: the run will be invalid."""
    supervisor.broken = {"start": lambda _: {"ok": True}, "stop": lambda _: {"ok": True}}
    with guarded(supervisor.stack) as held:
        act = held.inject(Restart("web"))
        assert held.prove(act.id, 0.3).proof is None


def test_one_that_was_not_told_to_take_the_stack_touches_nothing(supervisor: Supervisor) -> None:
    """It comes up beside whoever holds the stack, takes it when it is told to, and can be sent away before."""
    waits = Guardian.launch(supervisor.stack, "r2", "broker_restart", 60)
    gone = Guardian.launch(supervisor.stack, "r3", "broker_restart", 60)
    try:
        with guarded(supervisor.stack) as held:
            act = held.inject(Stop("web"))
            gone.dismiss()
            assert (waits.alive, gone.alive) == (True, False)
            assert [a.id for a in Journal(supervisor.state.journal).open_acts()] == [act.id]
        waits.take()
        current = lease.holder(supervisor.state)
        assert current is not None
        assert current.run == "r2"
    finally:
        waits.close()
    assert lease.holder(supervisor.state) is None


def test_one_that_waits_for_its_word_ends_with_its_run(supervisor: Supervisor) -> None:
    """Nothing stays of a night that was killed."""
    script = """
import sys
from pathlib import Path
from gameday.undo.guardian import Guardian
from gameday.stack.live import open_stack
from gameday.state import State
stack = open_stack(Path(sys.argv[1]) / "gameday.toml", State(Path(sys.argv[1])))
print(Guardian.launch(stack, "r1", "feed_handler_crash", 60)._process.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(supervisor.stack.state.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert Process.of(pid) is not None
        run.kill()
    until(lambda: (seen := Process.of(pid)) is None or seen.state == "Z", within_s=10, what="its end")


def test_only_components_that_opted_in_are_touched(supervisor: Supervisor) -> None:
    """The guardian checks it itself, before it even looks at the component."""
    with guarded(supervisor.stack) as held:
        with pytest.raises(ConfigError, match="'db' has not opted in"):
            held.inject(Stop("db"))
        assert supervisor.orders == []
        assert held.acts() == ()


def test_a_refused_act_stays_open_until_healed(supervisor: Supervisor) -> None:
    """An act that failed may have had an effect: it is healed like any other, and the error says how definite it is."""
    with guarded(supervisor.stack) as held:
        supervisor.broken["stop"] = refuse
        with pytest.raises(DriverError, match="out of order") as failed:
            held.inject(Stop("web"))
        assert failed.value.definite
        assert [a.done_ns for a in held.acts()] == [None]
    assert [a.healed_by for a in acts(supervisor.stack)] == ["r1"]


def test_the_second_run_is_busy(stack: Stack) -> None:
    """One run per stack: the second is told who holds it, and nothing happens to the first."""
    with guarded(stack) as held:
        with pytest.raises(Busy, match=r"run r1 \(feed_handler_crash\).*gameday abort"):
            Guardian.start(stack, "r2", "broker_restart", 60)
        assert held.alive
    with guarded(stack, "r3"):
        pass


def test_starts_quickly(stack: Stack) -> None:
    """A guardian imports only what it needs."""
    began = time.monotonic()
    with guarded(stack):
        assert time.monotonic() - began < START_WITHIN_S


# ---- deaths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Stop, Pause])
def test_a_killed_run_is_healed_by_its_guardian(supervisor: Supervisor, fault: type) -> None:
    """SIGKILL of the run in the middle of a held fault: undone at once."""
    with running(supervisor.stack, fault) as run:
        run.kill()
        healed_within(supervisor)
    (act,) = acts(supervisor.stack)
    assert act.healed_by == "r1"
    assert "process" in (act.healed_why or "")


def test_a_child_that_keeps_the_pipe_open_changes_nothing(supervisor: Supervisor) -> None:
    """The run's death is seen even when a forked child of its holds the guardian's pipe."""
    script = RUN.format(module="gameday.faults.stop", fault="Stop").replace(
        "sys.stdin.read()", "import os, time\nprint(os.fork(), flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(supervisor.state.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(3)]
        child = next(int(line) for line in lines if line.strip().isdigit() and line.strip() != "0")
        run.kill()
        run.wait()
        healed_within(supervisor)
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_guardian_heals(supervisor: Supervisor, number: signal.Signals) -> None:
    """SIGTERM or Ctrl-C at the guardian is an abort: healed, and the run is told."""
    with guarded(supervisor.stack) as held:
        held.prove(held.inject(Stop("web")).id, 5)
        holder(supervisor.stack).send(number)
        healed_within(supervisor)
        until(lambda: not held.alive, within_s=5)
        assert held.end == "aborted"
        with pytest.raises(GamedayError, match="aborted"):
            held.inject(Noop("web"))
    assert [a.healed_why for a in acts(supervisor.stack)] == ["aborted"]


def test_ctrl_c_at_the_run_does_not_reach_the_guardian(supervisor: Supervisor) -> None:
    """The terminal's Ctrl-C ends the run; its guardian is in a session of its own, and heals."""
    with running(supervisor.stack, Stop) as run:
        run.send_signal(signal.SIGINT)
        healed_within(supervisor, within_s=5)
    assert [a.healed_by for a in acts(supervisor.stack)] == ["r1"]


def test_the_time_to_live_ends_the_fault_and_the_run(supervisor: Supervisor) -> None:
    """A run that hangs can't keep anything broken beyond its time."""
    began = time.monotonic()
    with guarded(supervisor.stack, ttl_s=1.0) as held:
        held.inject(Stop("web"))
        healed_within(supervisor, within_s=5)
        assert time.monotonic() - began > 1.0
        until(lambda: not held.alive, within_s=5)
        assert held.end == "its time to live ended"


@pytest.mark.parametrize("step_s", [86400, -86400])
def test_a_step_of_the_wall_clock_neither_ends_nor_prolongs(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    """A day forth or back while a fault is held: a second run is still refused, the fault lasts for its time."""
    (tmp_path / "sitecustomize.py").write_text(STEPPED.format(file=tmp_path / "step_s"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with guarded(supervisor.stack, ttl_s=3.0) as held:
        act = held.inject(Stop("web"))
        (tmp_path / "step_s").write_text(str(step_s))
        with pytest.raises(Busy):
            Guardian.start(supervisor.stack, "r2", "feed_handler_crash", 60)
        assert Journal(supervisor.state.journal).open_acts()
        until(lambda: not held.alive, within_s=10)
        assert held.end == "its time to live ended"
        (healed,) = held.acts()
        assert healed.healed_ns is not None
        assert 2.0 < (healed.healed_ns - act.at_ns) / 1e9 < 5.0


def test_a_frozen_run_loses_the_stack_at_the_end_of_its_time(supervisor: Supervisor) -> None:
    """SIGSTOP of the run: its guardian heals at the time to live, and the run, awake again, can't inject any more."""
    stack = supervisor.stack
    held = Guardian.start(stack, "r1", "feed_handler_crash", 0.5)
    held.inject(Stop("web"))
    until(lambda: lease.holder(stack.state) is None, within_s=10)
    with guarded(stack, "r2") as other:
        with pytest.raises(GamedayError, match="time to live ended"):
            held.inject(Stop("web"))
        held.close()
        assert other.alive
        assert supervisor.pid() is not None


def test_a_guardian_frozen_between_check_and_act_never_acts_after_it_lost_the_stack(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP when all is checked and nothing done yet; its run's time passes, another takes the stack: the frozen one
    is killed first, so that waking up does nothing."""
    monkeypatch.setattr(lease, "EXPIRED_S", 0.0)
    stack = supervisor.stack
    held = Guardian.start(stack, "r1", "feed_handler_crash", 1.0)
    frozen = holder(stack)

    def freeze(order: object) -> object:
        """`before` asks for the status: the last thing between the checks and the act."""
        frozen.send(signal.SIGSTOP)
        del supervisor.broken["status"]
        return supervisor.obey(order)

    supervisor.broken["status"] = freeze

    def act() -> None:
        with pytest.raises(GamedayError):
            held.inject(Stop("web"))

    acting = threading.Thread(target=act, daemon=True)
    acting.start()
    until(lambda: frozen.stopped, within_s=5, what="the guardian to be frozen")
    until(lambda: (found := lease.holder(stack.state)) is not None and found.orphaned, within_s=5, what="its time")
    with lease.take_to_mend(stack.state):
        assert not frozen.send(signal.SIGCONT), "it must be dead before the stack is another's"
        acting.join(10)
        assert not acting.is_alive()
        assert [o["op"] for o in supervisor.orders if o["op"] != "status"] == []
    held.close()


def test_a_crossed_stop_condition_undoes_within_a_second(supervisor: Supervisor) -> None:
    """A number beyond the stack's own bound ends the run: undone, and it is told which bound."""
    gauge = Answering({"ok": True, "lag": 1})
    with gauge:
        text = f"""
[stops.lag]
driver = "http"
url = "http://127.0.0.1:{gauge.port}/"
fields = ["lag"]
field = "lag"
max = 100
"""
        supervisor.stack.path.write_text(supervisor.stack.path.read_text() + text)
        stack = open_stack(supervisor.stack.path, supervisor.state)
        held = Guardian.start(stack, "r1", "feed_handler_crash", 60)
        held.prove(held.inject(Stop("web")).id, 5)
        gauge.body = {"ok": True, "lag": 101}
        healed_within(supervisor, within_s=1.0)
        until(lambda: not held.alive, within_s=5)
        assert held.end == "stop condition lag: 101 is above 100 (lag)"
        assert [a.healed_why for a in acts(stack)] == [held.end]
        with pytest.raises(GamedayError, match=r"aborted: .*101 is above 100"):
            held.inject(Stop("web"))
        held.close()


@pytest.mark.suite("kills")
def test_the_undo_comes_at_once_beside_a_full_load(supervisor: Supervisor) -> None:
    """With twice as many busy processes as cores, all of them asking for as much as the guardian."""
    burn = [sys.executable, "-c", "while True: pass"]
    load = [subprocess.Popen(burn, start_new_session=True) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        with running(supervisor.stack, Stop) as run:
            run.kill()
            healed_within(supervisor, within_s=2.0)
    finally:
        for one in load:
            one.kill()
            one.wait()


def test_a_killed_guardian_leaves_the_healing_to_its_run(supervisor: Supervisor) -> None:
    """The run notices, and heals by itself when it closes."""
    with guarded(supervisor.stack) as held:
        held.prove(held.inject(Stop("web")).id, 5)
        holder(supervisor.stack).send(signal.SIGKILL)
        until(lambda: not held.alive, within_s=5)
        assert "died" in (held.end or "")
        (healed,) = held.close()
        assert (healed.healed_by, healed.healed_why) == ("r1", "its guardian was gone")
        assert mending.nothing_left(supervisor.stack) == []


def test_a_frozen_guardian_is_killed_by_its_run(supervisor: Supervisor) -> None:
    """One that can't undo is as good as dead; killed first, it can't act later."""
    with guarded(supervisor.stack) as held:
        held.prove(held.inject(Stop("web")).id, 5)
        frozen = holder(supervisor.stack)
        frozen.send(signal.SIGSTOP)
        until(lambda: not held.alive, within_s=5)
        held.close()
        assert not frozen.alive
        assert mending.nothing_left(supervisor.stack) == []


def test_the_reconciler_heals_when_run_and_guardian_are_dead(supervisor: Supervisor) -> None:
    """At its next look, and the journal says who it was."""
    with running(supervisor.stack, Stop) as run:
        holder(supervisor.stack).send(signal.SIGKILL)
        run.kill()
        run.wait()
        watchman = Reconciler(supervisor.stack.path, supervisor.state)
        assert [a.healed_by for a in watchman.look()] == ["the reconciler"]
        healed_within(supervisor)
        assert watchman.look() == []


def test_the_reconciler_heals_when_only_the_guardian_is_dead(supervisor: Supervisor) -> None:
    """It leaves the run one look's time to heal by itself; that run's verdict is unknown either way."""
    with running(supervisor.stack, Stop):
        holder(supervisor.stack).send(signal.SIGKILL)
        until(lambda: lease.holder(supervisor.state) is None, within_s=5)
        watchman = Reconciler(supervisor.stack.path, supervisor.state)
        assert watchman.look() == []
        assert [a.healed_why for a in watchman.look()] == ["its guardian was gone"]


def test_the_reconciler_displaces_a_frozen_guardian_of_a_dead_run(supervisor: Supervisor) -> None:
    """Nobody else would ever heal."""
    with running(supervisor.stack, Pause) as run:
        frozen = holder(supervisor.stack)
        frozen.send(signal.SIGSTOP)
        run.kill()
        run.wait()
        assert len(Reconciler(supervisor.stack.path, supervisor.state).look()) == 1
        assert not frozen.alive
        assert mending.nothing_left(supervisor.stack) == []


def test_the_reconciler_never_touches_a_live_run(supervisor: Supervisor) -> None:
    """A fault that a live run holds is not its business."""
    with guarded(supervisor.stack) as held:
        held.inject(Stop("web"))
        watchman = Reconciler(supervisor.stack.path, supervisor.state)
        assert watchman.look() == watchman.look() == []
        assert supervisor.pid() is None


def test_the_reconciler_as_a_process(supervisor: Supervisor) -> None:
    """Within two seconds of the death of run and guardian; SIGTERM ends it cleanly."""
    command = [sys.executable, "-m", "gameday.undo.reconciler", "--config", str(supervisor.stack.path)]
    command += ["--state", str(supervisor.state.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watchman:
        assert watchman.stdout is not None
        assert "watching" in watchman.stdout.readline()
        with running(supervisor.stack, Stop) as run:
            holder(supervisor.stack).send(signal.SIGKILL)
            run.kill()
            healed_within(supervisor, within_s=2.0)
        watchman.terminate()
        assert watchman.wait(5) == 0


def test_the_next_run_heals_when_all_are_dead(supervisor: Supervisor) -> None:
    """Run, guardian and reconciler gone: the next command heals before it does anything, and says that it did."""
    with running(supervisor.stack, Stop) as run:
        holder(supervisor.stack).send(signal.SIGKILL)
        run.kill()
        run.wait()
        with guarded(supervisor.stack, "r2"):
            assert mending.nothing_left(supervisor.stack) == []
    assert [(a.healed_by, a.healed_why) for a in acts(supervisor.stack)] == [("r2", "left by an earlier run")]


# ---- abort and heal ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Stop, Pause])
def test_abort_undoes_within_a_second(supervisor: Supervisor, fault: type) -> None:
    """From any process; it returns what was healed, and the stack is free."""
    with running(supervisor.stack, fault):
        began = time.monotonic()
        healed = mending.abort(supervisor.state)
        assert time.monotonic() - began < 1.0
        assert [(a.fault, a.healed_why) for a in healed] == [(fault.__name__.lower(), "aborted")]
        assert mending.nothing_left(supervisor.stack) == []
        assert lease.holder(supervisor.state) is None


def test_abort_wakes_a_frozen_guardian(supervisor: Supervisor) -> None:
    """A guardian that someone froze still undoes when it is told to."""
    with running(supervisor.stack, Stop):
        holder(supervisor.stack).send(signal.SIGSTOP)
        assert len(mending.abort(supervisor.state)) == 1


def test_abort_of_nothing(stack: Stack) -> None:
    """Without a run there is nothing to abort."""
    assert mending.abort(stack.state) == []


def test_heal_aborts_a_live_run_first(supervisor: Supervisor) -> None:
    """`gameday heal` during a run ends that run."""
    with guarded(supervisor.stack) as held:
        held.inject(Stop("web"))
        assert supervisor.pid() is None
        assert len(mending.heal_open(supervisor.stack, "gameday heal", "asked")) == 1
        assert supervisor.pid() is not None
        assert not held.alive


def test_heal_of_a_dead_runs_fault_says_who(supervisor: Supervisor) -> None:
    """The journal keeps whose hand it was."""
    with running(supervisor.stack, Stop) as run:
        holder(supervisor.stack).send(signal.SIGKILL)
        run.kill()
        run.wait()
        (healed,) = mending.heal_open(supervisor.stack, "gameday heal", "asked")
        assert healed.healed_by == "gameday heal"
    assert mending.heal_open(supervisor.stack, "gameday heal", "asked") == []


def test_a_fault_that_another_hand_healed_is_told(supervisor: Supervisor) -> None:
    """Someone started the component while the run held it down: its heal was not the run's, so the run is unknown."""
    with guarded(supervisor.stack) as held:
        held.prove(held.inject(Stop("web")).id, 5)
        supervisor.obey({"op": "start", "name": "web"})
        assert [a.healed_by for a in held.heal(None, "the end of the plan")] == [SOMEONE_ELSE]


# ---- heals and acts that go wrong ----------------------------------------------------------------------------


def test_a_failing_heal_is_tried_again(supervisor: Supervisor) -> None:
    """The act stays open in the journal until its heal succeeds."""
    with running(supervisor.stack, Stop) as run:
        supervisor.broken["start"] = refuse
        run.kill()
        until(lambda: sum(o["op"] == "start" for o in supervisor.orders) >= 3, within_s=10)
        assert len(Journal(supervisor.state.journal).open_acts()) == 1
        del supervisor.broken["start"]
        healed_within(supervisor, within_s=5)


def test_a_hanging_act_does_not_delay_the_heal_for_long(supervisor: Supervisor) -> None:
    """The supervisor does not answer the stop: the abort heals anyway, and once more when it has answered."""
    answer = threading.Event()

    def hang(order: dict[str, object]) -> object:
        supervisor.obey(order)
        answer.wait(20)
        return {"ok": True}

    supervisor.broken["stop"] = hang
    with guarded(supervisor.stack) as held:
        injecting = threading.Thread(target=held.inject, args=(Stop("web"),))
        injecting.start()
        until(lambda: supervisor.pid() is None, within_s=5)
        holder(supervisor.stack).send(signal.SIGTERM)
        until(lambda: supervisor.pid() is not None, within_s=guardian.ACT_PATIENCE_S + 1, what="the heal")
        assert lease.holder(supervisor.state) is not None
        answer.set()
        injecting.join(10)
        healed_within(supervisor, within_s=5)
        until(lambda: not held.alive, within_s=5)
        assert held.end == "aborted"


def test_a_hanging_look_does_not_delay_the_heal(supervisor: Supervisor) -> None:
    """Whether the fault has taken effect is asked, and not answered: that changes nothing, and nothing waits for it."""
    asked, answer = threading.Event(), threading.Event()

    def hang_once(order: Json) -> Json | None:
        if not asked.is_set():
            asked.set()
            answer.wait(20)
        return supervisor.obey(order)

    def look(held: Guardian, act: Act) -> None:
        with suppress(GamedayError):
            held.prove(act.id, 10)

    with guarded(supervisor.stack) as held:
        act = held.inject(Stop("web"))
        supervisor.broken["status"] = hang_once
        proving = threading.Thread(target=look, args=(held, act))
        proving.start()
        assert asked.wait(5)
        holder(supervisor.stack).send(signal.SIGTERM)
        healed_within(supervisor)
        answer.set()
        proving.join(10)
    assert [(a.healed_why, a.proof) for a in acts(supervisor.stack)] == [("aborted", None)]


def test_no_journal_no_act(supervisor: Supervisor) -> None:
    """When the journal can't be written, nothing is done to the component."""
    journal, pid = supervisor.state.journal, supervisor.pid()
    with guarded(supervisor.stack) as held:
        journal.mkdir()
        with pytest.raises(GamedayError, match=r"can't be (read|written)"):
            held.inject(Stop("web"))
        journal.rmdir()
        assert supervisor.pid() == pid
        assert [o["op"] for o in supervisor.orders if o["op"] != "status"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tmpfs")
def test_a_full_disk_stops_the_act_and_not_the_heal(tmp_path: Path) -> None:
    """On a full state folder nothing is injected; what was injected before is healed, though it can't be noted."""
    folder = tmp_path / "small"
    folder.mkdir()
    with small_disk(folder, "128k"), Supervisor(folder) as supervisor:
        held = Guardian.start(supervisor.stack, "r1", "feed_handler_crash", 60)
        held.inject(Stop("web"))
        fill(folder / "filler")
        with pytest.raises(GamedayError, match=r"journal.* can't be written"):
            inject_often(held, Noop("web"), PAGE_RECORDS)
        noted = len(held.acts())
        with pytest.raises(GamedayError, match=r"journal.* can't be written"):
            held.inject(Noop("web"))
        assert len(held.acts()) == noted
        holder(supervisor.stack).send(signal.SIGTERM)
        until(lambda: supervisor.pid() is not None, HEALED_WITHIN_S + 0.5, what="the heal")
        (folder / "filler").unlink()
        healed_within(supervisor, within_s=5)
        held.close()


PAGE_RECORDS = 50
"""More records than the journal's last page has room for."""


def inject_often(held: Guardian, fault: Fault, times: int) -> None:
    for _ in range(times):
        held.inject(fault)


def test_a_run_that_is_gone_does_not_kill_its_guardian(supervisor: Supervisor) -> None:
    """An answer into a broken pipe is lost, and nothing else."""
    held = Guardian.start(supervisor.stack, "r1", "feed_handler_crash", 60)
    held.prove(held.inject(Stop("web")).id, 5)
    held._stdout.close()
    held._stdin.write(b'{"op":"unknown"}\n')
    held._stdin.close()
    healed_within(supervisor)
    assert held._process.wait(5) == 0


def test_a_run_that_reads_no_answers_does_not_hold_up_its_guardian(supervisor: Supervisor) -> None:
    """A frozen run lets the pipe of answers fill up: the guardian heals, and ends."""
    held = Guardian.start(supervisor.stack, "r1", "feed_handler_crash", 60)
    held.prove(held.inject(Stop("web")).id, 5)
    held._stdin.write(2000 * b'{"op":"unknown"}\n')
    held._stdin.flush()
    until(lambda: unread(held._stdout) > 0.95 * PIPE_BYTES, within_s=10, what="a full pipe")
    holder(supervisor.stack).send(signal.SIGTERM)
    healed_within(supervisor, within_s=5)
    assert held._process.wait(5) == 0
    held.close()


def unread(pipe: IO[bytes]) -> int:
    """How many bytes wait in it."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_garbage_on_the_pipe_heals(supervisor: Supervisor) -> None:
    """Whatever goes wrong with listening, what is broken is healed before the guardian ends."""
    with guarded(supervisor.stack) as held:
        held.prove(held.inject(Stop("web")).id, 5)
        held._stdin.write(b"garbage\n")
        held._stdin.flush()
        healed_within(supervisor)


def test_a_supervisor_that_is_gone_is_told_at_the_close(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close of a run names what it could not heal, and its guardian goes on trying."""
    monkeypatch.setattr(guardian, "CLOSE_WITHIN_S", 0.3)
    held = Guardian.start(supervisor.stack, "r1", "feed_handler_crash", 60)
    held.inject(Stop("web"))
    supervisor.broken["start"] = refuse
    with pytest.raises(GamedayError, match=r"still trying to heal stop of web.*gameday heal"):
        held.close()
    del supervisor.broken["start"]
    healed_within(supervisor, within_s=5)


def test_nothing_left_tells_what_it_cannot_see(supervisor: Supervisor) -> None:
    """A supervisor that does not answer is not "nothing left"; nor is a damaged journal."""
    supervisor.broken["status"] = refuse
    assert ["out of order" in line for line in mending.nothing_left(supervisor.stack)] == [True]
    del supervisor.broken["status"]
    supervisor.state.journal.write_text("damaged\n")
    assert ["line 1 of" in line for line in mending.nothing_left(supervisor.stack)] == [True]


def test_a_broken_configuration_starts_no_guardian(supervisor: Supervisor) -> None:
    """The guardian reads the file again: what it can't read is the run's error."""
    stack = open_stack(supervisor.stack.path, State(supervisor.state.root))
    stack.path.write_text("name = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        Guardian.start(stack, "r1", "noop", 60)
    assert lease.holder(stack.state) is None
