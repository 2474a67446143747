"""Which scheduled run says that a job goes on: one rule for who waits for it and who judges it."""

from __future__ import annotations

from typing import Any

import pytest

from gameday.model import JobRun
from gameday.verdict import schedule

CLOCK_US = 1_000_000_000


def run(**given: Any) -> JobRun:
    """A scheduled run that was due and began a second after the clock's start."""
    usual = {"id": "r", "name": "n", "state": "Completed", "scheduled": True, "message": ""}
    times = {"due_us": CLOCK_US + 1_000_000, "started_us": CLOCK_US + 1_000_000, "ended_us": CLOCK_US + 3_000_000}
    return JobRun(**{**usual, **times, **given})


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({}, True),
        ({"started_us": None, "ended_us": None}, True),
        ({"due_us": CLOCK_US - 1}, False),
        ({"started_us": CLOCK_US - 1}, False),  # it may have met the fault, though it was due after it
        ({"scheduled": False}, False),
        ({"due_us": None}, False),
    ],
    ids=str,
)
def test_a_run_that_may_have_met_the_fault_does_not_count(given: dict[str, Any], counts: bool) -> None:
    """Nor one that was asked for."""
    assert bool(schedule.after([run(**given)], CLOCK_US)) is counts


def test_they_come_by_when_they_were_due() -> None:
    """Whatever order an orchestrator lists them in."""
    later, first = run(id="b", due_us=CLOCK_US + 9), run(id="a", due_us=CLOCK_US + 5)
    assert [one.id for one in schedule.after([later, first], CLOCK_US)] == ["a", "b"]
