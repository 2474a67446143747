"""Selects the scheduled runs of a job that show whether its schedule goes on after a fault."""

from __future__ import annotations

from collections.abc import Iterable

from gameday.model import JobRun

__all__ = ["after"]


def after(runs: Iterable[JobRun], clock_us: int) -> list[JobRun]:
    """Return the scheduled runs that came after the fault, in the order in which they were due.

    They were due since the clock's start, and did not begin before it: Prefect starts a run up to a second before it is
    due, so a run that was due just after the clock's start may have met the fault.

    clock_us: the clock's start, wall clock.
    """
    later_runs = [
        run
        for run in runs
        if run.scheduled
        and run.due_us is not None
        and run.due_us >= clock_us
        and (run.started_us is None or run.started_us >= clock_us)
    ]
    return sorted(later_runs, key=lambda run: run.due_us or 0)
