"""Whether a run is slower than its own history: the passes of the same test, parameters and stack before it.

Pure; finding that history is history.py's.

The test, for each of COMPARED that the run measured: this run and the NEWEST - 1 before it, against the others of the
last HISTORY_MAX, by the exact one-sided rank-sum test (Wilcoxon 1945; Mann and Whitney 1947), ties by mid-ranks. p is
the share of all choices of NEWEST runs among these that have a rank sum as high as this one's, counted, not
approximated (the shift algorithm of Streitberg and Roehmel, 1986). It asks nothing of the distribution; when the order
of the runs is by chance, p <= a happens with a probability of at most a.

The rate of false alarms: ALPHA a night, whatever the number of its runs and measures, and however they hang together:
each p is held against ALPHA / (runs of the night x measures of this run) (Bonferroni). A single run is a night of its
own. Alarms come in rows, for the next night's NEWEST are mostly the same runs.

What it can't see: anything before MIN_RUNS passes, and little before 15, when even the slowest NEWEST of all have a p
above that bound. A measure is compared by the high end of its interval.
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
"""Passes before this run: what is older was often another platform."""

COMPARED = {"mttr": "MTTR", "alert": "alert", "drain": "drain"}
"""The measures, and what people call them."""

CHECK = "trend"
"""The name of the finding."""


def of(result: RunResult, history: Sequence[RunResult], runs: int = 1) -> tuple[Trend, ...]:
    """The trends of a run's measures. history: the passes before it, newest first. runs: how many the night has.

    What the run did not measure, or no run before it, has no trend. p is None below MIN_RUNS, and for a run that did
    not pass: its figures are not those of a recovery.
    """
    measured = {name: value for name in COMPARED if (value := _seconds(result, name)) is not None}
    found = []
    for name, value in measured.items():
        past = [s for r in history[:HISTORY_MAX] if (s := _seconds(r, name)) is not None]
        if not past:
            continue
        p = None
        if len(past) >= MIN_RUNS and result.verdict is Verdict.PASS:
            p = rank_sum_p([value, *past[: NEWEST - 1]], past[NEWEST - 1 :])
        worse = p is not None and p <= ALPHA / (runs * len(measured))
        found.append(Trend(name, len(past), statistics.median(past), p95(past), p, worse))
    return tuple(found)


def judged(result: RunResult, trends: tuple[Trend, ...], merged: bool) -> RunResult:
    """The result with its trends and, if it passed, their finding.

    merged: a slow-down makes a pass a fail, and the reason says that it recovered as promised; else it is only told,
    as what is skipped is.
    """
    if result.verdict is not Verdict.PASS:
        return replace(result, trends=trends)
    finding = _finding(result, trends, merged)
    verdict, why = (finding.verdict, finding.why) if finding.verdict is Verdict.FAIL else (result.verdict, result.why)
    return replace(result, trends=trends, findings=(*result.findings, finding), verdict=verdict, why=why)


def rank_sum_p(newest: Sequence[float], before: Sequence[float]) -> float:
    """How likely `newest` rank as high among all as they do, when every order is equally likely.

    Neither is empty.
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
    """The smallest of them that 95 % do not exceed."""
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def _finding(result: RunResult, trends: Sequence[Trend], merged: bool) -> Finding:
    worse = [t for t in trends if t.worse]
    figures = {t.measure: {"runs": t.runs, "median_s": t.median_s, "p95_s": t.p95_s, "p": t.p} for t in trends}
    if worse:
        told = ", ".join(_told(result.measures[t.measure], t) for t in worse)
        why = f"recovered as promised, but slower than its own history: {told}"
        return Finding(CHECK, Verdict.FAIL if merged else Verdict.SKIPPED, why, figures)
    if all(t.p is None for t in trends):
        runs = max((t.runs for t in trends), default=0)
        return Finding(CHECK, Verdict.SKIPPED, f"{runs} passes before this one, {MIN_RUNS} are needed", figures)
    names = ", ".join(COMPARED[t.measure] for t in trends if t.p is not None)
    return Finding(CHECK, Verdict.PASS, f"not slower than its own history: {names}", figures)


def _told(measure: Measure, trend: Trend) -> str:
    return (
        f"{COMPARED[trend.measure]} {measure.high_s:.1f} s, median of {trend.runs} runs {trend.median_s:.1f} s "
        f"(p = {trend.p:.1g})"
    )


def _seconds(result: RunResult, name: str) -> float | None:
    measure = result.measures.get(name)
    return None if measure is None else measure.high_s
