"""What a run takes for normal: the last seconds before its plan, each of them well, whoever had them sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Followed, Group, Marks, Now, Sample, Verdict
from gameday.run import Halt
from tasks import baseline as step
from tasks.baseline import BASELINE_S, baseline
from tests.trades import TRADES, live, stack_of

A: Group = ("binance", "BTCUSDT")
MS = 1_000_000
S = 1_000 * MS
AT_S = 30
EVERY_MS = 50


def series(value: Callable[[float], float | None], seconds: float) -> list[Sample]:
    """Sampled for so many seconds, until now."""
    ticks = int(seconds * 1000 / EVERY_MS)
    sent = [AT_S * S - n * EVERY_MS * MS for n in range(ticks, 0, -1)]
    return [Sample(at, 2 * MS, value(at / S)) for at in sent]


def sampled(seconds: float, answers: Callable[[float], float | None] = lambda t: 1.0, beat_s: float = 0.01) -> Now:
    """A stream of 100 records a second, each visible 0.2 s after it happened, or every beat_s; sampled for so long."""
    samples: Mapping[str, Sequence[Sample]] = {
        "component/broker/protocol": series(answers, seconds),
        "head/exchange/binance/BTCUSDT": series(lambda t: float(int(100 * t)), seconds),
        "head/silver/binance/BTCUSDT": series(lambda t: float(int(100 * (t // beat_s * beat_s - 0.2))), seconds),
    }
    return Now(AT_S * S, samples, "broker", (A,), (A,), "silver", "exchange", 5.0)


def run_that_sees(*looks: Now, disturbed_ns: tuple[int, int] = (0, 0)) -> Any:
    """A run; what it sees at each look, the last one for good."""
    seen: Iterator[Now] = iter(looks)
    state = SimpleNamespace(last=looks[0])

    def now(seconds: float) -> Now:
        state.last = next(seen, state.last)
        return state.last

    return SimpleNamespace(
        name="t",
        followed={"trades": Followed("trades", ("exchange", "silver"), "silver", groups=(A,))},
        now=now,
        say=lambda text: None,
        test=SimpleNamespace(archive=False),
        stack=stack_of(live(dict.fromkeys(("exchange", "silver")))),
        baseline=None,
        disturbed_ns=disturbed_ns,
        busy=lambda since_ns: None,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waits; every hop answers."""
    monkeypatch.setattr(step, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(step, "WELL_WITHIN_S", 0.05)
    heads = {hop: {A: 1} for hop in ("exchange", "silver", "log", "table")}
    monkeypatch.setattr(step, "marks", lambda stack: Marks(AT_S * S, 1, heads))


def test_what_was_sampled_before_counts() -> None:
    """Whoever had it sampled: nothing is waited for when the last seconds were all well."""
    run = run_that_sees(sampled(BASELINE_S + 1))
    baseline.fn(run)
    assert run.followed["trades"].rates[A] == pytest.approx(100, rel=0.02)
    assert 0.1 <= run.baseline.delay_p99_s <= 0.22


def test_it_is_never_shorter() -> None:
    """A stack that was seen well for less than that has no normal yet."""
    run = run_that_sees(sampled(BASELINE_S - 1))
    with pytest.raises(Halt, match="not sampled for so long") as halted:
        baseline.fn(run)
    assert halted.value.verdict is Verdict.UNKNOWN
    baseline.fn(run_that_sees(sampled(BASELINE_S - 1), sampled(BASELINE_S + 1)))


def test_a_sink_that_writes_in_batches_is_watched_for_some_of_them() -> None:
    """Seen every three seconds: twelve seconds and more of it, for four of its batches."""
    with pytest.raises(Halt, match=r"not well for 1\d\.?\d? s: it was not sampled for so long"):
        baseline.fn(run_that_sees(sampled(11.0, beat_s=3.0)))
    run = run_that_sees(sampled(14.0, beat_s=3.0))
    baseline.fn(run)
    assert 2.9 <= run.baseline.delay_p99_s <= 3.3


def test_a_stack_that_was_not_well_meanwhile_is_not_normal() -> None:
    """Such as one that an earlier run had not yet seen recovered: a probe without answer begins it anew."""
    run = run_that_sees(sampled(BASELINE_S + 5, lambda t: None if t < AT_S - BASELINE_S + 1 else 1.0))
    with pytest.raises(Halt, match="broker did not answer"):
        baseline.fn(run)


def test_a_busy_machine_is_named_where_it_keeps_the_stack_from_being_well() -> None:
    """What the stack lacks is told all the same."""
    run = run_that_sees(sampled(BASELINE_S + 5, lambda t: None if t > AT_S - 1 else 1.0))
    run.busy = lambda since_ns: "for 9 of 9 s"
    with pytest.raises(Halt, match=r"^the machine was busy \(for 9 of 9 s\): no baseline: .* broker did not answer"):
        baseline.fn(run)


def test_what_was_sampled_while_another_run_was_judged_does_not_count() -> None:
    """The run began two seconds ago: what its sampler saw before is no normal, however well all was."""
    run = run_that_sees(sampled(20.0), disturbed_ns=(0, (AT_S - 2) * S))
    with pytest.raises(Halt, match="it was not sampled for so long"):
        baseline.fn(run)
    assert run.baseline is None


def test_seconds_before_and_after_the_evidence_of_the_run_before_count_together() -> None:
    """Three of them while that one watched that its recovery lasts, two since it was judged; not those in between, in
    which silver was four seconds behind."""
    asked = ((AT_S - 10) * S, (AT_S - 2) * S)
    slow = [
        s if s.at_ns < asked[0] or s.at_ns >= asked[1] else replace(s, value=100 * (s.at_ns / S - 4))
        for s in sampled(13.5).samples["head/silver/binance/BTCUSDT"]
    ]
    now = sampled(13.5)
    now = replace(now, samples={**now.samples, "head/silver/binance/BTCUSDT": slow})
    run = run_that_sees(now, disturbed_ns=asked)
    baseline.fn(run)
    assert 0.1 <= run.baseline.delay_p99_s <= 0.22
    with pytest.raises(Halt, match="it was not sampled for so long"):
        baseline.fn(run_that_sees(sampled(12.5), disturbed_ns=asked))


SHOPS: list[Group] = [(f"shop-{n}",) for n in range(20)]


def shops(seconds: float, came: Callable[[int], float], beat_s: float = 5.0) -> Any:
    """A run that sees twenty groups, of which each has one record at its time, and a sink that writes every beat_s."""
    samples: dict[str, Sequence[Sample]] = {"component/broker/protocol": series(lambda t: 1.0, seconds)}
    for n, group in enumerate(SHOPS):
        at_s = came(n)
        shown_s = (at_s // beat_s + 1) * beat_s
        samples[f"head/exchange/{group[0]}"] = series(lambda t, at=at_s: 1.0 + (t >= at), seconds)  # type: ignore[misc]
        samples[f"head/silver/{group[0]}"] = series(lambda t, at=shown_s: 1.0 + (t >= at), seconds)  # type: ignore[misc]
    told = Now(AT_S * S, samples, "broker", tuple(SHOPS), tuple(SHOPS), "silver", "exchange", 15.0, still_s=15.0)
    run = run_that_sees(told)
    run.followed["trades"] = replace(run.followed["trades"], groups=tuple(SHOPS))
    return run


def test_a_sparse_stream_in_batches_has_its_beat_for_normal() -> None:
    """One record a second over twenty groups, each seen with the next batch of five seconds."""
    run = shops(27.0, came=lambda n: AT_S - 26.7 + n)
    baseline.fn(run)
    assert 4.4 <= run.baseline.delay_p99_s <= 5.0
    assert run.followed["trades"].moves[SHOPS[0]] < 1


@pytest.mark.parametrize("beat_s", [5.0, 7.0])
def test_batches_that_got_their_first_record_late_are_no_normal(beat_s: float) -> None:
    """Two in a row, by chance: no record waited for more than half of the time between them. The one before got its
    first record at once."""
    first_s = AT_S // beat_s * beat_s - 3 * beat_s
    early = [first_s - 4, *(first_s + 0.1 + n * beat_s / 5 for n in range(4))]
    late = [first_s + (k + 0.55) * beat_s + n * 0.2 for k in (1, 2, 3) for n in range(5)]
    run = shops(AT_S, came=(early + late).__getitem__, beat_s=beat_s)
    baseline.fn(run)
    assert 0.9 * beat_s <= run.baseline.delay_p99_s <= beat_s
    assert run.followed["trades"].bound_s > 2.7 * beat_s


def test_a_source_that_seldom_has_anything_is_not_waited_for() -> None:
    """All its records came at once and were seen soon. That tells nothing of the next: it may be as far behind as while
    nobody knows how often the sink writes."""
    step_s = step.WRITES_WITHIN_S + 5
    run = shops(step_s, came=lambda n: AT_S - 3.1 + n / 100, beat_s=0.3)
    baseline.fn(run)
    followed = run.followed["trades"]
    assert (followed.delay_p99_s < 0.3, followed.bound_s, followed.still_s) == (True, 15.0, 15.0)
    assert run.baseline.bound_s == 15.0
    with pytest.raises(Halt, match="not well for 38 s: it was not sampled for so long"):
        baseline.fn(shops(step.WRITES_WITHIN_S - 10, came=lambda n: AT_S - 3.1 + n / 100, beat_s=0.3))


def test_a_fast_stream_tells_nothing_of_a_slow_one() -> None:
    """Three records of shops were seen soon by chance, beside a hundred trades a second: the fourth may take as long as
    while nobody knows."""
    few = shops(BASELINE_S + 5, came=lambda n: AT_S - 5.3 + n if n < 1 else AT_S - 0.3 + n / 10 if n < 3 else 1e9)
    seen = few.now(0.0).samples
    renamed = {name.replace("exchange", "log").replace("silver", "table"): one for name, one in seen.items()}
    both = replace(sampled(BASELINE_S + 5), samples={**renamed, **sampled(BASELINE_S + 5).samples}, bound_s=15.0)
    run = run_that_sees(both)
    run.followed["shops"] = Followed("shops", ("log", "table"), "table", groups=tuple(SHOPS), bound_s=15.0)
    run.stack = stack_of(
        live(dict.fromkeys(("exchange", "silver"))),
        live(dict.fromkeys(("log", "table")), replace(TRADES, name="shops")),
    )
    baseline.fn(run)
    assert {name: one.bound_s for name, one in run.followed.items()} == {"trades": 1.0, "shops": 15.0}
    still_s = {name: one.still_s for name, one in run.followed.items()}
    assert still_s == {"trades": pytest.approx(0.4, 0.2), "shops": 15.0}


def test_a_few_records_tell_no_normal() -> None:
    """Three of them, each seen soon by chance: the fourth may take five seconds."""
    with pytest.raises(Halt, match="there were 3 new records, and 8 are needed"):
        baseline.fn(shops(28.0, came=lambda n: AT_S - 15.2 + 5 * n if n < 3 else 1e9))


def test_a_backlog_before_the_plan_is_not_normal() -> None:
    """Silver was ten seconds behind just now: no run is judged by three times as much."""
    late = sampled(29.0, beat_s=0.01)
    slow = [
        s if s.at_ns < (AT_S - 11) * S else replace(s, value=float(int(100 * (AT_S - 11.2))))
        for s in late.samples["head/silver/binance/BTCUSDT"][:-10]
    ] + list(late.samples["head/silver/binance/BTCUSDT"][-10:])
    late = replace(late, samples={**late.samples, "head/silver/binance/BTCUSDT": slow}, bound_s=15.0, still_s=15.0)
    with pytest.raises(Halt, match="not well for"):
        baseline.fn(run_that_sees(late))
