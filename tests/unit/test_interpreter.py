"""The interpreter: the order of a run's steps, and what becomes of whatever goes wrong in one. No Prefect server."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, ClassVar

import pytest

from gameday.errors import DriverError, GamedayError
from gameday.faults.stop import Stop
from gameday.model import Act, Evidence, Finding, RunResult, Step, Verdict
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.run import Halt, Run
from gameday.system import signals
from tasks.beside import beside
from tasks.inject import inject
from tasks.night import Night
from tasks.run import interpret
from tasks.runbook import moment
from tests.fakes import MemoryHost, MemoryStack

PASSED = Finding("no_loss", Verdict.PASS, "nothing lost")
FAILED = Finding("unchanged", Verdict.FAIL, "silver changed 2 trades")
SKIPPED = Finding("isolation", Verdict.SKIPPED, "one stream only")
FAULT: Any = SimpleNamespace(component="broker")


def flowing(now: object) -> bool:
    """A condition; never asked here."""
    return True


PLAN = (Await(flowing, within_s=1), Inject(FAULT), Await(flowing, within_s=1), Heal())


class Script:
    """Stands in for a run and for its steps: notes their order, and lets one step do something else."""

    def __init__(self, instead: dict[str, Callable[[], Any]] | None = None, acts: tuple[Act, ...] = ()) -> None:
        self.order: list[str] = []
        self.instead = instead or {}
        self.recorded: list[RunResult] = []
        self.kept: list[RunResult] = []
        self.acts = acts
        self.id, self.night, self.name = "run-1", "night-1", "broker_restart"
        self.params: dict[str, str] = {}
        self.stack = SimpleNamespace(name="trades")
        self.test = FailureTest(plan=PLAN, mttr_max_s=120, checks=())
        self.folder = Path("nowhere")
        self.gathered: Evidence | None = None
        self.recovered: bool | None = True
        self.steps: list[Step] = []
        self.started, self.began_ns = datetime.now(UTC), time.monotonic_ns()
        self.entered_ns = self.began_ns
        self.short_of_time: str | None = None

    def evidence(self) -> Evidence:
        return Evidence(test=self.name, params={}, stack="trades", acts=self.acts)

    def say(self, text: str) -> None:
        """Nobody listens."""

    def land(self) -> None:
        self.order.append("land")

    def held(self) -> None:
        """Not aborted."""

    def enter(self, step: str) -> None:
        """Nobody reads its log."""

    def busy(self, since_ns: int) -> str | None:
        return self.short_of_time

    def close(self) -> None:
        self.order.append("close")
        if "close" in self.instead:
            self.instead["close"]()

    def call(self, step: Any) -> Callable[..., Any]:
        def run_step(*args: Any) -> Any:
            self.order.append(step.name)
            if step.name == "record":
                self.recorded.append(args[1])
            if step.name in self.instead:
                return self.instead[step.name]()
            if step.name == "compare":
                return args[1]
            return (PASSED,) if step.name == "judge" else None

        return run_step

    def run(self) -> RunResult:
        return interpret(self, self.call, self.kept.append)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def unsaved(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs have no folder, and what is done beside other steps is done before them."""
    monkeypatch.setattr("gameday.codec.save_evidence", lambda folder, evidence: None)
    monkeypatch.setattr("tasks.run.beside", at_once)


def at_once(function: Callable[..., Any], *what: Any) -> Future[Any]:
    done: Future[Any] = Future()
    try:
        done.set_result(function(*what))
    except BaseException as e:  # noqa: BLE001 - told where its result is asked for, as by a thread
        done.set_exception(e)
    return done


def raises(error: BaseException) -> Callable[[], Any]:
    def step() -> None:
        raise error

    return step


def act(healed_by: str) -> Act:
    """An act that somebody mended."""
    return Act("a1", "run-1", 1, 1, "inject", "stop", {"component": "broker"}, {}, "run-1", "gone", 2, 3, healed_by, "")


def test_the_steps_come_in_their_order() -> None:
    """Preflight, baseline, people are told, the plan as written with the runbook at its last heal, nothing left,
    recovery, the runbook's verification beside evidence and judgement; the stack is given back before anything is
    recorded."""
    script = Script()
    result = script.run()
    assert script.order == [
        "preflight", "baseline", "announce", "wait", "inject", "wait", "diagnose", "recover", "heal",
        "prove nothing is left", "wait until recovered", "verify by the runbook", "gather evidence", "judge", "land",
        "close", "compare", "record", "notify",
    ]  # fmt: skip
    assert result.verdict is Verdict.PASS


def test_the_runbook_verifies_while_evidence_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither waits for the other; both only look."""
    monkeypatch.setattr("tasks.run.beside", beside)
    both = threading.Barrier(2, timeout=10)
    script = Script({"gather evidence": both.wait, "verify by the runbook": both.wait})
    assert script.run().verdict is Verdict.PASS


def test_a_verification_ends_with_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evidence that can't be gathered leaves nobody who goes on to look: it ends once the stack is given back, and
    before anything is told."""
    monkeypatch.setattr("tasks.run.beside", beside)
    begun, closed = threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        assert closed.wait(10)
        script.steps.append(Step("verify", "Looked", True, "", 0.1))
        raise Halt(Verdict.UNKNOWN, "aborted: its run ended")

    def refuse() -> None:
        assert begun.wait(10)
        raise DriverError("clickhouse refused", definite=True)

    script = Script({"gather evidence": refuse, "verify by the runbook": look, "close": closed.set})
    result = script.run()
    assert (result.verdict, result.why) == (Verdict.UNKNOWN, "clickhouse refused")
    assert [step.title for step in result.steps] == ["Looked"]


def test_a_verification_that_is_aborted_aborts_the_run() -> None:
    """Though all was gathered and judged: the run no longer held the stack."""
    script = Script({"verify by the runbook": raises(Halt(Verdict.UNKNOWN, "aborted"))})
    result = script.run()
    assert (result.verdict, result.why) == (Verdict.UNKNOWN, "aborted")


def test_what_an_alert_must_fire_at_is_held_until_it_does() -> None:
    """Before the plan's last heal, and not before the others: those let go of what only led there."""
    script = Script()
    script.test = replace(script.test, plan=(*PLAN, Inject(FAULT), Heal()), alert=FiresWithin("Down", 60))
    script.run()
    assert script.order[3:11] == [
        "wait", "inject", "wait", "heal", "inject", "diagnose", "wait for the alert", "recover",
    ]  # fmt: skip


def test_what_the_runbook_has_mended_the_plan_does_not_mend_again() -> None:
    """The clock of the recovery starts where the runbook's step began, not at a heal after it."""
    script = Script({"recover": lambda: True})
    script.run()
    assert "heal" not in script.order


def test_a_step_that_came_out_otherwise_changes_no_verdict() -> None:
    """It is in the result, beside a pass."""
    stale = Step("diagnosis", "The broker does not run", False, "expected no; came: yes", 1.0)
    script = Script({"diagnose": lambda: script.steps.append(stale)})
    result = script.run()
    assert (result.verdict, result.steps) == (Verdict.PASS, (stale,))


@pytest.mark.parametrize(
    ("plan", "at"),
    [
        ((Inject(FAULT),), 1),
        ((Inject(FAULT), Await(flowing, within_s=1)), 2),
        ((Inject(FAULT), Await(flowing, within_s=1), Heal()), 2),
        ((Inject(FAULT), Heal(FAULT), Await(flowing, within_s=1)), 1),
        ((Inject(FAULT), Inject(FAULT), Heal(FAULT), Await(flowing, within_s=1), Heal()), 4),
        ((Inject(FAULT), Heal(), Inject(FAULT)), 3),
        ((Await(flowing, within_s=1),), 1),
    ],
)
def test_the_failure_is_looked_at_before_the_heal_that_ends_it(plan: tuple[Any, ...], at: int) -> None:
    """Or at the plan's end, where nothing is held then."""
    assert moment(plan) == at


def test_a_fault_that_does_not_bite_is_invalid() -> None:
    """What the step says is the verdict, nothing after it runs, and the stack is still given back and the run
    recorded."""
    script = Script({"inject": raises(Halt(Verdict.INVALID, "did not bite"))})
    result = script.run()
    assert (result.verdict, result.why) == (Verdict.INVALID, "did not bite")
    assert script.order[-5:] == ["inject", "close", "compare", "record", "notify"]


@dataclass(frozen=True)
class Late:
    """A fault that strikes an hour after it was done."""

    component: str = "worker"
    struck_at_ns: ClassVar[int] = time.monotonic_ns() + 3_600_000_000_000

    def struck_ns(self, stack: object, before: object) -> int:
        return self.struck_at_ns


def striking(watching: Callable[[], None], *proofs: str | None) -> Any:
    """A run whose guardian proves its fault in that many looks, and which looks at its sampler in between."""
    act = SimpleNamespace(id="a-1", proof=None, before={})
    seen = iter(proofs)
    held = SimpleNamespace(
        inject=lambda fault: act, prove=lambda act_id, within_s: SimpleNamespace(**{**vars(act), "proof": next(seen)})
    )
    run = SimpleNamespace(
        name="t",
        ttl_s=60.0,
        stack=SimpleNamespace(name="s"),
        inject_ns=None,
        say=str,
        held=lambda: held,
        hush=str,
        watching=watching,
        busy=lambda since_ns: None,
        noted=[],
    )
    run.note_at_clock = lambda: run.noted.append(run.clock_ns)
    return run


def test_the_clock_of_a_fault_that_strikes_later_starts_then() -> None:
    """Impact and recovery are counted from the strike, not from when it was asked for; what is there then is noted."""
    run, fault = striking(lambda: None, None, "it fired"), Late()
    inject.fn(run, fault)  # type: ignore[arg-type]
    assert (run.inject_ns, run.clock_ns) == (Late.struck_at_ns, Late.struck_at_ns)
    assert run.noted == [Late.struck_at_ns]


def test_a_sampler_that_dies_while_a_strike_waits_ends_the_run() -> None:
    """A fault may need minutes until it strikes; nobody waits for it in vain."""
    run, fault = striking(raises(Halt(Verdict.UNKNOWN, "the sampler died")), None), Late()
    with pytest.raises(Halt, match="the sampler died"):
        inject.fn(run, fault)  # type: ignore[arg-type]


@pytest.mark.parametrize(("busy", "verdict"), [(None, Verdict.INVALID), ("for 1 of 1 s", Verdict.UNKNOWN)])
def test_a_fault_that_was_not_seen_to_bite_is_invalid_where_the_machine_had_time(
    busy: str | None, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without time may show its effect later than the run looks."""
    monkeypatch.setattr("tasks.inject.BITES_WITHIN_S", 0.0)
    run = striking(lambda: None, *[None] * 9)
    run.busy = lambda since_ns: busy
    with pytest.raises(Halt, match="the fault did not bite: ") as caught:
        inject.fn(run, Stop("worker"))
    assert caught.value.verdict is verdict
    assert str(caught.value).startswith("the machine was busy (for 1 of 1 s): ") is (busy is not None)


def test_a_server_that_refuses_makes_the_run_unknown() -> None:
    """An error that gameday can explain is a reason, not a traceback."""
    result = Script({"gather evidence": raises(DriverError("clickhouse refused", definite=True))}).run()
    assert (result.verdict, result.why) == (Verdict.UNKNOWN, "clickhouse refused")


@pytest.mark.parametrize(
    ("definite", "why"), [(False, "the machine was busy (for 9 of 9 s): no answer within 30 s"), (True, "refused")]
)
def test_a_server_that_gave_no_answer_on_a_busy_machine_is_not_blamed(definite: bool, why: str) -> None:
    """One that refused would have done so at any time."""
    error = DriverError(why.rpartition(": ")[2], definite=definite)
    script = Script({"preflight": raises(error)})
    script.short_of_time = "for 9 of 9 s"
    assert (script.run().verdict, script.run().why) == (Verdict.UNKNOWN, why)


def test_a_fault_that_could_not_be_mended_is_told_and_recorded() -> None:
    """Even after checks that passed: what is left broken is the first thing to know."""
    script = Script({"close": raises(DriverError("the supervisor does not answer", definite=False))})
    result = script.run()
    assert result.verdict is Verdict.UNKNOWN
    assert "could be mended: the supervisor" in result.why
    assert script.recorded == [result]


@pytest.mark.parametrize("found", [PASSED, FAILED])
def test_what_does_not_serve_at_the_end_hides_no_fail(found: Finding) -> None:
    """A component that never came back is the platform's fail; nothing else that was judged passes without its undo."""
    script = Script(
        {
            "judge": lambda: (found,),
            "close": raises(GamedayError("undone, and open until it serves: restart of broker: no answer")),
        }
    )
    result = script.run()
    assert result.verdict is (Verdict.FAIL if found is FAILED else Verdict.UNKNOWN)
    assert result.findings[-1].check == "mended"
    assert "restart of broker: no answer" in result.findings[-1].why
    assert result.why == (FAILED.why if found is FAILED else result.findings[-1].why)


def test_a_prefect_that_is_away_keeps_no_result_from_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers 500 when the last steps begin: they are done without it, and the verdict stays."""
    script = Script({"record": raises(RuntimeError("500")), "notify": raises(RuntimeError("500"))})
    done: list[str] = []
    monkeypatch.setattr("tasks.run.plain", lambda step: lambda run, result: done.append(step.name))
    assert script.run().verdict is Verdict.PASS
    assert done == ["record", "notify"]


def test_what_history_says_is_recorded_and_told() -> None:
    """The result that has been held against its history is the one that is kept, recorded and in the report."""
    slower = replace(Script().run(), verdict=Verdict.FAIL, why="slower than its own history")
    script = Script({"compare": lambda: slower})
    assert script.run() is slower
    assert (script.kept, script.recorded) == ([slower], [slower])


def test_ctrl_c_while_history_is_asked_keeps_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was judged stays judged; the result is kept and recorded, and the interrupt goes on upwards."""
    script = Script({"compare": raises(KeyboardInterrupt())})
    recorded: list[RunResult] = []
    monkeypatch.setattr("tasks.run.store", lambda run, result: recorded.append(result))
    with pytest.raises(KeyboardInterrupt):
        script.run()
    assert [r.verdict for r in recorded] == [Verdict.PASS]
    assert script.kept == recorded


def test_a_bug_makes_the_run_unknown() -> None:
    """An unexpected exception never becomes a pass."""
    result = Script({"judge": raises(ZeroDivisionError("division by zero"))}).run()
    assert result.verdict is Verdict.UNKNOWN
    assert "ZeroDivisionError" in result.why


@pytest.mark.parametrize("step", ["preflight", "baseline", "wait", "inject", "heal", "wait until recovered", "judge"])
def test_ctrl_c_heals_first_and_goes_on_upwards(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every phase: the stack is given back, a result says unknown: aborted, and the interrupt is not swallowed."""
    script = Script({step: raises(KeyboardInterrupt())})
    recorded: list[RunResult] = []
    monkeypatch.setattr("tasks.run.store", lambda run, result: recorded.append(result))
    with pytest.raises(KeyboardInterrupt):
        script.run()
    assert script.order[-1] == "close"
    assert [r.verdict for r in recorded] == [Verdict.UNKNOWN]
    assert "aborted: KeyboardInterrupt" in recorded[0].why
    assert script.kept == recorded, "the night's report has it too"


@pytest.fixture
def obeyed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals do what they do in `gameday run`; afterwards what they did before."""
    before = {number: signal.getsignal(number) for number in signals.ENDING}
    monkeypatch.setattr("gameday.system.signals._stopped", False)
    for number in signals.ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.obey()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def sends(*numbers: int, then: Any = None) -> Callable[[], Any]:
    """A step during which this process is told to end."""

    def step() -> Any:
        for number in numbers:
            signal.raise_signal(number)
        return then() if callable(then) else then

    return step


UNTIL_JUDGED = (
    "preflight", "baseline", "announce", "wait", "inject", "diagnose", "recover", "heal", "prove nothing is left",
    "wait until recovered", "gather evidence", "judge", "verify by the runbook",
)  # fmt: skip
SINCE = ("close", "save", "compare", "keep", "record", "notify")


def interrupted(script: Script, monkeypatch: pytest.MonkeyPatch) -> list[RunResult]:
    """Run it to its interrupt; what it has stored then."""
    stored: list[RunResult] = []
    monkeypatch.setattr("tasks.run.store", lambda run, result: stored.append(result))
    if "save" in script.instead:
        monkeypatch.setattr("gameday.codec.save_evidence", lambda folder, evidence: script.instead["save"]())
    if "keep" in script.instead:
        script.kept = Keeping(script.instead["keep"])
    with pytest.raises((signals.Stopped, KeyboardInterrupt)):
        script.run()
    return [*script.recorded, *stored]


class Keeping(list[RunResult]):
    """The night's results, where something happens while one is added."""

    def __init__(self, meanwhile: Callable[[], Any]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def append(self, result: RunResult) -> None:
        self._meanwhile()
        super().append(result)


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
@pytest.mark.parametrize("step", UNTIL_JUDGED)
@pytest.mark.usefixtures("obeyed")
def test_a_signal_before_the_verdict_leaves_a_result_that_says_aborted(
    step: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever signal in whichever step: healed, unknown, kept and stored, and it goes on upwards."""
    script = Script({step: sends(number)})
    stored = interrupted(script, monkeypatch)
    assert script.order[-1] == "close"
    assert [r.verdict for r in stored] == [Verdict.UNKNOWN]
    assert stored[0].why == "aborted: " + ("KeyboardInterrupt" if number == signal.SIGINT else number.name)
    assert script.kept == stored


@pytest.mark.parametrize("number", signals.ENDING, ids=lambda number: number.name)
@pytest.mark.parametrize("step", SINCE)
@pytest.mark.usefixtures("obeyed")
def test_a_signal_after_the_verdict_leaves_the_verdict(
    step: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the stack is given back, the verdict is drawn, compared, kept, recorded or told: it is kept and stored as
    it was judged, and the signal goes on upwards."""
    script = Script({step: sends(number, then=lambda: Script().run() if step == "compare" else None)})
    stored = interrupted(script, monkeypatch)
    assert [r.verdict for r in script.kept] == [Verdict.PASS]
    assert stored
    assert all(r == script.kept[0] for r in stored)


@pytest.mark.usefixtures("obeyed")
def test_a_second_signal_interrupts_no_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is closed sends more than one, a person presses Ctrl-C again: healing and keeping go on."""
    more = sends(signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    monkeypatch.setattr("gameday.codec.save_evidence", lambda folder, evidence: more())
    script = Script({"wait": sends(signal.SIGHUP), "close": more})
    stored = interrupted(script, monkeypatch)
    assert [(r.verdict, r.why) for r in stored] == [(Verdict.UNKNOWN, "aborted: SIGHUP")]
    assert script.kept == stored


def lines_of(code: CodeType) -> bool:
    """Whether these lines are the interpreter's own, or of what keeps signals waiting."""
    own = ("tasks/run.py", "gameday/system/signals.py")
    return code.co_filename.endswith(own) and not code.co_name.startswith("_first")


def struck_at(line: int, number: int) -> tuple[Script, bool]:
    """A run that gets the signal before the n-th line that the interpreter carries out; whether it came so far."""
    script, seen = Script(), 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if event == "line" and lines_of(frame.f_code):
            seen += 1
            if seen == line:
                sys.settrace(None)
                os.kill(os.getpid(), number)
        return trace if lines_of(frame.f_code) else None

    sys.settrace(trace)
    try:
        script.run()
    except (signals.Stopped, KeyboardInterrupt):
        return script, True
    finally:
        sys.settrace(None)
    return script, seen >= line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.usefixtures("obeyed")
def test_a_signal_at_any_line_of_the_interpreter_loses_no_result(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it strikes: either not a step has been done yet, or there is exactly one result, healed before."""
    monkeypatch.setattr("tasks.run.store", lambda run, result: None)
    for line in range(1, 2000):
        monkeypatch.setattr("gameday.system.signals._stopped", False)
        script, came = struck_at(line, number)
        if not came:
            break
        assert len(script.kept) == (1 if script.order else len(script.kept)), f"line {line}: {script.order}"
        assert not script.order or "close" in script.order, f"line {line}: {script.order}"
    assert line > 50, "the interpreter has more lines than that"


def test_ctrl_c_is_seen_behind_the_error_of_a_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails because of an interrupt, such as Prefect's engine without its task's run, doesn't swallow it."""

    def clean_up() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("Task run is not set")

    recorded: list[RunResult] = []
    monkeypatch.setattr("tasks.run.store", lambda run, result: recorded.append(result))
    with pytest.raises(KeyboardInterrupt):
        Script({"baseline": clean_up}).run()
    assert [(r.verdict, r.why) for r in recorded] == [(Verdict.UNKNOWN, "aborted: KeyboardInterrupt")]


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (lambda act, within_s: act, Halt, "stop of web was undone by someone else while this run held it"),
        (lambda act, within_s: raises(GamedayError("aborted: it did not answer"))(), GamedayError, "aborted"),
    ],
    ids=["the guardian knows nothing of it", "the guardian is mending it"],
)
def test_a_fault_that_is_over_is_someone_else_s_unless_the_guardian_is_ending(
    answer: Callable[..., Any], error: type[Exception], why: str
) -> None:
    """A guardian that ends a run heals before the run can see that it was aborted."""
    done = replace(act("r1"), fault="stop", args={"component": "web"}, healed_ns=None, proof="pid 1 is gone")
    held = SimpleNamespace(prove=answer)
    run: Any = SimpleNamespace(acts=(done,), stack=MemoryStack(MemoryHost()), held=lambda: held)
    with pytest.raises(error, match=why):
        Run.still_broken(run)


def test_a_fault_undone_by_someone_else_is_unknown() -> None:
    """Even when every check passes: the run did not see the platform recover from its own fault."""
    result = Script(acts=(act("reconciler"),)).run()
    assert result.verdict is Verdict.UNKNOWN
    assert "reconciler" in result.why


def test_a_fault_mended_by_the_run_itself_counts() -> None:
    """The run's own hand is no stranger."""
    assert Script(acts=(act("run-1"),)).run().verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ((PASSED, FAILED), Verdict.FAIL),
        ((PASSED, SKIPPED), Verdict.PASS),
        ((SKIPPED,), Verdict.UNKNOWN),
        ((), Verdict.UNKNOWN),
        ((PASSED, Finding("order", Verdict.UNKNOWN, "?")), Verdict.UNKNOWN),
    ],
)
def test_the_verdict_is_the_worst_finding_s(findings: tuple[Finding, ...], verdict: Verdict) -> None:
    """Skipped checks are shown and not merged; nothing judged is unknown."""
    assert Script({"judge": lambda: findings}).run().verdict is verdict


def test_a_missed_planted_fault_makes_every_verdict_of_the_night_unknown() -> None:
    """A check that can't catch a planted fault proves nothing about a real one."""
    night = Night("night-1", results=[Script().run()])
    night.findings.append(Finding("selftest", Verdict.UNKNOWN, "no_loss missed a dropped row"))
    assert [r.verdict for r in night.judged()] == [Verdict.UNKNOWN]
    assert night.verdict is Verdict.UNKNOWN


def test_a_night_of_skipped_tests_is_skipped_and_an_empty_one_is_unknown() -> None:
    """Neither is a pass."""
    skipped = Script({"preflight": raises(Halt(Verdict.SKIPPED, "host can't pause"))}).run()
    assert Night("n", results=[skipped]).verdict is Verdict.SKIPPED
    assert Night("n").verdict is Verdict.UNKNOWN


def test_damage_in_the_whole_history_fails_the_night() -> None:
    """Three passes do not outweigh a trade that is missing from an earlier day."""
    night = Night("n", results=[Script().run()], findings=[Finding("history", Verdict.FAIL, "silver lost 1")])
    assert night.verdict is Verdict.FAIL
