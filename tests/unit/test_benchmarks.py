"""Benchmarks that have measured nothing: they say so, print no figures and exit with 3; with 130 after Ctrl-C."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import rest
from benchmarks._measured import ended
from benchmarks.busy import LANES
from benchmarks.rest import Look, cpu_s, measure
from benchmarks.sampler import answered
from gameday.errors import GamedayError, NotUp
from gameday.model import Sample
from gameday.state import ROOT
from gameday.system.polling import until
from gameday.system.process import Process, descendants

ME = Process.me()
ANOTHER = Process(ME.pid, ME.start_ticks - 1, ME.boot_id)

NOTHING_ASKED: Mapping[str, tuple[str, ...]] = {
    "rest": (),
    "sampler": (),
    "offload": ("--rows", "0", "--commits", "0"),
    "offload_kills": ("--random", "0", "--each", "0"),
    "retries": ("--transactions", "0"),
    "undo": ("--kills", "0"),
    "verify": ("clickhouse", "postgres", "log", "--rows", "0", "--large", "0", "--postgres", "0", "--messages", "0"),
}
"""Benchmark -> arguments with which it has nothing to measure where no stack is up."""


@pytest.mark.parametrize("name", NOTHING_ASKED)
def test_a_benchmark_without_anything_to_measure_exits_with_3(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints no figures, and on stderr why there are none."""
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    monkeypatch.delenv("GAMEDAY_CONFIG", raising=False)
    monkeypatch.setattr("sys.argv", [name, *NOTHING_ASKED[name]])
    assert importlib.import_module(f"benchmarks.{name}").main() == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("nothing was measured: ")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: what is not printed above was not measured\n"),
        (NotUp("no stack"), 3, "nothing was measured: no stack\n"),
        (GamedayError("broken"), 3, "nothing was measured: broken\n"),
        (
            subprocess.CalledProcessError(3, ["gameday", "up"]),
            3,
            "nothing was measured: gameday up ended with exit code 3\n",
        ),
    ],
    ids=repr,
)
def test_what_ends_a_benchmark_is_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with the exit code that `gameday` has for it."""

    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as left:
        ended(main)
    assert left.value.code == code
    assert capsys.readouterr().err == said


def test_every_benchmark_ends_so() -> None:
    """In its last line."""
    for path in (ROOT / "benchmarks").glob("[a-z]*.py"):
        assert path.read_text().endswith('if __name__ == "__main__":\n    ended(main)\n'), path


def test_ctrl_c_in_the_midst_of_a_measurement() -> None:
    """The real one, beside its load: no traceback, and nobody who keeps the processor busy is left."""
    command = [sys.executable, "-m", "benchmarks.busy", "--alone", "100", "--loads", "1", "--niceness", "19"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) > LANES, within_s=60, what="its measurement")
        load = descendants(process.pid)
        assert load
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "interrupted: what is not printed above was not measured\n"
    assert not any(one.alive for one in load)


ORDERLY = (
    "import signal, sys\n"
    "def end(*_): open(sys.argv[1], 'a').write('undone'); sys.exit(130)\n"
    "signal.signal(signal.SIGINT, end)\n"
    "open(sys.argv[1], 'w').write('began ')\n"
    "signal.pause()\n"
)


def test_a_run_that_a_benchmark_carries_out_may_undo_after_ctrl_c(tmp_path: Path) -> None:
    """It is told, and its end is awaited."""
    file = tmp_path / "said"
    script = (
        f"from benchmarks._measured import carry_out\ncarry_out([{sys.executable!r}, '-c', {ORDERLY!r}, {str(file)!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        until(lambda: file.exists() and file.read_text() == "began ", within_s=60, every_s=0.05, what="the run")
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert file.read_text() == "began undone"


def test_ten_thousand_groups_are_not_compared_in_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ratio of two zeros says nothing; no server is started for it."""
    monkeypatch.setattr("sys.argv", ["sampler", "--many", "--seconds", "0"])
    assert importlib.import_module("benchmarks.sampler").main() == 3
    assert capsys.readouterr().out == ""


def test_the_sampler_is_measured_only_when_every_probe_answered() -> None:
    """One that never did is named; of one that shows several series, one with an answer will do."""
    series = {
        "head/silver/kraken/BTC": [Sample(1, 1, None), Sample(2, 1, 7.0)],
        "component/web/answer": [Sample(1, 1, None)],
        "component/web/answer.connects": [Sample(1, 1, 2.0)],
        "component/s3/health": [Sample(1, 1, None)],
    }
    assert list(answered(series, ["head/silver", "component/web/answer"])) == ["head/silver", "component/web/answer"]
    with pytest.raises(NotUp, match="component/s3/health, end/clickhouse never answered"):
        answered(series, ["head/silver", "component/s3/health", "end/clickhouse"])


def test_a_process_that_ended_meanwhile_leaves_nothing_measured() -> None:
    """Neither its successor's time nor its own is the share of a process at rest."""
    with pytest.raises(NotUp, match="kafka ended meanwhile"):
        measure(lambda: Look(0.0, {"kafka": 1.0}, {"kafka": ANOTHER}), 60.0)


def test_a_process_that_was_started_anew_leaves_nothing_measured() -> None:
    """The supervisor names another one at the end than at the beginning."""
    looks = iter([Look(0.0, {"kafka": 1.0}, {"kafka": ME}), Look(1.0, {"kafka": 1.0}, {"kafka": ANOTHER})])
    with pytest.raises(NotUp, match="started anew"):
        measure(lambda: next(looks), 0.0)


def test_shares_are_of_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of processor time in two seconds is 0.25."""
    monkeypatch.setattr(rest, "until", lambda *_, **__: None)
    looks = iter([Look(10.0, {"kafka": 1.0}, {"kafka": ME}), Look(12.0, {"kafka": 1.5}, {"kafka": ME})])
    assert measure(lambda: next(looks), 2.0) == {"kafka": 0.25}


def test_processor_time_is_that_of_the_whole_process() -> None:
    """The kernel's count of this process is Python's, to the hundredth; one that is gone has none."""
    assert cpu_s((ME.pid,), ended_children=False) == pytest.approx(time.process_time(), abs=0.1)
    assert cpu_s((2**22 + 1,)) == 0.0
