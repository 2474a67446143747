"""Compares a run with its own history, before it is recorded there and reported."""

from __future__ import annotations

from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import GamedayError
from gameday.model import Evidence, RunResult, Timed, Verdict
from gameday.past import history
from gameday.run import Run
from gameday.verdict import machine, trend

__all__ = ["compare"]


@task(name="compare", cache_policy=NO_CACHE)
def compare(run: Run, result: RunResult, runs: int) -> RunResult:
    """Return the result with its trends.

    If history can't be reached, the result stays as it is and the user is told. Results that are only in their folders
    so far are copied to history first, so that they count.

    Args:
        runs: how many runs the night has; the rate of false alarms is per night.
    """
    config = run.stack.config
    dsn = config.history.get_secret_value()
    try:
        history.import_missing(dsn, run.stack.state)
        past = history.passes_before(dsn, result, trend.HISTORY_MAX)
    except GamedayError as e:
        run.say(f"{run.name}: not compared with its own history: {e}")
        return result
    judged = trend.judged(result, trend.of(result, past, runs), merged=config.trend.regression == "fail")
    return _excused(judged, run.gathered)


def _excused(result: RunResult, evidence: Evidence | None) -> RunResult:
    """Turn a slow-down into unknown where the machine was busy for about as long as the run was slower."""
    *others, last = result.findings or (None,)
    if evidence is None or last is None or (last.check, last.verdict) != (trend.CHECK, Verdict.FAIL):
        return result
    seen = [(result.measures[t.measure].high_s or 0.0, t.median_s) for t in result.trends if t.worse]
    end_ns = (evidence.inject_ns or 0) + int(max(high_s for high_s, _ in seen) * 1e9)
    over_s = max(high_s - median_s for high_s, median_s in seen)
    timed = None if evidence.inject_ns is None else Timed(evidence.inject_ns, end_ns, over_s)
    finding = machine.excused(replace(last, timed=timed), evidence.samples)
    return replace(result, findings=(*(f for f in others if f), finding), verdict=finding.verdict, why=finding.why)
