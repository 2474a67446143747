"""Seconds from samples: every measure an interval that holds the true value, and no value where too little was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.errors import GamedayError
from gameday.model import Act, Baseline, Evidence, Group, Marks, Measure, Sample, Verdict, Window
from gameday.ports import Hop
from gameday.samplelog import series_name
from gameday.sampling import timings
from gameday.stack import probes
from gameday.verdict import selftest
from gameday.verdict.checks import recovered
from gameday.verdict.selftest import Timeline

A: Group = ("binance", "BTCUSDT")
B: Group = ("kraken", "BTC/USD")
MS = 1_000_000
S = 1_000 * MS
TOOK_MS = 2
"""What an answer takes."""


def spoiled(**changes: Any) -> Evidence:
    history = selftest.clean()
    history.timeline = replace(Timeline(), **changes)
    return history.evidence()


def series(
    value: Callable[[float], float | None], to_s: float = 20, hz: float = 20, took_ms: float = TOOK_MS
) -> list[Sample]:
    """Samples from 0 s on; value: of seconds."""
    return [Sample(int(n / hz * S), int(took_ms * MS), value(n / hz)) for n in range(int(to_s * hz))]


def story(
    down: tuple[float, float],
    frozen: tuple[float, float],
    more: Mapping[str, list[Sample]] = MappingProxyType({}),
    held_until: float | None = None,
) -> Evidence:
    """One stream at 100 records a second, visible 0.2 s late; struck at 5 s, healed at held_until."""

    def visible(t: float) -> float:
        late = t - 0.2 if not frozen[0] <= t < frozen[1] else frozen[0] - 0.2
        return float(int(100 * max(0.0, late)))

    act = Act("a", "r", 5 * S, 0, "inject", "stop", {}, {}, "r")
    return Evidence(
        "t",
        {},
        "s",
        component="broker",
        affected=(A,),
        acts=(act,),
        inject_ns=5 * S,
        clock_ns=int((held_until or 5) * S),
        baseline=Baseline(Marks(0, 0, heads={"exchange": {A: 0}}), 0.2, 1.0, {}),
        samples={
            "component/broker/protocol": series(lambda t: None if down[0] <= t < down[1] else 1.0),
            timings.series_of("head", "exchange", A): series(lambda t: float(int(100 * t))),
            timings.series_of("head", "silver", A): series(visible),
            **more,
        },
    )


def holds(measure: Measure, truth_s: float, wide_s: float = 0.15) -> bool:
    assert measure.low_s is not None, measure.why
    assert measure.high_s is not None, measure.why
    return measure.low_s <= truth_s <= measure.high_s and measure.high_s - measure.low_s <= wide_s


# ---- delays ---------------------------------------------------------------------------------------------------------


def test_a_stream_without_groups_has_the_series_that_the_sampler_writes() -> None:
    """Its heads have one key, which is empty."""

    class Head:
        name = "silver"

        def heads(self) -> dict[Group, int]:
            return {(): 7}

    (suffix,) = probes.Heads(cast("Hop", Head())).read()
    assert timings.series_of("head", "silver", ()) == series_name("head/silver", suffix) == "head/silver"


def test_the_delay_is_since_the_first_record_that_is_not_shown() -> None:
    """Five lines: at 4 s the ledger had shown record 3 a second ago, and the visible hop still shows 2."""
    samples = {
        "head/exchange/a": [Sample(n * S, 0, float(n)) for n in range(6)],
        "head/silver/a": [
            Sample(2 * S, 0, 2.0),
            Sample(3 * S, 0, 2.0),
            Sample(4 * S, 0, 2.0),
            Sample(5 * S, 0, None),
            Sample(6 * S, 0, 5.0),
        ],
    }
    found = timings.delays(samples, ("a",), "silver", "exchange")
    assert found.low_s.tolist()[:3] + found.low_s.tolist()[4:] == [0, 0, 1, 0]
    assert np.isnan(found.low_s[3])
    assert found.high_s.tolist()[:3] + found.high_s.tolist()[4:] == [0, 1, 2, 1]


def test_without_a_ledger_the_delay_is_unknown() -> None:
    """Nothing is 0 seconds behind what nobody saw."""
    found = timings.delays({"head/silver/a": [Sample(0, 0, 1.0)]}, ("a",), "silver", "exchange")
    assert np.isnan(found.low_s[0])
    assert found.high_s[0] == np.inf


@given(st.floats(0.05, 3), st.floats(5, 80))
@settings(max_examples=25)
def test_the_true_delay_lies_between_the_bounds(delay_s: float, rate: float) -> None:
    """Whatever the rate: the oldest record not shown yet is as old as low_s at least, high_s at most."""
    samples = {
        "head/exchange/a": series(lambda t: float(int(rate * (t + 0.002)))),
        "head/silver/a": series(lambda t: float(int(rate * (t + 0.002 - delay_s)))),
    }
    found = timings.delays(samples, ("a",), "silver", "exchange")
    steady = found.at_ns > 5 * S
    for at, low, high in zip(found.at_ns[steady], found.low_s[steady], found.high_s[steady], strict=True):
        t = at / S
        shown = int(rate * (t - delay_s))
        truth = max(0.0, t - (shown + 1) / rate)
        assert low - 1e-6 <= truth <= high + 1e-6


def test_normal_is_the_p99_and_the_rates_since_then() -> None:
    """What came before is left out."""
    evidence = story(down=(9, 9), frozen=(1, 4))
    found = timings.normal(evidence.samples, [A], ledger="exchange", visible="silver", since_ns=6 * S)
    assert 0.1 <= found.delay_p99_s <= 0.21
    assert dict(found.rates) == {A: pytest.approx(100, rel=0.02)}
    assert dict(found.moves) == {A: pytest.approx(20, rel=0.02)}


BEAT_S = 5.0
"""How often a sink of batches writes."""

SPARSE: list[Group] = [(f"shop-{n:02}",) for n in range(40)]


def batched(came: Mapping[Group, float], to_s: float, stops_s: float = 1e9) -> dict[str, list[Sample]]:
    """Heads of groups that have one record each, at these times, and of the sink that shows them with its next
    batch; it writes none from stops_s on."""

    def shown(at: float) -> float:
        due_s = (at // BEAT_S + 1) * BEAT_S
        return due_s if due_s < stops_s else 1e9

    def steps(at: float) -> list[Sample]:
        return series(lambda t: 1.0 + (t >= at), to_s)

    samples = {}
    for group in SPARSE:
        at = came.get(group, 1e9)
        samples[timings.series_of("head", "log", group)] = steps(at)
        samples[timings.series_of("head", "table", group)] = steps(shown(at))
    return samples


def normal_of(samples: Mapping[str, list[Sample]], since_s: float = 0.0) -> timings.Normal:
    return timings.normal(samples, SPARSE, ledger="log", visible="table", since_ns=int(since_s * S))


def test_groups_that_lack_nothing_do_not_tell_how_long_a_record_takes() -> None:
    """One record a second over forty groups, written every five seconds: most of them lack nothing at most times."""
    found = normal_of(batched({group: 0.3 + n for n, group in enumerate(SPARSE[:20])}, to_s=20))
    assert 4.5 <= found.delay_p99_s <= 5.0
    assert (found.came, found.even) == (20, True)
    assert found.moves[SPARSE[0]] == pytest.approx(0.05, rel=0.05)
    assert found.moves[SPARSE[30]] == 0


def test_many_records_at_once_do_not_hide_those_that_take_longer() -> None:
    """Thirty groups have their record just before a batch is written; ten seldom ones wait for the whole of one."""
    came = {group: 4.0 if n < 30 else 5.1 + (n - 30) * 5 for n, group in enumerate(SPARSE[:33])}
    assert 4.5 <= normal_of(batched(came, to_s=20)).delay_p99_s <= 5.0


def test_a_gap_in_the_samples_of_one_group_takes_no_baseline_away() -> None:
    """The ledger was not asked for a second just when the group's record came: how long it lacks that is not known to
    half a second. Of the others it is."""
    samples = batched({group: 0.3 + n for n, group in enumerate(SPARSE[:20])}, to_s=20)
    name = timings.series_of("head", "log", SPARSE[16])
    samples[name] = [s for s in samples[name] if not 15.8 * S <= s.at_ns < 16.8 * S]
    assert 4.5 <= normal_of(samples, since_s=16.9).delay_p99_s <= 5.0


def test_a_ledger_that_is_seldom_asked_hides_no_delay() -> None:
    """It needs longer than half a second for an answer: each record is known to be there that much later, and lacks all
    the same."""
    samples = batched({group: 0.3 + n for n, group in enumerate(SPARSE[:20])}, to_s=20)
    seldom = {name: found[::13] if name.startswith("head/log/") else found for name, found in samples.items()}
    assert 3.8 <= normal_of(seldom).delay_p99_s <= 5.0
    with pytest.raises(GamedayError, match="log was not sampled often enough"):
        normal_of(
            {name: found[-2:] if name.startswith("head/log/") else found[:-20] for name, found in samples.items()}
        )


def test_a_batch_is_counted_once() -> None:
    """However many groups have a record in it, and though one of them is looked at a moment later."""
    samples = batched({group: 0.3 + n for n, group in enumerate(SPARSE[:20])}, to_s=18)
    name = timings.series_of("head", "table", SPARSE[2])
    samples[name] = [replace(s, at_ns=s.at_ns + S // 2) for s in samples[name]]
    assert normal_of(samples).writes == 3
    assert normal_of(samples, since_s=5.6).writes == 2
    constant = story(down=(9, 9), frozen=(9, 9))
    found = timings.normal(constant.samples, [A], ledger="exchange", visible="silver", since_ns=0)
    assert found.writes >= 9


def test_a_backlog_is_no_beat() -> None:
    """A stream that was ten seconds behind once, and never else."""
    samples = {
        timings.series_of("head", "log", A): series(lambda t: float(int(10 * t)), to_s=40),
        timings.series_of("head", "table", A): series(
            lambda t: float(int(10 * (t - 0.3 if t < 25 or t >= 36 else 24.7))), to_s=40
        ),
    }
    found = timings.normal(samples, [A], ledger="log", visible="table", since_ns=0)
    assert (found.delay_p99_s > 8, found.even) == (True, False)


@pytest.mark.parametrize("groups", [[B], []])
def test_no_baseline_without_samples(groups: list[Group]) -> None:
    """A group that shows nothing has no normal: the error names it."""
    with pytest.raises(GamedayError, match=r"kraken/BTC/USD|no groups"):
        timings.normal(story((9, 9), (9, 9)).samples, groups, ledger="exchange", visible="silver", since_ns=0)


@pytest.mark.parametrize(("p99_s", "bound_s"), [(0.0, 1.0), (0.3, 1.0), (0.5, 1.5)])
def test_the_bound_is_three_times_normal_but_a_second_at_least(p99_s: float, bound_s: float) -> None:
    """b = max(1 s, 3 x p99)."""
    assert timings.bound_s(p99_s) == bound_s


def test_coverage_is_the_share_of_expected_samples() -> None:
    """Unanswered ones were taken; missing ones were not; more than expected is all."""
    samples = {"x": series(lambda t: None if t < 5 else 1.0, to_s=10)}
    assert timings.coverage(samples, "x", 20, 0, 10 * S) == 1
    assert timings.coverage(samples, "x", 20, 0, 20 * S) == pytest.approx(0.5)
    assert timings.coverage(samples, "x", 10, 0, 10 * S) == 1
    assert timings.coverage(samples, "y", 20, 0, 10 * S) == 0
    assert timings.coverage(samples, "x", 20, 5, 5) == 0


def test_a_counter_is_no_answer() -> None:
    """Only the probe's own series tells whether the component answers, and only this component's."""
    names = ["component/a/p", "component/a/p.connects", "component/a/p/x", "component/ab/p", "head/a/p"]
    assert timings.probes(dict.fromkeys(names, ()), "a") == ["component/a/p"]


# ---- measures -------------------------------------------------------------------------------------------------------


def test_the_four_measures_of_a_clean_outage() -> None:
    """Silent from 5.02 s to 7 s, rows from 7.3 s on, 0.2 s late at once: restore is when rows come, drain too."""
    found = timings.measure(story(down=(5.02, 7.0), frozen=(5.0, 7.3)))
    assert holds(found["impact"], 0.02)
    assert holds(found["restore"], 2.3)
    assert holds(found["mttr"], 2.3)
    assert holds(found["drain"], 2.3)


def test_mttr_of_a_held_fault_runs_from_the_heal() -> None:
    """Down from 5 s, healed at 9 s, back at 11 s: restore is 6 s after the act, mttr 2 s after the heal."""
    found = timings.measure(story(down=(5.02, 11.0), frozen=(5.0, 11.0), held_until=9.0))
    assert holds(found["restore"], 6.0)
    assert holds(found["mttr"], 2.0)


def test_a_component_that_never_fell_silent_is_measured_by_its_streams() -> None:
    """A cut link: the component answers throughout, the stream stalls until the heal."""
    found = timings.measure(story(down=(0, 0), frozen=(5.0, 9.1), held_until=9.0))
    assert holds(found["impact"], 1.0 - 0.2, wide_s=0.2)
    assert holds(found["restore"], 4.1)
    assert holds(found["mttr"], 0.1)


def test_a_silence_after_a_link_was_mended_is_not_what_the_cut_did() -> None:
    """Two pings lost two seconds later: the consumer went on when the link was mended."""
    hiccup = series(lambda t: None if 11 <= t < 11.1 else 1.0)
    evidence = story(down=(0, 0), frozen=(5.0, 9.1), held_until=9.0, more={"component/broker/protocol": hiccup})
    (act,) = evidence.acts
    cut = replace(act, args={"link": "broker-clickhouse"}, proof="cut", done_ns=5 * S, healed_ns=9 * S)
    assert timings.outage(replace(evidence, acts=(cut,))) == (5 * S, 9 * S)
    before_ns, after_ns = timings.outage(evidence)
    assert before_ns is not None
    assert after_ns is not None
    assert before_ns >= 10.9 * S


def test_an_answer_lost_after_a_link_was_mended_moves_no_recovery() -> None:
    """The component answered throughout the cut: its streams tell when it was back, not one ping lost later."""
    lost = series(lambda t: None if 16 <= t < 16.05 else 1.0)
    evidence = story(down=(0, 0), frozen=(5.0, 9.1), held_until=9.0, more={"component/broker/protocol": lost})
    (act,) = evidence.acts
    cut = replace(act, args={"link": "broker-clickhouse"}, proof="cut", done_ns=5 * S, healed_ns=9 * S)
    assert holds(timings.measure(replace(evidence, acts=(cut,)))["mttr"], 0.1)


def lagging(share: float, bound_s: float) -> Evidence:
    """Silent for a second, then back at this share of the rate, where a head may be bound_s behind."""
    head = timings.series_of("head", "silver", A)
    slow = series(lambda t: float(int(100 * (min(t, 5) + share * max(0.0, t - 6) - 0.2))), to_s=40)
    truth = series(lambda t: float(int(100 * t)), to_s=40)
    answers = series(lambda t: None if 5.02 <= t < 6 else 1.0, to_s=40)
    more = {head: slow, timings.series_of("head", "exchange", A): truth, "component/broker/protocol": answers}
    evidence = story(down=(0, 0), frozen=(0, 0), more=more)
    assert evidence.baseline is not None
    return replace(evidence, baseline=replace(evidence.baseline, bound_s=bound_s))


@pytest.mark.parametrize("bound_s", [1.0, 4.0, 6.0])
def test_a_head_that_is_not_yet_too_late_is_no_drain(bound_s: float) -> None:
    """Answering again a second later, and falling behind ever further: good for as long as the bound, drained never."""
    found = timings.measure(lagging(0.2, bound_s))
    assert holds(found["restore"], 1.08)
    assert found["drain"].high_s is None
    assert "not drained" in found["drain"].why


def test_nothing_is_drained_before_it_is_back() -> None:
    """A head is good for as long as the bound while nothing new arrives; drained is when it is good from service on."""
    evidence = story(down=(5.02, 7), frozen=(5, 8.5))
    assert evidence.baseline is not None
    found = timings.measure(replace(evidence, baseline=replace(evidence.baseline, bound_s=4.0)))
    assert found["drain"] == found["restore"]


@pytest.mark.parametrize(
    ("again", "hz", "silent"),
    [
        ((), 20, False),
        ((12.0, 12.9), 20, False),
        ((12.0, 13.2), 20, True),
        ((18.0, 30.0), 20, True),
        ((12.0, 12.6), 2, False),
        ((12.0, 13.4), 2, True),
    ],
)
def test_silence_after_recovery_is_a_relapse_unless_it_is_a_lost_answer(
    again: tuple[float, ...], hz: float, silent: bool
) -> None:
    """Longer than the bound, here a second, and three answers; also to the end of the samples."""
    flaky = series(lambda t: None if 5.02 <= t < 7 or (again and again[0] <= t < again[1]) else 1.0, hz=hz)
    evidence = story(down=(0, 0), frozen=(5, 7.3), more={"component/broker/protocol": flaky})
    evidence = replace(evidence, measures=timings.measure(evidence))
    told = f"component/broker/protocol was silent again after {again[0] - 5:.1f} s" if silent else None
    found = timings.relapse(evidence)
    assert (found.why if found else None) == told


def test_a_stall_that_no_reader_notices_is_no_relapse() -> None:
    """As long as a healthy stream may be behind."""
    flaky = series(lambda t: None if 5.02 <= t < 9 or 14 <= t < 17 else 1.0)
    evidence = story(down=(0, 0), frozen=(5, 9.3), more={"component/broker/protocol": flaky})
    short, long = (replace(evidence, baseline=Baseline(Marks(0, 0), 0.2, bound_s, {})) for bound_s in (2.0, 4.0))
    assert timings.relapse(replace(short, measures=timings.measure(short))) is not None
    assert timings.relapse(replace(long, measures=timings.measure(long))) is None


def test_a_component_that_was_started_once_more_is_a_relapse() -> None:
    """However quickly: it was well for less long than the run."""
    first, second = (Marks(0, 0, identities={"broker": {"pid": pid}, "other": {"pid": pid}}) for pid in (1, 2))
    evidence = story(down=(5.02, 7), frozen=(5, 7.3))
    evidence = replace(evidence, measures=timings.measure(evidence), healed=first)
    assert timings.relapse(replace(evidence, ends=first)) is None
    again = timings.relapse(replace(evidence, ends=second))
    assert again == timings.Relapse("broker was started once more after it was back")


@pytest.mark.parametrize(("every_s", "rate"), [(1e9, 0.0), (4.0, 0.25)])
def test_a_quiet_group_keeps_no_recovery_waiting(every_s: float, rate: float) -> None:
    """One that was quiet in the baseline and has nothing new is back with its component; a sparse one when it shows its
    next record, however long the one after that takes."""
    heads = {
        timings.series_of("head", "exchange", A): series(lambda t: float(1 + int(t / every_s))),
        timings.series_of("head", "silver", A): series(
            lambda t: None if 5.02 <= t < 7 else float(1 + int(max(0.0, t - 0.2) / every_s))
        ),
    }
    evidence = story(down=(5.02, 7), frozen=(0, 0), more=heads)
    assert evidence.baseline is not None
    evidence = replace(evidence, baseline=replace(evidence.baseline, moves={A: rate}))
    found = timings.measure(evidence)
    assert holds(found["restore"], 2.0 if rate == 0 else 3.2), found["restore"]
    assert found["drain"].measured


def test_a_quiet_group_that_lacks_something_is_not_back() -> None:
    """Its record came during the outage, and isn't shown."""
    heads = {
        timings.series_of("head", "exchange", A): series(lambda t: 1.0 if t < 6 else 2.0),
        timings.series_of("head", "silver", A): series(lambda t: None if 5.02 <= t < 7 else 1.0),
    }
    evidence = story(down=(5.02, 7), frozen=(0, 0), more=heads)
    assert evidence.baseline is not None
    found = timings.measure(replace(evidence, baseline=replace(evidence.baseline, moves={A: 0.0})))
    assert not found["restore"].measured
    assert not found["drain"].measured


C: Group = ("shop", "closed")


def sparse_story(came_s: float, shown_s: float) -> Evidence:
    """Two groups that seldom have anything, struck at 5 s, silent until 7 s: one lacked nothing then, and its next
    record is of came_s; the other one has none."""
    heads = {
        timings.series_of("head", "exchange", A): series(lambda t: 1.0 + (t >= came_s), to_s=40),
        timings.series_of("head", "silver", A): series(
            lambda t: None if 5.02 <= t < 7 else 1.0 + (t >= shown_s), to_s=40
        ),
        timings.series_of("head", "exchange", C): series(lambda t: 1.0, to_s=40),
        timings.series_of("head", "silver", C): series(lambda t: None if 5.02 <= t < 7 else 1.0, to_s=40),
        "component/broker/protocol": series(lambda t: None if 5.02 <= t < 7 else 1.0, to_s=40),
    }
    evidence = story(down=(5.02, 7), frozen=(0, 0), more=heads)
    base = Baseline(Marks(0, 0, {"exchange": {A: 1, C: 1}, "silver": {A: 1, C: 1}}), 1.0, 3.0, {}, {A: 0.1, C: 0.1})
    return replace(evidence, affected=(A, C), baseline=base)


@pytest.mark.parametrize(
    ("came_s", "shown_s", "restore_s"),
    [
        (6.0, 12.0, 7.0),  # it lacked something when the component was back
        (8.0, 10.0, 5.0),  # it lacked nothing, and what tells that it is served comes later
        (8.0, 20.0, 15.0),  # the same, and it was served late
    ],
)
def test_what_seldom_has_anything_is_back_when_it_shows_something_new(
    came_s: float, shown_s: float, restore_s: float
) -> None:
    """Not before, however early its component answered; and the other group, which moved in the baseline and has
    nothing since, is not waited for."""
    assert holds(timings.measure(sparse_story(came_s, shown_s))["restore"], restore_s)


def test_groups_that_have_nothing_are_back_with_their_component() -> None:
    """There is nothing to show, and nothing is kept back."""
    found = timings.measure(sparse_story(1e9, 1e9))
    assert holds(found["restore"], 2.0)
    assert timings.quiet(sparse_story(1e9, 1e9)) == (A, C)
    assert timings.quiet(sparse_story(8.0, 10.0)) == (C,)


def test_one_sparse_group_that_is_served_does_not_hide_another_that_is_not() -> None:
    """The first shows its record at once; what the other one has since is kept back for longer than is normal."""
    evidence = sparse_story(8.0, 8.2)
    kept = series(lambda t: 1.0 + (t >= 9), to_s=40)
    evidence = replace(evidence, samples={**evidence.samples, timings.series_of("head", "exchange", C): kept})
    assert not timings.measure(evidence)["restore"].measured


def test_the_first_of_them_tells_when_also_where_others_show_theirs_later() -> None:
    """Shown between two samples: the interval holds the true value, whatever was asked of other groups meanwhile."""
    evidence = sparse_story(8.0, 9.96)
    later = {
        timings.series_of("head", "exchange", C): series(lambda t: 1.0 + (t >= 8.1), to_s=40),
        timings.series_of("head", "silver", C): series(lambda t: None if 5.02 <= t < 7 else 1.0 + (t >= 10.8), to_s=40),
    }
    assert holds(timings.measure(replace(evidence, samples={**evidence.samples, **later}))["restore"], 4.96)


def test_a_group_that_is_new_keeps_no_recovery_waiting() -> None:
    """It came after the baseline, and was seen for a moment before the end."""
    new: Group = ("binance", "NEW")
    at_end = {timings.series_of("head", hop, new): series(lambda t: 1.0)[-10:] for hop in ("exchange", "silver")}
    evidence = story(down=(5.02, 7.02), frozen=(5, 8), more=at_end)
    evidence = replace(evidence, window=Window({A: 0, new: 0}, {A: 2000, new: 1}))
    assert timings.measure(evidence) == timings.measure(story(down=(5.02, 7.02), frozen=(5, 8)))
    assert timings.measure(evidence)["drain"].measured


def test_rows_in_flight_at_impact_are_no_recovery() -> None:
    """Rows that still arrive while the component is silent, and stop before it answers, don't count."""
    late = series(lambda t: float(int(100 * min(t, 6.0))) if t < 9 else 100 * t)
    found = timings.measure(story(down=(5.02, 7.0), frozen=(5, 9), more={"head/silver/binance/BTCUSDT": late}))
    assert holds(found["restore"], 4.0)


def test_a_single_step_is_no_recovery() -> None:
    """The head must rise within the second, not only have risen once."""
    steps = series(lambda t: 480.0 if t < 7.2 else 600.0 if t < 10 else 100 * t)
    found = timings.measure(story(down=(5.02, 7.0), frozen=(5, 10), more={"head/silver/binance/BTCUSDT": steps}))
    low, high = found["restore"].low_s, found["restore"].high_s
    assert low is not None
    assert high is not None
    assert 3.9 <= low <= high <= 5.1  # from 9 s on, the second that begins holds the rise at 10 s


def test_every_probe_of_the_component_must_answer() -> None:
    """A second probe that is back later sets the restore."""
    metrics = series(lambda t: None if 5.02 <= t < 9 else 1.0)
    found = timings.measure(story(down=(5.02, 7), frozen=(5, 7.3), more={"component/broker/metrics": metrics}))
    assert holds(found["restore"], 4.0)


def test_a_lost_probe_in_the_full_second_defers_the_restore() -> None:
    """One unanswered sample within the second: the second begins after it."""
    flaky = series(lambda t: None if 5.02 <= t < 7 or 7.9 <= t < 7.94 else 1.0)
    found = timings.measure(story(down=(5.02, 7), frozen=(5, 7.3), more={"component/broker/protocol": flaky}))
    assert holds(found["restore"], 2.93)


def test_a_lone_lost_probe_before_the_outage_is_no_outage() -> None:
    """The component's longest silence counts: a time-out just after the act doesn't end it."""
    flaky = series(lambda t: None if 5.05 <= t < 5.1 or 7 <= t < 9 else 1.0)
    evidence = story(down=(0, 0), frozen=(7, 9.3), more={"component/broker/protocol": flaky})
    assert holds(timings.measure(evidence)["restore"], 4.3)
    down_ns, up_ns = timings.outage(evidence)
    assert down_ns is not None
    assert up_ns is not None
    assert 6.9 * S <= down_ns <= 7 * S
    assert 9 * S <= up_ns <= 9.1 * S


def test_a_paused_component_is_measured_by_its_pending_probes() -> None:
    """Frozen from 5.02 s to 8 s with a deadline of 1 s: what was sent in the last second is answered on thawing, and
    shows silence until then; the edge is as narrow as the sampling, not as wide as the deadline."""

    def frozen(samples: list[Sample]) -> list[Sample]:
        found = []
        for s in samples:
            if not 5.02 * S <= s.at_ns < 8 * S:
                found.append(s)
            elif s.at_ns < 7 * S:
                found.append(Sample(s.at_ns, 1 * S, None))
            else:
                found.append(Sample(s.at_ns, 8 * S + 2 * MS - s.at_ns, s.value))
        return found

    evidence = story(down=(0, 0), frozen=(5, 8.0), held_until=7.9)
    evidence = replace(
        evidence, samples={**evidence.samples, "component/broker/protocol": frozen(series(lambda t: 1.0))}
    )
    assert holds(timings.measure(evidence)["restore"], 3.0)
    _, up_ns = timings.outage(evidence)
    assert up_ns == 8 * S + 2 * MS


def test_a_pause_is_as_narrow_for_a_component_without_streams() -> None:
    """Nothing but its probes tells: those in flight when it thawed were sent into silence, so it was silent until
    then.
    """
    answers = [s for s in series(lambda t: 1.0) if not 5.02 * S <= s.at_ns < 8 * S]
    hung = [Sample(int((5.05 + n / 20) * S), 1 * S, None) for n in range(39)]
    thawed = [Sample(int((7.0 + n / 20) * S), int((8.002 - 7.0 - n / 20) * S), 1.0) for n in range(20)]
    evidence = story(down=(0, 0), frozen=(0, 0))
    evidence = replace(evidence, affected=(), samples={"component/broker/protocol": [*answers, *hung, *thawed]})
    assert holds(timings.measure(evidence)["restore"], 3.0)


def test_a_bad_answer_counts_from_when_it_was_sent() -> None:
    """Sent at 7.30 s, answered at 7.34 s with an old head: rows that came at 7.31 s are not ruled out by it."""
    late = series(lambda t: float(int(100 * (t - 0.2))) if not 5 <= t < 7.31 else 480.0, took_ms=40)
    found = timings.measure(story(down=(5.02, 7), frozen=(5, 7), more={"head/silver/binance/BTCUSDT": late}))
    assert holds(found["restore"], 2.31)


def test_nothing_is_back_while_the_plan_still_breaks_or_mends() -> None:
    """All was good again 3 s before the heal: restore and drain are not sought before it."""
    found = timings.measure(story(down=(5.02, 5.5), frozen=(5.0, 5.6), held_until=9.0))
    assert found["restore"].low_s == found["drain"].low_s == 4.0
    assert holds(found["restore"], 4.0)
    assert holds(found["drain"], 4.0)
    assert holds(found["mttr"], 0.0)


def test_a_slow_watch_does_not_widen_what_fast_ones_tell() -> None:
    """The edge is the latest of the series' edges, each between its own samples."""
    slow = series(lambda t: None if 5.02 <= t < 7 else 1.0, hz=2)
    found = timings.measure(story(down=(5.02, 7), frozen=(5, 8.3), more={"component/broker/metrics": slow}))
    assert holds(found["restore"], 3.3)


def unmeasured(measure: Measure, told: str) -> bool:
    return measure.high_s is None and measure.low_s is None and told in measure.why


def test_what_was_not_seen_is_not_measured() -> None:
    """No act, no samples, no badness, too few samples around an edge: each says so, and none is 0."""
    quiet = timings.measure(story(down=(0, 0), frozen=(0, 0)))
    assert all(unmeasured(quiet[name], "bad") for name in ("impact", "restore", "drain", "mttr"))
    nothing = timings.measure(replace(story((5, 7), (5, 7)), inject_ns=None))
    assert all(unmeasured(m, "nothing was injected") for m in nothing.values())
    blind = story((5, 7), (5, 7))
    blind = replace(blind, samples={n: s for n, s in blind.samples.items() if not n.startswith("component/")})
    assert unmeasured(timings.measure(blind)["mttr"], "no samples of component broker")
    headless = story((5, 7), (5, 7))
    headless = replace(headless, samples={n: s for n, s in headless.samples.items() if "silver" not in n})
    assert unmeasured(timings.measure(headless)["mttr"], "no samples of head/silver/binance/BTCUSDT")


def test_a_gap_at_the_edge_is_not_interpolated() -> None:
    """No samples from 6 s to 9 s, back at some time between: not measured."""
    evidence = story(down=(5.02, 7), frozen=(5, 7.3))
    gap = {name: [s for s in found if not 6 * S < s.at_ns < 9 * S] for name, found in evidence.samples.items()}
    found = timings.measure(replace(evidence, samples=gap))
    assert unmeasured(found["restore"], "too few samples")
    assert unmeasured(found["mttr"], "too few samples")
    assert found["impact"].measured


def until(evidence: Evidence, at_s: float) -> Evidence:
    """As it was then: with the samples that had been taken."""
    return replace(evidence, samples={n: [s for s in f if s.at_ns < at_s * S] for n, f in evidence.samples.items()})


def test_an_edge_in_a_gap_is_settled_once_all_is_sustained() -> None:
    """Back at some time between 6 s and 9 s, of which there are no samples: later ones tell no more of it. Nothing is
    settled while something is bad, or may not last."""
    evidence = story(down=(5.02, 7), frozen=(5, 7.3))
    gap = {name: [s for s in found if not 6 * S < s.at_ns < 9 * S] for name, found in evidence.samples.items()}
    evidence = replace(evidence, samples=gap)
    settled = [at for at in range(6, 20) if timings.settled(until(evidence, at))]
    assert settled == list(range(12, 20))
    assert unmeasured(timings.measure(until(evidence, 12))["drain"], "too few samples")
    assert not timings.settled(replace(evidence, inject_ns=None))


def test_where_nothing_was_bad_nothing_is_waited_for() -> None:
    """The act at 5 s did nothing: two seconds later, the bound and one more, that is known. Not of a group that has had
    nothing new since: its next record may tell."""
    evidence = story(down=(0, 0), frozen=(0, 0))
    assert [at for at in (6.0, 6.9, 7.3, 10.0) if timings.settled(until(evidence, at))] == [7.3, 10.0]
    rests = {name: series(lambda t: 400.0) if name.startswith("head/") else f for name, f in evidence.samples.items()}
    resting = replace(evidence, samples=rests)
    assert unmeasured(timings.measure(resting)["restore"], "bad")
    assert not timings.settled(resting)
    shut = replace(evidence, samples={n: f for n, f in evidence.samples.items() if not n.startswith("component/")})
    assert timings.settled(replace(shut, component=None))
    assert not timings.settled(replace(shut, samples={**shut.samples, "component/broker/protocol": []}))
    assert timings.unharmed(evidence)
    assert not timings.unharmed(until(evidence, 6.9))
    assert not timings.unharmed(story(down=(5.02, 6.0), frozen=(5, 7)))


@pytest.mark.parametrize(("fault", "verdict"), [("ask", Verdict.PASS), ("kill", Verdict.UNKNOWN)])
def test_a_run_that_was_asked_for_need_harm_nobody(fault: str, verdict: Verdict) -> None:
    """A fault that did nothing tells nothing of a recovery."""
    calm = story(down=(0, 0), frozen=(0, 0))
    act = Act(
        "run-1", "run", calm.inject_ns or 0, 0, "act", fault, {"component": "broker"}, {}, "run", "it has started"
    )
    seen = replace(calm, acts=(act,), measures=timings.measure(calm), mttr_max_s=60, drain_max_s=60)
    assert recovered(seen).verdict is verdict
    bad = story(down=(5.02, 25.0), frozen=(5, 25))
    assert recovered(replace(bad, acts=(act,), mttr_max_s=60, drain_max_s=60)).verdict is not Verdict.PASS


@pytest.mark.parametrize(
    ("faults", "pid_after", "verdict"),
    [
        (("failpoint", "ask"), 1, Verdict.PASS),
        (("failpoint", "ask"), 2, Verdict.UNKNOWN),
        (("failpoint", "ask"), None, Verdict.UNKNOWN),
        (("failpoint",), 1, Verdict.UNKNOWN),
        (("ask", "failpoint"), 1, Verdict.UNKNOWN),
        (("kill", "ask"), 1, Verdict.UNKNOWN),
    ],
)
def test_an_error_that_what_was_asked_for_meets_need_harm_nobody(
    faults: tuple[str, ...], pid_after: int | None, verdict: Verdict
) -> None:
    """A dead letter that can't be written holds nothing up, if it is done well. A point that has ended its process, or
    that nobody ran into, tells nothing; and what was bad before the job was asked for was bad because of the point."""
    calm = story(down=(0, 0), frozen=(0, 0))
    at_ns = calm.inject_ns or 0
    acts = tuple(
        Act(f"a{n}", "r", at_ns + n * S, 0, "fault", fault, {"component": "broker"}, {}, "r")
        for n, fault in enumerate(faults)
    )
    assert calm.baseline is not None
    before = Marks(0, 0, heads={"exchange": {A: 0}}, identities={"broker": {"pid": 1}})
    after = Marks(20 * S, 0, identities={"broker": None if pid_after is None else {"pid": pid_after}})
    told: dict[str, Any] = {"acts": acts, "baseline": replace(calm.baseline, marks=before), "ends": after}
    seen = replace(calm, **told, measures=timings.measure(calm), mttr_max_s=60, drain_max_s=60)
    assert recovered(seen).verdict is verdict
    stalled = replace(story(down=(0, 0), frozen=(4.5, 7.9)), **told)
    early = replace(stalled, measures=timings.measure(stalled), mttr_max_s=1.0, drain_max_s=1.0)
    assert recovered(early).verdict is not Verdict.PASS


@given(st.floats(0, 3), st.floats(0, 3), st.floats(5, 10), st.floats(0, 4), st.floats(5.5, 19))
@settings(max_examples=100, deadline=None)
def test_what_is_settled_stays_as_it_is(
    down_s: float, more_s: float, gap_at_s: float, gap_s: float, at_s: float
) -> None:
    """However the outage and a gap in the samples lie: the measures are those of all samples."""
    evidence = story(down=(5.02, 5.02 + down_s), frozen=(5, 5.02 + down_s + more_s))
    gap = {
        name: [s for s in found if not gap_at_s * S < s.at_ns < (gap_at_s + gap_s) * S]
        for name, found in evidence.samples.items()
    }
    evidence = replace(evidence, samples=gap)
    seen = until(evidence, at_s)
    if timings.settled(seen):
        now, then = timings.measure(seen), timings.measure(evidence)
        assert {name: now[name] for name in ("restore", "drain", "mttr")} == {
            name: then[name] for name in ("restore", "drain", "mttr")
        }
    else:
        found = timings.measure(seen)
        assert not (found["restore"].measured and found["drain"].measured)


def test_a_delay_at_the_very_bound_widens_the_interval() -> None:
    """Visible again within the bound, it stalls until it is just as late as the bound: back before, or only after? The
    interval holds both, for nothing was left unsampled."""
    head = timings.series_of("head", "silver", A)

    def visible(t: float) -> float:
        shown = t - 0.2 if t < 5 else 4.8 if t < 6.5 else 6.3 if t < 7.69 else t - 0.2
        return float(int(100 * max(0.0, shown)))

    for bound_s, wide in ((1.32, True), (1.2, False)):
        evidence = story(down=(5.02, 6.4), frozen=(5, 6.5), more={head: series(visible)})
        assert evidence.baseline is not None
        found = timings.measure(replace(evidence, baseline=replace(evidence.baseline, bound_s=bound_s)))["drain"]
        assert holds(found, 2.7, wide_s=1.3 if wide else 0.15), found
        assert (found.low_s < 2.0) is wide  # type: ignore[operator]


def test_a_gap_in_the_full_second_is_not_service() -> None:
    """The second after the first rows was not seen, so it proves nothing."""
    evidence = story(down=(5.02, 7), frozen=(5, 7.3))
    gap = {name: [s for s in found if not 7.5 * S < s.at_ns < 8.9 * S] for name, found in evidence.samples.items()}
    assert not timings.measure(replace(evidence, samples=gap))["restore"].measured


def test_samples_that_end_too_early_prove_no_recovery() -> None:
    """Less than a full second of service at the end of the record: not measured, and not a failure either."""
    evidence = story(down=(5.02, 7), frozen=(5, 7.3))
    cut = {name: [s for s in found if s.at_ns < 8.1 * S] for name, found in evidence.samples.items()}
    found = timings.measure(replace(evidence, samples=cut))["restore"]
    assert found.high_s is None
    assert found.low_s == pytest.approx(2.3, abs=0.06)
    assert "samples end before" in found.why


@pytest.mark.parametrize(
    ("down", "frozen", "told"),
    [
        ((5.02, 99), (5, 99), "unanswered to the end"),
        ((5.02, 7), (5, 99), "head/silver/binance/BTCUSDT bad to the end"),
    ],
)
def test_what_never_came_back_is_known_to_be_bad_until_the_end(
    down: tuple[float, float], frozen: tuple[float, float], told: str
) -> None:
    """The low bound tells how long it was seen bad; there is no high one."""
    found = timings.measure(story(down=down, frozen=frozen))
    for name in ("restore", "mttr", "drain"):
        assert found[name].high_s is None
        assert found[name].low_s == pytest.approx(14.95, abs=0.11)
    assert told in found["mttr"].why


@given(st.floats(0.1, 8), st.floats(0.05, 3), st.integers(0, 49).filter(lambda ms: (ms + 20) % 50 > TOOK_MS))
@settings(max_examples=200)
def test_every_interval_holds_the_truth(down_s: float, more_s: float, offset_ms: int) -> None:
    """Whatever the outage's length and however the sampler's clock lies to it: the intervals hold the true values,
    narrowly. A probe in flight at the strike may tell either way, so that impact is known to within its answer's time.
    """
    start = 0.02 + offset_ms / 1000
    found = timings.measure(story(down=(5 + start, 5 + start + down_s), frozen=(5, 5 + start + down_s + more_s)))
    assert holds(found["impact"], start)
    assert holds(found["restore"], start + down_s + more_s)


def test_isolated_groups_don_t_delay_the_restore_but_the_drain() -> None:
    """The other streams' stall is theirs (isolation's), yet the platform is good only when all are."""
    found = spoiled(others_frozen=(0.5, 6.0)).measures
    assert holds(found["restore"], 2.4)
    drain = found["drain"].low_s
    assert drain is not None
    assert drain > 6.0


def test_a_record_of_real_size_is_measured_quickly() -> None:
    """Thirty thousand samples: the figures are asked for again and again while a run waits."""
    evidence = spoiled()
    many: Mapping[str, list[Sample]] = {
        f"{name}{n}" if "head" not in name else name: list(found)
        for n in range(6)
        for name, found in evidence.samples.items()
    }
    began = time.process_time()
    timings.measure(replace(evidence, samples=many))
    assert time.process_time() - began < 2.0


def test_no_two_groups_share_a_series() -> None:
    """A stroke inside a part is no border between two parts."""
    one, other = ("a/b", "c"), ("a", "b/c")

    class Heads:
        name = "silver"

        def heads(self) -> dict[Group, int]:
            return {one: 7, other: 8, ("a%2Fb", "c"): 9}

    sampled = {
        series_name("head/silver", suffix): value for suffix, value in probes.Heads(cast("Hop", Heads())).read().items()
    }
    assert [sampled[timings.series_of("head", "silver", group)] for group in (one, other, ("a%2Fb", "c"))] == [7, 8, 9]
