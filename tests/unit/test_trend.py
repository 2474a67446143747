"""The rank-sum test: exact, with the stated rate of false alarms, and what it finds within how many nights."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.model import Finding, Measure, RunResult, Verdict
from gameday.verdict import trend
from tests.unit import evidence


def run(verdict: Verdict = Verdict.PASS, **high_s: float | None) -> RunResult:
    """A run that measured this; None: it did not."""
    measures = {name: Measure(None if s is None else s - 0.05, s, "" if s else "away") for name, s in high_s.items()}
    return replace(evidence.broker_restart()[0], measures=measures, verdict=verdict)


def steady(count: int, mttr: float = 8.0) -> list[RunResult]:
    """Passes that differ a little, as a sampler's do."""
    return [run(mttr=mttr + 0.05 * (at * 7 % 11)) for at in range(count)]


@given(st.lists(st.integers(0, 4), min_size=6, max_size=8), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_in_any_order_that_is_by_chance_p_is_as_rare_as_it_says(values: list[int], newest: int) -> None:
    """All orders of any figures, ties and all: p is at most a in at most the share a of them. So the test keeps its
    rate whatever the figures' distribution."""
    every = list(combinations(range(len(values)), newest))
    found = [
        trend.rank_sum_p([values[i] for i in chosen], [v for i, v in enumerate(values) if i not in chosen])
        for chosen in every
    ]
    for p in found:
        assert sum(other <= p for other in found) / len(every) <= p + 1e-12


@pytest.mark.parametrize(
    ("newest", "before", "p"),
    [
        ([9, 9.5, 8, 9.1, 8.2], [1, 2, 3, 4, 5, 6], 1 / 462),
        ([1, 2], [3, 4, 5], 1.0),
        ([5, 5], [5, 5, 5], 1.0),
        ([2, 3], [1, 2], 2 / 6),
    ],
    ids=["all slowest", "all fastest", "all the same", "a tie"],
)
def test_p_is_counted(newest: Sequence[float], before: Sequence[float], p: float) -> None:
    """Cases that one can count by hand."""
    assert trend.rank_sum_p(newest, before) == pytest.approx(p, rel=1e-12)


def test_a_night_s_rate_of_false_alarms_holds() -> None:
    """Nights of seven runs with two measures that hang together, from a skewed distribution rounded to the sampler's
    50 ms: at most ALPHA of them say "slower", within what 300 nights can tell (three standard deviations)."""
    rng = random.Random(7)
    nights, runs, alarms = 300, 7, 0

    def measured() -> RunResult:
        mttr = round(8 * math.exp(rng.gauss(0, 0.1)) / 0.05) * 0.05
        return run(mttr=mttr, drain=mttr + round(rng.expovariate(1) / 0.05) * 0.05)

    past = [[measured() for _ in range(trend.HISTORY_MAX)] for _ in range(runs)]
    for _ in range(nights):
        worse = False
        for history in past:
            now = measured()
            worse |= any(t.worse for t in trend.of(now, history, runs))
            history.insert(0, now)
            history.pop()
        alarms += worse
    expected = nights * trend.ALPHA
    assert alarms <= expected + 3 * math.sqrt(expected)


@pytest.mark.parametrize(("spread", "nights"), [(0.05, 5), (0.10, 8)])
def test_a_slow_down_is_found_within_nights(spread: float, nights: int) -> None:
    """30 % slower, in nights of seven runs: found within these nights in nine cases of ten."""
    rng = random.Random(11)
    found = 0
    for _ in range(50):
        history = [run(mttr=8 * math.exp(rng.gauss(0, spread)), drain=9.0) for _ in range(trend.HISTORY_MAX)]
        for _ in range(nights):
            now = run(mttr=1.3 * 8 * math.exp(rng.gauss(0, spread)), drain=9.0)
            if any(t.worse for t in trend.of(now, history, runs=7)):
                found += 1
                break
            history.insert(0, now)
    assert found >= 45


def test_a_slow_down_becomes_the_new_normal() -> None:
    """Told for some nights, then no more: what has lasted for a month is how it is."""
    history = steady(trend.HISTORY_MAX)
    told = []
    for night in range(trend.HISTORY_MAX):
        now = run(mttr=12 + 0.05 * (night * 5 % 7))
        told.append(any(t.worse for t in trend.of(now, history, runs=7)))
        history.insert(0, now)
    assert told.index(True) == 4
    assert 3 <= sum(told) <= 15
    assert not any(told[-10:])


def test_one_slow_run_is_no_trend() -> None:
    """A single bad night is not a slow-down, however bad."""
    (found,) = trend.of(run(mttr=60.0), steady(30))
    assert (found.worse, found.runs) == (False, 30)


def test_being_faster_is_nothing_bad() -> None:
    """One-sided: only slower counts."""
    assert not trend.of(run(mttr=1.0), [run(mttr=1.0)] * 4 + steady(26))[0].worse


@pytest.mark.parametrize(("passes", "judged"), [(0, None), (9, False), (10, True)])
def test_ten_passes_are_needed(passes: int, judged: bool | None) -> None:
    """Below that there is a median and no p; without any pass there is nothing to stand beside."""
    found = trend.of(run(mttr=8.0), steady(passes))
    assert [t.p is not None for t in found] == ([] if judged is None else [judged])


def test_what_was_not_measured_is_not_compared() -> None:
    """Neither a measure that the run lacks, nor one that its history lacks; it does not count as 0 seconds either."""
    history = [run(mttr=8.0, alert=None), run(mttr=8.2, alert=None), run(mttr=None, alert=20.0)]
    mttr, alert = trend.of(run(mttr=8.0, alert=21.0, drain=9.0), history)
    assert (mttr.measure, mttr.runs) == ("mttr", 2)
    assert mttr.median_s == pytest.approx(8.1)
    assert (alert.measure, alert.runs, alert.median_s) == ("alert", 1, 20.0)


def test_more_runs_a_night_need_a_smaller_p() -> None:
    """The rate is the night's: each comparison gets its share of it."""
    history = [run(mttr=12.0 + at / 100) for at in range(4)] + steady(8)
    now = run(mttr=12.5)
    assert trend.of(now, history, runs=1)[0].p == pytest.approx(1 / math.comb(13, 5))
    assert trend.of(now, history, runs=1)[0].worse
    assert not trend.of(now, history, runs=100)[0].worse


def test_p95_is_one_of_them() -> None:
    """The smallest that 95 % do not exceed; of few, the largest."""
    assert trend.p95([3.0, 1.0, 2.0]) == 3.0
    assert trend.p95([float(s) for s in range(1, 101)]) == 95.0


# ---- what becomes of it ------------------------------------------------------------------------------------


SLOW = [run(mttr=12.0 + at / 100) for at in range(4)] + steady(26)


def test_a_slow_down_is_a_fail_that_says_that_it_recovered() -> None:
    """Nobody takes it for a loss: the reason names what was promised and kept, the figures, and the history."""
    now = run(mttr=12.5)
    told = trend.judged(now, trend.of(now, SLOW), merged=True)
    assert told.verdict is Verdict.FAIL
    assert told.why.startswith("recovered as promised, but slower than its own history: MTTR 12.5 s, median of 30 runs")
    assert told.findings[-1].check == "trend"
    assert told.findings[-1].evidence["mttr"]["p"] < 0.001


def test_a_slow_down_can_be_told_without_a_fail() -> None:
    """Where `[trend] regression = "tell"`: the verdict and its reason stay, the finding is there."""
    now = run(mttr=12.5)
    told = trend.judged(now, trend.of(now, SLOW), merged=False)
    assert (told.verdict, told.why) == (now.verdict, now.why)
    assert (told.findings[-1].verdict, told.trends[0].worse) == (Verdict.SKIPPED, True)


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INVALID, Verdict.UNKNOWN, Verdict.SKIPPED])
def test_only_a_pass_is_judged_by_its_history(verdict: Verdict) -> None:
    """What a run that lost something took is no recovery's time; its verdict, reason and findings stay."""
    now = run(verdict, mttr=60.0)
    told = trend.judged(now, trend.of(now, SLOW), merged=True)
    assert (told.verdict, told.why, told.findings) == (now.verdict, now.why, now.findings)
    assert [(t.p, t.worse) for t in told.trends] == [(None, False)]


@pytest.mark.parametrize(
    ("history", "verdict", "why"),
    [
        (steady(30), Verdict.PASS, "not slower than its own history: MTTR"),
        (steady(3), Verdict.SKIPPED, "3 passes before this one, 10 are needed"),
        ([], Verdict.SKIPPED, "0 passes before this one, 10 are needed"),
    ],
)
def test_a_pass_stays_a_pass(history: list[RunResult], verdict: Verdict, why: str) -> None:
    """As usual, or too few to say: the finding says which, and the verdict stays."""
    now = run(mttr=8.1)
    told = trend.judged(now, trend.of(now, history), merged=True)
    assert (told.verdict, told.why) == (Verdict.PASS, now.why)
    assert (told.findings[-1].verdict, told.findings[-1].why) == (verdict, why)
    assert isinstance(told.findings[-1], Finding)
