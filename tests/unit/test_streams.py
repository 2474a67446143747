"""Several streams in one stack: each is declared, followed and judged by itself, and what is wrong names its stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.errors import ConfigError, DriverError
from gameday.model import (
    Baseline,
    Digest,
    Evidence,
    Finding,
    Followed,
    Group,
    Marks,
    Measure,
    Now,
    Sample,
    Tally,
    Timed,
    Verdict,
    Window,
)
from gameday.plan import FailureTest
from gameday.reports.html import _streams as shown_streams
from gameday.reports.timeline import _streams as rows_of
from gameday.sampling import conditions, timings
from gameday.stack import reading
from gameday.stack.live import Stack
from gameday.state import State
from gameday.verdict import checks, diagnose
from gameday.verdict.streams import judged, merged, whole
from tasks import verify
from tests.fakes import TOY
from tests.trades import TRADES, live, stack_of

PASS, SKIPPED, UNKNOWN, FAIL = Verdict.PASS, Verdict.SKIPPED, Verdict.UNKNOWN, Verdict.FAIL
A: Group = ("a",)
"""A group of both streams."""

NS = 1_000_000_000
HOPS: Mapping[str, tuple[str, ...]] = {"orders": ("log", "sink"), "events": ("topic", "table")}


def right(**changes: Any) -> Tally:
    """Ten records, numbers 1 to 10, all of them right."""
    return replace(Tally(rows=10, keys=10, lo=1, hi=10, sum=77, back=None, key_sum=7), **changes)


def followed(stream: str, **more: Any) -> Followed:
    hops = HOPS[stream]
    window = Window({A: 0}, {A: 10})
    given = {"topics": (f"{stream}.v1",), "groups": (A,), "affected": (A,), "rates": {A: 10.0}, "window": window}
    return Followed(stream, hops, hops[-1], **{**given, **more})


def digests(stream: str, held: Tally) -> list[Digest]:
    """The log, with its places; and what users query, which holds this."""
    log, table = HOPS[stream]
    return [
        Digest(stream, log, "log", {A: right(back=0)}),
        Digest("offsets", log, "log", {(f"{stream}.v1", "0"): right()}),
        Digest(stream, table, "final", {A: held}),
        Digest("offsets", table, "raw", {(f"{stream}.v1", "0"): right()}),
    ]


def evidence(orders: Tally | None = None, events: Tally | None = None, **more: Any) -> Evidence:
    heads = {hop: {A: 0} for hops in HOPS.values() for hop in hops}
    return Evidence(
        "t",
        {},
        "s",
        baseline=Baseline(Marks(0, 0, heads), 1.0, 3.0, {}),
        digests=(*digests("orders", orders or right()), *digests("events", events or right())),
        followed=(followed("orders", bound_s=3.0), followed("events", bound_s=1.0)),
        **more,
    )


def of(check: Any, known: Evidence, untold: Mapping[str, str] | None = None) -> Finding:
    return judged(check, known, lambda _: untold or {})


# ---- judged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", checks.INTACT[:4], ids=lambda check: check.__name__)
def test_all_streams_that_are_right_pass(check: Any) -> None:
    """The finding tells of both."""
    found = of(check, evidence())
    assert found.verdict is PASS, found.why
    assert "orders: " in found.why
    assert "events: " in found.why


@pytest.mark.parametrize("stream", HOPS)
@pytest.mark.parametrize(
    ("check", "kind", "held"),
    [
        (checks.no_loss, "lost", right(rows=9, keys=9, sum=70, key_sum=6)),
        (checks.no_duplicates, "doubled", right(rows=11)),
        (checks.unchanged, "changed", right(sum=78)),
    ],
)
def test_what_is_wrong_in_one_stream_is_found_there(stream: str, check: Any, kind: str, held: Tally) -> None:
    """At its hop, though both have a group of the same name; the other stream is intact."""
    known = evidence(**{stream: held})
    found = of(check, known)
    table = HOPS[stream][1]
    assert (found.verdict, found.why.startswith(f"{stream}: {table} has ")) == (FAIL, True), found.why
    (other,) = set(HOPS) - {stream}
    assert f"{other}: " not in found.why
    assert check(next(one for one in known.each() if one.stream == other)).verdict is PASS
    numbers = checks.counts(known)[kind]
    assert {hop: number for hop, number in numbers.items() if number} == {table: 1}
    assert diagnose.wanted(known) == [(table, A)]
    (told,) = diagnose.culprits(known)
    assert told.startswith(f"Look between {HOPS[stream][0]} and {table}: that is where records were first {kind}")


def test_a_stream_whose_log_goes_back_is_named() -> None:
    """The order of each log is its own."""
    known = evidence()
    back = Digest("events", "topic", "log", {A: right(back=2)})
    known = replace(known, digests=tuple(back if d.hop == "topic" and d.view == "log" and d.stream == "events" else d
                                         for d in known.digests))  # fmt: skip
    found = of(checks.order, known)
    assert (found.verdict, found.why) == (FAIL, "events: topic has 2 records first seen after a higher id: a (2)")


def test_a_hop_that_gave_no_digest_leaves_the_other_stream_judged() -> None:
    """What its trouble was is no trouble of the other's."""
    known = evidence(symptoms={"trouble": {"table": "away"}, "not_passed": ["table"], "untold": ["table"]})
    known = replace(known, digests=tuple(d for d in known.digests if d.hop != "table"))
    orders, events = known.each()
    assert checks.no_loss(orders).verdict is PASS
    assert checks.unchanged(orders).verdict is PASS
    assert checks.no_loss(events).verdict is UNKNOWN
    found = of(checks.no_loss, known)
    assert (found.verdict, found.why.startswith("events: ")) == (UNKNOWN, True)


def test_what_a_hop_shows_beyond_its_ledger_is_its_streams() -> None:
    """A surplus of one is none of the other."""
    known = evidence(symptoms={"surplus": {"sink": [[["a"], 99, 10]]}})
    orders, events = known.each()
    assert checks.no_duplicates(orders).verdict is FAIL
    assert checks.no_duplicates(events).verdict is PASS


def test_symptoms_are_those_of_the_streams_own_hops() -> None:
    """One stream's pause in ingestion is not the other's."""
    known = evidence(symptoms={"sink.ingest_gap_s": {"orders.v1": 1.0}, "table.ingest_gap_s": {"events.v1": 31.0}})
    found = of(checks.continuous, known)
    assert (found.verdict, found.why) == (FAIL, "events: the largest gap in ingestion is 31.0 s of 30 s (events.v1)")


@pytest.mark.parametrize(
    ("found", "verdict", "why"),
    [
        ({"a": Finding("c", PASS, "all"), "b": Finding("c", PASS, "all")}, PASS, "all"),
        ({"a": Finding("c", PASS, "5"), "b": Finding("c", PASS, "6")}, PASS, "a: 5; b: 6"),
        ({"a": Finding("c", PASS, "5"), "b": Finding("c", FAIL, "6")}, FAIL, "b: 6"),
        ({"a": Finding("c", UNKNOWN, "5"), "b": Finding("c", PASS, "6")}, UNKNOWN, "a: 5"),
        ({"a": Finding("c", UNKNOWN, "5"), "b": Finding("c", FAIL, "6")}, FAIL, "b: 6"),
        ({"a": Finding("c", SKIPPED, "no log"), "b": Finding("c", PASS, "6")}, PASS, "b: 6; a: no log"),
        ({"a": Finding("c", SKIPPED, "5"), "b": Finding("c", SKIPPED, "6")}, SKIPPED, "a: 5; b: 6"),
    ],
    ids=str,
)
def test_the_worst_of_all_streams_is_the_finding(found: dict[str, Finding], verdict: Verdict, why: str) -> None:
    """What is the same of all is told once; what was not judged is told beside a pass."""
    one = merged("c", found)
    assert (one.verdict, one.why) == (verdict, why)


def test_a_fail_is_about_time_alone_only_if_all_of_it_is() -> None:
    """Lateness of one stream excuses no loss of another."""
    late, lost = Finding("c", FAIL, "late", timed=Timed(0, 1)), Finding("c", FAIL, "lost")
    assert merged("c", {"a": late, "b": lost}).timed is None
    assert merged("c", {"a": late, "b": replace(late, why="later")}).timed == Timed(0, 1)


def test_what_cant_be_judged_of_one_stream_is_judged_of_the_other() -> None:
    """A stream without a log has no order."""
    found = judged(checks.order, evidence(), lambda stream: {"order": "no hop is a log"} if stream == "events" else {})
    assert found.verdict is PASS
    assert found.why.endswith("; events: not judged here: no hop is a log")


def test_what_is_about_the_platform_is_asked_once() -> None:
    """And sees the evidence of the whole run."""
    seen: list[Evidence] = []

    def check(known: Evidence) -> Finding:
        seen.append(known)
        return Finding("check", PASS, "well")

    assert of(whole(check), evidence()) == Finding("check", PASS, "well")
    assert [len(known.followed) for known in seen] == [2]


def test_a_check_that_knows_nothing_of_streams_judges_each() -> None:
    """One that somebody wrote for a single stream."""
    seen: list[str] = []

    def check(known: Evidence) -> Finding:
        seen.append(f"{known.stream} {known.ledger} {known.visible}")
        return Finding("check", PASS, "well")

    assert of(check, evidence()).why == "well"
    assert seen == ["orders log sink", "events topic table"]


# ---- followed ----------------------------------------------------------------------------------------------


def samples(values: Sequence[float | None], hz: float = 20) -> list[Sample]:
    return [Sample(int(n / hz * NS), 2_000_000, value) for n, value in enumerate(values)]


def head(frozen_s: tuple[float, float] = (0, 0), delay_s: float = 0.1, to_s: float = 30) -> list[Sample]:
    """A hundred records a second, visible after the delay, but for the time in which nothing moves."""
    at = [n / 20 for n in range(int(to_s * 20))]
    return samples([float(int(100 * max(0, (frozen_s[0] if frozen_s[0] <= t < frozen_s[1] else t) - delay_s)))
                    for t in at])  # fmt: skip


def outage(orders_s: float, events_s: float) -> Evidence:
    """The broker is silent from second 5 to 6; what users see of each stream moves on at these moments."""
    probe = samples([None if 5 <= n / 20 < 6 else 1.0 for n in range(600)])
    series = {
        "component/broker/protocol": probe,
        "head/log/a": head(delay_s=0),
        "head/sink/a": head((5, orders_s)),
        "head/topic/a": head(delay_s=0),
        "head/table/a": head((5, events_s)),
    }
    return replace(evidence(), component="broker", samples=series, inject_ns=5 * NS, clock_ns=5 * NS)


@pytest.mark.parametrize(("orders_s", "events_s"), [(8.0, 11.0), (11.0, 8.0)])
def test_what_is_measured_is_back_when_the_last_stream_is(orders_s: float, events_s: float) -> None:
    """Restore and drain are those of the slower one, whichever that is."""
    known = timings.measure(outage(orders_s, events_s))
    for name in ("restore", "drain", "mttr"):
        measure = known[name]
        assert measure.high_s is not None, measure
        assert 5.9 <= measure.high_s <= 6.2, (name, measure)
    (slower,) = (one for one in outage(orders_s, events_s).each() if one.stream == ("orders", "events")[orders_s < 9])
    assert timings.measure(slower)["restore"] == known["restore"]


def test_a_stream_that_the_component_does_not_carry_has_to_be_drained_too() -> None:
    """Service is back before that: only those that it carries are served by it."""
    known = outage(8.0, 11.0)
    found = timings.measure(replace(known, followed=(known.followed[0], replace(known.followed[1], affected=()))))
    restore, drain = found["restore"].high_s, found["drain"].high_s
    assert restore is not None
    assert drain is not None
    assert 2.9 <= restore <= 3.2
    assert 5.9 <= drain <= 6.2


def test_each_stream_has_its_own_bound() -> None:
    """Two seconds behind is normal for one, and bad for the other."""
    known = replace(
        evidence(),
        samples={
            "head/log/a": head(delay_s=0), "head/sink/a": head(delay_s=2),
            "head/topic/a": head(delay_s=0), "head/table/a": head(delay_s=2),
        },
    )  # fmt: skip
    late = {state.series: bool((state.status[200:] == timings.BAD).any()) for state in timings.good(known)}
    assert late == {"head/sink/a": False, "head/table/a": True}


def now(**visible: list[Sample]) -> Now:
    series = {
        "component/broker/protocol": samples([1.0] * 600),
        "head/log/a": head(delay_s=0),
        "head/topic/a": head(delay_s=0),
        "head/sink/a": head(),
        "head/table/a": head(),
    }
    streams = (followed("orders", bound_s=3.0), followed("events", bound_s=1.0))
    shown = {f"head/{hop}/a": given for hop, given in visible.items()}
    return Now(30 * NS, {**series, **shown}, "broker", (), (), "", "", 3.0, followed=streams)


@pytest.mark.parametrize("hop", ["sink", "table"])
def test_a_stack_is_well_when_all_streams_are(hop: str) -> None:
    """The hop of the one that stands still is named."""
    assert conditions.ailing(now()) == []
    assert conditions.flowing(now())
    assert conditions.restored(now())
    assert conditions.drained(now())
    still = now(**{hop: head((20, 40))})
    assert conditions.ailing(still)[0].startswith(f"{hop} shows nothing new of a")
    assert not conditions.flowing(still)
    assert not conditions.restored(still)
    assert not conditions.drained(still)


def test_behind_is_seen_of_every_affected_stream() -> None:
    """While one of them still shows all, the fault has not reached it."""
    assert not conditions.behind(5)(now(sink=head((20, 40))))
    assert conditions.behind(5)(now(sink=head((20, 40)), table=head((20, 40))))


def test_a_stream_that_has_had_no_record_yet_holds_nobody_up() -> None:
    """It has no group: there is nothing that could stand still."""
    here = now()
    empty = replace(here, followed=(here.followed[0], replace(here.followed[1], groups=(), affected=())))
    assert conditions.flowing(empty)
    none = replace(here, followed=tuple(replace(one, groups=()) for one in here.followed))
    assert conditions.ailing(none) == ["nothing was sampled yet"]


def test_the_other_streams_topic_may_be_quiet() -> None:
    """Whether a topic had nothing new, its own stream's ledger says."""
    known = outage(8.0, 11.0)
    still = samples([7.0] * 600)
    quiet = {"head/topic/a": still, "head/table/a": still, "end/c/events.v1/0": still}
    known = replace(known, samples={**known.samples, **quiet, "end/c/orders.v1/0": head(delay_s=0)})
    streams = tuple(replace(one, knows=True) for one in known.followed)
    found = checks.upstream_flows(replace(known, followed=streams))
    assert found.verdict is PASS, found.why
    stood = replace(known, samples={**known.samples, "head/topic/a": head(delay_s=0)}, followed=streams)
    assert checks.upstream_flows(stood).verdict is FAIL


def test_isolation_looks_at_the_streams_that_the_component_does_not_carry() -> None:
    """All of one stream may be such another."""
    known = outage(8.0, 5.0)
    ends = Marks(20 * NS, 0)
    known = replace(
        known,
        ends=ends,
        measures={"restore": Measure(3.0, 3.1)},
        followed=(known.followed[0], replace(known.followed[1], affected=())),
    )
    found = of(checks.isolation, known)
    assert found.verdict is PASS, found.why
    assert found.why.startswith("events: 1 other streams: good in 100.0 %")
    late = replace(known, samples={**known.samples, "head/table/a": head((5, 11))})
    assert of(checks.isolation, late).verdict is FAIL


# ---- shown -------------------------------------------------------------------------------------------------


def test_the_report_tells_streams_apart() -> None:
    """Rows of the timeline, and places in logs that have one name."""
    assert [row.name for row in rows_of(outage(8.0, 11.0), 0)[0]] == ["orders a", "events a"]
    named = {(table["name"], table["reference"]) for table in shown_streams(evidence())}
    assert named == {("orders", "log"), ("orders offsets", "log"), ("events", "topic"), ("events offsets", "topic")}


# ---- declared ----------------------------------------------------------------------------------------------

TWO = (
    TOY
    + """
[hosts.local]
[components.web]
probes.p = { driver = "disk", path = "/" }
[streams.events]
key = ["event_id"]
time = "at"
fields = { event_id = "uuid", at = "time" }
hops = ["topic", "table"]
visible = "table"
path = ["web"]
[hops.topic]
driver = "kafka"
brokers = "127.0.0.1:1"
topics = ["events.v1"]
[hops.table]
driver = "clickhouse"
"""
)
ARCHIVE = """[jobs.export]
driver = "prefect_api"
[archive]
job = "export"
worker = "web"
table = { driver = "iceberg" }
"""


def opened(text: str, tmp_path: Path) -> Stack:
    path = tmp_path / "gameday.toml"
    path.write_text(text)
    return Stack(reading.load(path, State(tmp_path)), State(tmp_path), path)


def test_two_streams_are_declared_in_one_file(tmp_path: Path) -> None:
    """Each with hops of its own."""
    stack = opened(TWO, tmp_path)
    assert {name: live.stream.hops for name, live in stack.streams.items()} == {
        "numbers": ("one", "two"),
        "events": ("topic", "table"),
    }
    assert stack.stream_of("table").name == "events"
    stack._hops.update(dict.fromkeys(("one", "two", "topic", "table")))
    heads = [spec.series for spec in stack.probes() if spec.series.startswith("head/")]
    assert heads == ["head/one", "head/two", "head/topic", "head/table"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (('hops = ["topic", "table"]', 'hops = ["one", "table"]'),
         "hops.one is named by streams.numbers.hops and streams.events.hops, but a hop holds one stream. Remedy: a "
         "[hops.NAME] for each, such as [hops.events-one] for events"),
        (('driver = "kafka"', 'driver = "kafka"\nfields = { id = "n" }'),
         "hops.topic.fields has 'id', which the stream has not. Remedy: one of event_id, at, or add it to "
         "streams.events.fields"),
        (("[hops.table]", ARCHIVE + "[hops.table]"), "archive.stream is missing. Remedy: which stream is exported: "
         "numbers, events"),
        (("[hops.table]", ARCHIVE.replace("[archive]", '[archive]\nstream = "numbrs"') + "[hops.table]"),
         "archive.stream is 'numbrs'. Remedy: which stream is exported: numbers, events"),
        (("[hops.table]", ARCHIVE.replace("[archive]", '[archive]\nstream = "events"') + "[hops.table]"),
         "archive is there, but streams.events has no sequence"),
        (("streams.events", "streams.offsets"), "streams.offsets can't be called so"),
        (("[hops.table]", '[hops."a/b"]\ndriver = "tape"\n[hops.table]'), "hops.a/b can't be called so"),
    ],
    ids=lambda given: given[:40] if isinstance(given, str) else "",
)  # fmt: skip
def test_what_is_wrong_with_several_streams_is_told(edit: tuple[str, str], told: str, tmp_path: Path) -> None:
    """With key, value and remedy."""
    with pytest.raises(ConfigError) as raised:
        opened(TWO.replace(*edit), tmp_path)
    assert told in str(raised.value)


def test_the_mistakes_of_all_streams_are_told_at_once(tmp_path: Path) -> None:
    """Of the first and of the second."""
    wrong = TWO.replace('key = ["id"]', "key = []").replace('at = "time"', 'at = "tim"')
    with pytest.raises(ConfigError) as raised:
        opened(wrong, tmp_path)
    assert "streams.numbers.key is missing" in str(raised.value)
    assert "streams.events.fields.at: 'tim' is no type" in str(raised.value)


def test_one_stream_of_several_is_exported(tmp_path: Path) -> None:
    """The one that [archive] names."""
    text = TWO.replace("[hops.table]", ARCHIVE.replace("[archive]", '[archive]\nstream = "numbers"') + "[hops.table]")
    stack = opened(text, tmp_path)
    assert stack.stream_of("archive").name == "numbers"


# ---- gathered ----------------------------------------------------------------------------------------------


class Held:
    """A hop of these records; `held` is what its digest has of each group."""

    def __init__(self, stream: str, name: str, held: Tally, view: str = "final", head: int = 10) -> None:
        self.stream, self.name, self.held, self.view, self.head = stream, name, held, view, head

    def heads(self) -> dict[Group, int]:
        return {A: self.head}

    def digest(self, window: Window) -> list[Digest]:
        assert window.hi == {A: self.head}, f"{self.name} is asked for another stream's window"
        return [Digest(self.stream, self.name, self.view, {A: self.held})]

    def rows(self, group: Group, lo: int, hi: int) -> dict[str, Any]:
        raise DriverError("rows are not listed here", definite=True)


def run_over(**tables: Tally) -> Any:
    """A run over two streams whose numbers are far apart; what their tables hold."""
    orders = live({"log": Held("orders", "log", right(), "log"),
                   "sink": Held("orders", "sink", tables.get("orders", right()))},
                  replace(TRADES, name="orders"))  # fmt: skip
    many = right(lo=991, hi=1000)
    events = live({"topic": Held("events", "topic", many, "log", 1000),
                   "table": Held("events", "table", tables.get("events", many), head=1000)},
                  replace(TRADES, name="events"))  # fmt: skip
    stack = stack_of(orders, events, untold=lambda stream=None: {}, accounts={}, contract=None)
    marks = Marks(0, 0, {"log": {A: 0}, "sink": {A: 0}, "topic": {A: 990}, "table": {A: 990}})
    run: Any = SimpleNamespace(
        stack=stack,
        test=FailureTest(plan=(), mttr_max_s=1.0, checks=checks.INTACT[:3]),
        baseline=Baseline(marks, 0.0, 1.0, {}),
        followed={name: followed(name, window=None) for name in HOPS},
        symptoms={},
        digests=(),
        acts=(),
        alert=None,
        lasts=lambda: None,
        watching=lambda: None,
        log=print,
        gathered=None,
        healed=None,
    )
    run.evidence = lambda: Evidence(
        "t", {}, "s", baseline=run.baseline, digests=run.digests, followed=tuple(run.followed.values()),
        symptoms=dict(run.symptoms),
    )  # fmt: skip
    return run


def found_by(run: Any) -> dict[str, tuple[Verdict, str]]:
    verify.gather.fn(run)
    return {one.check: (one.verdict, one.why) for one in verify.judge.fn(run)}


def test_a_run_gathers_each_stream_by_its_own_window() -> None:
    """From where its own hops stood; no hop is asked for the other's numbers."""
    run = run_over()
    found = found_by(run)
    assert {name: verdict for name, (verdict, _) in found.items()} == dict.fromkeys(found, PASS), found
    assert {name: one.window for name, one in run.followed.items()} == {
        "orders": Window({A: 0}, {A: 10}),
        "events": Window({A: 990}, {A: 1000}),
    }


@pytest.mark.parametrize("stream", HOPS)
def test_a_run_finds_a_loss_in_the_stream_that_has_it(stream: str) -> None:
    """The other's hops are right."""
    lo = {"orders": 1, "events": 991}[stream]
    run = run_over(**{stream: right(rows=9, keys=9, lo=lo, hi=lo + 9, sum=70, key_sum=6)})
    found = found_by(run)
    verdict, why = found["no_loss"]
    assert (verdict, why.startswith(f"{stream}: {HOPS[stream][1]} has 1 ")) == (FAIL, True), why
    assert found["no_duplicates"][0] is PASS
    assert set(run.symptoms["differences"]) == {f"{HOPS[stream][1]} a"}


class Twin(Held):
    """A hop that can be compared with another of its kind."""

    def both(self, other: object, window: Window) -> tuple[Digest, Digest] | None:
        assert isinstance(other, Held)
        if not isinstance(other, Twin):
            return None
        return self.compared(other)

    def compared(self, other: Held) -> tuple[Digest, Digest]:
        """With sums that no digest has."""
        mine, its = right(sum=11, key_sum=12), right(sum=13, key_sum=12)
        return Digest("orders", self.name, "final", {A: mine}), Digest("orders", other.name, "final", {A: its})


def test_two_hops_of_one_kind_are_compared_at_once() -> None:
    """Their digests are held against each other, though those of their own would be the same. Where there are others,
    the other is of another kind, or doesn't answer, each is asked for its own."""
    log, sink = Twin("orders", "log", right(), "log"), Twin("orders", "sink", right())
    away = Twin("orders", "log", right(), "log")
    away.compared = lambda other: (_ for _ in ()).throw(DriverError("sink is away", definite=True))  # type: ignore[method-assign]
    for held, verdict in (
        ((log, sink), FAIL),
        ((log, Held("orders", "sink", right())), PASS),
        ((away, sink), PASS),
    ):
        run = run_over()
        run.stack.hops |= dict(zip(("log", "sink"), held, strict=True))
        assert found_by(run)["unchanged"][0] is verdict
    assert verify._paired(run, Window({A: 0}, {A: 10}), ["log", "sink", "topic"]) is None
    assert verify._paired(run, Window({A: 0}, {A: 10}), ["sink", "log"]) is None


def test_a_ledger_that_is_away_hides_nothing_of_the_other_stream() -> None:
    """What is lost there is lost; of its own stream nothing is known."""
    run = run_over(orders=right(rows=9, keys=9, sum=70, key_sum=6))
    ledger = run.stack.hops["topic"]
    ledger.heads = lambda: (_ for _ in ()).throw(DriverError("topic is away", definite=True))
    found = found_by(run)
    assert found["no_loss"][0] is FAIL
    assert found["no_duplicates"] == (UNKNOWN, "events: there is nothing to compare: no digest has a record")
    assert run.symptoms["trouble"] == {"topic": "topic is away"}
