"""A runbook's blocks on a real failure: a real guardian, a supervisor with real processes, a real shell."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gameday.errors import GamedayError
from gameday.faults.kill import Kill
from gameday.faults.stop import Stop
from gameday.model import Act, Step
from gameday.plan import FailureTest, Heal, Inject
from gameday.ports import Fault
from gameday.run import Halt, Run
from gameday.sampling import conditions
from gameday.sampling.sampler import Sampler
from gameday.stack.live import open_stack
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.undo import mending
from gameday.undo.guardian import SOMEONE_ELSE
from tasks import runbook
from tests.fakes import Supervisor, write_config

GIVEN = """
[runbook]
folder = "books"
[runbook.env]
ADDRESS = "http://someone:hush-hush@127.0.0.1:1"
ITS_KEY = "open-sesame"
"""
SOON_S = 5.0

Make = Callable[..., Run]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path) as running:
        yield running


@pytest.fixture
def make(supervisor: Supervisor, tmp_path: Path) -> Iterator[Make]:
    """A run that has the stack and has broken `web`, with this page as its runbook."""
    made: list[Run] = []

    def started(page: str, fault: Fault | None = None, given: str = GIVEN) -> Run:
        fault = fault or Stop("web")
        path = write_config(tmp_path)
        path.write_text(path.read_text() + given)
        (tmp_path / "books").mkdir(exist_ok=True)
        (tmp_path / "books" / "web_stop.md").write_text(page)
        test = FailureTest(plan=(Inject(fault), Heal()), mttr_max_s=60, checks=())
        run = Run(open_stack(path, supervisor.state), "web_stop", {"how": "stop"}, test, "night", lambda text: None)
        made.append(run)
        run.take()
        act = run.held().inject(fault)
        assert run.held().prove(act.id, SOON_S).proof
        return run

    yield started
    for run in made:
        run.close()


def page(section: str, *commands: str, expect: str = "") -> str:
    told = f"\n```expect\n{expect}\n```\n" if expect else ""
    blocks = [f"### Step {n}\n\n```sh gameday\n{c}\n```\n{told}\n" for n, c in enumerate(commands, start=1)]
    return f"## {section}\n\n{''.join(blocks)}"


def only(run: Run) -> Step:
    (step,) = run.steps
    return step


def act(run: Run) -> Act:
    (one,) = run.acts
    return one


# ---- recovery ----------------------------------------------------------------------------------------------


def test_what_the_runbook_mends_is_mended_by_the_run(make: Make, supervisor: Supervisor) -> None:
    """Its step starts what was stopped: the act is healed by this run and says how, and the clock starts there."""
    run = make(page("Recovery", "gameday start web", expect="^web runs$"))
    before_ns = time.monotonic_ns()
    assert runbook.recover.fn(run) is True
    assert supervisor.pid() is not None
    assert (act(run).healed_by, act(run).healed_why) == (run.id, "by the runbook: Step 1")
    assert before_ns <= (run.clock_ns or 0) <= (act(run).healed_ns or 0)
    assert only(run).ok is True
    run.close()
    assert {a.healed_by for a in run.acts} == {run.id}


def test_steps_that_mend_nothing_leave_it_to_the_plan_s_heal(make: Make, supervisor: Supervisor) -> None:
    """Though what they print is as expected: the step is stale, the fault still held, and the clock untouched."""
    run = make(page("Recovery", "echo web runs", expect="^web runs$"))
    assert runbook.recover.fn(run) is False
    assert supervisor.pid() is None
    assert (act(run).healed_ns, run.clock_ns) == (None, None)
    assert only(run).ok is False
    assert "came out as expected, and left stop of web" in only(run).why


def test_a_fault_that_another_hand_has_mended_is_not_the_runbook_s(make: Make) -> None:
    """Nothing is carried out then, and the guardian names the stranger as ever."""
    run = make(page("Recovery", "touch carried-out; gameday start web"))
    run.stack.host("web").start("web")
    assert runbook.recover.fn(run) is False
    assert run.steps == []
    run.held().heal(None, "the plan's heal")
    assert act(run).healed_by == SOMEONE_ELSE


def test_steps_after_the_one_that_mends_are_not_needed(make: Make) -> None:
    """What is whole is not mended."""
    run = make(page("Recovery", "true", "gameday start web", "false"))
    assert runbook.recover.fn(run) is True
    assert [(s.title, s.ok) for s in run.steps] == [("Step 1", False), ("Step 2", True)]
    assert act(run).healed_why == "by the runbook: Step 2"


def test_a_step_that_hangs_holds_up_the_heal_no_longer_than_it_may(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the plan's heal comes."""
    monkeypatch.setattr(runbook, "KIND_S", 1.0)
    run = make(page("Recovery", "sleep 1000", "gameday start web"))
    began = time.monotonic()
    assert runbook.recover.fn(run) is False
    assert time.monotonic() - began < 1.0 + SOON_S
    assert [s.ok for s in run.steps] == [False, None]
    assert "it was not over in time" in run.steps[0].why
    assert "took 1 s" in run.steps[1].why


def test_an_abort_ends_a_step_at_once(make: Make, supervisor: Supervisor, tmp_path: Path) -> None:
    """The guardian mends, the step's process is gone, and the run knows."""
    run = make(page("Recovery", f"echo $$ > {tmp_path}/pid; sleep 1000"))

    def abort_once_it_runs() -> bool:
        return (tmp_path / "pid").exists() and bool(mending.abort(supervisor.state))

    thread = threading.Thread(target=lambda: until(abort_once_it_runs, SOON_S))
    thread.start()
    with pytest.raises(GamedayError, match="aborted"):
        runbook.recover.fn(run)
    thread.join()
    pid = int((tmp_path / "pid").read_text())
    until(lambda: Process.of(pid) is None, SOON_S, what="the end of the step's process")
    assert supervisor.pid() is not None


def test_a_sampler_that_dies_ends_a_step_at_once(make: Make, tmp_path: Path) -> None:
    """Nothing can be proved without it: what is held is not held for the rest of the runbook."""
    run = make(page("Diagnosis", f"touch {tmp_path}/begun; sleep 1000"))
    process = subprocess.Popen(["sleep", "1000"], stdin=subprocess.PIPE)
    run.sampler = Sampler(process, tmp_path, tmp_path / "sampler.log")

    def kill_once_it_runs() -> bool:
        if begun := (tmp_path / "begun").exists():
            process.kill()
        return begun

    thread = threading.Thread(target=lambda: until(kill_once_it_runs, SOON_S))
    thread.start()
    began = time.monotonic()
    with pytest.raises(Halt, match="the sampler died"):
        runbook.diagnose.fn(run)
    assert time.monotonic() - began < SOON_S
    thread.join()


# ---- diagnosis ---------------------------------------------------------------------------------------------


def test_diagnosis_sees_the_real_failure(make: Make) -> None:
    """While the fault is on."""
    run = make(page("Diagnosis", "gameday heal --dry-run", expect="^would mend stop of web: start it"))
    runbook.diagnose.fn(run)
    assert (only(run).ok, only(run).why) == (True, "")
    assert "would mend stop of web" in (run.folder / "runbook.log").read_text()


def test_one_that_points_elsewhere_is_stale(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what was expected and what came, after it was given its time."""
    monkeypatch.setattr(runbook, "LOOK_S", 0.5)
    run = make(page("Diagnosis", "echo web is fine", expect="^web is down"))
    runbook.diagnose.fn(run)
    assert only(run).ok is False
    assert only(run).why == "expected ^web is down; came: web is fine"
    assert act(run).healed_ns is None


def test_a_last_look_that_would_be_cut_off_is_not_begun(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the one before it showed is told, not that the last one showed nothing."""
    monkeypatch.setattr(runbook, "LOOK_S", 3.0)
    monkeypatch.setattr(runbook, "REPEAT_EVERY_S", 0.1)
    run = make(page("Diagnosis", "sleep 2; echo web is fine", expect="^web is down"))
    runbook.diagnose.fn(run)
    assert (only(run).ok, only(run).why) == (False, "expected ^web is down; came: web is fine")


def test_a_last_look_that_is_cut_off_tells_nothing(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took longer than the one before it, which was whole: what that one showed counts."""
    monkeypatch.setattr(runbook, "LOOK_S", 2.0)
    monkeypatch.setattr(runbook, "REPEAT_EVERY_S", 0.1)
    slower = f"[ -e {tmp_path}/seen ] && sleep 1000; touch {tmp_path}/seen; echo web is fine"
    run = make(page("Diagnosis", slower, expect="^web is down"))
    runbook.diagnose.fn(run)
    assert (only(run).ok, only(run).why) == (False, "expected ^web is down; came: web is fine")


def test_what_takes_a_moment_to_show_is_waited_for(make: Make, tmp_path: Path) -> None:
    """A failure's signs need not be there at once."""
    run = make(page("Diagnosis", f"echo x >> {tmp_path}/seen; wc -l < {tmp_path}/seen", expect="^2$"))
    runbook.diagnose.fn(run)
    assert only(run).ok is True


def test_a_failure_that_is_over_can_not_be_diagnosed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed component is back before anybody looks: the step is not carried out, and not stale."""
    monkeypatch.setattr(conditions, "SECOND_S", 0.0)
    monkeypatch.setattr(conditions, "restored", lambda now: True)
    monkeypatch.setattr(conditions, "drained", lambda now: True)
    run = make(page("Diagnosis", "echo fine", expect="^down$"), Kill("web"))
    runbook.diagnose.fn(run)
    assert only(run).ok is None
    assert only(run).why == "it was over before it could be looked at: expected ^down$; came: fine"


def test_a_struck_component_that_is_not_back_is_looked_at(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a step that doesn't see it is stale."""
    monkeypatch.setattr(runbook, "LOOK_S", 0.5)
    run = make(page("Diagnosis", "echo fine", expect="^down$"), Kill("web"))
    runbook.diagnose.fn(run)
    assert only(run).ok is False


def test_all_steps_together_have_a_bound(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No heal waits longer for them, however many there are."""
    monkeypatch.setattr(runbook, "KIND_S", 1.0)
    run = make(page("Diagnosis", *["sleep 1000"] * 5))
    began = time.monotonic()
    runbook.diagnose.fn(run)
    assert time.monotonic() - began < 1.0 + SOON_S
    assert [s.ok for s in run.steps] == [None] * 5
    assert run.steps[0].why == "it was not over in time: 1 s, after nothing"
    assert run.steps[1].why == "the steps before it took 1 s"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ('echo "$NOWHERE"', "[runbook.env] in gameday.toml sets no NOWHERE"),
        ("gameday-of-another-kind now", "gameday-of-another-kind is not installed here"),
    ],
)
def test_what_can_not_be_carried_out_here_is_not_stale(make: Make, command: str, why: str) -> None:
    """It says what is missing."""
    run = make(page("Diagnosis", command))
    runbook.diagnose.fn(run)
    assert (only(run).ok, only(run).why) == (None, why)


def test_no_secret_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the step nor in the log: the passwords in addresses, and what is a secret by its name."""
    monkeypatch.setattr(runbook, "LOOK_S", 5.0)
    run = make(page("Diagnosis", 'echo "$ADDRESS $ITS_KEY for $HOW"', expect="^never$"))
    runbook.diagnose.fn(run)
    assert only(run).why == "expected ^never$; came: http://someone:***@127.0.0.1:1 *** for stop"
    assert not {"hush-hush", "open-sesame"} & set((run.folder / "runbook.log").read_text().replace(":", " ").split())


def test_a_block_for_other_parameters_is_left_out(make: Make) -> None:
    """It is no step of this run."""
    run = make(page("Diagnosis", "true").replace("sh gameday", "sh gameday how=kill"))
    runbook.diagnose.fn(run)
    assert run.steps == []


def test_a_runbook_that_can_not_be_read_is_stale_once(make: Make, tmp_path: Path) -> None:
    """Missing, malformed, or a link out of its folder: told with the reason; nothing is carried out."""
    run = make("## Diagnosis\n```sh gameday\ntrue\n```")
    for step in (runbook.diagnose, runbook.recover, runbook.verify):
        step.fn(run)
    assert (only(run).ok, "has no title" in only(run).why) == (False, True)
    run.steps.clear()
    book = tmp_path / "books" / "web_stop.md"
    book.unlink()
    runbook.diagnose.fn(run)
    assert "can't be read" in only(run).why
    run.steps.clear()
    (tmp_path / "elsewhere.md").write_text(page("Diagnosis", "true"))
    book.symlink_to(tmp_path / "elsewhere.md")
    runbook.diagnose.fn(run)
    assert "leads out of its folder" in only(run).why


def test_without_its_table_nothing_is_carried_out(make: Make) -> None:
    """A stack that doesn't ask for it has runbooks for people alone."""
    run = make(page("Diagnosis", "true") + page("Recovery", "gameday start web"), given="")
    runbook.diagnose.fn(run)
    assert runbook.recover.fn(run) is False
    assert run.steps == []


# ---- verify ------------------------------------------------------------------------------------------------


def test_verification_is_for_what_is_back(make: Make) -> None:
    """A platform that isn't says nothing about its runbook."""
    run = make(page("Verify", "gameday heal --dry-run", expect="^nothing is open$"))
    runbook.verify.fn(run)
    assert (only(run).ok, only(run).why) == (None, "the platform was not back in time")
    run.steps.clear()
    run.held().heal(None, "the plan's heal")
    run.recovered = True
    runbook.verify.fn(run)
    assert only(run).ok is True
