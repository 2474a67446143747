"""Each check on histories of a few lines: shown to pass, to fail with the guilty thing named, and to be unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from gameday.model import (
    Act,
    Baseline,
    Check,
    Digest,
    Evidence,
    Group,
    Marks,
    Measure,
    Sample,
    Tally,
    Verdict,
    Window,
)
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally
from gameday.sampling import timings
from gameday.verdict import checks

PASS, SKIPPED, UNKNOWN, FAIL = Verdict.PASS, Verdict.SKIPPED, Verdict.UNKNOWN, Verdict.FAIL
A: Group = ("binance", "BTCUSDT")
B: Group = ("kraken", "BTC/USD")
MS = 1_000_000
S = 1_000 * MS

EMPTY = Evidence("t", {}, "s")


def right(**changes: Any) -> Tally:
    """Ten records, ids 1 to 10, all of them right."""
    return replace(Tally(rows=10, keys=10, lo=1, hi=10, sum=77), **changes)


def held(hop: str, view: str, *tallies: Tally, stream: str = "trades") -> Digest:
    return Digest(stream, hop, view, dict(zip((A, B), tallies, strict=False)))


def history(*digests: Digest, **more: Any) -> Evidence:
    """A window of ten ids, the ledger's digest, and the others'."""
    digests = (held("exchange", "final", right()), *digests)
    return replace(EMPTY, **{"window": Window({A: 0}, {A: 10}), "digests": digests, **more})


CLEAN = (
    held("broker", "log", right(rows=12, back=0)),
    held("bronze", "raw", right(rows=12)),
    held("silver", "raw", right(rows=12)),
    held("silver", "final", right()),
)

DATA: list[tuple[str, Check, Evidence, Verdict, str]] = [
    ("nobody made it", checks.no_duplicates,
     history(*CLEAN, symptoms={"surplus": {"silver": [[["x", "DOGE"], 7, None]], "gold": [[list(A), 99, 10]]}}),
     FAIL, "silver (beyond the ledger) has 1 trade too many: x/DOGE (1); seen at gold too"),
    ("all there", checks.no_loss, history(*CLEAN), PASS, "broker, bronze, silver: all 10 records"),
    ("one gone", checks.no_loss, history(CLEAN[0], held("bronze", "raw", right(rows=9, keys=9))), FAIL,
     "bronze has 1 trade fewer than exchange: binance/BTCUSDT (1)"),
    ("gone from the broker on", checks.no_loss,
     history(held("broker", "log", right(keys=7)), held("bronze", "raw", right(keys=7))), FAIL,
     "broker has 3 trades fewer than exchange: binance/BTCUSDT (3); seen at bronze too"),
    ("a group gone", checks.no_loss, history(held("broker", "log")), FAIL, "broker has 10 trades fewer"),
    ("the ledger itself short of the window", checks.no_loss,
     history(*CLEAN, window=Window({A: 0}, {A: 12})), FAIL, "exchange has 2 trades fewer than the window"),
    ("another id in its place", checks.no_loss, history(held("broker", "log", right(hi=11))), FAIL, "broker has 1"),
    ("nothing to compare with", checks.no_loss, history(), UNKNOWN, "nothing to compare"),
    ("no digests", checks.no_loss, EMPTY, UNKNOWN, "nothing to compare"),
    ("an empty window", checks.no_loss,
     replace(EMPTY, digests=(held("exchange", "final", Tally(0, 0, 0, 0, 0)), held("broker", "log"))), UNKNOWN,
     "nothing to compare"),
    ("a hop that gave no digest", checks.no_loss,
     history(*CLEAN, symptoms={"trouble": {"gold": "timed out"}}), UNKNOWN, "no digest of gold"),
    ("trouble with what is no hop", checks.no_loss,
     history(*CLEAN, symptoms={"trouble": {"the archive's job": "away", "the processes of web": "away"}}), PASS,
     "all 10 records"),
    ("a hop known at baseline that gave none", checks.no_loss,
     history(*CLEAN, baseline=Baseline(Marks(0, 0, heads={"gold": {A: 0}}), 0.1, 1.0, {})), UNKNOWN,
     "no digest of gold"),
    ("re-sent ones in the log", checks.no_duplicates, history(*CLEAN), PASS, "as a log may: broker 2, bronze 2"),
    ("one twice for users", checks.no_duplicates, history(held("silver", "final", right(rows=11))), FAIL,
     "silver has 1 trade too many: binance/BTCUSDT (1)"),
    ("one that should not exist", checks.no_duplicates, history(held("broker", "log", right(keys=11, hi=11))), FAIL,
     "broker has 1 trade too many"),
    ("a group that should not exist", checks.no_duplicates, history(held("broker", "log", right(), right())), FAIL,
     "kraken/BTC/USD (10)"),
    ("no view that promises", checks.no_duplicates,
     replace(EMPTY, digests=(held("broker", "log", right()), held("bronze", "raw", right()))), UNKNOWN, "promises"),
    ("nothing at all", checks.no_duplicates, EMPTY, UNKNOWN, "nothing to compare"),
    ("as they were", checks.unchanged, history(*CLEAN), PASS, "all 10 records"),
    ("another sum", checks.unchanged, history(CLEAN[0], held("bronze", "raw", right(sum=78))), FAIL,
     "bronze has at least 1 trade unlike exchange's: binance/BTCUSDT"),
    ("two contents", checks.unchanged, history(held("broker", "log", right(conflicts=2))), FAIL, "at least 2 trades"),
    ("hidden by loss", checks.unchanged, history(held("broker", "log", right(keys=9, sum=3))), UNKNOWN,
     "can't be compared"),
    ("an unknown late one", checks.unchanged, history(*CLEAN, symptoms={"late": {"rows": 5, "unknown": 1}}), FAIL,
     "1 of 5 records re-sent"),
    ("known late ones", checks.unchanged, history(*CLEAN, symptoms={"late": {"rows": 5, "unknown": 0}}), PASS,
     "all 10"),
    ("late ones that nobody told", checks.unchanged, history(*CLEAN, symptoms={"untold": ["broker"]}), UNKNOWN,
     "broker did not tell"),
    ("more late ones than were looked at", checks.unchanged,
     history(*CLEAN, symptoms={"late": {"rows": 5, "looked_at": 4, "unknown": 0}}), UNKNOWN, "only 4 of 5"),
    ("a bar off", checks.unchanged,
     history(*CLEAN, *(held(hop, "final", right(sum=n), stream="bars") for n, hop in enumerate(("exchange", "gold")))),
     FAIL, "gold has at least 1 bar unlike exchange's"),
    ("nothing", checks.unchanged, EMPTY, UNKNOWN, "nothing to compare"),
    ("in order", checks.order, history(*CLEAN), PASS, "broker: 10 ids in 1 groups ascend"),
    ("out of order", checks.order, history(held("broker", "log", right(back=2))), FAIL,
     "broker has 2 records first seen after a higher id: binance/BTCUSDT (2)"),
    ("no order told", checks.order, history(held("bronze", "raw", right())), UNKNOWN, "nothing to judge"),
    ("the first kept", checks.first_kept, history(symptoms={"silver.not_first": 0}), PASS, "lowest offset"),
    ("a later one kept", checks.first_kept, history(symptoms={"silver.not_first": 4}), FAIL, "4 ids"),
    ("nobody tells", checks.first_kept, EMPTY, UNKNOWN, "nothing to judge"),
    ("small gaps", checks.continuous, replace(EMPTY, symptoms={"bronze.ingest_gap_s": {"a": 0.2, "b": 30.0}}), PASS,
     "30.0 s of 30 s (b)"),
    ("a large gap", checks.continuous, replace(EMPTY, symptoms={"bronze.ingest_gap_s": {"a": 31.2, "b": 3.0}}), FAIL,
     "31.2 s of 30 s (a)"),
    ("no gaps told", checks.continuous, EMPTY, UNKNOWN, "nothing to judge"),
    ("no topics", checks.continuous, replace(EMPTY, symptoms={"bronze.ingest_gap_s": {}}), UNKNOWN, "nothing to judge"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "evidence", "verdict", "told"), [row[1:] for row in DATA], ids=[f"{r[1].__name__}: {r[0]}" for r in DATA]
)
def test_data(check: Check, evidence: Evidence, verdict: Verdict, told: str) -> None:
    """What the hops hold decides, and the sentence names hop, number and group."""
    found = check(evidence)
    assert (found.check, found.verdict) == (check.__name__, verdict)
    assert told in found.why


GAPS = {"rows": 3, "keys": 3, "lo": 1, "hi": 7}
"""Three records, the ids 1 to 7."""


def replaced(stream: str = "trades", **symptoms: Any) -> Evidence:
    """As many records between the same ids, of another sum."""
    reference, other = (Digest(stream, h, "final", {A: Tally(**GAPS, sum=n)}) for h, n in (("exchange", 5), ("b", 6)))
    return replace(EMPTY, digests=(reference, other), symptoms=symptoms)


def test_one_lost_and_a_foreign_one_in_its_place_is_no_pass() -> None:
    """Where ids have gaps the sum tells only that something differs; then nobody says that all are there."""
    verdicts = [check(replaced()).verdict for check in (checks.no_loss, checks.no_duplicates, checks.unchanged)]
    assert verdicts == [UNKNOWN, UNKNOWN, FAIL]
    assert "binance/BTCUSDT at b" in checks.no_loss(replaced()).why


def test_a_stream_of_one_group_and_a_name_that_is_no_plural_makes_a_sentence() -> None:
    """Its records are called so, and no name stands for the group."""
    whole, short = (Digest("canary", hop, "final", {(): right(keys=keys)}) for hop, keys in (("canary", 10), ("b", 8)))
    evidence = replace(EMPTY, stream="canary", digests=(whole, short), window=Window({(): 0}, {(): 10}))
    assert checks.no_loss(evidence).why == "b has 2 canary records fewer than canary: (2)"


@pytest.mark.parametrize(
    ("listed", "verdicts"),
    [
        ({"missing": {"count": 1, "ids": [3]}, "extra": {"count": 1, "ids": [5]}}, [FAIL, FAIL, UNKNOWN]),
        ({"changed": {"count": 2, "ids": [3, 5]}}, [PASS, PASS, FAIL]),
        ({"trouble": "away"}, [UNKNOWN, UNKNOWN, FAIL]),
    ],
)
def test_the_listed_rows_say_whether_it_was_lost_or_changed(
    listed: Mapping[str, Any], verdicts: Sequence[Verdict]
) -> None:
    """They are fetched wherever a sum differs."""
    evidence = replaced(differences={"b binance/BTCUSDT": listed})
    assert [check(evidence).verdict for check in (checks.no_loss, checks.no_duplicates, checks.unchanged)] == verdicts


def test_another_sum_of_offsets_is_other_offsets() -> None:
    """There is nothing in them that could have been changed."""
    found = checks.no_loss(replaced(stream="offsets"))
    assert (found.verdict, found.why) == (FAIL, "b has 1 log record fewer than exchange: binance/BTCUSDT (1)")


def test_the_places_in_a_log_are_held_against_no_other_log_s() -> None:
    """And a table's against those of the log before it."""

    def places(hop: str, view: str, topic: str, rows: int = 10) -> Digest:
        return Digest("offsets", hop, view, {(topic, "0"): Tally(rows, rows, 0, 9, rows)})

    logs = (places("log", "log", "decide"), places("results", "log", "result"))
    evidence = history(held("results", "log", right()))
    evidence = replace(evidence, digests=(*evidence.digests, *logs))
    assert (checks.no_loss(evidence).verdict, checks.no_duplicates(evidence).verdict) == (PASS, PASS)
    assert checks.counts(evidence)["doubled"] == {"results": 0}
    lacking = replace(evidence, digests=(*evidence.digests, places("table", "raw", "result", 8)))
    found = checks.no_loss(lacking)
    assert (found.verdict, found.why) == (FAIL, "table has 2 log records fewer than results: result/0 (2)")


def test_a_digest_alone_tells_a_lost_record_with_a_foreign_one_in_its_place() -> None:
    """Loss and surplus, without fetching a row."""

    def digest_of(hop: str, *ids: int) -> Digest:
        columns = np.array(ids, dtype=np.int64)
        return Digest("trades", hop, "final", {A: tally(columns, row_hash([columns]))})

    evidence = replace(EMPTY, digests=(digest_of("exchange", 1, 3, 7), digest_of("b", 1, 5, 7)))
    assert checks.no_loss(evidence).verdict is FAIL
    assert checks.no_duplicates(evidence).verdict is FAIL


def test_counts_and_guilty_name_where_it_began() -> None:
    """Per hop the most of its views; hops that were judged and are right have 0; the first damaged hop is guilty."""
    evidence = history(
        held("broker", "log", right(rows=12)),
        held("bronze", "raw", right(keys=8, rows=8)),
        held("silver", "raw", right(keys=8, rows=8)),
        held("silver", "final", right(keys=8, rows=9)),
    )
    assert checks.counts(evidence) == {
        "lost": {"broker": 0, "bronze": 2, "silver": 2},
        "doubled": {"broker": 0, "bronze": 0, "silver": 1},
        "changed": {"broker": 0, "bronze": 0, "silver": 0},
    }
    assert checks.guilty(evidence) == {"lost": "bronze", "doubled": "silver"}
    assert checks.counts(EMPTY) == {"lost": {}, "doubled": {}, "changed": {}}


def test_listed_rows_replace_the_lower_bound() -> None:
    """A sum tells that rows were changed, the listed difference how many and which."""
    listed = {"broker binance/BTCUSDT": {"changed": {"count": 7, "ids": [3, 4, 5, 6], "rows": []}}}
    evidence = history(held("broker", "log", right(sum=1)), symptoms={"differences": listed})
    assert checks.counts(evidence)["changed"] == {"broker": 7}
    assert "id 3, 4, 5" in checks.unchanged(evidence).why


# ---- recovered ------------------------------------------------------------------------------------------------------

BACK, DRAINED = Measure(1.0, 1.1), Measure(2.0, 2.1)


@pytest.mark.parametrize(
    ("mttr", "drain", "verdict", "told"),
    [
        (BACK, DRAINED, PASS, "MTTR 1.10 s of 5 s, drain 2.10 s of 9 s"),
        (Measure(4.9, 5.1), DRAINED, FAIL, "MTTR 5.10 s of 5 s"),
        (BACK, Measure(8.9, 9.1), FAIL, "drain 9.10 s of 9 s"),
        (Measure(5.2, None, "still silent"), DRAINED, FAIL, "more than 5.2 s of 5 s: still silent"),
        (Measure(4.8, None, "still silent"), DRAINED, UNKNOWN, "unmeasured: still silent"),
        (Measure(None, None, "too few samples"), DRAINED, UNKNOWN, "unmeasured: too few samples"),
        (Measure(None, None, "too few samples"), Measure(9.9, None, "behind"), FAIL, "behind"),
        (None, None, UNKNOWN, "not measured"),
    ],
)
def test_recovered(mttr: Measure | None, drain: Measure | None, verdict: Verdict, told: str) -> None:
    """The high bound counts; unmeasured is unknown, unless it is known to have been too late."""
    measures = {name: m for name, m in (("mttr", mttr), ("drain", drain)) if m}
    found = checks.recovered(replace(EMPTY, measures=measures, mttr_max_s=5, drain_max_s=9))
    assert found.verdict is verdict
    assert told in found.why


def test_what_the_run_waited_for_in_vain_is_no_pass() -> None:
    """Measures that say otherwise can't be believed."""
    good = replace(EMPTY, measures={"mttr": BACK, "drain": DRAINED}, mttr_max_s=5, drain_max_s=9, recovered=False)
    found = checks.recovered(good)
    assert (found.verdict, "in vain" in found.why) == (UNKNOWN, True)
    assert checks.recovered(replace(good, recovered=True)).verdict is PASS


# ---- offsets --------------------------------------------------------------------------------------------------------


def marked(position: Mapping[str, int], end: Mapping[str, int]) -> Marks:
    return Marks(0, 0, positions={"ch": position}, ends={"ch": end})


@pytest.mark.parametrize(
    ("healed", "ends", "verdict", "told"),
    [
        (marked({"t/0": 5}, {"t/0": 9}), marked({"t/0": 12}, {"t/0": 12}), PASS, "1 of 1 slots"),
        (marked({"t/0": 5}, {"t/0": 9}), marked({"t/0": 8}, {"t/0": 12}), FAIL, "ch stands at 8 in t/0, whose end"),
        (marked({"t/0": 9}, {"t/0": 9}), marked({"t/0": 9}, {"t/0": 12}), FAIL, "stands at 9"),
        (marked({"t/0": 5}, {"t/0": 9}), marked({}, {"t/0": 12}), FAIL, "never committed"),
        (marked({}, {"t/0": 9}), marked({"t/0": 12}, {"t/0": 12}), PASS, "1 of 1 slots"),
        (marked({}, {"t/0": 9, "t/1": 0}), marked({"t/0": 12}, {"t/0": 12, "t/1": 0}), PASS, "1 of 1"),
        (marked({"t/0": 9}, {"t/0": 9}), marked({"t/0": 9}, {"t/0": 9}), UNKNOWN, "no log grew"),
        (None, marked({}, {}), UNKNOWN, "not marked"),
    ],
)  # fmt: skip
def test_offsets_advance(healed: Marks | None, ends: Marks | None, verdict: Verdict, told: str) -> None:
    """Judged where the log grew: beyond what was there at recovery, and moved since."""
    found = checks.offsets_advance(replace(EMPTY, healed=healed, ends=ends))
    assert found.verdict is verdict
    assert told in found.why


@pytest.mark.parametrize(
    ("grew_at_s", "told_at_end", "verdict"), [(58.0, True, UNKNOWN), (50.0, True, FAIL), (58.0, False, FAIL)]
)
def test_what_has_only_just_come_need_not_be_committed(grew_at_s: float, told_at_end: bool, verdict: Verdict) -> None:
    """A quiet slot that was at the log's end until seconds ago is not stuck; one that has been behind for long is."""
    ends = [Sample(n * 1000 * MS, MS, 9.0 if n < grew_at_s else 10.0) for n in range(60)]
    evidence = replace(
        EMPTY,
        healed=marked({"t/0": 9}, {"t/0": 9}),
        ends=replace(marked({"t/0": 9}, {"t/0": 10}), at_ns=60_000 * MS),
        samples={"end/ch/t/0": ends} if told_at_end else {},
    )
    assert checks.offsets_advance(evidence).verdict is verdict


@pytest.mark.parametrize(("taken", "verdict"), [(12, PASS), (10, PASS), (9, UNKNOWN), (4, UNKNOWN), (None, PASS)])
def test_a_position_that_nobody_has_consumed_up_to_is_no_proof(taken: int | None, verdict: Verdict) -> None:
    """Another hand can commit for a consumer that stands still: the consumer's hop then has nothing new."""
    delivered = {} if taken is None else {"bronze": {"t/0": taken}, "other": {"u/0": 7}}
    ends = replace(marked({"t/0": 12}, {"t/0": 12}), delivered=delivered)
    found = checks.offsets_advance(replace(EMPTY, healed=marked({"t/0": 5}, {"t/0": 9}), ends=ends))
    assert found.verdict is verdict
    assert verdict is PASS or f"ch stands at 12 in t/0, but bronze had only {taken}" in found.why


def test_a_consumer_that_did_not_tell_its_positions_is_unknown() -> None:
    """Known before the act, and out of reach afterwards: what the other one did says nothing of it."""
    before = Baseline(Marks(0, 0, ends={"ch": {"t/0": 5}, "other": {"u/0": 7}}), 0.1, 1.0, {})
    healed, ends = marked({"t/0": 5}, {"t/0": 9}), marked({"t/0": 12}, {"t/0": 12})
    found = checks.offsets_advance(replace(EMPTY, baseline=before, healed=healed, ends=ends))
    assert (found.verdict, "other did not tell" in found.why) == (UNKNOWN, True)


def test_a_consumer_of_batches_may_hold_what_came_in_one_of_them() -> None:
    """Its slot grew six seconds before the end, and it writes and commits every five or so."""
    healed, ends = marked({"t/0": 9}, {"t/0": 9}), replace(marked({"t/0": 9}, {"t/0": 10}), at_ns=20 * S)
    grown = {"end/ch/t/0": [Sample(n * S, 2 * MS, 9.0 if n < 14 else 10.0) for n in range(20)]}
    held = replace(EMPTY, healed=healed, ends=ends, samples=grown)
    base = Baseline(Marks(0, 0), 5.0, 15.0, {})
    assert checks.offsets_advance(replace(held, baseline=replace(base, bound_s=1.0))).verdict is FAIL
    assert checks.offsets_advance(replace(held, baseline=base)).verdict is UNKNOWN  # nothing else has grown


# ---- what happened during the outage --------------------------------------------------------------------------------


def each(values: Sequence[float | None], every_ms: int = 100) -> list[Sample]:
    """One sample every 100 ms, answered after 2 ms."""
    return [Sample(n * every_ms * MS, 2 * MS, value) for n, value in enumerate(values)]


ANSWERS = each([1] * 10 + [None] * 15 + [1] * 15)
"""Silent from 1.0 s to 2.5 s."""


def outage(**samples: list[Sample]) -> Evidence:
    """binance's handler is silent from 1.0 s to 2.5 s; series are given with "__" for "/" and "_" for "."."""
    given = {name.replace("__", "/").replace("_", "."): found for name, found in samples.items()}
    act = Act("a", "r", 950 * MS, 0, "inject", "kill", {}, {}, "r")
    return replace(
        EMPTY, component="handler", affected=(A,), acts=(act,), inject_ns=act.at_ns, clock_ns=act.at_ns,
        samples={"component/handler/health": ANSWERS, **given},
    )  # fmt: skip


RISING = each([float(n) for n in range(40)])
STILL = each([5.0] * 40)
STALLED = each([float(min(n, 9)) for n in range(40)])


@pytest.mark.parametrize(
    ("evidence", "verdict", "told"),
    [
        (outage(end__ch__t__0=RISING, end__ch__t__1=STILL, end__ch__u__0=RISING), PASS, "t +1"),
        (outage(end__ch__t__0=RISING, end__ch__u__0=STALLED), FAIL, "u took nothing in 1.60 s"),
        (outage(end__ch__orders=RISING, end__ch__users=STALLED), FAIL, "users took nothing in 1.60 s"),
        (outage(end__ch__t__0=each([1.0, 2.0])), UNKNOWN, "too few samples"),
        (outage(), UNKNOWN, "too few samples"),
        (replace(outage(end__ch__t__0=RISING), samples={}), UNKNOWN, "never seen silent"),
    ],
)
def test_upstream_flows(evidence: Evidence, verdict: Verdict, told: str) -> None:
    """Each topic's end rises while the component is silent; a topic's quiet partition is no matter."""
    found = checks.upstream_flows(evidence)
    assert found.verdict is verdict
    assert told in found.why


def quiet(head: list[Sample], knows: bool, rate: float) -> Evidence:
    """Topic u takes nothing in the outage; its group's head at the ledger beside it."""
    base = Baseline(Marks(0, 0, heads={"exchange": {A: 0}}), 0.1, 1.0, {}, {A: rate})
    ends = {"end__ch__t__0": RISING, "end__ch__u__0": STALLED, "head__exchange__binance__BTCUSDT": head}
    return replace(outage(**ends), baseline=base, knows=knows)


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (quiet(STALLED, knows=True, rate=5.0), PASS),
        (quiet(STALLED, knows=False, rate=0.0), PASS),
        (quiet(STALLED, knows=False, rate=1.0), PASS),
        (quiet(STALLED, knows=False, rate=8.0), FAIL),
        (quiet(RISING, knows=True, rate=0.0), FAIL),
        (quiet([], knows=True, rate=0.0), FAIL),
    ],
)
def test_a_topic_that_nobody_wrote_to_is_quiet(evidence: Evidence, verdict: Verdict) -> None:
    """Only where the ledger had nothing new, and would have told: one outside, or a stream that seldom had anything
    before: one record a second may fail to come for a second and a half."""
    found = checks.upstream_flows(evidence)
    quiet_only = replace(evidence, samples={n: s for n, s in evidence.samples.items() if "ch/t" not in n})
    assert found.verdict is (PASS if verdict is PASS else FAIL)
    assert checks.upstream_flows(quiet_only).verdict is (UNKNOWN if verdict is PASS else FAIL)


IDLE = {"bronze.ingest_gap_s": {"a": 0.2, "b": 1.0}, "bronze.ingest_idle_s": {"a": 0.1, "b": 45.0}}


def idle(end: list[Sample], position: int | None, **more: Any) -> Evidence:
    """Nothing of topic b was inserted for 45 s; its log's end by the samples, and where its consumer stands."""
    positions = {} if position is None else {"b/0": position}
    ends = Marks(50 * S, 0, ends={"ch": {"b/0": int(end[-1].value or 0)}}, positions={"ch": positions})
    return replace(EMPTY, symptoms=IDLE, ends=ends, samples={"end/ch/b/0": end}, **more)


GROWN = [Sample(at * S, 0, 7.0 if at < 10 else 8.0) for at in range(50)]
JUST_GROWN = [Sample(at * S, 0, 7.0 if at < 48 else 8.0) for at in range(50)]


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (idle(GROWN, 8), PASS),
        (idle(JUST_GROWN, 7), PASS),
        (idle(GROWN, 7), FAIL),
        (idle(GROWN, None), FAIL),
        (idle([Sample(0, 0, 0.0)], None), PASS),
        (replace(EMPTY, symptoms=IDLE), FAIL),
        (replace(EMPTY, symptoms=IDLE, ends=Marks(50 * S, 0)), FAIL),
    ],
)
def test_a_topic_without_trades_is_no_gap(evidence: Evidence, verdict: Verdict) -> None:
    """It is one as soon as its log has something that the consumer hasn't taken; for as long as that is so."""
    assert checks.continuous(evidence).verdict is verdict


@pytest.mark.parametrize(
    ("ledger", "knows", "verdict"),
    [
        (right(rows=8, keys=8), True, PASS),
        (right(rows=8, keys=8), False, FAIL),
        (right(rows=8, keys=8, hi=8), True, FAIL),
        (Tally(0, 0, 0, 0, 0), True, FAIL),
    ],
)
def test_ids_that_the_venue_left_out_are_no_loss(ledger: Tally, knows: bool, verdict: Verdict) -> None:
    """Where the ledger knows what exists, and is as far as its own head; not where it is the platform's log."""
    digests = (held("exchange", "final", ledger), held("broker", "log", ledger), held("silver", "final", ledger))
    evidence = replace(EMPTY, window=Window({A: 0}, {A: 10}), digests=digests, knows=knows)
    assert checks.no_loss(evidence).verdict is verdict


def test_what_the_ledger_has_is_lost_where_ids_have_holes_too() -> None:
    """A hole of the venue's excuses nothing else."""
    evidence = history(held("silver", "final", right(rows=7, keys=7)), knows=True)
    sparse = replace(evidence, digests=(held("exchange", "final", right(rows=8, keys=8)), evidence.digests[1]))
    assert checks.no_loss(sparse).why.startswith("silver has 1 trade fewer than exchange")


def test_a_quiet_topic_in_a_short_outage_proves_nothing() -> None:
    """Half a second without a record may be chance: unknown, not fail."""
    short = outage(end__ch__u__0=STALLED)
    short = replace(
        short, samples={**short.samples, "component/handler/health": each([1] * 10 + [None] * 4 + [1] * 26)}
    )
    assert checks.upstream_flows(short).verdict is UNKNOWN


SERVED = each([7.0] * 40)
MOVED = each([7.0] * 15 + [8.0] * 25)
LOST = each([7.0] * 12 + [None] * 10 + [7.0] * 18)


@pytest.mark.parametrize(
    ("evidence", "verdict", "told"),
    [
        (outage(serving__trades_binance__0=SERVED, serving__trades_kraken__0=LOST), PASS, "1 slots kept their leader"),
        (outage(serving__trades_binance__0=LOST), FAIL, "trades.binance/0 served"),
        (outage(serving__trades_binance__0=MOVED), FAIL, "changed its leader from 7"),
        (outage(serving__trades_binance__0=each([7.0] * 5)), UNKNOWN, "was asked too rarely"),
        (outage(serving__trades_binance__0=SERVED[:12] + SERVED[24:]), UNKNOWN, "was asked too rarely"),
        (outage(), UNKNOWN, "no samples"),
        (replace(outage(serving__trades_binance__0=SERVED), component="other"), UNKNOWN, "never seen silent"),
    ],
)
def test_served(evidence: Evidence, verdict: Verdict, told: str) -> None:
    """The struck venue's topic, not another's, is fetched from during the outage."""
    found = checks.served(evidence)
    assert found.verdict is verdict
    assert told in found.why


OTHERS = each([7.0] * 12 + [None] * 6 + [8.0] * 22)
NOBODY = each([7.0] * 12 + [None] * 28)


@pytest.mark.parametrize(
    ("series", "bound_s", "verdict", "told"),
    [
        (SERVED, 18.0, PASS, "for up to 0.1 s, of 18 s; 0 of 1 slots have another leader"),
        (MOVED, 18.0, PASS, "1 of 1 slots have another leader"),
        (OTHERS, 18.0, PASS, "t/0 was without an answer for up to 0.7 s, of 18 s; 1 of 1 slots have another leader"),
        (OTHERS, 0.5, FAIL, "after handler fell silent t/0 was without an answer for up to 0.7 s, of 0.5 s"),
        (NOBODY, 1.0, FAIL, "without an answer for up to 1."),
        (each([7.0] * 5), 18.0, UNKNOWN, "asked too rarely"),
    ],
)
def test_what_one_of_several_brokers_led_another_may_lead(
    series: list[Sample], bound_s: float, verdict: Verdict, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the time that a cluster needs for that; nobody is no leader. Of one without others it is as before."""
    monkeypatch.setattr(import_module("gameday.verdict.checks.served"), "TAKEN_OVER_S", bound_s)
    alone = replace(outage(serving__t__0=series), role="broker")
    found = checks.served(replace(alone, spared=("b2",)))
    assert (found.verdict, told in found.why) == (verdict, True), found
    assert checks.served(alone) == checks.served(outage(serving__t__0=series))
    assert checks.served(replace(alone, role="consumer", spared=("b2",))) == checks.served(alone)


def test_those_that_were_struck_together_are_all_waited_for() -> None:
    """One that still hangs is not back."""
    samples = {"component/one/health": ANSWERS, "component/two/health": each([1] * 10 + [None] * 30)}
    together = replace(outage(), component="one", together=("one", "two"), samples=samples)
    mttr = timings.measure(together)["mttr"]
    assert (mttr.high_s, "component/two/health unanswered" in mttr.why) == (None, True)


def kept(**told: Any) -> dict[str, Any]:
    seen = {"dropped": 0, "expired": 0, "waiting": 300, "unread_s": 30.0, "retention_s": 60.0, **told}
    return {"retention": {"place": {"t/0": seen}}}


FORGOT = {
    "baseline": Baseline(Marks(0, 0, starts={"broker": {"t/0": 5}, "gone": {}}), 0.1, 1.0, {}),
    "ends": Marks(9 * S, 0, starts={"broker": {"t/0": 9}}),
}
"""The log has deleted since the baseline."""

CUT = history(held("broker", "log", right(rows=6, keys=6, sum=1)), held("silver", "final", right()), **FORGOT)
LOSSY = history(
    held("broker", "log", right(rows=6, keys=6, sum=1)), held("silver", "final", right(rows=8, keys=8, sum=2)), **FORGOT
)


@pytest.mark.parametrize(
    ("evidence", "symptoms", "verdict", "told"),
    [
        (CUT, {}, UNKNOWN, "was not asked"),
        (CUT, kept(), PASS, "30.0 s old (t/0), 50.0% of the 60 s that the log keeps: 30.0 s later"),
        (CUT, kept(), PASS, "would have begun to lose 10 records a second"),
        (CUT, kept(unread_s=70.0, expired=40), PASS, "40 records, those of 10.0 s, could have been deleted"),
        (CUT, kept(retention_s=None), PASS, "no time bounds what the log keeps"),
        (CUT, kept(unread_s=None), UNKNOWN, "place was never seen behind"),
        (
            LOSSY,
            kept(dropped=2),
            FAIL,
            "2 records were deleted before place had committed them: 2 of t/0 (the log keeps",
        ),
        (CUT, kept(dropped=2), PASS, "it had them in hand, for nothing is lost"),
        (replace(CUT, digests=CUT.digests[1:]), kept(dropped=2), UNKNOWN, "whether it had them in hand nothing tells"),
    ],
)
def test_retained(evidence: Evidence, symptoms: Mapping[str, Any], verdict: Verdict, told: str) -> None:
    """What a lag has cost, would have cost, or was away from."""
    found = checks.retained(replace(evidence, symptoms=symptoms))
    assert (found.verdict, told in found.why) == (verdict, True), found


def test_what_a_log_has_deleted_is_not_lost_there() -> None:
    """It is lost at the hop that lacks it. Where the log alone knows what there should be, nothing is known."""
    found = checks.no_loss(CUT)
    assert (found.verdict, "what broker lacks is not judged" in found.why) == (PASS, True), found
    assert checks.unchanged(CUT).verdict is PASS
    lost = checks.no_loss(LOSSY)
    assert (lost.verdict, lost.why) == (FAIL, "silver has 2 trades fewer than exchange: binance/BTCUSDT (2)")
    assert checks.counts(LOSSY)["lost"] == {"broker": 0, "silver": 2}
    blind = replace(CUT, digests=CUT.digests[1:])
    for check in (checks.no_loss, checks.no_duplicates, checks.unchanged):
        assert (check(blind).verdict, "broker has deleted records" in check(blind).why) == (UNKNOWN, True)
    still = replace(LOSSY, ends=Marks(9 * S, 0, starts={"broker": {"t/0": 5}}))
    assert checks.no_loss(still).why.startswith("broker has 4 trades fewer")


COMMITTED = each([500.0] * 30 + [520.0] * 10)


@pytest.mark.parametrize(
    ("first", "verdict", "told"),
    [
        ({"t/0": 500}, PASS, "1 of 1 slots"),
        ({"t/0": 503}, FAIL, "skipped 3 records (committed 500, went on at 503)"),
        ({"t/0": 0}, FAIL, "took 500 records again"),
        ({"t/9": 4}, UNKNOWN, "no committed position"),
        ({}, UNKNOWN, "nothing to judge"),
        (None, UNKNOWN, "nothing to judge"),
    ],
)
def test_resumed(first: Mapping[str, int] | None, verdict: Verdict, told: str) -> None:
    """The first offset after the start is the one that was committed then, not a later commit's."""
    symptoms = {} if first is None else {"bronze.first_after_start": first}
    found = checks.resumed(replace(outage(position__ch__t__0=COMMITTED), symptoms=symptoms))
    assert found.verdict is verdict
    assert told in found.why


MOVED_ON, MOVED_BACK = (each([500.0] * 14 + [to] * 26) for to in (563.0, 437.0))


def offsets(hop: str, *missing: int) -> Digest:
    """The places 400 to 999 of slot t/0, but for these."""
    ids = [n for n in range(400, 1000) if n not in missing]
    return Digest("offsets", hop, "raw", {("t", "0"): Tally(len(ids), len(ids), 400, 999, sum(ids))})


@pytest.mark.parametrize(
    ("position", "first", "digests", "verdict", "told"),
    [
        (MOVED_ON, 563, (offsets("broker"), offsets("bronze", *range(500, 563))), FAIL,
         "t/0: skipped 63 records (delivered 500, went on at 563: its committed offset was ahead)"),
        (MOVED_ON, 563, (offsets("broker"), offsets("bronze")), PASS, "1 of 1 slots"),  # none of them was a record
        (MOVED_ON, 563, (), UNKNOWN, "t/0: bronze had only 500 of the 563 that were committed"),
        (MOVED_BACK, 437, (), FAIL, "t/0: took 63 records again (committed 500, went on at 437)"),
        (COMMITTED, 500, (), PASS, "1 of 1 slots"),
    ],
)  # fmt: skip
def test_an_offset_that_another_hand_has_committed_is_not_believed(
    position: list[Sample], first: int, digests: tuple[Digest, ...], verdict: Verdict, told: str
) -> None:
    """It is held against what the consumer had delivered, and had committed itself."""
    symptoms = {"bronze.first_after_start": {"t/0": first}, "bronze.last_before_start": {"t/0": 499}}
    found = checks.resumed(replace(outage(position__ch__t__0=position), symptoms=symptoms, digests=digests))
    assert (found.verdict, told in found.why) == (verdict, True), found.why


def test_a_cursor_that_never_answered_is_no_slot() -> None:
    """Its bare name is a series of silence; the checks that look for its slots say unknown."""
    mute = outage(position__ch=each([None] * 40), end__ch=each([None] * 40))
    assert checks.resumed(replace(mute, symptoms={"bronze.first_after_start": {"t/0": 500}})).verdict is UNKNOWN
    assert checks.upstream_flows(mute).verdict is UNKNOWN


def test_resumed_knows_the_last_commit_of_a_consumer_that_ended_well() -> None:
    """The old process committed 520 between the last sample before the new one's start and that start."""
    late = each([500.0] * 20 + [520.0] * 20)
    started = Marks(4 * S, 1_000_000_000, identities={"handler": {"started_us": 1_000_000_000 - 2_020_000}})
    evidence = replace(outage(position__ch__t__0=late), ends=started)
    assert checks.resumed(replace(evidence, symptoms={"bronze.first_after_start": {"t/0": 520}})).verdict is PASS
    assert checks.resumed(replace(evidence, symptoms={"bronze.first_after_start": {"t/0": 521}})).verdict is FAIL


def test_resumed_looks_at_the_moment_the_process_started() -> None:
    """A commit between the start and the first answer is not what the consumer resumed from."""
    early = each([500.0] * 22 + [520.0] * 18)
    started = Marks(4 * S, 1_000_000_000, identities={"handler": {"started_us": 1_000_000_000 - 2_000_000}})
    evidence = replace(
        outage(position__ch__t__0=early), symptoms={"bronze.first_after_start": {"t/0": 500}}, ends=started
    )
    assert checks.resumed(evidence).verdict is PASS
    assert checks.resumed(replace(evidence, ends=None)).verdict is FAIL


# ---- the others -----------------------------------------------------------------------------------------------------


def around(before: Mapping[str, Any], after: Mapping[str, Any], **samples: list[Sample]) -> Evidence:
    """The outage above, with processes before and after, and a second stream that is well unless given otherwise."""
    heads = {
        "head/exchange/kraken/BTC%2FUSD": each([float(n) for n in range(40)]),
        "head/silver/kraken/BTC%2FUSD": each([float(max(0, n - 2)) for n in range(40)]),
    }
    evidence = outage(**samples)
    return replace(
        evidence,
        baseline=Baseline(Marks(0, 0, heads={"exchange": {A: 0, B: 0}}, identities=before), 0.3, 1.0, {}),
        ends=Marks(5 * S, 0, identities=after),
        measures={"restore": Measure(1.5, 1.6)},
        samples={**heads, **evidence.samples},
    )


SAME = {"handler": {"pid": 1}, "other": {"pid": 2}}
BACK_AGAIN = {"handler": {"pid": 9}, "other": {"pid": 2}}
REVIVED = {"handler": {"pid": 9}, "other": {"pid": 8}}
BEHIND = {"head/silver/kraken/BTC%2FUSD": each([float(min(n, 8)) for n in range(40)])}
WELL = around(SAME, BACK_AGAIN)


@pytest.mark.parametrize(
    ("evidence", "verdict", "told"),
    [
        (WELL, PASS, "1 other streams: good in 100.0 % of samples"),
        (around(SAME, REVIVED), FAIL, "other is another process"),
        (around(SAME, BACK_AGAIN, component__other__health_connects=each([1.0] * 15 + [2.0] * 25)), FAIL,
         "other connected again (1 → 2)"),
        (around(SAME, BACK_AGAIN, component__other__health_connects=each([1.0] * 35 + [2.0] * 5)), PASS, "good in 100"),
        (replace(WELL, samples={**WELL.samples, **BEHIND}), FAIL, "good in"),
        (replace(WELL, affected=(A, B)), SKIPPED, "every stream's way"),
        (replace(WELL, measures={}), UNKNOWN, "restore is unmeasured"),
        (replace(WELL, ends=None), UNKNOWN, "nothing to judge"),
        (replace(WELL, samples=outage().samples), UNKNOWN, "too few samples"),
        (replace(WELL, digests=tuple(held(hop, "raw", right(), right(hi=n)) for hop, n in (("e", 10), ("silver", 9)))),
         FAIL, "silver is not what the ledger says in kraken/BTC/USD"),
        (EMPTY, UNKNOWN, "nothing to judge"),
    ],
)  # fmt: skip
def test_isolation(evidence: Evidence, verdict: Verdict, told: str) -> None:
    """Between inject and restore, and only then, the others stay good, the same processes and connections, and
    right.
    """
    found = checks.isolation(evidence)
    assert found.verdict is verdict
    assert told in found.why


def test_another_stream_too_far_behind_fails_even_when_few_samples_say_so() -> None:
    """99 % good is not enough when one stream was more than 5 s behind."""
    late = each([float(n) for n in range(400)], every_ms=25)
    one = [*(float(max(0, n - 2)) for n in range(399)), 0.0]
    evidence = replace(WELL, measures={"restore": Measure(9.0, 9.1)}, samples={**WELL.samples, **{
        "head/exchange/kraken/BTC%2FUSD": late, "head/silver/kraken/BTC%2FUSD": each(one, every_ms=25)}})  # fmt: skip
    assert "9." in checks.isolation(evidence).why
    assert checks.isolation(evidence).verdict is FAIL
    assert evidence.baseline is not None
    batched = replace(evidence, baseline=replace(evidence.baseline, bound_s=15.0))  # it is so far behind at most times
    assert checks.isolation(batched).verdict is PASS


@pytest.mark.parametrize(
    ("evidence", "verdict", "told"),
    [
        (
            around(SAME, BACK_AGAIN, component__other__health=each([1, None, None])),
            PASS,
            "other are the same processes",
        ),
        (around(SAME, REVIVED), FAIL, "other is another process"),
        (around(SAME, {"handler": {"pid": 9}}), FAIL, "other is not running"),
        (
            around(SAME, BACK_AGAIN, component__other__health=each([1, None, None, None])),
            FAIL,
            "other does not answer (health)",
        ),
        (around({"handler": {"pid": 1}}, BACK_AGAIN), UNKNOWN, "nothing to judge"),
        (EMPTY, UNKNOWN, "not marked"),
    ],
)
def test_reconnected(evidence: Evidence, verdict: Verdict, told: str) -> None:
    """Everything but the struck component is the process that it was, and answers."""
    found = checks.reconnected(evidence)
    assert found.verdict is verdict
    assert told in found.why


@pytest.mark.parametrize(
    ("evidence", "excused"),
    [
        (around(SAME, REVIVED), True),
        (around(SAME, {"handler": {"pid": 9}}), False),
        (around(SAME, BACK_AGAIN, component__other__health=each([1, *[None] * 9])), True),
        (around(SAME, BACK_AGAIN, component__other__health=each([1, *[None] * 101])), False),
    ],
)
def test_what_never_came_back_is_not_excused_by_a_busy_machine(evidence: Evidence, excused: bool) -> None:
    """Load explains a process that a watchdog has started again, and answers that are late. It explains no process that
    is gone to the end, and none that answered nothing for ten seconds."""
    assert (checks.reconnected(evidence).timed is not None) is excused


@pytest.mark.parametrize(
    ("faults", "letter", "verdict"),
    [
        (("ask",), {}, FAIL),
        (("ask",), {"unanswered": True}, PASS),
        (("ask", "pause"), {}, PASS),
        (("ask", "pause"), {"at_us": 5}, FAIL),
    ],
)
def test_a_delivery_too_many_needs_an_answer_that_was_lost(
    faults: tuple[str, ...], letter: Mapping[str, Any], verdict: Verdict
) -> None:
    """A bound that is wrong by one hands out each dead letter once more, and nothing was broken that explains it."""
    acts = tuple(Act(f"a{n}", "r", n, 10, "fault", fault, {}, {}, "") for n, fault in enumerate(faults, 1))
    told = {"id": "p", "reason": "it raises", "attempts": 5, "rejected": False, "expected": True, "at_us": 20, **letter}
    handed_out = {"redelivered": [{"id": "p", "deliveries": 6}], "most": 5, "buried_by": "consumer"}
    accounts = {"deliveries": handed_out, "letters": {"expected": ["p"], "letters": [told], "most": 5}}
    evidence = replace(EMPTY, acts=acts, symptoms={"accounts": accounts})
    assert checks.delivered_at_most(evidence).verdict is verdict


@pytest.mark.parametrize(
    ("positions", "verdict"),
    [({}, UNKNOWN), ({"b/1": each([None, None])}, UNKNOWN), ({"b/1": each([1.0, 2.0])}, PASS)],
)
def test_a_consumer_that_never_told_its_position_is_not_sane(
    positions: Mapping[str, list[Sample]], verdict: Verdict
) -> None:
    """That its log's end never fell says nothing of it. In a slot that nothing came to it need not have one."""
    ends = {f"end/{slot}": each([5.0, 6.0]) for slot in ("a/1", "b/0", "b/1")}
    told = {f"position/{slot}": samples for slot, samples in {"a/1": each([1.0, 2.0]), **positions}.items()}
    assert checks.position_sane(replace(EMPTY, samples={**ends, **told})).verdict is verdict


@pytest.mark.parametrize(("at", "verdict"), [({"at_us": 9}, Verdict.INVALID), ({"at_us": 10}, PASS), ({}, PASS)])
def test_what_came_again_before_the_fault_did_not_come_through_it(at: Mapping[str, int], verdict: Verdict) -> None:
    """A fault that left nothing without an answer has shown nothing, whatever an earlier one had left."""
    act = Act("a", "r", 1, 10, "fault", "failpoint", {"component": "router-a"}, {}, "")
    accounts = {"deliveries": {"redelivered": [{"id": "x", "deliveries": 2, **at}], "most": 5}}
    assert checks.redelivered(replace(EMPTY, acts=(act,), symptoms={"accounts": accounts})).verdict is verdict


@pytest.mark.parametrize(
    ("drain", "died_s", "verdict"),
    [
        (Measure(3.9, 4.0), 5.5, PASS),
        (Measure(3.9, 4.0), 20.0, FAIL),
        (Measure(None, None, "no sample was bad"), 20.0, PASS),
        (None, 20.0, PASS),
    ],
)
def test_a_sound_message_that_dies_when_all_has_long_drained_died_of_no_fault(
    drain: Measure | None, died_s: float, verdict: Verdict
) -> None:
    """A router that handles nothing any more since it connected again makes dead letters of all: each has its outcome,
    and nothing is behind."""
    act = Act("a", "r", 1, 0, "fault", "pause", {"component": "broker"}, {}, "")
    letter = {"id": "x", "reason": "handed out 5 times", "attempts": 5, "rejected": False, "expected": False}
    told = {"expected": [], "letters": [{**letter, "at_us": int(died_s * 1e6)}], "most": 5}
    baseline = Baseline(Marks(0, 0), 0.3, 1.0, {})
    measures = {} if drain is None else {"drain": drain}
    accounts = {"accounts": {"letters": told}}
    evidence = replace(EMPTY, acts=(act,), inject_ns=1, baseline=baseline, measures=measures, symptoms=accounts)
    assert checks.dead_lettered(evidence).verdict is verdict


def test_a_process_that_is_gone_is_no_matter_of_time_for_isolation_either() -> None:
    """One that a watchdog has started again may be the load's doing."""
    assert checks.isolation(around(SAME, REVIVED)).timed is not None
    gone = checks.isolation(around(SAME, {"handler": {"pid": 9}}))
    assert (gone.verdict, gone.timed) == (FAIL, None)


def test_every_check_is_unknown_without_evidence() -> None:
    """Nothing to judge is never a pass."""
    names = [name for name in checks.__all__ if name not in ("INTACT", "EXPORTED", "counts", "guilty")]
    assert {name: getattr(checks, name)(EMPTY).verdict for name in names} == dict.fromkeys(names, UNKNOWN)
