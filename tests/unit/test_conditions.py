"""The states that a plan waits for, over hand-written last seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gameday.model import Condition, Group, JobRun, Now, Sample
from gameday.sampling import conditions

A: Group = ("binance", "BTCUSDT")
B: Group = ("kraken", "BTC/USD")
MS = 1_000_000
S = 1_000 * MS
AT_S = 20


def last(values: Sequence[float | None], every_ms: int = 50) -> list[Sample]:
    """The last of these was sent every_ms before now, answered after 2 ms."""
    sent = AT_S * S - len(values) * every_ms * MS
    return [Sample(sent + n * every_ms * MS, 2 * MS, value) for n, value in enumerate(values)]


ANSWERED = last([1.0] * 40)
LEDGER = last([100.0 + n for n in range(200)])
CLOSE = last([96.0 + n for n in range(200)])
STALLED = last([96.0 + min(n, 60) for n in range(200)])
DARK = last([96.0 + n for n in range(60)] + [None] * 140)


def now(changes: Mapping[str, Sequence[Sample]] | None = None) -> Now:
    """All is well: A is on the component's way, B is not; both 0.2 s behind."""
    return Now(
        at_ns=AT_S * S,
        samples={
            "component/broker/protocol": ANSWERED,
            "component/other/health": ANSWERED,
            "head/exchange/binance/BTCUSDT": LEDGER,
            "head/exchange/kraken/BTC%2FUSD": LEDGER,
            "head/silver/binance/BTCUSDT": CLOSE,
            "head/silver/kraken/BTC%2FUSD": CLOSE,
            **(changes or {}),
        },
        component="broker",
        affected=(A,),
        groups=(A, B),
        visible="silver",
        ledger="exchange",
        bound_s=1.0,
    )


def without(kind: str) -> Now:
    here = now()
    return replace(here, samples={n: s for n, s in here.samples.items() if not n.startswith(kind)})


WELL = now()
SILENT = now({"component/broker/protocol": last([1.0] * 20 + [None] * 20)})
BACK = now({"component/broker/protocol": last([None] * 19 + [1.0] * 21)})
HICCUP = now({"component/broker/protocol": last([1.0] * 30 + [None] + [1.0] * 9)})
HUNG = now({"component/broker/protocol": [Sample((AT_S - 2) * S, 1 * S, None)]})
A_STALLED = now({"head/silver/binance/BTCUSDT": STALLED})
A_DARK = now({"head/silver/binance/BTCUSDT": DARK})
B_STALLED = now({"head/silver/kraken/BTC%2FUSD": STALLED})
CATCHING_UP = now({"head/silver/binance/BTCUSDT": last([50.0 + n for n in range(200)])})
QUIET = now({f"head/{hop}/kraken/BTC%2FUSD": last([7.0] * 200) for hop in ("exchange", "silver")})
SPARSE = now(
    {"head/exchange/kraken/BTC%2FUSD": last([7.0] * 195 + [8.0] * 5), "head/silver/kraken/BTC%2FUSD": last([7.0] * 200)}
)
A_QUIET = now({f"head/{hop}/binance/BTCUSDT": last([7.0] * 200) for hop in ("exchange", "silver")})
QUIET_UNSEEN = now({f"head/{hop}/kraken/BTC%2FUSD": last([None] * 200) for hop in ("exchange", "silver")})
QUIET_AND_LOST = now(
    {"head/exchange/kraken/BTC%2FUSD": last([9.0] * 200), "head/silver/kraken/BTC%2FUSD": last([7.0] * 200)}
)
OTHER_SILENT = now({"component/other/health": last([None] * 40)})
NO_PROBES, NO_HEADS = without("component/"), without("head/silver")
NOTHING = replace(WELL, samples={})
IDLE, BUSY = replace(WELL, busy=()), replace(WELL, busy=(JobRun("1", "tame-otter", "Running", 1, None),))

c = conditions


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        (c.answering, [WELL, BACK, A_STALLED, OTHER_SILENT], [SILENT, HICCUP, NO_PROBES, NOTHING]),
        (c.silent, [SILENT], [WELL, BACK, HICCUP, OTHER_SILENT, NO_PROBES, NOTHING]),
        (c.flowing, [QUIET, SPARSE, A_QUIET], [QUIET_UNSEEN, QUIET_AND_LOST]),
        (c.restored, [QUIET, A_QUIET], []),
        (c.drained, [QUIET, A_QUIET, SPARSE], [QUIET_AND_LOST]),
        (c.well(1.9), [QUIET, SPARSE, A_QUIET], [QUIET_UNSEEN, QUIET_AND_LOST]),
        (c.behind(5), [], [A_QUIET]),
        (c.flowing, [WELL, SILENT], [A_STALLED, B_STALLED, A_DARK, CATCHING_UP, NO_HEADS, NOTHING]),
        (c.restored, [WELL, BACK, CATCHING_UP, B_STALLED], [SILENT, HICCUP, A_STALLED, A_DARK, NO_HEADS, NOTHING]),
        (c.drained, [WELL, BACK], [SILENT, CATCHING_UP, A_STALLED, B_STALLED, A_DARK, NO_HEADS, NOTHING]),
        (c.behind(5), [A_STALLED, A_DARK], [WELL, B_STALLED, CATCHING_UP, NO_HEADS, NOTHING]),
        (c.behind(8), [], [A_STALLED, A_DARK]),
        (c.well(1), [WELL, BACK], [SILENT, OTHER_SILENT, A_STALLED, CATCHING_UP, NO_PROBES, NO_HEADS, NOTHING]),
        (c.well(1.9), [WELL], [BACK, HICCUP]),
        (c.well(3), [], [WELL]),
        (c.job_idle, [IDLE], [WELL, BUSY]),
        (c.all_of(c.silent, c.flowing), [SILENT], [WELL]),
        (c.any_of(c.silent, c.behind(5)), [SILENT, A_STALLED], [WELL]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_state_is_told_from_what_it_is_not(condition: Condition, yes: list[Now], no: list[Now]) -> None:
    """Also from what can't be seen: without samples no state is taken for granted."""
    assert [condition(here) for here in yes] == [True] * len(yes)
    assert [condition(here) for here in no] == [False] * len(no)


def test_a_failpoint_has_fired_when_it_fired_often_enough() -> None:
    """One that the run did not arm has not fired."""
    here = replace(WELL, fired={"spot": 2})
    assert [c.fired("spot")(here), c.fired("spot", 2)(here), c.fired("spot", 3)(here)] == [True, True, False]
    assert not c.fired("other")(here)
    assert (c.fired("spot").__name__, c.fired("spot", 2).__name__) == ("spot fired", "spot fired 2 times")


def test_names_read_in_a_plan() -> None:
    """A time-out names the state that did not come."""
    both = c.all_of(c.silent, c.behind(10))
    assert both.__name__ == "silent and behind by 10 s"
    assert c.any_of(c.flowing, c.drained).__name__ == "flowing or drained"
    assert c.well(3).__name__ == "well for 3 s"


def test_a_stack_without_a_struck_component_answers_and_is_never_silent() -> None:
    """A plan without a component waits for streams only."""
    here = replace(WELL, component=None)
    assert c.answering(here)
    assert not c.silent(here)


@pytest.mark.parametrize(
    ("here", "told"),
    [
        (OTHER_SILENT, "other did not answer 20 of 20 probes (health)"),
        (A_STALLED, "silver shows nothing new of binance/BTCUSDT within 1 s"),
        (CATCHING_UP, "silver is up to 2.4 s behind exchange in binance/BTCUSDT (at most 1 s)"),
        (NO_HEADS, "silver is an unknown time behind exchange in binance/BTCUSDT, kraken/BTC/USD"),
        (HUNG, "broker did not answer its last probe, 2.0 s ago (protocol)"),
        (NOTHING, "nothing was sampled yet"),
    ],
)
def test_what_ails_is_named_with_figures(here: Now, told: str) -> None:
    """Which component, which stream, by how much."""
    assert any(told in line for line in c.ailing(here)), c.ailing(here)


def test_nothing_ails_a_stack_that_is_well() -> None:
    """The list is empty exactly when all is well."""
    assert c.ailing(WELL) == []


def test_between_two_batches_every_head_stands_still() -> None:
    """A sink that writes every five seconds is well for as long as it may stand still, and no longer."""
    lacking = {
        "head/exchange/kraken/BTC%2FUSD": last([7.0] * 120 + [8.0] * 80),  # for four seconds
        "head/silver/kraken/BTC%2FUSD": last([7.0] * 200),
    }
    batched = replace(now(lacking), bound_s=15.0)
    assert not c.flowing(batched)
    assert [c.flowing(replace(batched, still_s=s)) for s in (9.0, 3.0)] == [True, False]
    assert [c.well(1)(replace(batched, still_s=s)) for s in (9.0, 3.0)] == [True, False]
