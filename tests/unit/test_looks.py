"""What a look at a stream judges: no more than is new, twice what differs, and nothing that is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gameday.errors import DriverError
from gameday.model import Columns, Compared, Delta, Digest, Group, Window
from gameday.records.declaration import Stream, stream
from gameday.verdict import ahead
from gameday.verdict.known import DAMAGE, LAG, UNANSWERED, UNKNOWN, Known
from tasks import looks, states
from tasks.looks import Look, Watched, watched
from tests.trades import live, stack_of

A, B = ("a",), ("b",)


def declared(**changes: Any) -> Stream:
    given = {"key": ["shop", "id"], "group": ["shop"], "sequence": "id", "gapless": True, "fields": {"total": "int"}}
    places = {"hops": ["one", "two"], "visible": "two", "path": ["web"]}
    mistakes: list[str] = []
    made = stream("orders", {**given, **places, **changes}, ["one", "two"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = declared()


@dataclass
class Hop:
    """rows: (group, id, total), in the order in which they came. asked: the windows of its digests. away: it does not
    answer."""

    name: str
    view: str = "final"
    rows_: list[tuple[Group, int, int]] = field(default_factory=list)
    asked: list[Window] = field(default_factory=list)
    away: bool = False

    def heads(self) -> Mapping[Group, int]:
        if self.away:
            raise DriverError("connection refused", definite=True)
        return {group: max(i for g, i, _ in self.rows_ if g == group) for group, _, _ in self.rows_}

    def digest(self, window: Window) -> Sequence[Digest]:
        self.asked.append(window)
        held = {group: self._columns(group, lo, window.hi[group]) for group, lo in window.lo.items()}
        tallies = {group: ORDERS.tally(columns) for group, columns in held.items() if len(columns["id"])}
        return [Digest("orders", self.name, self.view, tallies)]

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        return self._columns(group, lo, hi)

    def _columns(self, group: Group, lo: int, hi: int) -> Columns:
        held = [(i, total) for g, i, total in self.rows_ if g == group and lo < i <= hi]
        ids, totals = (np.array([row[at] for row in held], dtype=np.int64) for at in (0, 1))
        return {"shop": np.array([group[0]] * len(held)), "id": ids, "total": totals}


class Platform:
    """Two hops in memory, and what watches them."""

    def __init__(self) -> None:
        self.one, self.two = Hop("one"), Hop("two")
        self.both(A, 1, 20)

    def both(self, group: Group, lo: int, hi: int) -> None:
        for hop in (self.one, self.two):
            hop.rows_ += [(group, number, number * 10) for number in range(lo, hi + 1)]

    def lose(self, group: Group, number: int) -> None:
        self.two.rows_.remove((group, number, number * 10))

    def watched(self) -> Watched:
        hops = {"one": self.one, "two": self.two}
        settings = {name: SimpleNamespace(settings={}) for name in hops}
        stack = stack_of(live(hops, ORDERS))
        stack.config.hops = settings
        (found,), _ = watched(stack)
        return found


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Platform:
    for name in ("AGAIN_S", "RANGE_REST", "EVERY_S"):
        monkeypatch.setattr(looks, name, 0.0)
    return Platform()


def damage(look: Look) -> dict[tuple[str, str, Group], tuple[int, tuple[str, ...]]]:
    return {(t.kind, t.hop, t.group): (t.count, t.ids) for t in look.troubles if t.kind in DAMAGE}


def test_a_look_reads_what_is_new_and_what_came_lately(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """At rest it reads nothing at all."""
    monkeypatch.setattr(looks, "BACK_S", 0.0)
    watch = platform.watched()
    watch.look()
    for lo, hi in ((21, 30), (31, 35)):
        platform.both(A, lo, hi)
        watch.look()
    assert platform.two.asked[-1] == Window({A: 20}, {A: 35}), "the look before, and what is new"
    watch.look()
    before = len(platform.two.asked)
    assert watch.look().troubles == ()
    assert len(platform.two.asked) == before
    monkeypatch.setattr(looks, "BACK_S", 1000.0)
    for hi in (36, 37):
        platform.both(A, hi, hi)
        watch.look()
    assert platform.two.asked[-1] == Window({A: 35}, {A: 37})


def test_no_look_reads_more_than_its_bound(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left comes at the next looks, and what is lost there is found then."""
    monkeypatch.setattr(looks, "WINDOW_MAX", 1000)
    monkeypatch.setattr(looks, "BACK_S", 0.0)
    watch = platform.watched()
    watch.look()
    platform.both(A, 21, 3020)
    platform.lose(A, 2500)
    for _ in range(2):
        assert damage(watch.look()) == {}
    widths = [w.hi[A] - w.lo[A] for w in platform.two.asked if A in w.hi]
    assert max(widths) == 2000, "what is new, and what the look before had"
    for _ in range(2):
        look = watch.look()
    assert damage(look) == {("lost", "two", A): (1, ("2500",))}


def test_other_records_that_are_on_their_way_at_each_look_are_no_finding(platform: Platform) -> None:
    """The same ones must be missing twice: here one comes as another one lacks."""
    watch = platform.watched()
    watch.look()
    for number in range(30, 80, 10):
        platform.both(A, number - 9, number)
        if number > 30:
            platform.two.rows_.append((A, number - 15, (number - 15) * 10))
        platform.lose(A, number - 5)
        assert damage(watch.look()) == {}


def test_a_group_that_is_new_is_judged_from_its_first_record(platform: Platform) -> None:
    """Nothing says that the first ones may be missing."""
    watch = platform.watched()
    watch.look()
    platform.both(B, 1, 5)
    platform.lose(B, 1)
    watch.look()
    assert damage(watch.look()) == {("lost", "two", B): (1, ("1",))}


def test_what_a_hop_loses_that_it_had_is_found(platform: Platform) -> None:
    """It went back to an older copy: its newest records were judged, and are gone."""
    watch = platform.watched()
    watch.look()
    platform.both(A, 21, 30)
    watch.look()
    platform.two.rows_ = [row for row in platform.two.rows_ if row[1] <= 25]
    watch.look()
    assert damage(watch.look()) == {("lost", "two", A): (5, ("26", "27", "28", "29", "30"))}


def test_many_losses_of_a_group_are_one_issue(platform: Platform) -> None:
    """However many looks they took; each is counted once, and the issue ends when all are there."""
    watch = platform.watched()
    watch.look()
    lost = [25, 35, 45, 55, 65, 75, 85, 95]
    for number in lost:
        platform.both(A, number - 4, number + 5)
        platform.lose(A, number)
        look = watch.look()
    look = watch.look()
    assert damage(look) == {("lost", "two", A): (len(lost), tuple(map(str, lost)))}
    assert len(look.left.ranges) <= looks.RANGES_MAX
    platform.two.rows_ += [(A, number, number * 10) for number in lost]
    watch.look()
    assert watch.look().troubles == ()


def test_a_ledger_that_does_not_answer_leaves_nothing_judged(platform: Platform) -> None:
    """Neither well nor damaged: its own silence is told, and no hop's."""
    watch = platform.watched()
    watch.look()
    platform.one.away = True
    platform.lose(A, 7)
    look = watch.look()
    assert [(one.kind, one.hop) for one in look.troubles] == [(UNANSWERED, "one")]
    assert look.judged == ()


def test_where_no_record_is_nothing_is_well(platform: Platform) -> None:
    """Two empty hops are the same, and say nothing."""
    platform.one.rows_, platform.two.rows_ = [], []
    watch = platform.watched()
    assert [one.kind for one in watch.look().troubles] == [UNKNOWN]
    platform.both(A, 1, 3)
    watch.look()
    assert watch.look().troubles == ()


def test_a_delay_that_is_usual_is_no_lag(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that writes each minute is behind for a minute, again and again."""
    now = [0.0]
    monkeypatch.setattr(looks, "time", SimpleNamespace(monotonic=lambda: now[0], time_ns=lambda: 0))
    watch = platform.watched()
    kinds: list[list[str]] = []
    for minute in range(1, 5):
        platform.one.rows_ += [(A, 20 + minute, (20 + minute) * 10)]
        for _ in range(6):
            now[0] += 10.0
            kinds.append([one.kind for one in watch.look().troubles])
        platform.two.rows_ = list(platform.one.rows_)
        watch.look()
    assert kinds[:6] == [[], [], [], [LAG], [LAG], [LAG]]
    assert kinds[6:] == [[]] * 18


def test_two_hops_with_one_record_less_name_the_first(platform: Platform) -> None:
    """Of what is seen at several hops the earliest is told with each."""
    three = Hop("three")
    three.rows_ = list(platform.two.rows_)
    of = replace(ORDERS, hops=("one", "two", "three"), visible="three")
    hops = {"one": platform.one, "two": platform.two, "three": three}
    stack = stack_of(live(hops, of))
    stack.config.hops = {name: SimpleNamespace(settings={}) for name in hops}
    (watch,), _ = watched(stack)
    for hop in (platform.two, three):
        hop.rows_.remove((A, 7, 70))
    watch.look()
    found = {one.hop: one.first for one in watch.look().troubles}
    assert found == {"two": "", "three": "two"}


# ---- rows that change and go ----------------------------------------------------------------------------------------

WRONG = Compared("orders", "two", "one", {A: Delta(9, changed=1)})
LATE = replace(WRONG, groups={A: Delta(9, lost=1, ghosts=1, changed=1)}, late=True)
MOVING = replace(WRONG, groups={A: Delta(9, moving=1)})
RIGHT = replace(WRONG, groups={A: Delta(9)})


def events(monkeypatch: pytest.MonkeyPatch, *compared: Compared | None) -> list[list[str]]:
    """What each look brings; None: the hop can't be asked."""
    told = iter(compared)

    def look(stream: Stream, hops: Any, cursors: Any, ask: Any, trouble: dict[str, str]) -> tuple[Any, Any]:
        if (one := next(told)) is None:
            trouble["two"] = "connection refused"
        return (() if one is None else (one,)), {}

    monkeypatch.setattr(states, "compared", look)
    monkeypatch.setattr(states, "references", lambda *_: {"two": "one"})
    known, found = Known(), []
    stream = live({"one": Hop("one"), "two": Hop("two")}, ORDERS)
    watch = looks._States(stack_of(stream), stream, set())
    for place, _ in enumerate(compared):
        seen = watch.look()
        new = known.look("orders", seen.troubles, seen.scope, seen.judged, "now", float(place))
        found.append([f"{one.event} {one.issue.trouble.kind}" for one in new if one.issue.damage])
    return found


def test_damage_is_not_over_because_it_could_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the hop is away, late, or moves too fast, nothing new is known of it. Then it is still the same damage."""
    for blind in (None, LATE, MOVING):
        assert events(monkeypatch, WRONG, WRONG, blind, WRONG) == [[], ["begins changed"], [], []], blind
    assert events(monkeypatch, WRONG, WRONG, RIGHT) == [[], ["begins changed"], ["ends changed"]]


def test_what_a_late_table_still_has_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deletion may still come, as what it lacks may."""
    assert events(monkeypatch, LATE, LATE, LATE) == [[], [], []]


def test_what_no_ledger_had_is_not_over_because_the_ledger_does_not_answer(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked once more before a record counts as invented. Until it answers again, what was known stays so."""
    platform.two.rows_.append((A, 25, 250))
    monkeypatch.setattr(ahead, "beyond", lambda *_: {"two": {A: (25, 20)}})
    watch = platform.watched()
    watch.look()
    assert damage(watch.look()) == {("doubled", "two", A): (1, ("25",))}

    def away(*_: object) -> None:
        raise DriverError("connection refused", definite=True)

    monkeypatch.setattr(ahead, "beyond", away)
    assert damage(watch.look()) == {("doubled", "two", A): (1, ("25",))}
