"""Mending against a host in memory: undone is not yet healed, and nothing that is open waits for what starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gameday.errors import GamedayError
from gameday.faults.failpoint import Failpoint
from gameday.faults.noop import Noop
from gameday.faults.stop import Stop
from gameday.model import Act
from gameday.ports import Fault
from gameday.stack.live import Stack
from gameday.stack.registry import fault_kind
from gameday.state import State
from gameday.system.process import Process, boot_ns
from gameday.undo.guardian import _Keeper
from gameday.undo.journal import Entry, Journal
from gameday.undo.mending import Mended, mend
from tasks.heal import heal
from tests.fakes import MemoryHost, MemoryStack

WITHIN_S = 10.0
CRASHES = "its supervisor gets no answer from it, and has started it again 4 times"


class Memory(MemoryStack):
    """A stack with a journal."""

    def __init__(self, folder: Path) -> None:
        self.machine = MemoryHost(running={"web": 1, "db": 2}, births=2)
        super().__init__(self.machine)
        self.state = State(folder).ensure()
        self.journal = Journal(self.state.journal)

    def strike(self, fault: Fault, act_id: str = "r1-1") -> None:
        """As a guardian does."""
        stack = cast(Stack, self)
        before = fault.before(stack)
        args = dict(vars(fault))
        act = Act(act_id, "r1", time.monotonic_ns(), 1, "fault", fault_kind(fault), args, before, "guardian 1")
        me = Process.me()
        self.journal.begin(Entry(act, me, me, boot_ns() + 10**12))
        fault.act(stack, before, act_id)
        self.journal.done(act_id, time.monotonic_ns())

    def mend(self, within_s: float, serves_within_s: float = 0.0, by: str = "r1") -> Mended:
        return mend(cast(Stack, self), by, "a test", within_s, serves_within_s=serves_within_s)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def after(looks: int, then: Callable[[], None], host: MemoryHost) -> Callable[[str], str | None]:
    """A host that has something against the component until it has been looked at so often."""

    def unserved(component: str) -> str | None:
        host.calls.append(("look", component))
        if sum(call[0] == "look" for call in host.calls) > looks:
            then()
        return host.mute

    return unserved


def test_what_crash_loops_is_undone_and_stays_open(memory: Memory) -> None:
    """It is started, named with what it lacks, and not healed; until it serves it is tried again, and then it is."""
    memory.strike(Stop("web"))
    memory.machine.mute = CRASHES
    mended = memory.mend(WITHIN_S)
    (act,) = memory.journal.open_acts()
    assert (mended.acts, mended.failed, act.healed_ns) == ((), (), None)
    assert act.undone_ns is not None
    assert [told for _, told in mended.starting] == [f"web (pid 3) was started and does not serve: {CRASHES}"]
    assert mended.check_undone() == ()
    with pytest.raises(GamedayError, match=r"not healed: stop of web \(run r1\): web \(pid 3\).*4 times.*gameday heal"):
        mended.check()
    memory.machine.running["web"] = None  # it ended by itself: it is started once more
    memory.machine.mute = None
    (healed,) = memory.mend(WITHIN_S).check()
    assert (healed.id, healed.healed_ns, healed.healed_by) == ("r1-1", act.undone_ns, "r1")
    assert memory.journal.open_acts() == []


def test_the_time_of_a_healing_is_the_undos(memory: Memory) -> None:
    """The clock of a recovery begins there: what a component takes to serve is the platform's time, and is measured."""
    memory.strike(Stop("web"))
    memory.machine.mute = CRASHES
    began_ns = time.monotonic_ns()
    served_ns: list[int] = []

    def serve() -> None:
        memory.machine.mute = None
        served_ns.append(time.monotonic_ns())

    memory.machine.unserved = after(3, serve, memory.machine)  # type: ignore[assignment]
    (healed,) = memory.mend(WITHIN_S, serves_within_s=WITHIN_S).check()
    assert healed.healed_ns is not None
    assert healed.healed_ns == healed.undone_ns
    assert began_ns < healed.healed_ns < served_ns[0] - 0.2e9


def test_whoever_else_undoes_it_again_tells_its_own_time(memory: Memory) -> None:
    """The reconciler mends what a dead guardian had begun to."""
    memory.strike(Stop("web"))
    memory.machine.mute = CRASHES
    memory.mend(WITHIN_S)
    (first,) = memory.journal.open_acts()
    memory.machine.mute = None
    (healed,) = memory.mend(WITHIN_S, by="the reconciler").check()
    assert healed.healed_by == "the reconciler"
    assert (healed.healed_ns or 0) > (first.undone_ns or 0)


def test_all_is_undone_before_anything_is_looked_at(memory: Memory) -> None:
    """What starts slowly, or never, delays no other undo."""
    memory.strike(Stop("web"), "r1-1")
    memory.strike(Stop("db"), "r1-2")
    memory.machine.mute = CRASHES
    memory.machine.calls.clear()
    memory.mend(WITHIN_S)
    assert memory.machine.calls == [("start", "db"), ("start", "web"), ("look", "db"), ("look", "web")]


def test_the_wait_for_what_does_not_serve_is_bounded(memory: Memory) -> None:
    """However long a heal itself may be tried again."""
    memory.strike(Stop("web"))
    memory.strike(Noop("web"), "r1-2")
    memory.machine.mute = CRASHES
    began_s = time.monotonic()
    mended = memory.mend(60.0, serves_within_s=0.5)
    assert 0.5 <= time.monotonic() - began_s < WITHIN_S
    assert [act.id for act in mended.acts] == ["r1-2"]
    assert [act.id for act, _ in mended.starting] == ["r1-1"]


def test_an_undo_that_fails_is_tried_for_its_whole_time(memory: Memory) -> None:
    """The bound for serving is none for undoing."""
    memory.strike(Stop("web"))
    start: Any = memory.machine.start
    refusals = iter([GamedayError("out of order")] * 4)

    def refuse(component: str) -> None:
        if error := next(refusals, None):
            raise error
        start(component)

    memory.machine.start = refuse  # type: ignore[method-assign]
    (healed,) = memory.mend(WITHIN_S).check()
    assert healed.undone_ns is None
    assert healed.healed_ns is not None


def test_a_journal_without_undone_is_read_as_before(memory: Memory) -> None:
    """Records of an earlier version: healed was the only word for it."""
    memory.strike(Stop("web"))
    memory.journal.healed("r1-1", 5, "r1", "its run ended")
    assert memory.journal.open_acts() == []
    (act,) = memory.journal.acts("r1")
    assert (act.undone, act.undone_ns) == (True, None)


def test_why_it_was_undone_is_kept_until_it_serves(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runbook's step mends it, and the plan's end finds that it serves: it was the runbook."""
    memory.strike(Stop("web"))
    stack = cast(Stack, memory)
    lacks: list[str | None] = [CRASHES]
    monkeypatch.setattr("gameday.undo.mending.unserved", lambda *_: lacks[0])
    mend(stack, "r1", "by the runbook: Start it", WITHIN_S, serves_within_s=0.0)
    (act,) = memory.journal.open_acts()
    assert (act.undone, act.healed_ns) == (True, None)
    lacks[0] = None
    mend(stack, "r1", "the end of the plan", WITHIN_S, serves_within_s=0.0)
    (healed,) = memory.journal.acts("r1")
    assert (healed.healed_by, healed.healed_why) == ("r1", "by the runbook: Start it")


def test_a_fault_that_was_injected_again_and_again_is_healed_by_its_run(memory: Memory) -> None:
    """The undo of its first act undoes the others too. That is the run's own doing, and nobody else's."""
    spot = Failpoint("web", "spot", "3@kill")
    points = memory.points("web")
    for number in (1, 2, 3):
        points.terms["spot"] = None  # as in the new process of one that the point has ended
        memory.strike(spot, f"r1-{number}")
        memory.journal.proved(f"r1-{number}", "armed")
    keeper = _Keeper(cast(Stack, memory), cast(Any, SimpleNamespace(run="r1")), None)

    def ordered(act_ids: Sequence[str] | None, why: str) -> list[Act]:
        return keeper._heal(act_ids, why, mended=False)

    run = SimpleNamespace(
        name="t",
        acts=memory.journal.acts("r1"),
        say=print,
        note_at_clock=list,
        held=lambda: SimpleNamespace(heal=ordered),
    )
    heal.fn(cast(Any, run), spot)
    assert [(a.healed_by, a.healed_why) for a in memory.journal.acts("r1")] == [("r1", "the plan's heal")] * 3
