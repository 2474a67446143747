"""Which runs of a job's schedule tell whether it goes on after a fault."""

from __future__ import annotations

from collections.abc import Iterable

from gameday.model import JobRun

__all__ = ["after"]


def after(runs: Iterable[JobRun], clock_us: int) -> list[JobRun]:
    """The scheduled runs that a fault could not meet any more, by when they were due: due since the clock's start, and
    not begun before it. Prefect starts a run up to a second before it is due, so one that was due after may have met
    the fault.

    clock_us: wall clock.
    """
    found = [
        run
        for run in runs
        if run.scheduled
        and run.due_us is not None
        and run.due_us >= clock_us
        and (run.started_us is None or run.started_us >= clock_us)
    ]
    return sorted(found, key=lambda run: run.due_us or 0)
