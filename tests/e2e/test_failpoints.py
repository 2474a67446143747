"""Failpoints in the running platform: armed from the command line, and by failure tests that must prove their fault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gameday.faults.failpoint import Failpoint
from gameday.model import RunResult, Verdict
from gameday.plan import Await, FailureTest, Heal, Inject
from gameday.run import Run
from gameday.sampling.conditions import fired, flowing
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.undo import guardian, mending
from gameday.undo.journal import Journal
from gameday.verdict.checks import INTACT, recovered
from tasks.run import interpret, plain
from tests.e2e.command import gameday
from tests.suites import only_in

HANDLER = "handler-binance"
FILL = "handler::in_gap_fill"
PRODUCE = "handler::before_produce"
RECEIVE = "handler::after_receive"


@pytest.fixture
def stack(stack_state: State) -> Iterator[Stack]:
    """The running stack, with nothing armed before and after."""
    made = open_stack(state=stack_state)
    yield made
    for role in (HANDLER, "handler-kraken"):
        points = made.points(role)
        for name, listed in points.listed().items():
            if listed["term"] is not None:
                points.disarm(name)
    until(lambda: not mending.nothing_left(made), within_s=20, what="nothing to be left")


def carried_out(stack: Stack, name: str, *plan: Inject | Await | Heal) -> RunResult:
    """The result of a failure test with this plan."""
    said: list[str] = []
    kept: list[RunResult] = []
    test = FailureTest(plan=(Await(flowing, within_s=30), *plan), mttr_max_s=60, checks=(*INTACT, recovered))
    result = interpret(Run(stack, name, {}, test, "night-of-failpoints", said.append), plain, kept.append)
    assert not Journal(stack.state.journal).open_acts(), said
    assert kept == [result]
    return result


def test_a_point_is_armed_in_a_running_handler_from_the_command_line(stack_state: State, stack: Stack) -> None:
    """list shows it, arm strikes it, wait tells of it, the evidence is on disk, disarm ends it."""
    listed = gameday(stack_state, "failpoints", "list", HANDLER)
    assert (listed.returncode, FILL in listed.stdout, "not closed yet" in listed.stdout) == (0, True, True)

    armed = gameday(stack_state, "failpoints", "arm", HANDLER, PRODUCE, "3@sleep(20)->off", "--ttl-s", "30")
    assert armed.returncode == 0, armed.stderr
    waited = gameday(stack_state, "failpoints", "wait", HANDLER, PRODUCE, "--within-s", "20")
    pid = stack.host(HANDLER).identity(HANDLER)["pid"]  # type: ignore[index]  # it runs
    assert f"{PRODUCE} of {HANDLER} fired: 3@sleep(20) at hit 3 in pid {pid}" in waited.stdout, waited.stderr

    evidence = stack_state.servers / HANDLER / "points.jsonl"
    last = json.loads(evidence.read_text().splitlines()[-1])
    assert (last["point"], last["hit"], last["pid"]) == (PRODUCE, 3, pid)

    assert f"{HANDLER} has {PRODUCE} armed: 3@sleep(20)->off" in gameday(stack_state, "status").stdout
    assert gameday(stack_state, "failpoints", "disarm", HANDLER, PRODUCE).returncode == 0
    shown = json.loads(gameday(stack_state, "failpoints", "list", HANDLER, "--json").stdout)
    assert shown[HANDLER][PRODUCE]["term"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("arm", "exchange", "exchange::before_publish", "pause"), 2, "has not opted in"),
        *only_in(
            "trades",
            (("arm", "broker", "x", "pause"), 2, "has no failpoints"),
            (("arm", HANDLER, "handler::after_akc", "pause"), 2, "Did you mean handler::after_ack"),
            (("arm", HANDLER, PRODUCE, "1*pauze"), 2, "no action"),
            (("arm", HANDLER, PRODUCE, "return"), 2, "return means nothing there"),
            (("wait", HANDLER, PRODUCE, "--within-s", "1"), 3, "is not armed"),
        ),
    ],
)
def test_what_may_not_or_cannot_be_armed_is_named(
    stack_state: State, stack: Stack, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Only components that opted in are touched, by hand too; and nothing is armed afterwards."""
    done = gameday(stack_state, "failpoints", *arguments)
    assert (done.returncode, message in done.stderr) == (code, True), done.stdout + done.stderr
    assert mending.nothing_left(stack) == []


@pytest.mark.suite("trades")
def test_nothing_is_armed_by_hand_while_a_run_holds_the_stack(stack_state: State, stack: Stack) -> None:
    """It would be blamed on that run's fault."""
    run = guardian.Guardian.start(stack, "run-of-somebody", "test", ttl_s=120)
    try:
        done = gameday(stack_state, "failpoints", "arm", HANDLER, PRODUCE, "pause")
    finally:
        run.close()
    assert (done.returncode, "run-of-somebody" in done.stderr) == (3, True)
    assert mending.nothing_left(stack) == []


def test_a_fault_that_never_fires_is_invalid_and_disarmed(stack: Stack) -> None:
    """No gap is filled in quiet times: the platform survives beautifully, and that proves nothing."""
    result = carried_out(
        stack, "never_fires", Inject(Failpoint(HANDLER, FILL, "kill")), Await(fired(FILL), within_s=3), Heal()
    )
    assert (result.verdict, f"{FILL} never fired" in result.why) == (Verdict.INVALID, True), result.why
    assert result.acts[0].proof == f"{HANDLER}: {FILL} is armed, and has not fired yet"
    assert mending.nothing_left(stack) == []


def test_a_handler_killed_in_the_middle_of_its_gap_fill_loses_nothing(stack: Stack, stack_state: State) -> None:
    """A lost message opens a gap; its fill is where the handler dies; its successor closes the gap all the same."""
    lose = Failpoint(HANDLER, RECEIVE, "5@return")
    kill = Failpoint(HANDLER, FILL, "1*kill")
    result = carried_out(stack, "killed_while_filling", Inject(kill), Inject(lose), Await(fired(FILL), within_s=20))
    assert result.verdict is Verdict.PASS, (result.why, result.findings)
    proofs = [act.proof for act in result.acts]
    assert f"{FILL} fired 1 times, first 1*kill at hit 1" in (proofs[0] or "")
    assert f"{RECEIVE} fired 1 times" in (proofs[1] or "")
    evidence = Path(stack_state.servers / HANDLER / "points.jsonl").read_text().splitlines()
    assert json.loads(evidence[-1])["run"] == result.acts[0].id
