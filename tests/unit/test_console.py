"""Telling decides nothing: whoever watches, and however what is printed goes lost, the verdict and its exit code stand.

Each case is a process of its own, with its own stdout and stderr; the stack, Prefect and the night are stand-ins.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compose import supervisor
from gameday.model import Act
from gameday.run import Run
from gameday.sampling import sampler
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.system.process import Process
from gameday.undo import reconciler
from gameday.undo.journal import Entry, Journal
from tasks.night import Night
from tests.fakes import write_config
from tests.zygote import Child, Zygote

ENDS_WITHIN_S = 60
FULL = Path("/dev/full")
"""Every write to it fails with ENOSPC."""

LINES = 4000
"""Far more than a pipe holds."""

TEXT = "broker_restart: back after 8.26–8.35 s → drained ▁▂▃ 😀"

NIGHT = f"""
import os, signal, sys
import flows.nightly
from gameday import cli
from gameday.cli import running
from gameday.errors import GamedayError
from gameday.model import RunResult, Verdict

def carry_out(chosen, opened, stack, commit):
    from tasks.night import night
    here = night.get()
    for number in range(LINES):
        here.tell({TEXT!r})
    verdict = Verdict[VERDICT.upper()]
    when = "2026-01-01T00:00:00+00:00"
    said = (verdict, {TEXT!r}, when, 1.0, 1.0, 1.0, {{}}, {{}}, (), ())
    here.results.append(RunResult("r", here.id, "broker_restart", {{}}, "toy", *said))
    THEN

flows.nightly.carry_out = carry_out
running._need_prefect = lambda config: None
running._choose = lambda *_: []
sys.argv[1:1] = ["run", "broker_restart"]
cli.main()
"""
"""`gameday run` with a night that says some lines and comes to a verdict, in no time."""


HOPS = {"tape": 'records = "math:floor"', "clickhouse": 'kind = "once"\ntable = "trades"'}
"""What a toy's hops lack to be asked."""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as made:
        yield made


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A toy's configuration and a state folder of its own."""
    state = State(tmp_path / "state").ensure()
    config = write_config(state.root)
    text = config.read_text(encoding="utf-8")
    for driver, settings in HOPS.items():
        text = text.replace(f'driver = "{driver}"', f'driver = "{driver}"\nurl = "http://127.0.0.1:1"\n{settings}')
    config.write_text(text, encoding="utf-8")
    here = {"GAMEDAY_CONFIG": str(config), "GAMEDAY_STATE": str(state.root)}
    return {**os.environ, **here}


@dataclass
class Runs:
    """`gameday run` as often as a test wants; what it printed is in a file each."""

    zygote: Zygote
    env: Mapping[str, str]
    folder: Path

    def __call__(
        self,
        *arguments: str,
        verdict: str = "pass",
        then: str = "pass",
        lines: int = 3,
        out: int | None = None,
        errors: int | None = None,
        env: Mapping[str, str] | None = None,
        ignored: tuple[int, ...] = (),
    ) -> Child:
        code = NIGHT.replace("VERDICT", repr(verdict)).replace("THEN", then).replace("LINES", str(lines))
        with self.output.open("ab") as output, self.errors.open("ab") as told:
            return self.zygote.start(
                code,
                *arguments,
                env={**self.env, **(env or {})},
                stdout=output.fileno() if out is None else out,
                stderr=told.fileno() if errors is None else errors,
                ignored=ignored,
            )

    @property
    def output(self) -> Path:
        return self.folder / "stdout"

    @property
    def errors(self) -> Path:
        return self.folder / "stderr"


@pytest.fixture
def run(zygote: Zygote, env: Mapping[str, str], tmp_path: Path) -> Runs:
    return Runs(zygote, env, tmp_path)


def written(path: Path) -> str:
    """The verdict in a file of results."""
    return str(json.loads(path.read_text(encoding="utf-8"))["results"][0]["verdict"])


def nobody_reads() -> int:
    """The writing end of a pipe whose reader went away."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def dead_terminal() -> int:
    """A terminal whose window was closed: every write fails with EIO."""
    master, slave = pty.openpty()
    os.close(master)
    return slave


def full_disk() -> int:
    return os.open(FULL, os.O_WRONLY)


PLACES: Mapping[str, Callable[[], int]] = {
    "a reader that went away": nobody_reads,
    "a terminal that was closed": dead_terminal,
    "a full disk": full_disk,
}


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("unknown", 3)])
@pytest.mark.parametrize("place", PLACES)
def test_a_run_keeps_its_exit_code_wherever_its_words_go(
    run: Runs, tmp_path: Path, place: str, verdict: str, code: int
) -> None:
    """stdout and stderr both: the night goes on, the files are written, the exit code is the verdict's."""
    out = PLACES[place]()
    assert run("--json", str(tmp_path / "r.json"), verdict=verdict, out=out, errors=out).wait() == code
    os.close(out)
    assert written(tmp_path / "r.json") == verdict


def test_what_could_not_be_printed_is_told_where_somebody_listens(run: Runs) -> None:
    """Of a full disk, on stderr; a reader that left on purpose has lost nothing."""
    out = nobody_reads()
    assert run(out=out).wait() == 0
    os.close(out)
    assert run.errors.read_text() == ""
    out = full_disk()
    assert run(out=out).wait() == 0
    os.close(out)
    assert "stdout could not be written: No space left on device" in run.errors.read_text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16-le"])
@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1)])
def test_a_run_can_be_told_in_any_encoding(run: Runs, encoding: str, verdict: str, code: int) -> None:
    """What the encoding lacks is escaped, not lost, and nothing ends for it."""
    assert run(verdict=verdict, env={"PYTHONIOENCODING": encoding}).wait() == code
    assert run.errors.read_text() == ""
    wanted = "8.26–8.35" if encoding == "utf-16-le" else "8.26\\u20138.35"
    assert wanted in run.output.read_bytes().decode(encoding)


def test_a_run_whose_output_is_closed_goes_on(env: dict[str, str], tmp_path: Path) -> None:
    """`gameday run >&- 2>&-`: no file that is opened later gets what was meant for the terminal."""
    code = NIGHT.replace("VERDICT", repr("fail")).replace("THEN", "pass").replace("LINES", "3")
    (tmp_path / "night.py").write_text(code, encoding="utf-8")
    shell = f"exec {sys.executable} {tmp_path}/night.py --json {tmp_path}/r.json >&- 2>&-"
    env["PYTHONPATH"] = str(ROOT)
    assert subprocess.run(["sh", "-c", shell], cwd=ROOT, env=env, timeout=ENDS_WITHIN_S).returncode == 1
    assert written(tmp_path / "r.json") == "fail"


@pytest.mark.parametrize("kind", ["a pipe", "a stopped terminal", "a pipe that does not block"])
def test_a_reader_that_does_not_read_holds_up_no_run(run: Runs, tmp_path: Path, kind: str) -> None:
    """While something may be broken nobody is waited for (a pager, Ctrl-S); what was kept comes when it is read."""
    reading, writing = pty.openpty() if kind == "a stopped terminal" else os.pipe()
    if kind == "a stopped terminal":
        termios.tcflow(writing, termios.TCOOFF)
    os.set_blocking(writing, kind != "a pipe that does not block")
    done = tmp_path / "done"
    child = run(then=f"open({str(done)!r}, 'w').close()", lines=LINES, out=writing, errors=writing)
    until(done.exists, within_s=ENDS_WITHIN_S, what="the night's end")
    if kind == "a stopped terminal":
        termios.tcflow(writing, termios.TCOON)
    os.close(writing)
    read = b""
    with contextlib.suppress(OSError):  # a terminal's end is an error
        while piece := os.read(reading, 1 << 16):
            read += piece
    os.close(reading)
    assert child.wait() == 0
    assert read.count("8.26–8.35".encode()) >= LINES


@pytest.mark.parametrize("option", ["--json", "--junit"])
@pytest.mark.parametrize("verdict", ["pass", "fail"])
@pytest.mark.parametrize("where", ["no/such/folder/r", "folder", "file/r"])
def test_results_that_can_not_be_written_are_told_before_anything_is_broken(
    run: Runs, tmp_path: Path, option: str, verdict: str, where: str
) -> None:
    """Exit code 2 with the path and the reason, and the night has not begun."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    begun = f"open({str(tmp_path / 'begun')!r}, 'w').close()"
    path = str(tmp_path / where)
    code = run(option, path, verdict=verdict, then=begun).wait()
    told = run.errors.read_text()
    assert (code, f"{path} can't be written" in told, "Remedy" in told) == (2, True, True), told
    assert not (tmp_path / "begun").exists()


def test_looking_whether_results_can_be_written_changes_nothing(run: Runs, tmp_path: Path) -> None:
    """A file that is there keeps what it holds until there are results; one that isn't is not made."""
    old, new, seen = (str(tmp_path / name) for name in ("old", "new", "seen"))
    Path(old).write_text("old", encoding="utf-8")
    then = f"open({seen!r}, 'w').write(open({old!r}).read() + str(os.path.exists({new!r})))"
    assert run("--json", old, "--junit", new, then=then).wait() == 0
    assert Path(seen).read_text() == "oldFalse"


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 1), ("unknown", 3)])
def test_results_that_can_not_be_written_any_more_change_no_exit_code(run: Runs, verdict: str, code: int) -> None:
    """The disk is full by the night's end: said on stderr."""
    assert run("--json", str(FULL), "--junit", str(FULL), verdict=verdict).wait() == code
    assert run.errors.read_text().count("can't be written: No space left on device") == 2


@pytest.mark.parametrize(
    ("verdict", "error", "code"),
    [
        ("fail", "GamedayError('Prefect is away')", 1),
        ("fail", "KeyError('Prefect is away')", 1),
        ("pass", "GamedayError('Prefect is away')", 3),
        ("pass", "KeyError('Prefect is away')", 3),
    ],
)
def test_exit_code_1_is_a_fail_and_nothing_else(run: Runs, verdict: str, error: str, code: int) -> None:
    """An error after a fail doesn't hide it; an error without one is no fail of the platform, but no verdict."""
    assert run(verdict=verdict, then=f"raise {error}").wait() == code
    assert "Prefect is away" in run.errors.read_text()


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT"])
def test_a_signal_ends_a_run_with_its_results_written(run: Runs, tmp_path: Path, number: str) -> None:
    """Exit code 3, 130 after Ctrl-C; the files are there, and no traceback."""
    code = run("--json", str(tmp_path / "r.json"), then=f"signal.raise_signal(signal.{number})").wait()
    told = run.errors.read_text()
    assert (code, "Traceback" in told) == (130 if number == "SIGINT" else 3, False), told
    assert "everything that was broken has been mended" in told
    assert written(tmp_path / "r.json") == "pass"


INTERPRETED = """
import fcntl, os, sys, termios
from pathlib import Path
import tasks.run
from gameday import codec
from gameday.system import console, signals
from gameday.system.polling import until
from tests.unit.test_interpreter import Script

folder, step, terminal = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "terminal"

def lasts(*_):
    (folder / "begun").touch()
    until(lambda: (folder / "go").exists(), within_s=60, what="the test")

def store(run, result):
    (folder / "result").write_text(f"{result.verdict}: {result.why}")

codec.save_evidence = lasts if step == "save" else lambda *_: None
tasks.run.store = store
console.tolerate()
signals.obey()
if terminal:
    os.setsid()
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)
Script({step: lasts}).run()
"""
"""A run with stand-ins for its steps, one of which lasts; what it stores is in a file."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, "a closed terminal"], ids=str)
@pytest.mark.parametrize(("step", "told"), [("wait", "unknown: aborted: "), ("save", "pass: as promised")])
def test_a_process_that_is_told_to_end_leaves_its_result(
    zygote: Zygote, env: dict[str, str], tmp_path: Path, number: signal.Signals | str, step: str, told: str
) -> None:
    """For real, from outside: while a fault is held, and while the verdict is drawn, which goes on."""
    master, slave = pty.openpty()
    how = "terminal" if isinstance(number, str) else "signal"
    child = zygote.start(INTERPRETED, str(tmp_path), step, how, env=env, stdout=slave, stderr=slave)
    os.close(slave)
    until((tmp_path / "begun").exists, within_s=ENDS_WITHIN_S, what="the step")
    if isinstance(number, str):
        os.close(master)
    else:
        os.kill(child.pid, number)
    if step == "save":
        (tmp_path / "go").touch()
    assert child.wait() == 3
    name = number.name if isinstance(number, signal.Signals) else "SIGHUP"
    assert (tmp_path / "result").read_text() == (told + name if step == "wait" else told)
    if not isinstance(number, str):
        os.close(master)


def test_an_interrupted_run_does_not_say_that_all_is_mended_when_it_is_not(run: Runs, env: dict[str, str]) -> None:
    """What the journal has open is named, with the remedy."""
    me = Process.me()
    act = Act("a1", "r", 1, 1, "fault", "stop", {"component": "web"}, {}, "guardian 1")
    Journal(State(Path(env["GAMEDAY_STATE"])).journal).begin(Entry(act, me, me, 1 << 62))
    assert run(then="signal.raise_signal(signal.SIGTERM)").wait() == 3
    assert "not mended yet: stop of web. Remedy: gameday heal" in run.errors.read_text()


def test_a_signal_that_was_ignored_stays_ignored(run: Runs) -> None:
    """nohup gameday run: who has asked to outlive his terminal does."""
    assert run(then="signal.raise_signal(signal.SIGHUP)", ignored=(signal.SIGHUP,)).wait() == 0


# ---- every command that prints -----------------------------------------------------------------------------

TELLING = (
    ("status",), ("status", "--json"), ("check",), ("list",), ("list", "--json"), ("abort",), ("heal", "--dry-run"),
    ("hold",), ("release",), ("failpoints", "list"), ("failpoints", "list", "--json"), ("report",), ("history",),
    ("frobnicate",), ("run",), ("--help",), ("start", "web"), ("failpoints", "disarm", "web", "x"),
)  # fmt: skip
MAIN = "import sys; from gameday import cli; sys.argv[0] = 'gameday'; cli.main()"


def test_every_command_that_prints_ends_as_if_somebody_read_it(
    zygote: Zygote, env: dict[str, str], tmp_path: Path
) -> None:
    """Its exit code says what it found, whether its words arrive or not, and in whatever encoding."""
    night = State(Path(env["GAMEDAY_STATE"])).night("20260101T000000-night-0000")
    night.mkdir(parents=True)
    (night / "results.json").write_text("{}")
    env["PREFECT_LOGGING_TO_API_ENABLED"] = "false"

    def codes(out: int, **more: str) -> dict[tuple[str, ...], int]:
        return {
            words: zygote.start(MAIN, *words, env={**env, **more}, stdout=out, stderr=out).wait() for words in TELLING
        }

    with open(os.devnull, "wb") as null:
        heard = codes(null.fileno())
        assert {0, 2, 3} == set(heard.values()), heard
        assert codes(null.fileno(), PYTHONIOENCODING="ascii") == heard
    for place, make in PLACES.items():
        out = make()
        assert codes(out) == heard, place
        os.close(out)


# ---- inside a run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("gone"), BrokenPipeError(), SystemExit(1)], ids=repr)
def test_whoever_is_told_can_not_end_a_run_or_a_night(tmp_path: Path, error: BaseException) -> None:
    """A callback that raises, or a console that ends on a broken pipe: the run's log has the line all the same."""

    def say(text: str) -> None:
        raise error

    night = Night("n", say=say)
    night.tell("now breaking")
    run: Any = SimpleNamespace(folder=tmp_path, _say=say)
    run.log = lambda text: Run.log(run, text)
    Run.say(run, TEXT)
    assert TEXT in (tmp_path / "run.log").read_text(encoding="utf-8")


def test_logs_are_written_whatever_the_locale(tmp_path: Path) -> None:
    """Where the system's encoding is ASCII, a run's log and its runbook's log are UTF-8 all the same."""
    code = f"""
from pathlib import Path
from types import SimpleNamespace
from gameday.run import Run
from tasks import runbook
text = {TEXT!a}
run = SimpleNamespace(folder=Path({str(tmp_path)!r}))
Run.log(run, text)
block = SimpleNamespace(kind="diagnosis", title=text, text="x")
runbook._log(run, block, text, SimpleNamespace(took_s=1.0, why="", status=0))
"""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, check=True, timeout=ENDS_WITHIN_S)
    for log in ("run.log", "runbook.log"):
        assert TEXT in (tmp_path / log).read_text(encoding="utf-8"), log


def test_a_night_whose_report_can_not_be_written_keeps_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said; people are told, and nothing is raised."""
    said: list[str] = []
    night = Night("n", say=said.append)
    monkeypatch.setattr(
        Night, "_write", lambda self, stack: (_ for _ in ()).throw(UnicodeEncodeError("a", "", 0, 1, ""))
    )
    monkeypatch.setattr("tasks.night.tell_night", lambda *_: [])
    night.close(SimpleNamespace())  # type: ignore[arg-type]
    assert [line.startswith("n: no report: ") for line in said] == [True]


def test_a_signal_while_the_report_is_written_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole, and then the signal goes on upwards."""
    done: list[str] = []

    def write(self: Night, stack: object) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("written")

    monkeypatch.setattr(Night, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        Night("n").write(SimpleNamespace())  # type: ignore[arg-type]
    assert done == ["written"]


# ---- what runs beside a run --------------------------------------------------------------------------------


@contextlib.contextmanager
def stderr_at(descriptor: int) -> Iterator[None]:
    """What this process writes to descriptor 2 goes there."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@pytest.mark.parametrize("place", PLACES)
def test_the_sampler_goes_on_when_its_complaints_go_nowhere(place: str) -> None:
    """A full disk under its log is no silence of the platform."""
    out = PLACES[place]()
    with stderr_at(out):
        sampler._say("component/broker/kafka: refused")
    os.close(out)


def test_the_reconciler_goes_on_when_its_log_goes_nowhere(env: dict[str, str], tmp_path: Path) -> None:
    """It looks, and says what it found to a full disk, and looks again; SIGTERM ends it well."""
    command = [sys.executable, "-m", "gameday.undo.reconciler", "--config", env["GAMEDAY_CONFIG"]]
    command += ["--state", env["GAMEDAY_STATE"]]
    looked = tmp_path / "state" / "owner.json"
    looked.write_text("damaged: every look ends with an error that is logged")
    (tmp_path / "state" / "journal.jsonl").write_text("")
    with FULL.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.PIPE)
        try:
            until(lambda: process.poll() is not None or handles(process.pid), within_s=ENDS_WITHIN_S, what="its start")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(4 * reconciler.TICK_S)
            process.terminate()
            _, errors = process.communicate(timeout=ENDS_WITHIN_S)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, errors) == (0, b"")


def test_the_supervisor_goes_on_when_its_log_goes_nowhere(env: dict[str, str]) -> None:
    """A full disk under its log ends no platform: it comes up, obeys and ends well."""
    state = State(Path(env["GAMEDAY_STATE"]))
    state.servers.mkdir()
    supervisor.specification(state).write_text("[]")
    command = [sys.executable, "-m", "compose.supervisor", str(state.root)]
    with FULL.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.PIPE)
    try:
        until(lambda: process.poll() is not None or state.supervisor_socket.exists(), ENDS_WITHIN_S, what="its socket")
        assert supervisor.ask(state, op="status")["processes"] == {}
        supervisor.ask(state, op="shutdown")
        _, errors = process.communicate(timeout=ENDS_WITHIN_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, b"")


def handles(pid: int) -> bool:
    """Whether that process has a handler of its own for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
