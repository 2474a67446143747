"""Which hop says what another one should have, and what two looks at tables that move are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gameday.errors import DriverError, TooLate
from gameday.model import Columns, Delta, Digest, Evidence, Group, Marks, Position, Timed, Verdict, Window
from gameday.records.declaration import Stream, stream
from gameday.records.hashing import U64
from gameday.records.states import Changes, State, state
from gameday.verdict import checks
from gameday.verdict.checks._damage import compare, only_late
from tasks import states

A = ("a",)
SLOT = "log/0"

Rows = Mapping[int, int]
"""Key -> version; a row's hash is made of both."""


def orders() -> Stream:
    mistakes: list[str] = []
    names = ["source", "log", "sink"]
    places = {"hops": names, "visible": "sink", "path": ["web"]}
    given = {"key": ["id"], "group": ["shop"], "version": "v", "time": "at", "fields": {"id": "int", "at": "time(us)"}}
    made = stream("orders", {**places, **given}, names, mistakes)
    assert made is not None, mistakes
    return made


ORDERS = orders()


@dataclass
class Table:
    """looks: what it shows at each look, the last one again and again. place: its place in the log at each; None: it
    doesn't tell. kind: as declared."""

    looks: Sequence[Rows]
    places: Sequence[int] | None = None
    kind: str = "state"
    seen: int = 0

    def heads(self) -> Mapping[Group, int]:
        return {}

    def digest(self, window: Window) -> Sequence[Digest]:
        return []

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        return {}

    def state(self, upto: Position | None = None) -> State:
        at = min(self.seen, len(self.looks) - 1)
        self.seen += 1
        position = {SLOT: self.places[min(at, len(self.places) - 1)]} if self.places is not None else None
        columns = columns_of(self.looks[at])
        keys, rows = ORDERS.state_hashes(columns)
        groups = np.zeros(len(keys), dtype=np.int64)
        return state([A], groups, keys, columns["v"], rows, position, exact=position is not None)

    def records(self, hashes: U64) -> Columns:
        columns = columns_of(self.looks[min(self.seen, len(self.looks) - 1)])
        mine = np.isin(ORDERS.state_hashes(columns)[1], hashes)
        return {name: column[mine] for name, column in columns.items()}


@dataclass
class Delivering(Table):
    """It knows up to where it has the log."""

    has: Sequence[int] = (0,)

    def delivered(self) -> Position:
        return {SLOT: self.has[min(self.seen, len(self.has) - 1)]}


@dataclass
class Log(Table):
    """looks: its changes, key by key, as they come; a version of 0 deletes. ends: where it ends at each look."""

    kind: str = "log"
    changes: Sequence[tuple[int, int]] = ()
    ends: Sequence[int] = (99,)
    dense: bool = True
    asked: list[Position | None] = field(default_factory=list)
    _: ClassVar[None] = None

    def heads_before(self, position: Position) -> Mapping[Group, int]:
        return {}

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        return {}

    def state(self, upto: Position | None = None) -> State:
        self.asked.append(upto)
        end = self.ends[min(self.seen, len(self.ends) - 1)]
        self.seen += upto is None
        made = Changes("log")
        made.number(A)
        for offset, (key, version) in enumerate(self.changes[:end]):
            keys, rows = ORDERS.state_hashes(columns_of({key: version}))
            made.add(SLOT, [offset], keys, 0, [version or None], rows, gone=not version)
        return made.upto({SLOT: min(end, len(self.changes))} if upto is None else upto, True, self.dense)

    def records(self, hashes: U64) -> Columns:
        found = [columns_of({key: version}) for key, version in self.changes]
        whole = {name: np.concatenate([one[name] for one in found]) for name in ORDERS.types}
        mine = np.isin(ORDERS.state_hashes(whole)[1], hashes)
        return {name: column[mine] for name, column in whole.items()}


@dataclass
class Folding(Table):
    """A ledger: looks is what is there after each number of changes, the last one now."""

    whole: ClassVar[bool] = True
    kind: str = "tape"
    asked: list[Position | None] = field(default_factory=list)

    def heads(self) -> Mapping[Group, int]:
        return {A: len(self.looks) - 1}

    def state(self, upto: Position | None = None) -> State:
        self.asked.append(upto)
        number = len(self.looks) - 1 if upto is None else upto[SLOT]
        columns = columns_of(self.looks[number])
        keys, rows = ORDERS.state_hashes(columns)
        groups = np.zeros(len(keys), dtype=np.int64)
        return state([A], groups, keys, columns["v"], rows, {SLOT: number}, exact=True)


@dataclass
class Showing(Log):
    """head: the highest version that it shows."""

    head: int = 0

    def heads(self) -> Mapping[Group, int]:
        return {A: self.head}


def columns_of(rows: Rows) -> Columns:
    shop = np.empty(len(rows), dtype=object)
    shop[:] = "a"
    keys, versions = (np.array(list(column), dtype=np.int64) for column in (rows.keys(), rows.values()))
    return {"shop": shop, "id": keys, "at": 1_000 * versions, "v": versions}


@dataclass
class Slot:
    """The place of whoever tells the changes, at each question."""

    places: list[int]

    def position(self) -> Position:
        return {"capture": self.places.pop(0) if len(self.places) > 1 else self.places[0]}

    def end(self) -> Position:
        return self.position()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many looks as there would be, without the time between them."""

    def until(settled: Callable[[], bool], within_s: float, every_s: float, what: str) -> None:
        if not any(settled() for _ in range(round(within_s / every_s))):
            raise TooLate(what)

    monkeypatch.setattr(states, "until", until)


def judged(cursors: Mapping[str, Any] = {}, **hops: Any) -> tuple[Evidence, dict[str, str]]:
    trouble: dict[str, str] = {}
    found, listed = states.compared(ORDERS, hops, cursors, lambda _, ask: ask(), trouble)
    symptoms = {"differences": listed}
    return Evidence("t", {}, "s", stream="orders", ledger="source", states=found, symptoms=symptoms), trouble


DAMAGE: Sequence[Callable[[Evidence], Any]] = (checks.no_loss, checks.no_duplicates, checks.unchanged)


def verdicts(evidence: Evidence) -> list[str]:
    return [str(check(evidence).verdict) for check in DAMAGE]


CHANGES = [(1, 1), (2, 1), (1, 2), (2, 0), (3, 1)]


def test_a_table_is_held_against_the_log_and_the_log_against_the_table_before() -> None:
    """A log that is the first hop is held against nothing; without one a table is held against the first."""
    table, log = Table([{}]), Log([{}])
    assert states.references(ORDERS, {"source": table, "log": log, "sink": table}) == {"log": "source", "sink": "log"}
    assert states.references(ORDERS, {"log": log, "sink": table}) == {"sink": "log"}
    assert states.references(ORDERS, {"source": table, "sink": table}) == {"sink": "source"}
    history = Table([{}], kind="append")
    assert states.references(ORDERS, {"log": log, "history": history, "sink": table}) == {"sink": "log"}
    assert states.references(ORDERS.of_keys, {"log": log, "sink": table}) == {}


LEDGER: Sequence[Rows] = ({}, {1: 1}, {1: 1, 2: 2}, {1: 3, 2: 2}, {1: 3}, {1: 3, 3: 5})
"""What is there after each change."""


def test_a_ledger_that_knows_the_rows_says_what_all_others_should_have() -> None:
    """The table too, though a log is before it; one that knows only its records says it of no rows."""
    ledger, table, log = Folding(LEDGER), Table([{}]), Log([{}])
    assert states.references(ORDERS, {"tape": ledger, "log": log, "sink": table}) == {"log": "tape", "sink": "tape"}


@pytest.mark.parametrize(
    ("rows", "kinds"),
    [
        ({1: 3, 3: 5}, ["pass", "pass", "pass"]),
        ({3: 5}, ["fail", "pass", "pass"]),
        ({1: 3, 2: 2, 3: 5}, ["pass", "fail", "pass"]),
        ({1: 1, 3: 5}, ["pass", "pass", "fail"]),
    ],
    ids=str,
)
def test_a_table_is_judged_by_the_ledger_as_of_the_number_that_it_shows(rows: Rows, kinds: list[str]) -> None:
    """The ledger has gone on since; what it had then is right."""
    ledger = Folding(LEDGER)
    evidence, trouble = judged(tape=ledger, sink=Table([{1: 1}, rows], places=[1, 5]))
    assert (trouble, verdicts(evidence)) == ({}, kinds)
    assert ledger.asked == [None, {SLOT: 5}]


def test_a_log_that_has_passed_the_ledgers_head_is_judged_at_once() -> None:
    """A deletion that it was never told of is found there: the row is alive in it, and at the ledger it is not."""
    told = [(1, 1), (2, 2), (1, 3), (2, 0), (3, 5)]
    evidence, trouble = judged(tape=Folding(LEDGER), log=Showing([{}], changes=told, head=5))
    assert (trouble, verdicts(evidence)) == ({}, ["pass"] * 3)
    log = Showing([{}], changes=[change for change in told if change != (2, 0)], head=5)
    evidence, _ = judged(tape=Folding(LEDGER), log=log)
    assert (verdicts(evidence), evidence.states[0].late, log.seen) == (["pass", "fail", "pass"], False, 2)
    behind = Showing([{}], changes=told[:2], head=2)
    evidence, _ = judged(tape=Folding(LEDGER), log=behind)
    assert evidence.states[0].late


def test_a_table_is_judged_at_its_own_place() -> None:
    """The log has gone on since; what it had then is right."""
    log = Log([{}], changes=CHANGES, ends=[3, 5])
    evidence, trouble = judged(log=log, sink=Table([{1: 2, 2: 1}], places=[3]))
    assert (trouble, verdicts(evidence)) == ({}, ["pass"] * 3)
    assert evidence.states[0].groups == {A: Delta(2)}
    assert log.asked[-1] == {SLOT: 3}


@pytest.mark.parametrize(
    ("rows", "wrong", "kinds"),
    [
        ({3: 1}, {"missing": ["1"]}, ["fail", "pass", "pass"]),
        ({1: 2, 2: 1, 3: 1}, {"extra": ["2"]}, ["pass", "fail", "pass"]),
        ({1: 1, 3: 1}, {"changed": ["1"]}, ["pass", "pass", "fail"]),
        ({1: 2, 2: 1}, {"missing": ["3"], "extra": ["2"]}, ["fail", "fail", "pass"]),
    ],
    ids=str,
)
def test_what_is_wrong_at_its_place_is_damage(rows: Rows, wrong: Any, kinds: list[str]) -> None:
    """By its key, at once: lost, alive though deleted, an older version."""
    evidence, trouble = judged(log=Log([{}], changes=CHANGES), sink=Table([rows], places=[5]))
    assert (trouble, verdicts(evidence)) == ({}, kinds)
    assert set(checks.guilty(evidence).values()) == {"sink"}
    names = {"missing": "lost", "extra": "doubled", "changed": "changed"}
    assert {kind: of["sink"] for kind, of in checks.counts(evidence).items()} == {
        names[kind]: len(wrong.get(kind, ())) for kind in names
    }
    (listed,) = evidence.symptoms["differences"].values()
    assert {kind: told["ids"] for kind, told in listed.items() if told["count"]} == wrong
    reasons = [check(evidence).why for check in DAMAGE if check(evidence).verdict is Verdict.FAIL]
    assert all(f": id {ids[0]})" in why for ids, why in zip(wrong.values(), reasons, strict=True)), reasons


def test_a_table_that_does_not_come_to_the_logs_end_lacks_what_is_there() -> None:
    """Where it is right as far as it has come, what it lacks rests on time."""
    evidence, trouble = judged(log=Log([{}], changes=CHANGES), sink=Table([{1: 1, 2: 1}], places=[2]))
    assert (trouble, verdicts(evidence)) == ({}, ["fail"] * 3)
    assert evidence.states[0].groups == {A: Delta(2, lost=1, ghosts=1, changed=1)}
    assert all(only_late(evidence, damage) for damage in compare(evidence))
    run = replace(evidence, healed=Marks(1, 0), ends=Marks(9, 0))
    assert [check(run).timed for check in DAMAGE] == [Timed(1, 9)] * 3
    there = replace(run, states=tuple(replace(state, late=False) for state in run.states))
    assert [check(there).timed for check in DAMAGE] == [None] * 3


def test_a_place_that_the_log_may_have_forgotten_is_looked_at_again() -> None:
    """Of a compacted log: at the next place it is known; one that goes on moving never is."""
    log = Log([{}], changes=[*CHANGES, (3, 2)], ends=[5, 6], dense=False)
    sink = Table([{1: 2, 3: 7}, {1: 2, 3: 2}], places=[5, 6])
    evidence, _ = judged(log=log, sink=sink)
    assert verdicts(evidence) == ["pass"] * 3
    log = Log([{}], changes=[*CHANGES, (3, 2)], ends=[5, 6], dense=False)
    evidence, _ = judged(log=log, sink=Table([{1: 2, 3: 7}], places=[5]))
    assert evidence.states[0].groups == {A: Delta(2, moving=1)}
    assert verdicts(evidence) == ["unknown"] * 3


def test_two_looks_at_what_moves() -> None:
    """A key that is on its way at the first look is there at the second."""
    source = Table([{1: 1, 2: 1}, {1: 2, 2: 1}, {1: 2, 2: 1}])
    evidence, _ = judged(source=source, sink=Table([{1: 1}, {1: 2, 2: 1}]))
    assert verdicts(evidence) == ["pass"] * 3


def test_a_key_that_differs_and_has_not_moved_is_damage() -> None:
    """At once where the hop is known to have passed, else after some time; beside it one that keeps moving is not
    known, and makes nothing else so."""
    sink = Table([{1: 1}])
    evidence, _ = judged(source=Table([{1: 1, 2: 1}]), sink=sink)
    assert verdicts(evidence) == ["fail", "pass", "pass"]
    assert sink.seen > 2
    moving = Table([{1: n, 2: 1} for n in range(1, 99)])
    evidence, _ = judged(source=moving, sink=Table([{1: 999, 2: 2}]))
    assert evidence.states[0].groups == {A: Delta(2, changed=1, moving=1)}
    log = Log([{}], changes=CHANGES)
    sink = Delivering([{3: 1}], has=[0])
    evidence, _ = judged(log=log, sink=sink)
    assert (verdicts(evidence), evidence.states[0].late) == (["fail", "pass", "pass"], True)
    sink = Delivering([{3: 1}], has=[5])
    evidence, _ = judged(log=log, sink=sink)
    assert (verdicts(evidence), sink.seen, evidence.states[0].late) == (["fail", "pass", "pass"], 2, False)


def test_a_log_that_has_passed_the_table_is_judged_at_once() -> None:
    """As the place of whoever tells the changes says; a deletion that was not told is found at the log."""
    source = Table([{1: 2, 3: 1}], places=[40])
    source_slot = {"connector": Slot([30, 41])}

    def told(upto: Position | None = None) -> State:
        made = Table.state(source)
        return State(**{**made.__dict__, "position": {"capture": 40}})

    source.state = told  # type: ignore[method-assign]
    log = Log([{}], changes=[(1, 1), (2, 1), (1, 2), (3, 1)])
    evidence, trouble = judged(source_slot, source=source, log=log)
    assert trouble == {}
    assert (evidence.states[0].hop, verdicts(evidence)) == ("log", ["pass", "fail", "pass"])
    assert evidence.symptoms["differences"]["log a"]["extra"]["ids"] == ["2"]
    assert len(log.asked) == 2


def test_a_key_that_comes_and_goes_between_looks_is_no_ghost() -> None:
    """It is absent at each look at the source, and the log has another row of it each time: nothing is known of it."""
    source = Table([{1: 1}])
    sink = Table([{1: 1, 2: n} for n in range(1, 99)])
    evidence, _ = judged(source=source, sink=sink)
    assert evidence.states[0].groups == {A: Delta(1, moving=1)}
    sink = Table([{1: 1, 2: 1}, {1: 1, 2: 2}, {1: 1, 2: 2}, {1: 1, 2: 2}, {1: 1}])
    evidence, _ = judged({"connector": Slot([99])}, source=Table([{1: 1}]), sink=sink)
    assert verdicts(evidence) == ["pass"] * 3


def test_one_look_alone_tells_no_ghost(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is time for one only, of a log that takes long to read: what it has besides may have come after the look at
    the source."""
    monkeypatch.setattr(states, "SETTLED_WITHIN_S", 1.0)
    sink = Table([{1: 1, 2: 1}])
    evidence, _ = judged(source=Table([{1: 1}]), sink=sink)
    assert (sink.seen, evidence.states[0].groups) == (1, {A: Delta(1, moving=1)})
    assert verdicts(evidence) == ["unknown"] * 3


def test_a_key_that_never_rests_is_right_where_the_log_shows_that_it_has_only_gone_on() -> None:
    """However long a look takes: the log has had each row that the source had; the table has rows that the log had, and
    none older than it must have. One that is deleted by the log alone is lost, though the log had its row."""
    busy = [(1, n) for n in range(1, 99)]
    evidence, _ = judged(source=Table([{1: n} for n in range(1, 99)]), log=Log([{}], changes=busy))
    assert verdicts(evidence) == ["pass"] * 3
    log = Log([{}], changes=busy, ends=[10, 20, 30, 40, 50, 60, 70, 80])
    evidence, _ = judged(log=log, sink=Delivering([{1: 5}, {1: 15}], has=[99]))
    assert verdicts(evidence) == ["pass"] * 3
    log = Log([{}], changes=busy, ends=[10, 20, 30, 40, 50, 60, 70, 80])
    evidence, _ = judged(log=log, sink=Delivering([{1: 5}], has=[99]))  # it stays behind until the log rests
    assert verdicts(evidence) == ["pass", "pass", "fail"]
    evidence, _ = judged(source=Table([{1: 1, 2: 1}]), log=Log([{}], changes=[(1, 1), (2, 1), (1, 0)]))
    assert verdicts(evidence) == ["fail", "pass", "pass"]


def test_what_can_not_be_compared_is_missing() -> None:
    """The verdict is unknown, and the reason is told."""

    class Broken(Table):
        def state(self, upto: Position | None = None) -> State:
            raise DriverError("away", definite=True)

    evidence, trouble = judged(log=Log([{}], changes=CHANGES), sink=Broken([{}]))
    assert (evidence.states, trouble) == ((), {"sink": "away"})
    assert checks.no_loss(evidence).verdict is Verdict.UNKNOWN
    evidence, trouble = judged(history=Table([{1: 1}], kind="append"), sink=Table([{1: 1}]))
    assert evidence.states == ()
    assert trouble["sink"].startswith("history can't tell what sink should have")


def test_damage_whose_rows_can_not_be_fetched_is_damage() -> None:
    """Without its keys."""

    class Mute(Table):
        def records(self, hashes: U64) -> Columns:
            raise DriverError("away", definite=True)

    evidence, trouble = judged(log=Log([{}], changes=CHANGES), sink=Mute([{1: 2}], places=[5]))
    assert (trouble, verdicts(evidence)) == ({}, ["fail", "pass", "pass"])
    assert evidence.symptoms["differences"] == {"sink a": {"trouble": "away"}}
