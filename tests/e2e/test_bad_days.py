"""Bad input and bad days: a message that names the thing and the remedy, the right exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from compose import supervisor
from gameday.drivers.http import Probe
from gameday.errors import DriverError
from gameday.faults.stop import Stop
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.undo import guardian, mending
from gameday.undo.journal import Journal
from tests.e2e.command import gameday, results, running, seen
from tests.suites import only_in

HELD = ("run", "feed_handler_crash")
"""Holds handler-binance down until its streams are ten seconds behind."""

DOWN = "stayed away"
"""What the run says once the handler is proved to be down."""

HANDLER = "handler-binance"
START_S = 3.0
"""A handler's own start on a busy machine, from its process to its first answer."""


@pytest.fixture
def stack(stack_state: State) -> Stack:
    return open_stack(state=stack_state)


def runs(stack: Stack, role: str) -> bool:
    return stack.host(role).identity(role) is not None


def answers(stack: Stack) -> bool:
    try:
        Probe(stack.config.components[HANDLER].probes["health"].settings["url"], timeout_s=1.0).read()
    except DriverError:
        return False
    return True


def intact(stack: Stack) -> None:
    """Nothing is broken, and nothing is open once it serves."""
    until(lambda: not mending.nothing_left(stack), within_s=10, what="nothing to be left")
    until(lambda: not Journal(stack.state.journal).open_acts(), within_s=20, what="what was started to serve")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "broker_restat"), 2, "no failure test 'broker_restat'. Did you mean broker_restart"),
        (("hold", "--until", "tomorrow"), 2, "'tomorrow' is neither an ISO time"),
        (("frobnicate",), 2, "No such command"),
        *only_in(
            "trades",
            (("run", "broker_restart", "-p", "haw=sigkill"), 2, "no parameter 'haw'. Did you mean how"),
            (("run", "broker_restart", "-p", "how=gently"), 2, "how='gently'"),
            (("run", "broker_restart", "-p", "how"), 2, "'how' is not NAME=VALUE"),
            (("run", "--all", "-p", "how=sigkill"), 2, "belongs to one test"),
            (("run", "--all", "--variants", "some"), 2, "one of canonical, rotating, all"),
            (("run",), 2, "gameday run --all"),
            (("new", "Broker Restart"), 2, "no name for a failure test"),
            (("new", "broker_restart"), 2, "exists already"),
        ),
    ],
)
def test_bad_usage_is_named_and_touches_nothing(
    stack_state: State, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Exit code 2, and what to do instead."""
    done = gameday(stack_state, *arguments)
    assert (done.returncode, message in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_configuration_is_named(stack_state: State, tmp_path: Path) -> None:
    """Exit code 2, with the file, the key and the value."""
    broken = tmp_path / "gameday.toml"
    broken.write_text('name = "mine"\nfoo = 1\n')
    done = gameday(stack_state, "--config", str(broken), "check")
    assert done.returncode == 2
    assert "foo" in done.stderr
    assert str(broken) in done.stderr


def test_a_stack_that_is_not_up_says_how_to_start_it(tmp_path: Path) -> None:
    """Exit code 3 without a state folder, and no folder is made by looking."""
    nowhere = State(tmp_path / "nowhere")
    done = gameday(nowhere, "run", "broker_restart")
    assert (done.returncode, "Remedy: gameday up" in done.stderr) == (3, True), done.stderr


def test_a_prefect_server_that_is_gone_is_named(stack_state: State) -> None:
    """Exit code 3 before anything is broken."""
    done = gameday(stack_state, "run", "broker_restart", env={"PREFECT_PORT": "1"})
    assert (done.returncode, "Prefect server at http://127.0.0.1:1/api" in done.stderr) == (3, True), done.stderr


@pytest.mark.suite("trades")
def test_a_component_that_does_not_answer_stops_the_run_before_anything_is_broken(
    stack_state: State, stack: Stack, tmp_path: Path
) -> None:
    """A stack that is not well gives unknown with the reason, and the journal gets no entry."""
    supervisor.ask(stack_state, op="stop", name=HANDLER, grace_s=5.0)
    acts = len(Journal(stack_state.journal).entries())
    try:
        done = gameday(stack_state, "run", "broker_restart", "--json", str(tmp_path / "r.json"))
    finally:
        supervisor.ask(stack_state, op="start", name=HANDLER)
    result = results(tmp_path / "r.json")[0]
    assert (done.returncode, result["verdict"]) == (3, "unknown"), done.stdout
    assert HANDLER in result["why"]
    assert len(Journal(stack_state.journal).entries()) == acts


def test_a_run_that_crosses_a_bound_of_the_stack_is_aborted(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """ClickHouse is cut off from the broker, and what it has not read grows beyond a narrow stop condition: undone, and
    unknown, with the number and the bound."""
    narrow = tmp_path / "gameday.toml"
    narrow.write_text(stack.path.read_text().replace("max = 50_000", "max = 150"))
    cut = ("run", "network_partition", "-p", "link=broker-clickhouse", "-p", "how=cut")
    done = gameday(stack_state, "--config", str(narrow), *cut, "--json", str(tmp_path / "r.json"))
    (result,) = results(tmp_path / "r.json")
    assert (done.returncode, result["verdict"]) == (3, "unknown"), done.stdout + done.stderr
    assert re.match(r"aborted: stop condition lag: [\d.]+ is above 150 \(market", result["why"])
    acts = Journal(stack_state.journal).acts(result["id"])
    assert [(a.fault, a.healed_by, str(a.healed_why)[:20]) for a in acts] == [
        ("partition", result["id"], "stop condition lag: ")
    ]
    intact(stack)


def test_a_second_run_is_told_who_holds_the_stack(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """Busy is exit code 3, and touches nothing."""
    first = guardian.Guardian.start(stack, "run-of-somebody-else", "broker_restart", ttl_s=120)
    try:
        second = gameday(stack_state, "run", "broker_restart", "--json", str(tmp_path / "r.json"))
        down = gameday(stack_state, "down")
    finally:
        first.close()
    assert second.returncode == down.returncode == 3
    assert "gameday abort" in down.stderr
    assert "the stack is held by run run-of-somebody-else (broker_restart)" in results(tmp_path / "r.json")[0]["why"]
    intact(stack)


def test_a_dry_run_says_what_would_be_mended_and_touches_nothing(stack_state: State, stack: Stack) -> None:
    """What is open, since when and whose it is, and what would be done; the heal itself then does that."""
    held = guardian.Guardian.start(stack, "run-of-somebody-else", "feed_handler_crash", ttl_s=120)
    try:
        held.inject(Stop(HANDLER))
        dry = gameday(stack_state, "heal", "--dry-run")
        assert dry.stdout.startswith(f"would mend stop of {HANDLER}: start it (since ")
        assert "by run run-of-somebody-else, which would be aborted first)" in dry.stdout
        assert not runs(stack, HANDLER)
        assert f"mended stop of {HANDLER} of run run-of-somebody-else" in gameday(stack_state, "heal").stdout
    finally:
        held.close()
    assert "nothing is open" in gameday(stack_state, "heal", "--dry-run").stdout
    intact(stack)


def test_abort_ends_a_run_from_any_terminal(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """What is broken is mended within seconds; the aborted run is unknown, exit code 3."""
    with running(stack_state, *HELD, "--json", str(tmp_path / "r.json")) as (run, output):
        seen(run, output, DOWN)
        aborted = gameday(stack_state, "abort")
        assert (aborted.returncode, f"stop of {HANDLER}" in aborted.stdout) == (0, True), aborted.stderr
        assert runs(stack, HANDLER)
        assert run.wait(60) == 3
    result = results(tmp_path / "r.json")[0]
    assert (result["verdict"], "aborted" in result["why"]) == ("unknown", True), result["why"]
    intact(stack)
    assert "nothing was broken" in gameday(stack_state, "abort").stdout


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    [
        (DOWN, signal.SIGINT, 130),
        *only_in(
            "trades",
            ("the stack is well", signal.SIGINT, 130),
            (DOWN, signal.SIGTERM, 3),
            (DOWN, signal.SIGHUP, 3),
            (DOWN, signal.SIGQUIT, 3),
        ),
    ],
)
def test_an_interrupt_mends_at_once(
    stack_state: State, stack: Stack, phase: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """While normal is measured, and while a fault is held: nothing left, a result that says unknown, the report."""
    with running(stack_state, *HELD, "--json", str(tmp_path / "r.json")) as (run, output):
        seen(run, output, phase)
        run.send_signal(number)
        assert run.wait(60) == code, output.read_text()
        assert "report.html" in output.read_text()
        assert "Traceback" not in output.read_text()
    assert runs(stack, HANDLER)
    intact(stack)
    kept = [json.loads(p.read_text()) for p in stack_state.results()]
    newest = max(kept, key=lambda r: r["started"])
    assert (newest["verdict"], "aborted" in newest["why"]) == ("unknown", True)


def test_a_runner_that_is_killed_leaves_nothing_broken(stack_state: State, stack: Stack) -> None:
    """SIGKILL in the middle of a held fault: the component is up again by itself, in the time that its own start
    takes."""
    with running(stack_state, *HELD) as (run, output):
        seen(run, output, DOWN)
        killed = time.monotonic()
        run.send_signal(signal.SIGKILL)
        until(lambda: runs(stack, HANDLER), within_s=5, what="the handler's process")
        started = time.monotonic() - killed
        until(lambda: answers(stack), within_s=START_S + 5, what="the handler's answer")
        answered = time.monotonic() - killed
    assert started <= 0.5, f"the process was started after {started:.2f} s"
    assert answered <= START_S, f"it answered after {answered:.2f} s"
    intact(stack)


@pytest.mark.suite("trades")
def test_a_component_that_someone_else_starts_again_is_unknown(
    stack_state: State, stack: Stack, tmp_path: Path
) -> None:
    """The run has restarted the broker; then somebody kills that one too, and the supervisor starts a third: whose
    recovery was measured can't be told, and who they are is named."""
    with running(stack_state, "run", "broker_restart", "-p", "how=sigkill", "--json", str(tmp_path / "r.json")) as (
        run,
        output,
    ):
        seen(run, output, "was started in its place")
        pid = (stack.host("broker").identity("broker") or {})["pid"]
        os.kill(pid, signal.SIGKILL)
        assert run.wait(200) == 3, output.read_text()
    (result,) = results(tmp_path / "r.json")
    now = (stack.host("broker").identity("broker") or {})["pid"]
    assert result["verdict"] == "unknown"
    assert f"broker was started again by someone else, pid {now}" in result["why"]
    intact(stack)


@pytest.mark.suite("trades")
def test_a_fault_undone_by_someone_else_is_unknown(stack_state: State, stack: Stack, tmp_path: Path) -> None:
    """Whoever starts the component while the run holds it down makes the run prove nothing."""
    with running(stack_state, *HELD, "--json", str(tmp_path / "r.json")) as (run, output):
        seen(run, output, DOWN)
        supervisor.ask(stack_state, op="start", name=HANDLER)
        assert run.wait(90) == 3, output.read_text()
    result = results(tmp_path / "r.json")[0]
    assert (result["verdict"], "by someone else" in result["why"]) == ("unknown", True), result["why"]
    intact(stack)
