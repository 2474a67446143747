"""Tells whether a run is slower than its own history: the earlier passes of the same test, parameters and stack.

All functions are pure; history.py finds that history.

The test, for each measure in COMPARED: this run and the NEWEST - 1 before it are compared with the others of the last
HISTORY_MAX, by the exact one-sided rank-sum test (Wilcoxon 1945; Mann and Whitney 1947), with mid-ranks for ties. p is
the share of all choices of NEWEST runs that have a rank sum as high as this one's. It is counted, not approximated (the
shift algorithm of Streitberg and Roehmel, 1986). The test assumes no distribution. If the order of the runs is random,
p <= a happens with a probability of at most a.

The rate of false alarms is ALPHA a night, whatever the number of runs and measures and however they depend on each
other: each p is compared with ALPHA / (runs of the night x measures of this run) (Bonferroni). A single run is a night
of its own. Alarms come several nights in a row, because the next night's NEWEST are mostly the same runs.

The test sees nothing before MIN_RUNS passes, and little before 15: until then even the slowest NEWEST runs of all have
a p above that bound. A measure is compared by the high end of its interval.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gameday.model import Finding, Measure, RunResult, Trend, Verdict

__all__ = ["ALPHA", "CHECK", "COMPARED", "HISTORY_MAX", "MIN_RUNS", "NEWEST", "judged", "of", "p95", "rank_sum_p"]

ALPHA = 0.01
"""At most one night in a hundred says "slower" by chance: about three a year."""

NEWEST = 5
"""A slow-down is believed after a working week of nights; fewer would need 30 passes before any p is small enough."""

MIN_RUNS = 10
HISTORY_MAX = 30
"""How many passes before this run count. Older ones were often made on another state of the platform."""

COMPARED = {"mttr": "MTTR", "alert": "alert", "drain": "drain"}
"""The measures, and what people call them."""

CHECK = "trend"
"""The name of the finding."""


def of(result: RunResult, history: Sequence[RunResult], runs: int = 1) -> tuple[Trend, ...]:
    """Return the trends of a run's measures.

    A measure that this run, or every run before it, lacks has no trend. p is None below MIN_RUNS passes, and for a run
    that did not pass: its figures don't measure a recovery.

    Args:
        history: the passes before it, newest first.
        runs: how many runs the night has.
    """
    measured = {name: value for name in COMPARED if (value := _seconds(result, name)) is not None}
    trends = []
    for name, value in measured.items():
        past = [s for r in history[:HISTORY_MAX] if (s := _seconds(r, name)) is not None]
        if not past:
            continue
        p = None
        if len(past) >= MIN_RUNS and result.verdict is Verdict.PASS:
            p = rank_sum_p([value, *past[: NEWEST - 1]], past[NEWEST - 1 :])
        worse = p is not None and p <= ALPHA / (runs * len(measured))
        trends.append(Trend(name, len(past), statistics.median(past), p95(past), p, worse))
    return tuple(trends)


def judged(result: RunResult, trends: tuple[Trend, ...], merged: bool) -> RunResult:
    """Return the result with its trends and, if it passed, the finding about them.

    merged: whether a slow-down turns a pass into a fail (the reason then says that it recovered as promised). If not,
    it is only shown, like a skipped check.
    """
    if result.verdict is not Verdict.PASS:
        return replace(result, trends=trends)
    finding = _finding(result, trends, merged)
    verdict, why = (finding.verdict, finding.why) if finding.verdict is Verdict.FAIL else (result.verdict, result.why)
    return replace(result, trends=trends, findings=(*result.findings, finding), verdict=verdict, why=why)


def rank_sum_p(newest: Sequence[float], before: Sequence[float]) -> float:
    """Return how likely it is that `newest` rank as high among all values as they do, if every order is equally likely.

    Neither argument is empty.
    """
    pool = sorted([*newest, *before])
    first = {value: at for at, value in reversed(list(enumerate(pool)))}
    times = Counter(pool)
    rank = {value: 2 * first[value] + times[value] + 1 for value in times}  # twice the mid-rank: a whole number
    reached = sum(rank[value] for value in newest)
    sums: list[Counter[int]] = [Counter({0: 1}), *(Counter[int]() for _ in newest)]
    for value in pool:  # sums[k][s]: how many choices of k runs have the rank sum s
        for chosen in range(len(newest), 0, -1):
            for total, ways in sums[chosen - 1].items():
                sums[chosen][total + rank[value]] += ways
    return sum(ways for total, ways in sums[-1].items() if total >= reached) / math.comb(len(pool), len(newest))


def p95(seconds: Sequence[float]) -> float:
    """Return the smallest of the values that 95 % do not exceed."""
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def _finding(result: RunResult, trends: Sequence[Trend], merged: bool) -> Finding:
    worse = [t for t in trends if t.worse]
    figures = {t.measure: {"runs": t.runs, "median_s": t.median_s, "p95_s": t.p95_s, "p": t.p} for t in trends}
    if worse:
        told = ", ".join(_slower(result.measures[t.measure], t) for t in worse)
        why = f"recovered as promised, but slower than its own history: {told}"
        return Finding(CHECK, Verdict.FAIL if merged else Verdict.SKIPPED, why, figures)
    if all(t.p is None for t in trends):
        runs = max((t.runs for t in trends), default=0)
        return Finding(CHECK, Verdict.SKIPPED, f"{runs} passes before this one, {MIN_RUNS} are needed", figures)
    names = ", ".join(COMPARED[t.measure] for t in trends if t.p is not None)
    return Finding(CHECK, Verdict.PASS, f"not slower than its own history: {names}", figures)


def _slower(measure: Measure, trend: Trend) -> str:
    return (
        f"{COMPARED[trend.measure]} {measure.high_s:.1f} s, median of {trend.runs} runs {trend.median_s:.1f} s "
        f"(p = {trend.p:.1g})"
    )


def _seconds(result: RunResult, name: str) -> float | None:
    measure = result.measures.get(name)
    return None if measure is None else measure.high_s
