"""Benchmarks that have measured nothing: they say so, print no figures and exit with 3."""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import rest
from benchmarks.rest import Look, cpu_s, measure
from benchmarks.sampler import answered
from gameday.errors import NotUp
from gameday.model import Sample
from gameday.system.process import Process

ME = Process.me()
ANOTHER = Process(ME.pid, ME.start_ticks - 1, ME.boot_id)

NOTHING_ASKED: Mapping[str, tuple[str, ...]] = {
    "rest": (),
    "sampler": (),
    "offload": ("--rows", "0", "--commits", "0"),
    "offload_kills": ("--random", "0", "--each", "0"),
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
