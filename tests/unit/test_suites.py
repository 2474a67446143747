"""The suites' order and closing line, and the table of what tests take; what each suite holds is tests/tidy's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import durations, suites

LINES = (
    {"kind": "layer", "name": "unit", "wall_s": 100.4, "additions_s": 1.1},
    {"kind": "layer", "name": "contract", "wall_s": 400.2, "additions_s": 1.3},
    {"kind": "test", "name": "tests/a.py::test_slow[x|y]", "setup_s": 1.0, "call_s": 30.0, "teardown_s": 0.5},
    {"kind": "test", "name": "tests/a.py::test_fast", "setup_s": 0.1, "call_s": 0.1, "teardown_s": 0.0},
    {"kind": "fixture", "name": "broker", "setup_s": 4.0},
    {"kind": "fixture", "name": "broker", "setup_s": 5.0},
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its own folder for what was measured, and its own page; a machine on which ten million additions take 2 s."""
    monkeypatch.setattr(durations, "FOLDER", tmp_path / "measured")
    monkeypatch.setattr(durations, "KNOWN", tmp_path / "durations.json")
    monkeypatch.setattr(durations, "PAGE", tmp_path / "tests.md")
    monkeypatch.setattr(suites, "additions_s", lambda: 2.0)
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The suites that were run, in order; `kills` fails."""
    found: list[str] = []

    def run(name: str) -> int:
        found.append(name)
        return int(name == "kills")

    monkeypatch.setattr(suites, "run", run)
    monkeypatch.setattr(suites, "SUITES", {n: suites.Suite(n, ()) for n in ("test", "kills", "servers", "soak")})
    return found


def took(here: Path, **wall_s: float) -> None:
    """Suites took so long, where ten million additions took 1 s."""
    (here / "durations.json").write_text(
        json.dumps({name: {"wall_s": seconds, "additions_s": 1.0} for name, seconds in wall_s.items()})
    )


@pytest.mark.parametrize(
    ("number", "order"), [(0, ["a", "b", "c"]), (1, ["b", "c", "a"]), (5, ["c", "a", "b"])], ids=str
)
def test_each_commit_begins_with_another_suite(number: int, order: list[str]) -> None:
    """After as many commits as there are suites each was first once."""
    assert suites.turned(["a", "b", "c"], number) == order


def test_what_does_not_fit_is_left_out_and_said(here: Path, ran: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By what they took last, on a machine of this one's speed; what comes after may still fit. A failure is one."""
    took(here, kills=100, servers=200, soak=10)
    assert suites._long(within_s=300, number=0, said=["test passed in 900 s"]) == 1
    assert ran == ["kills", "soak"]
    line = capsys.readouterr().out.strip()
    assert line.startswith("suites that ran: test passed in 900 s, kills FAILED in 0 s, soak passed in 0 s; left out: ")
    assert "servers (takes 460 s, " in line


def test_a_suite_that_was_never_measured_is_not_begun_where_time_is_bounded(
    here: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody knows whether it would end in time. Without a bound it is run."""
    took(here, soak=10)
    assert suites._long(within_s=1000) == 0
    assert ran == ["soak"]
    assert "servers (never measured; remedy: make test-long SUITE=servers" in capsys.readouterr().out
    assert suites._long() == 1
    assert ran == ["soak", "kills", "servers", "soak"]


def test_what_cannot_run_here_is_said_and_is_no_failure(
    here: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has no engine is told so in the closing line."""
    lacking = suites.Suite("", (), lacks=lambda: "no engine")
    monkeypatch.setattr(suites, "SUITES", {"test": suites.Suite("", ()), "d": lacking})
    assert suites._long() == 0
    assert (ran, "left out: d (no engine)" in capsys.readouterr().out) == ([], True)


def test_the_page_adds_up_what_was_measured_and_keeps_the_rest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Walls by layer; tests and fixtures that take long, by name; a suite that was not run again stays."""
    both = suites.Suite("one of each kind", ("unit", "contract"))
    monkeypatch.setattr(suites, "SUITES", {"test": both, "soak": suites.Suite("nights", ("e2e",))})
    took_last = durations.Measured(0.6, 77, 1, {"e2e": 77}, {}, {})
    (here / "durations.json").write_text(json.dumps({"soak": vars(took_last)}))
    for line in LINES:
        durations.add(here / "measured" / "test.jsonl", **line)
    assert durations.main() == 0
    page = (here / "tests.md").read_text()
    assert "| `test` | one of each kind | 2 | 501 | unit 100, contract 400 | 1.30 |" in page
    assert "| 31.5 | `tests/a.py::test_slow[x¦y]` | test |" in page
    assert "| 9.0 | fixture `broker` | test |" in page
    assert "test_fast" not in page
    assert "| 1 | 77 | e2e 77 | 0.60 |" in page
    assert durations.known() == {"test": 501 / 1.3, "soak": 77 / 0.6}


def test_a_suite_of_which_only_a_part_was_run_stays_as_it_was(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part's seconds are not the suite's."""
    monkeypatch.setattr(suites, "SUITES", {"test": suites.Suite("", ("unit", "contract"))})
    durations.add(here / "measured" / "test.jsonl", **LINES[0])
    (here / "durations.json").write_text(json.dumps({"test": vars(durations.Measured(1.0, 900, 1, {}, {}, {}))}))
    assert durations.main() == 0
    assert durations.known() == {"test": 900.0}


def test_no_measurement_is_no_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and the remedy, instead of an empty table."""
    assert durations.main() == 3
    assert "Remedy: make test" in capsys.readouterr().err
    assert not (here / "tests.md").exists()
