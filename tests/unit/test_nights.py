"""Where a night's time went: what the platform needed is never counted twice, and the rest adds up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks import nights
from gameday import codec
from gameday.model import Baseline, Evidence, Marks, Measure
from gameday.stack.live import Stack
from gameday.stack.reading import load
from gameday.state import State
from tests.fakes import write_config

S = 1_000_000_000
AT_S = 1_800_000_000
"""When the runs below begin, by the wall clock."""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """One that Prefect tells nothing of."""
    State(tmp_path).supervisor_socket.touch()
    path = write_config(tmp_path)
    monkeypatch.setattr(nights, "task_runs", lambda url, since_s: [("preflight", AT_S + 3.0, AT_S + 9.0)])
    return Stack(load(path), State(tmp_path), path)


def leave(stack: Stack, run: str, began_s: float, steps: dict[str, float], evidence: Evidence) -> None:
    """A run's folder; steps: when each began, in seconds from its own begin."""
    folder = stack.state.run(run)
    folder.mkdir(parents=True)
    stamps = {name: datetime.fromtimestamp(began_s + at_s).astimezone() for name, at_s in steps.items()}
    (folder / "run.log").write_text("".join(f"{at.isoformat()} step: {name}\n" for name, at in stamps.items()))
    marks = Marks(0, int(began_s * 1e6))
    codec.save_evidence(folder, replace(evidence, baseline=Baseline(marks, 0.1, 1.0, {})))


HELD = Evidence(
    "feed_handler_crash",
    {},
    "toy",
    inject_ns=20 * S,
    clock_ns=45 * S,
    measures={"drain": Measure(26.0, 27.0), "resolve": Measure(3.0, 4.0)},
)
"""Broken at 20 s, held until its alert fired at 40 s, mended at 45 s, drained at 47 s, its alert over at 49 s."""
STEPS = {"preflight": 2.0, "baseline": 10.0, "inject": 20.0, "wait for the alert": 21.0, "recover": 40.0,
         "wait until recovered": 46.0, "judge": 52.0, "notify": 55.0}  # fmt: skip


def test_what_the_platform_needed_is_outage_and_recovery(stack: Stack) -> None:
    """From the first act to what the plan waits for, and from the heal to the last that recovers; not between them."""
    leave(stack, "r1", AT_S, STEPS, HELD)
    assert nights.needed(stack.state, "r1") == [(AT_S + 20.0, AT_S + 40.0), (AT_S + 45.0, AT_S + 49.0)]


def test_a_strike_without_a_held_outage_needs_its_recovery(stack: Stack) -> None:
    """The clock starts with the act."""
    leave(stack, "r1", AT_S, STEPS, replace(HELD, clock_ns=20 * S, measures={"drain": Measure(7.0, 8.0)}))
    assert sum(b - a for a, b in nights.needed(stack.state, "r1")) == 8.0


def test_a_run_that_broke_nothing_needed_nothing(stack: Stack) -> None:
    """Its whole time is the rest."""
    leave(stack, "r1", AT_S, STEPS, replace(HELD, inject_ns=None, clock_ns=None))
    assert nights.needed(stack.state, "r1") == []


def test_the_parts_of_a_night_add_up_to_it(stack: Stack) -> None:
    """Start, steps, the way from test to test, the end: with what the platform needed they are the wall time."""
    leave(stack, "r1", AT_S, STEPS, HELD)
    leave(stack, "r2", AT_S + 60, STEPS, HELD)
    night = nights.spent(stack, ["r1", "r2"], (AT_S - 5.0, AT_S + 120.0))
    assert night.needed_s == pytest.approx(48.0)
    assert sum(night.step_s.values()) + night.needed_s == pytest.approx(125.0)
    assert night.step_s[nights.START] == pytest.approx(7.0)
    assert night.step_s[nights.CLOSE] == pytest.approx(5.0)
    assert night.step_s[nights.LAST_TOLD] == pytest.approx(7.0)
    assert night.step_s["recover"] == pytest.approx(2 * 5.0)
    assert night.prefect_s == pytest.approx(2.0)
    assert night.ratio == pytest.approx(125 / 48)
