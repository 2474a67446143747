"""Did the first scheduled run after the fault complete, in the usual time?"""

from __future__ import annotations

import statistics

from gameday.model import Evidence, Finding, JobRun, Timed, Verdict
from gameday.verdict import schedule
from gameday.verdict.streams import whole

__all__ = ["resumed_on_schedule"]

WORK_TIMES_MAX = 3.0
"""How many times as long as a clean run the first run after the fault may work."""

WORK_MIN_S = 1.0
"""Shorter runs count as this long: they are too short to compare."""


@whole
def resumed_on_schedule(evidence: Evidence) -> Finding:
    """Fail if the first scheduled run after the fault is due too late, works too long, or doesn't complete.

    The wait from the clock's start until that run is due may last one interval of the schedule. The work, from its
    start to its end, may last WORK_TIMES_MAX times the median of the clean scheduled runs before the first act.

    A run that began before the clock's start met the fault, even if it was due later (schedule.py). The wait is then
    measured from when that run was due.
    """
    clock_us = _wall_us(evidence, evidence.clock_ns)
    inject_us = _wall_us(evidence, evidence.inject_ns)
    interval_s = evidence.symptoms.get("job.interval_s")
    runs = [run for run in evidence.jobs if run.scheduled and run.due_us is not None]
    if clock_us is None or inject_us is None or not interval_s or not runs:
        return Finding("resumed_on_schedule", Verdict.UNKNOWN, "there is nothing to judge: no schedule, or no act")
    clean = [
        s
        for run in runs
        if run.state == "Completed" and (run.ended_us or inject_us) < inject_us and (s := _work_s(run))
    ]
    after = schedule.after(runs, clock_us)
    met = [run for run in runs if run.started_us is not None and run.started_us < clock_us]
    from_us = max([clock_us, *(run.due_us or 0 for run in met)])
    if not after or not clean:
        what = "run was due after the strike" if clean else "clean run was seen before it"
        return Finding("resumed_on_schedule", Verdict.UNKNOWN, f"no scheduled {what}")
    first = after[0]
    wait_s, work_s = ((first.due_us or 0) - from_us) / 1e6, _work_s(first)
    work_max_s = WORK_TIMES_MAX * max(WORK_MIN_S, statistics.median(clean))
    figures = {"wait_s": wait_s, "wait_max_s": interval_s, "work_s": work_s, "work_max_s": work_max_s, "run": first.id}
    if first.state != "Completed" or work_s is None:
        verdict = Verdict.FAIL if first.ended_us else Verdict.UNKNOWN
        why = f"the first scheduled run, {first.name}, is {first.state}: {first.message[:200]}"
        return Finding("resumed_on_schedule", verdict, why, figures)
    why = f"wait {wait_s:.1f} s of {interval_s:g} s, work {work_s:.1f} s of {work_max_s:.1f} s ({first.name})"
    verdict = Verdict.PASS if wait_s <= interval_s and work_s <= work_max_s else Verdict.FAIL
    over_s = max(wait_s - interval_s, work_s - work_max_s)
    return Finding("resumed_on_schedule", verdict, why, figures, _timed(evidence, from_us, first.ended_us, over_s))


def _timed(evidence: Evidence, from_us: int, to_us: int | None, over_s: float) -> Timed | None:
    """Return the span from the clock's start to the run's end, by this machine's monotonic clock."""
    if evidence.baseline is None or to_us is None:
        return None
    marks = evidence.baseline.marks
    from_ns, to_ns = (marks.at_ns + (us - marks.at_us) * 1000 for us in (from_us, to_us))
    return Timed(from_ns, to_ns, over_s)


def _work_s(run: JobRun) -> float | None:
    return None if run.started_us is None or run.ended_us is None else (run.ended_us - run.started_us) / 1e6


def _wall_us(evidence: Evidence, at_ns: int | None) -> int | None:
    """Return a moment of the run as wall clock time, which is what an orchestrator's times are."""
    if at_ns is None or evidence.baseline is None:
        return None
    marks = evidence.baseline.marks
    return marks.at_us + (at_ns - marks.at_ns) // 1000
