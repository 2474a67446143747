"""Each fault against a host in memory: what it does, how it proves it, how it is undone."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.faults.failpoint import Failpoint
from gameday.faults.harm import Harm
from gameday.faults.isolate import Isolate
from gameday.faults.kill import Kill
from gameday.faults.noop import Noop
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.model import Act
from gameday.ports import Fault, Held, Points, Trap, UntilServed
from gameday.stack.live import Stack
from gameday.stack.registry import fault_from, fault_kind
from gameday.undo import mending
from tests.fakes import MemoryHost, MemoryPoints, MemoryStack

HARMFUL = [
    Restart("web"),
    Restart("web", how="sigkill"),
    Stop("web"),
    Stop("web", how="sigkill"),
    Kill("web"),
    Pause("web"),
    Isolate("web"),
    Failpoint("web", "spot", "3@kill"),
]
ALL = [*HARMFUL, Noop("web")]


def strike(fault: Any, host: MemoryHost) -> tuple[Stack, Any]:
    stack = cast(Stack, MemoryStack(host))
    before = fault.before(stack)
    fault.act(stack, before, "r1-1")
    return stack, before


@pytest.mark.parametrize("fault", ALL, ids=str)
def test_bites_and_heals(fault: Any) -> None:
    """Every fault proves its effect, and its heal leaves the component running, unfrozen; twice as well as once."""
    host = MemoryHost()
    stack, before = strike(fault, host)
    assert fault.proof(stack, before)
    fault.heal(stack, before)
    fault.heal(stack, before)
    assert host.identity("web") is not None
    assert not host.paused("web")


@pytest.mark.parametrize("fault", HARMFUL, ids=str)
def test_an_act_that_does_nothing_does_not_bite(fault: Any) -> None:
    """A host that accepts every order and does nothing gives no proof: the run will be invalid."""
    stack, before = strike(fault, MemoryHost(inert=True))
    assert fault.proof(stack, before) is None


@pytest.mark.parametrize("fault", ALL, ids=str)
def test_heals_an_act_that_was_never_reached(fault: Any) -> None:
    """The journal is written before the act: death in between must leave nothing to regret."""
    host = MemoryHost()
    stack = cast(Stack, MemoryStack(host))
    fault.heal(stack, fault.before(stack))
    assert host.identity("web") == {"pid": 1, "start_ticks": 1, "boot_id": "b", "started_us": 1000}


@pytest.mark.parametrize("fault", HARMFUL, ids=str)
def test_what_does_not_run_cannot_be_broken(fault: Any) -> None:
    """It would prove nothing; and nothing is noted, so nothing is done."""
    host = MemoryHost(running={"web": None})
    with pytest.raises(GamedayError, match="web does not run"):
        fault.before(cast(Stack, MemoryStack(host)))
    assert host.calls == []


@pytest.mark.parametrize("fault", ALL, ids=str)
def test_survives_the_journal(fault: Any) -> None:
    """Kind and fields are all that another process needs to mend it."""
    assert isinstance(fault, Fault)
    assert fault_from(fault_kind(fault), vars(fault)) == fault


def test_sigkill_comes_before_the_supervisors_own_signal() -> None:
    """A stop asks first: a killed component must not get the chance to end in good order."""
    host = MemoryHost()
    strike(Restart("web", how="sigkill"), host)
    assert host.calls == [("kill", "web", 1), ("stop", "web", 0.0), ("start", "web")]


def test_graceful_gives_its_grace() -> None:
    """How long it may take is the fault's argument."""
    host = MemoryHost()
    strike(Stop("web", grace_s=3.0), host)
    assert host.calls == [("stop", "web", 3.0)]


def test_kill_leaves_the_revival_to_the_platform() -> None:
    """Nothing is stopped and nothing started: the desired state is still "running"."""
    host = MemoryHost()
    strike(Kill("web"), host)
    assert [call[0] for call in host.calls] == ["kill"]


def test_a_restart_needs_someone_new() -> None:
    """Gone and not back is not yet a restart; nor is an identity that started earlier than the old one."""
    host = MemoryHost(running={"web": 5})
    fault = Restart("web")
    stack = cast(Stack, MemoryStack(host))
    before = fault.before(stack)
    host.running["web"] = None
    assert fault.proof(stack, before) is None
    host.running["web"] = 4
    assert fault.proof(stack, before) is None
    host.running["web"] = 6
    assert fault.proof(stack, before) == "web: pid 5 is gone, pid 6 was started in its place"


def test_only_what_lasts_is_held() -> None:
    """A stop, a pause, a cut or an armed point lasts until it is healed; a restart or a kill strikes once."""
    assert [type(f).__name__ for f in ALL if isinstance(f, Held)] == [
        "Stop",
        "Stop",
        "Pause",
        "Isolate",
        "Failpoint",
    ]


def test_a_stop_that_another_hand_ended_does_not_hold() -> None:
    """Then the run can tell that it wasn't its own heal."""
    host = MemoryHost()
    fault = Stop("web")
    stack, before = strike(fault, host)
    assert fault.holds(stack, before)
    host.start("web")
    assert not fault.holds(stack, before)


@pytest.mark.parametrize("kind", [Restart, Stop])
def test_an_unknown_how_lists_the_right_ones(kind: Any) -> None:
    """A misspelt parameter is bad usage, before anything is touched."""
    with pytest.raises(ConfigError, match=r"'brutal'.*graceful, sigkill"):
        kind("web", how="brutal")


# ---- what the undo leaves alone, and when it is over ----------------------------------------------------------------


@pytest.mark.parametrize("fault", [Kill("web"), Restart("web"), Restart("web", how="sigkill")], ids=str)
def test_what_somebody_stopped_meanwhile_stays_stopped(fault: Any) -> None:
    """A strike that is over has left what is wanted as it was: an operator who stopped the component is not
    overruled."""
    host = MemoryHost()
    stack, before = strike(fault, host)
    host.running["web"], host.by_hand = None, True
    mending.heal_now(stack, act_of(fault, before, done_ns=2))
    assert host.identity("web") is None
    assert fault.unserved(stack, before) is None


def test_a_restart_that_broke_off_in_the_middle_is_started() -> None:
    """Its own stop looks like an operator's; that its act never returned tells them apart."""
    host, fault = MemoryHost(), Restart("web")
    stack, before = strike(fault, host)
    host.running["web"], host.by_hand = None, True
    mending.heal_now(stack, act_of(fault, before, done_ns=None))
    assert host.identity("web") is not None


def test_a_stop_is_started_again_whoever_else_stopped_it() -> None:
    """While it is held down, a stop by hand changes nothing that could be seen."""
    host, fault = MemoryHost(), Stop("web")
    stack, before = strike(fault, host)
    host.by_hand = True
    mending.heal_now(stack, act_of(fault, before, done_ns=2))
    assert host.identity("web") is not None


def act_of(fault: Any, before: Any, done_ns: int | None) -> Act:
    return Act("r1-1", "r1", 1, 1, "fault", fault_kind(fault), vars(fault), before, "guardian", None, done_ns)


class Silent:
    """A probe that nobody answers."""

    def read(self) -> Any:
        raise DriverError("connection refused", definite=True)


@pytest.mark.parametrize("fault", [f for f in HARMFUL if not isinstance(f, Failpoint)], ids=str)
def test_started_is_not_served(fault: Any) -> None:
    """A process that exists is mended only when its host has nothing against it, and its own probes are answered."""
    host = MemoryHost()
    stack, before = strike(fault, host)
    if isinstance(fault, Kill):
        assert fault.unserved(stack, before) == "web does not run"
    fault.heal(stack, before)
    assert isinstance(fault, UntilServed)
    assert fault.unserved(stack, before) is None
    host.mute = "another process has its port"
    told = fault.unserved(stack, before)
    assert told is not None
    assert told.endswith("was started and does not serve: another process has its port")
    host.mute = None
    cast(MemoryStack, stack).probes = {"health": Silent()}
    told = fault.unserved(stack, before)
    assert told is not None
    assert told.endswith("does not serve: its probe health says: connection refused")


@pytest.mark.parametrize("fault", [Pause("web"), Isolate("web")], ids=str)
def test_a_process_that_came_anew_is_not_this_undos(fault: Any) -> None:
    """What was frozen or cut off is gone: whoever made its successor sees that it serves."""
    host = MemoryHost()
    stack, before = strike(fault, host)
    host.running["web"], host.mute = 7, "it starts"
    assert fault.unserved(stack, before) is None


def test_what_is_frozen_already_is_not_frozen_again() -> None:
    """It would prove the fault, and its undo would end what another did."""
    with pytest.raises(GamedayError, match="web is paused already"):
        Pause("web").before(cast(Stack, MemoryStack(MemoryHost(frozen={"web"}))))


# ---- failpoints -----------------------------------------------------------------------------------------------------

SPOT = Failpoint("web", "spot", "3@kill")


def trap() -> tuple[Any, Any, MemoryHost, MemoryPoints]:
    """An armed failpoint: the stack, before, its host and its points."""
    host = MemoryHost()
    stack, before = strike(SPOT, host)
    points = stack.points("web")
    assert isinstance(points, Points)
    return stack, before, host, cast(MemoryPoints, points)


def test_a_failpoint_is_first_armed_then_fired() -> None:
    """Both are proofs, and told apart: only the second one says that the fault took place, with figures."""
    stack, before, _, points = trap()
    assert isinstance(SPOT, Trap)
    assert (SPOT.fired(stack, before), SPOT.proof(stack, before)) == (0, "web: spot is armed, and has not fired yet")
    points.fire()
    assert SPOT.fired(stack, before) == 1
    assert SPOT.proof(stack, before) == "web: spot fired 1 times, first 3@kill at hit 3 in pid 1 for r1-1"


def test_what_fired_before_a_failpoint_was_armed_is_no_proof() -> None:
    """Evidence of another night, or of another point, counts for nobody."""
    host = MemoryHost()
    stack: Any = MemoryStack(host)
    stack.points("web").fire()
    before = SPOT.before(stack)
    SPOT.act(stack, before, "r1-1")
    stack.points("web").fire("other")
    assert (SPOT.fired(stack, before), SPOT.proof(stack, before)) == (0, "web: spot is armed, and has not fired yet")


def test_a_failpoint_that_killed_its_process_holds_and_heals() -> None:
    """Its process is gone, or another by now: that was its own doing, and nothing is left to disarm."""
    stack, before, host, points = trap()
    points.fire()
    points.listens, host.running["web"] = False, None
    assert SPOT.holds(stack, before)
    SPOT.heal(stack, before)
    points.listens, points.terms["spot"], host.running["web"] = True, None, 2
    assert SPOT.holds(stack, before)
    SPOT.heal(stack, before)


def test_a_failpoint_that_another_hand_ended_does_not_hold() -> None:
    """Disarmed, out of time, or its process replaced before it fired."""
    stack, before, host, points = trap()
    assert SPOT.holds(stack, before)
    points.disarm("spot")
    assert not SPOT.holds(stack, before)
    points.arm("spot", "3@kill", 1, "r1-1")
    host.running["web"] = 2
    assert not SPOT.holds(stack, before)


def test_a_failpoint_needs_its_point_declared_and_free() -> None:
    """Who armed it is not overruled; a misspelt name shows the right ones; a process that doesn't listen is named."""
    stack: Any = MemoryStack(MemoryHost())
    with pytest.raises(ConfigError, match=r"declares no point 'sopt'\. It declares spot, other"):
        Failpoint("web", "sopt", "kill").before(stack)
    stack.points("web").arm("spot", "pause", 60, "somebody")
    with pytest.raises(GamedayError, match=r"armed already: pause\. Remedy: gameday failpoints disarm web spot"):
        SPOT.before(stack)
    stack.points("web").listens = False
    with pytest.raises(ConfigError, match="is FAILPOINTS_ENABLE=1 set"):
        SPOT.before(stack)


def test_a_cut_that_cannot_be_proved_is_not_made() -> None:
    """Who reaches nobody as it is would look cut off whatever is done; the error names its networks."""
    with pytest.raises(GamedayError, match=r"web reaches nobody on net as it is.*Remedy"):
        Isolate("web").before(cast(Stack, MemoryStack(MemoryHost(alone=True))))


def test_a_cut_through_which_somebody_answers_does_not_bite() -> None:
    """The host's own word is no proof: it is asked from inside, too."""
    host = MemoryHost()
    stack, before = strike(Isolate("web"), host)
    host.reached = lambda component, attached: ["db"]  # type: ignore[method-assign]
    assert Isolate("web").proof(stack, before) is None


class Breaker:
    """A job that breaks one thing, and mends it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.whole = True

    def met(self) -> Any:
        if not self.whole:
            raise DriverError("it is broken already", definite=True)
        return {"at": 7}

    def trigger(self, key: str, env: Any) -> str:
        self.asked.add(key)
        self.whole = False
        return key

    def broken(self, key: str) -> str | None:
        return "it is in two" if key in self.asked and not self.whole else None

    def withdraw(self, key: str) -> None:
        self.whole = self.whole or key in self.asked

    def find(self, key: str) -> None:
        return None

    def runs(self, since_us: int) -> tuple[()]:
        return ()

    def interval_s(self) -> None:
        return None

    def hindrances(self, scheduled_within_s: float | None) -> tuple[()]:
        return ()


class Broken(MemoryStack):
    """A stack with one job."""

    def __init__(self, job: Any) -> None:
        super().__init__(MemoryHost())
        self._job = job

    def job(self, name: str) -> Any:
        return self._job


def test_a_harm_is_what_its_job_says_until_the_job_mends_it() -> None:
    """Its undo has the key from before the act, is right without the act, and mends nothing that another broke."""
    job, fault = Breaker(), Harm("web", "breaker")
    stack = cast(Stack, Broken(job))
    before = fault.before(stack)
    assert before["met"] == {"at": 7}
    fault.heal(stack, before)
    assert (fault.proof(stack, before), fault.holds(stack, before)) == (None, False)
    fault.act(stack, before, "r1-1")
    assert fault.proof(stack, before) == "web: it is in two"
    assert (fault.holds(stack, before), fault.unserved(stack, before)) == (True, "it is in two")
    with pytest.raises(DriverError, match="broken already"):
        fault.before(stack)
    fault.heal(stack, {"key": "of another"})
    assert fault.holds(stack, before)
    fault.heal(stack, before)
    fault.heal(stack, before)
    assert (fault.holds(stack, before), fault.unserved(stack, before)) == (False, None)
    assert fault_from(fault_kind(fault), {"component": "web", "job": "breaker"}) == fault


def test_a_harm_needs_a_job_that_mends() -> None:
    """Else nobody could undo it."""

    class Plain:
        pass

    with pytest.raises(ConfigError, match=r"jobs\.breaker breaks nothing that it could mend.*Harms"):
        Harm("web", "breaker").before(cast(Stack, Broken(Plain())))
