"""A stream of many groups is sampled by shards: what their totals show, what they hide, and who sees that."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gameday import codec
from gameday.errors import DriverError
from gameday.model import Act, Baseline, Evidence, Followed, Group, Look, Marks, Now, Sample, Shards, Totals, Verdict
from gameday.ports import Hop, Totalled
from gameday.records.heads import Heads, Places, totals
from gameday.run import Halt, Run
from gameday.sampling import conditions, sampler, timings
from gameday.stack.live import Stack
from gameday.stack.probes import ProbeSpec
from gameday.stack.sharded import SHARDS_MAX, Bases, Sharded, sharding
from gameday.system.polling import until
from gameday.verdict import checks
from tasks import apart, baseline
from tests.trades import live, stack_of

S = 1_000_000_000
MANY: list[Group] = [("west" if n % 2 else "east", f"{n}") for n in range(10_000)]
ONE = MANY[4_321]
SHARDS = Shards((0,), 32)
ALONE = Shards((), 1)
"""All groups in one shard: what they show together."""
ALL = "#0"


@dataclass
class Held:
    """A hop in memory that adds its heads up itself."""

    of: dict[Group, int]
    looks: int = 0
    """How often it was asked for each group's head."""

    def heads(self) -> Mapping[Group, int]:
        self.looks += 1
        return dict(self.of)

    def totals(self, shards: Shards) -> Totals:
        return totals(self.of, Places(shards))

    def digest(self, window: object) -> Any:
        raise NotImplementedError

    rows = digest


@dataclass
class Plain:
    """One that can't."""

    of: dict[Group, int]

    def heads(self) -> Mapping[Group, int]:
        return dict(self.of)


def pair(ledger: Mapping[Group, int], visible: Mapping[Group, int]) -> tuple[Held, Held, Sharded, Sharded]:
    """A stream's two hops, and the probes of their shards, each of which was read once."""
    hops = Held(dict(ledger)), Held(dict(visible))
    bases = Bases(ALONE, *cast("tuple[Hop, Hop]", hops))
    probes = [Sharded(cast("Hop", hop), bases) for hop in hops]
    for probe in probes:
        probe.read()
    return (*hops, *probes)  # type: ignore[return-value]


def behind(first: Sharded, visible: Sharded) -> float:
    """By how much the visible hop's shard is behind the ledger's."""
    return first.read()[ALL] - visible.read()[ALL]


# ---- which shards ----------------------------------------------------------------------------------------------------


def test_few_groups_are_sampled_each_by_itself() -> None:
    """Up to 64: nothing is different for them."""
    assert sharding(MANY[:SHARDS_MAX], (0,)) is None
    assert sharding(MANY[: SHARDS_MAX + 1], (0,)) == SHARDS


def test_many_groups_have_few_series_and_none_of_two_ways() -> None:
    """64 at most, so that a fault of one handler shows in its own; of more ways than that each is one."""
    shards = sharding(MANY, (0,))
    assert shards is not None
    found = {shards.of(group) for group in MANY}
    assert 32 < len(found) <= SHARDS_MAX
    assert {shard[0] for shard in found} == {"east", "west"}
    assert sharding(MANY, (1,)) == Shards((1,), 1)
    assert sharding(MANY, ()) == Shards((), SHARDS_MAX)


def test_the_fields_of_the_path_tell_the_way() -> None:
    """In whatever order the path names them."""
    of = replace(live({"a": None, "b": None}).stream, path=("gateway", "{symbol}-handler", "x-{symbol}"))
    assert of.way == (1,)
    assert replace(of, path=("gateway",)).way == ()


# ---- what a hop keeps ------------------------------------------------------------------------------------------------


def test_totals_that_are_kept_up_are_those_of_all_heads() -> None:
    """Heads rise, fall back and come; those that were there before the first question count too."""
    heads, shards = Heads(), Shards((0,), 8)
    told: dict[Group, int] = {}
    for number in range(5_000):
        group, head = MANY[number * 7 % 900], number * 31 % 1_000 - 100
        heads.rise(group, head)
        told[group] = max(told.get(group, head), head)
        if number in (100, 4_000):
            assert heads.totals(shards) == totals(told, Places(shards))
    assert heads.all() == told
    assert heads.totals(shards) == totals(told, Places(shards))
    assert heads.totals(ALONE) == totals(told, Places(ALONE))


# ---- the probes ------------------------------------------------------------------------------------------------------


def test_a_shard_rises_at_both_hops_by_the_same() -> None:
    """However high its groups' heads are; a quiet one stays where it was; and only its total is asked for."""
    start = dict.fromkeys(MANY, 1_764_457_200_000_000)
    ledger, visible, first, second = pair(start, start)
    assert first.read() == second.read() == {ALL: 0.0}
    looked = ledger.looks, visible.looks
    ledger.of[ONE] += 3
    assert behind(first, second) == 3
    visible.of[ONE] += 2
    assert behind(first, second) == 1
    assert (ledger.looks, visible.looks) == looked


def test_what_the_visible_hop_lacked_at_first_is_missing() -> None:
    """Both are counted from what the ledger had."""
    _, visible, first, second = pair({("a",): 10, ("b",): 7}, {("a",): 8, ("b",): 7})
    assert behind(first, second) == 2
    visible.of["a",] = 10
    assert behind(first, second) == 0


def test_a_group_that_went_away_is_no_deficit_for_ever() -> None:
    """What it had risen by stays, at whichever hop it was; come back, it counts on from there."""
    ledger, visible, first, second = pair({("a",): 10, ("b",): 7}, {("a",): 10, ("b",): 7})
    ledger.of["a",] = visible.of["a",] = 15
    assert behind(first, second) == 0
    del visible.of["a",]
    assert behind(first, second) == 0
    ledger.of["b",] = 9
    assert behind(first, second) == 2
    visible.of |= {("a",): 15, ("b",): 9}
    assert behind(first, second) == 0
    ledger.of = {}
    assert (behind(first, second), first.read()) == (0, {ALL: 7.0})


def test_the_first_record_of_a_new_group_is_missed() -> None:
    """Whatever its id is: from before it on the group counts."""
    ledger, visible, first, second = pair({("a",): 10}, {("a",): 10})
    ledger.of["new",] = 1 << 62
    assert behind(first, second) == 1
    visible.of["new",] = 1 << 62
    assert behind(first, second) == 0
    ledger.of["new",] += 2
    assert behind(first, second) == 2


def test_one_group_in_place_of_another_is_seen() -> None:
    """As many as before are not the same ones."""
    ledger, visible, first, second = pair({("a",): 10, ("b",): 7}, {("a",): 10, ("b",): 7})
    for hop in (ledger, visible):
        del hop.of["a",]
        hop.of["c",] = 1
    assert (first.read(), second.read()) == ({ALL: 1.0}, {ALL: 1.0})
    visible.of["c",] = ledger.of["c",] = 4
    assert first.read()[ALL] == 4


def test_a_group_that_only_the_visible_hop_knows_hides_nothing() -> None:
    """A log has forgotten it; once it has a record again, that one is missed."""
    ledger, visible, first, second = pair({("a",): 10}, {("a",): 10, ("old",): 1_000})
    assert behind(first, second) == 0
    ledger.of["a",] = 11
    assert behind(first, second) == 1
    ledger.of["old",] = 1_001
    assert behind(first, second) == 2
    visible.of |= {("a",): 11, ("old",): 1_001}
    assert behind(first, second) == 0


def test_a_hop_that_can_t_add_up_is_asked_for_its_heads() -> None:
    """The same figures."""
    heads: dict[Group, int] = {("a",): 10, ("b",): 7}
    hop = Plain(heads)
    probe = Sharded(cast("Hop", hop), Bases(ALONE, cast("Hop", hop), cast("Hop", hop)))
    assert not isinstance(hop, Totalled)
    assert probe.read() == {ALL: 0.0}
    heads["a",] = 15
    assert probe.read() == {ALL: 5.0}


def test_of_a_stack_only_the_streams_with_many_groups_are_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose ledger doesn't answer has its groups by themselves."""

    def refuse() -> Mapping[Group, int]:
        raise DriverError("away", definite=True)

    few, many = (
        live({"a": Held(dict.fromkeys(MANY[:9], 1)), "b": None}),
        live({"c": Held(dict.fromkeys(MANY, 1)), "d": 0}),
    )
    away = live({"e": SimpleNamespace(heads=refuse), "f": None})
    stack = SimpleNamespace(streams={"few": few, "many": many, "away": away})
    assert Stack.shards(stack) == {"many": SHARDS}  # type: ignore[arg-type]


# ---- what samples of shards say --------------------------------------------------------------------------------------


def series(value: Callable[[float], float | None], to_s: float = 20) -> list[Sample]:
    """Twenty samples a second from 0 s on; value: of seconds."""
    return [Sample(int(n / 20 * S), 2_000_000, value(n / 20)) for n in range(int(to_s * 20))]


def evidence(*looks: Look, **changes: Any) -> Evidence:
    """Ten thousand groups, ten records a second in each; struck at 5 s, silent for a second, all of them stand still
    until 6.5 s, but the last, of which nobody knows how long."""
    rate = 10.0 * len(MANY) / SHARDS_MAX

    def visible(t: float) -> float:
        return float(int(rate * (t - 0.2 if not 5 <= t < 6.5 else 4.8)))

    act = Act("a", "r", 5 * S, 0, "inject", "stop", {}, {}, "r")
    samples = {"component/sink/protocol": series(lambda t: None if 5 <= t < 6 else 1.0)}
    for shard in dict.fromkeys(map(SHARDS.of, MANY)):
        samples[timings.series_of("head", "exchange", shard)] = series(lambda t: float(int(rate * t)))
        samples[timings.series_of("head", "silver", shard)] = series(visible)
    heads = dict.fromkeys(MANY, 100)
    marks = Marks(0, 0, heads={"exchange": heads, "silver": heads})
    hops = ("exchange", "silver")
    given: dict[str, Any] = {
        "component": "sink",
        "affected": tuple(MANY),
        "acts": (act,),
        "inject_ns": 5 * S,
        "clock_ns": 5 * S,
        "mttr_max_s": 30.0,
        "drain_max_s": 30.0,
        "baseline": Baseline(marks, 0.2, 1.0, {}),
        "samples": samples,
        "followed": (Followed("trades", hops, "silver", groups=tuple(MANY), affected=tuple(MANY), shards=SHARDS),),
        "looks": looks,
        **changes,
    }
    told = Evidence("t", {}, "s", **given)
    return replace(told, measures=timings.measure(told))


def at(asked_s: float, seen_s: float, behind: int = 0, still: int = 0) -> Look:
    return Look("trades", int(asked_s * S), int(seen_s * S), behind, still, (ONE,) if behind else ())


def test_drained_is_when_a_look_found_every_group_there() -> None:
    """The shards were a moment before: the truth is in between."""
    found = evidence(at(7.0, 7.4))
    drain, mttr = found.measures["drain"], found.measures["mttr"]
    assert drain.low_s is not None
    assert drain.low_s <= 1.5
    assert drain.high_s == pytest.approx(2.4)
    assert mttr.high_s is not None
    assert mttr.high_s < 2.0
    assert checks.recovered(found).verdict is Verdict.PASS


@pytest.mark.parametrize("looks", [(), (at(2.0, 2.3),)], ids=["none", "before the fault"])
def test_without_a_look_nothing_is_drained(looks: tuple[Look, ...]) -> None:
    """The totals alone are no proof."""
    found = evidence(*looks)
    assert not found.measures["drain"].measured
    assert checks.recovered(found).verdict is Verdict.UNKNOWN
    assert "no look at each group of silver" in checks.recovered(found).why


def test_one_group_of_ten_thousand_that_stands_still_is_no_pass() -> None:
    """Its shard's total shows nothing of it; the last look found it behind, beyond the target."""
    found = evidence(at(7.0, 8.0, behind=1, still=1), at(16, 17, behind=1, still=1), drain_max_s=10.0)
    finding = checks.recovered(found)
    assert finding.verdict is Verdict.FAIL
    assert "silver lacks records of 1 group (west/4321)" in finding.why
    assert found.measures["drain"].low_s == found.measures["mttr"].low_s == pytest.approx(12.0)


def test_a_group_that_came_later_holds_up_drain_and_not_service() -> None:
    """It was served since the others were: it only had more to catch up with."""
    found = evidence(at(7.0, 8.0, behind=1), at(8.5, 9.5, behind=1), at(10.0, 10.4)).measures
    assert [found["drain"].low_s, found["drain"].high_s] == pytest.approx([4.5, 5.4])
    assert found["mttr"].high_s is not None
    assert found["mttr"].high_s < 2.0


def test_a_group_of_which_nothing_new_was_shown_holds_up_service() -> None:
    """Until a look found it risen, though it was behind still."""
    found = evidence(at(7.0, 8.0, 1, 1), at(8.5, 9.5, 1, 0), at(10.0, 10.4)).measures
    assert [found["mttr"].low_s, found["mttr"].high_s] == pytest.approx([3.0, 4.5])
    assert found["drain"].high_s == pytest.approx(5.4)


def test_looks_of_one_stream_say_nothing_of_another() -> None:
    """Each has its own."""
    found = evidence(replace(at(7.0, 7.4), stream="orders"))
    assert not timings.measure(found.of(found.followed[0]))["drain"].measured


def test_conditions_look_at_shards() -> None:
    """All that the plan waits for goes by what is sampled."""
    told = evidence()
    one = replace(told.followed[0], bound_s=1.0)

    def now(at_s: float) -> Now:
        seen = {name: [s for s in found if s.at_ns <= at_s * S] for name, found in told.samples.items()}
        return Now(int(at_s * S), seen, "sink", (), (), "", "", 1.0).of(one)

    assert len(now(4.5).groups) == len(now(4.5).affected) == SHARDS_MAX
    assert conditions.flowing(now(4.5))
    assert not conditions.flowing(now(6.4))
    assert conditions.behind(1.0)(now(6.4))
    assert conditions.drained(now(8.0))
    assert not conditions.ailing(now(12.0))


def test_a_fault_of_one_way_leaves_the_shards_of_the_others_alone() -> None:
    """Damage in a group of theirs is theirs."""
    east = tuple(group for group in MANY if group[0] == "east")
    told = evidence(at(7.0, 7.4))
    marks = replace(told.baseline.marks, at_ns=12 * S) if told.baseline else None
    steady = {
        name: found if "head/silver/west" not in name else told.samples[name.replace("silver", "exchange")]
        for name, found in told.samples.items()
    }
    one = replace(told.followed[0], affected=east)
    told = replace(told, affected=east, samples=steady, ends=marks, followed=(one,))
    told = replace(told, measures=timings.measure(told))
    found = checks.isolation(told)
    assert (found.verdict, found.evidence["streams"]) == (Verdict.PASS, 32)
    assert "32 other shards" in found.why
    surplus = replace(told, symptoms={"surplus": {"silver": [[["west", "1"], 7, None]]}})
    assert checks.isolation(surplus).verdict is Verdict.FAIL
    own = replace(told, symptoms={"surplus": {"silver": [[["east", "0"], 7, None]]}})
    assert checks.isolation(own).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("moved", "verdict"),
    [((), Verdict.PASS), (MANY[:1], Verdict.UNKNOWN)],
    ids=["the topic is quiet", "it can't be told"],
)
def test_a_quiet_topic_among_many_groups_is_no_fail(moved: list[Group], verdict: Verdict) -> None:
    """Its groups are in shards with those of others, which have moved; which of them did since the baseline, the marks
    tell."""
    told = evidence(at(7.0, 7.4), knows=True)
    mixed = Shards((), SHARDS_MAX)
    renamed = {name.replace("/west", "").replace("/east", ""): found for name, found in told.samples.items()}
    ends = {
        "end/sink/orders.west/0": series(lambda t: 100 * t),
        "end/sink/orders.east/0": series(lambda t: 7.0),
    }
    after = {group: 100 + (group[0] == "west" or group in moved) for group in MANY}
    told = replace(
        told,
        samples={**renamed, **ends},
        followed=(replace(told.followed[0], shards=mixed),),
        ends=Marks(20 * S, 0, heads={"exchange": after}),
    )
    assert len(timings.quiet(told)) == 5_000 - len(moved)
    assert checks.upstream_flows(told).verdict is verdict


def test_an_export_is_awaited_of_each_group() -> None:
    """Commits tell each group's head; what there was when the clock started was noted of each."""
    archive = {f"archive/head/{codec.key_of(g)}": series(lambda t: 90.0 if t < 9 else 100.0) for g in MANY[:70]}
    late = series(lambda t: 90.0 if t < 15 else 100.0)
    told = evidence()
    one = replace(told.followed[0], groups=tuple(MANY[:70]), hops=("exchange", "silver", "archive"))
    heads = dict.fromkeys(MANY[:70], 100)
    told = replace(
        told,
        archive="archive",
        affected=(),
        baseline=Baseline(Marks(0, 0, heads={"exchange": heads}), 0.2, 1.0, {}),
        followed=(one,),
        samples={**told.samples, **archive, f"archive/head/{codec.key_of(MANY[3])}": late},
        at_clock=heads,
    )
    drain = timings.measure(told)["drain"]
    assert drain.high_s == pytest.approx(10.0, abs=0.1)
    assert not timings.measure(replace(told, at_clock={}))["drain"].measured


@pytest.mark.parametrize(("shards", "noted"), [(SHARDS, {ONE: 7}), (None, {})], ids=["shards", "each group"])
def test_what_an_export_has_to_have_is_noted_when_the_clock_starts(
    shards: Shards | None, noted: Mapping[Group, int]
) -> None:
    """Of each group, where the samples don't tell it; what was noted before counts no more when nobody answers."""

    def refuse() -> Mapping[Group, int]:
        raise DriverError("away", definite=True)

    ledger = SimpleNamespace(heads=lambda: {ONE: 7})
    one = live({"exchange": ledger, "silver": None})
    run: Any = SimpleNamespace(
        test=SimpleNamespace(archive=True),
        stack=stack_of(one),
        followed={"trades": SimpleNamespace(shards=shards)},
        at_clock={},
    )
    Run.note_at_clock(run)
    assert run.at_clock == noted
    ledger.heads = refuse
    Run.note_at_clock(run)
    assert run.at_clock == {}


def test_what_a_run_leaves_of_it_can_be_read_again(tmp_path: Path) -> None:
    """A disputed verdict replays from it."""
    told = replace(evidence(at(7.0, 8.0, behind=1, still=1)), samples={}, at_clock={ONE: 7})
    codec.save_evidence(tmp_path, told)
    again = codec.load_evidence(tmp_path)
    assert (again.looks, again.at_clock, again.followed[0].shards) == (told.looks, {ONE: 7}, SHARDS)


# ---- the looks -------------------------------------------------------------------------------------------------------


@dataclass
class Looking:
    """Stands in for a run of one stream of many groups."""

    stack: Any
    followed: dict[str, Followed]
    healed: Marks | None = None
    name: str = "t"
    doing: str = ""
    stood: Mapping[str, Mapping[Group, int]] = field(default_factory=dict)
    stood_ns: int = 0

    def lasts(self) -> None:
        """It does."""

    def busy(self, since_ns: int) -> None:
        """It isn't."""


def run_of(ledger: Mapping[Group, int], visible: Mapping[Group, int], shown: Mapping[Group, int] = {}) -> Any:
    """shown: what the visible hop had when service was back."""
    one = live({"exchange": Held(dict(ledger)), "silver": Held(dict(visible))})
    followed = Followed(
        "trades", ("exchange", "silver"), "silver", groups=tuple(MANY), affected=tuple(MANY), shards=SHARDS
    )
    healed = Marks(0, 0, heads={"silver": dict(shown)}) if shown else None
    return Looking(stack_of(one), {"trades": followed}, healed)


EVERY = dict.fromkeys(MANY, 50)


@pytest.mark.parametrize(
    ("ledger", "visible", "behind", "still"),
    [
        (EVERY, EVERY, 0, 0),
        (EVERY, {**EVERY, ONE: 49}, 1, 0),
        (EVERY, {**EVERY, ONE: 40}, 1, 1),
        (EVERY, {group: 50 for group in MANY if group != ONE}, 1, 1),
        ({group: 50 for group in MANY if group != ONE}, EVERY, 0, 0),
        ({**EVERY, ("west", "new"): 1}, EVERY, 0, 0),
        (EVERY, {**EVERY, MANY[0]: 1 << 60, ONE: 49}, 1, 0),
    ],
    ids=["all there", "behind", "still", "went away", "forgotten by the log", "new", "beside a foreign record"],
)
def test_a_look_tells_each_group(
    ledger: Mapping[Group, int], visible: Mapping[Group, int], behind: int, still: int
) -> None:
    """One of ten thousand; whatever others show."""
    found = apart.look(run_of(ledger, visible, shown=dict.fromkeys(MANY, 40)), "trades", 0.05)
    assert (found.behind, found.still, found.named) == (behind, still, (ONE,) if behind else ())
    assert found.seen_ns >= found.asked_ns


def test_where_nobody_knows_what_was_shown_before_a_group_that_is_behind_is_not_back() -> None:
    """The visible hop didn't answer then."""
    assert apart.look(run_of(EVERY, {**EVERY, ONE: 49}), "trades", 0.05).still == 1


def test_a_group_that_was_behind_before_keeps_the_baseline_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be so after the plan too, and nobody could tell whose doing that is."""
    monkeypatch.setattr(baseline, "WELL_WITHIN_S", 0.01)
    monkeypatch.setattr(timings, "BOUND_MIN_S", 0.01)
    normal = {"trades": timings.Normal(0.001, {}, {}, 100, 50, True)}
    baseline._await_every_group(run_of(EVERY, EVERY), normal)
    with pytest.raises(Halt, match=r"no baseline: silver lacks records of 1 group \(west/4321\)") as halted:
        baseline._await_every_group(run_of(EVERY, {**EVERY, ONE: 49}), normal)
    assert halted.value.verdict is Verdict.UNKNOWN


def test_each_group_s_rate_is_known_all_the_same() -> None:
    """By it a run looks back before its window."""
    run = run_of(EVERY, EVERY)
    run.stood, run.stood_ns = {"trades": {ONE: 10, MANY[0]: 50}}, 2 * S
    here = Marks(6 * S, 0, heads={"exchange": EVERY})
    assert baseline._rates(run, here, "trades") == {ONE: 10.0, MANY[0]: 0.0}


# ---- end to end ------------------------------------------------------------------------------------------------------


@dataclass
class Moving:
    """A hop of ten thousand groups, each of which has five new records a second, late_s after they happened. From
    `frozen` on nothing new is shown for two seconds, of ONE for six."""

    began_s: float
    late_s: float = 0.0
    frozen_s: float = float("inf")

    def _numbers(self) -> tuple[int, int]:
        """Of all groups, and of ONE."""
        t = time.monotonic() - self.began_s
        shown = [self.frozen_s if self.frozen_s <= t < self.frozen_s + for_s else t for for_s in (2.0, 6.0)]
        return int(5 * (shown[0] - self.late_s + 10)), int(5 * (shown[1] - self.late_s + 10))

    def heads(self) -> Mapping[Group, int]:
        every, one = self._numbers()
        return {**dict.fromkeys(MANY, every), ONE: one}

    def totals(self, shards: Shards) -> Totals:
        every, one = self._numbers()
        own = shards.of(ONE)
        return {
            shard: (marks, size * every + (one - every if shard == own else 0))
            for shard, (marks, size) in SIZES.items()
        }

    digest = rows = heads


SIZES = totals(dict.fromkeys(MANY, 1), Places(SHARDS))


def test_ten_thousand_groups_from_the_sampler_to_the_measures(tmp_path: Path) -> None:
    """All are back two seconds after the fault, by the samples; one of them four seconds later, as the looks tell."""
    began_s = time.monotonic()
    ledger, visible = Moving(began_s), Moving(began_s, late_s=0.2, frozen_s=3.0)
    bases = Bases(SHARDS, cast("Hop", ledger), cast("Hop", visible))
    hops = {"exchange": ledger, "silver": visible}
    specs = [ProbeSpec(f"head/{n}", Sharded(cast("Hop", hop), bases), 20.0, 1.0) for n, hop in hops.items()]
    folder, (ended, end) = tmp_path / "samples", os.pipe()
    loop = threading.Thread(target=sampler.sample, args=(specs, folder, (ended,), sampler.Lateness()))
    loop.start()
    run = run_of({}, {})
    run.stack = stack_of(live(hops))
    looks: list[Look] = []
    try:
        until(lambda: time.monotonic() - began_s > 3.1, within_s=10, what="the fault")
        run.healed = Marks(0, 0, heads={"silver": visible.heads()})
        until(lambda: time.monotonic() - began_s > 6.0, within_s=10, what="recovery of nearly all")

        def whole() -> bool:
            looks.append(apart.look(run, "trades", 1.0))
            return not looks[-1].behind

        until(whole, within_s=10, what="recovery of all")
        until(lambda: time.monotonic() - began_s > 12.0, within_s=15, what="some more samples")
    finally:
        os.close(end)
        loop.join()
        os.close(ended)
    samples = codec.read_samples(folder)
    assert len(samples) == 2 * SHARDS_MAX
    inject_ns = int((began_s + 3.0) * 1e9)
    heads = dict.fromkeys(MANY, 1)
    told = evidence(
        *looks,
        component=None,
        acts=(Act("a", "r", inject_ns, 0, "inject", "stop", {}, {}, "r"),),
        inject_ns=inject_ns,
        clock_ns=inject_ns,
        baseline=Baseline(Marks(0, 0, heads={"exchange": heads, "silver": heads}), 0.2, 1.0, {}),
        samples=samples,
    )
    by_shards = timings.measure(replace(told, looks=(Look("trades", looks[0].asked_ns, looks[0].asked_ns),)))["mttr"]
    assert by_shards.low_s is not None
    assert by_shards.high_s is not None
    assert by_shards.low_s <= 2.2
    assert by_shards.high_s < 3.0
    assert [look.behind for look in looks[:-1]] == [1] * (len(looks) - 1)
    drain, mttr = told.measures["drain"], told.measures["mttr"]
    for measure in (drain, mttr):
        assert measure.low_s is not None
        assert measure.high_s is not None
        assert measure.low_s <= 6.0 <= measure.high_s < 8.5
