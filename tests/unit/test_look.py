"""What is told of the newest records of hops, and of two hops' beside each other, before any failure test."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gameday import cli
from gameday.drivers import _log
from gameday.drivers.kafka import log
from gameday.errors import DriverError
from gameday.model import Columns, Digest, Excerpt, Group, Tally, Window
from gameday.records.declaration import Stream, stream
from gameday.records.excerpts import back, differences, facts
from gameday.records.types import INT64_MIN
from tasks import look as looking
from tasks.look import look, readable
from tests.trades import live
from tests.trades import stack_of as stack

NORTH: Group = ("north",)
SOUTH: Group = ("south",)
HOUR_US = 3_600_000_000


def declared(**changes: Any) -> Stream:
    given = {
        "key": ["shop", "id"],
        "group": ["shop"],
        "sequence": "id",
        "gapless": True,
        "time": "at",
        "fields": {"total": "decimal(2)", "at": "time(us)"},
        "hops": ["first", "next"],
        "visible": "next",
        "path": ["web"],
        **changes,
    }
    mistakes: list[str] = []
    made = stream("orders", given, ["first", "next"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = declared()


def columns(ids: Sequence[int], total: int | None = None, at_us: int = 0) -> Columns:
    """Orders whose total tells their id, unless it is given."""
    totals = [n * 100 if total is None else total for n in ids]
    return {
        "shop": np.array(["north"] * len(ids)),
        "id": np.array(ids, dtype=np.int64),
        "total": np.array(totals, dtype=np.int64),
        "at": np.array([at_us + n for n in ids], dtype=np.int64),
    }


def excerpt(ids: Sequence[int], above: int = 0, **more: Any) -> Excerpt:
    return Excerpt({NORTH: columns(ids, **more)}, {NORTH: max(ids, default=0)}, {NORTH: above}, len(ids))


# ---- what one hop's look like ------------------------------------------------------------------------------


def test_a_field_with_one_value_in_many_records_is_constant_as_people_read_it() -> None:
    """One that is the same in a few records may be so by chance."""
    assert facts(ORDERS, excerpt(range(1, 11), total=150)).constant == {"total": "1.50"}
    assert facts(ORDERS, excerpt(range(1, 10), total=150)).constant == {}
    assert facts(ORDERS, excerpt(range(1, 11))).constant == {}


def test_repeats_are_the_records_of_a_key_that_was_there_already() -> None:
    """Whatever else they say."""
    told = facts(ORDERS, excerpt([1, 2, 2, 2, 3]))
    assert (told.records, told.repeated, told.found, told.span) == (5, 2, 3, 3)


def test_the_share_of_ids_is_told_with_the_group_that_lacks_most() -> None:
    """Between the lowest and the highest of each; what was sent again from long ago is no lowest."""
    held = Excerpt(
        {NORTH: columns([7, 101, 102, 104]), SOUTH: columns([1, 2, 9])},
        {NORTH: 104, SOUTH: 9},
        {NORTH: 100, SOUTH: 0},
        7,
    )
    told = facts(ORDERS, held)
    assert (told.found, told.span, told.sparsest) == (6, 13, (SOUTH, 3, 9))


def test_ids_with_gaps_are_asked_for_further_back() -> None:
    """Until there are about so many; where none are left out, or all have been read, no further."""
    asked: list[int] = []

    def every(step: int, lowest: int) -> Any:
        def ask(window: Window) -> tuple[Mapping[Group, Columns], int]:
            lo, hi = max(window.lo[NORTH], lowest - 1), window.hi[NORTH]
            asked.append(hi - window.lo[NORTH])
            ids = [n for n in range(hi, max(lo, hi - 400_000), -1) if n % step == 0]
            return {NORTH: columns(ids)}, len(ids)

        return ask

    held, window, rows = back(every(1, 1), {NORTH: 10**6}, 100, ORDERS)
    assert (asked, rows, window) == ([100], 100, Window({NORTH: 10**6 - 100}, {NORTH: 10**6}))
    asked.clear()
    gaps = declared(gapless=False)
    held, _, rows = back(every(100, 1), {NORTH: 10**6}, 100, gaps)
    assert (asked, rows) == ([100, 6400], 64)
    assert held[NORTH]["id"].min() > 10**6 - 6400
    asked.clear()
    back(every(1, 1), {NORTH: 9}, 100, ORDERS)
    assert asked == [100]
    _, window, _ = back(every(10**6, 1), {NORTH: 9}, 100, gaps)
    assert window.lo[NORTH] == INT64_MIN


def test_of_very_many_groups_some_are_looked_at() -> None:
    """A thousand records tell nothing of ten thousand groups."""
    _, window, _ = back(lambda w: ({}, 10**6), {(str(n),): 50 for n in range(10_000)}, 1_000, ORDERS)
    assert len(window.hi) == 100


@pytest.mark.parametrize(
    ("ids", "stamps_us", "since_us", "above"),
    [
        ([1, 2, 3], [1, 2, 3], INT64_MIN, 0),
        ([11, 12, 13], [1, 2, 3], 1, 11),
        ([11, 14, 12, 13], [1, 4, 2, 3], 2, 12),
        ([3, 4, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30], range(12), 0, 21),
    ],
    ids=["whole", "tail", "two partitions", "sent again"],
)
def test_the_end_of_a_log_is_complete_above_an_id(
    ids: Sequence[int], stamps_us: Sequence[int], since_us: int, above: int
) -> None:
    """The whole log from its lowest id on; of partitions that begin at different times from the last of these on."""
    assert _log._above(np.array(ids), np.array(stamps_us), since_us) == above


@pytest.mark.parametrize("upto", [None, {NORTH: 1}], ids=["newest", "far behind"])
def test_of_a_log_of_a_thousand_partitions_and_groups_a_bounded_part_is_read(
    upto: Mapping[Group, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much there is, and however far behind a hop is that it is held against."""
    asked: list[int] = []

    def read(spans: Mapping[_log.Slot, _log.Span]) -> Any:
        found = {}
        for (topic, partition), (start, stop) in spans.items():
            asked.append(stop - start)
            ids = np.arange(start, stop)
            places = {"group": np.full(len(ids), partition), "offset": ids, "stamp_us": ids}
            found[topic, partition] = _log._Piece(ORDERS, places, columns(ids.tolist()), read=len(ids))
        return found

    hop = log.Hop("127.0.0.1:1", ORDERS, ["t"])
    hop._numbers = {(str(n),): n for n in range(1_000)} | {NORTH: 1_000}
    monkeypatch.setattr(hop, "_bounds", lambda: {("t", n): (0, 10**9) for n in range(1_000)})
    monkeypatch.setattr(hop, "_read", read)
    began = time.monotonic()
    seen = hop.newest(1_000, upto)
    assert time.monotonic() - began < 10
    assert sum(asked) == seen.read == (10_000 if upto is None else _log.BEHIND_RECORDS_MAX)
    assert len(seen.heads) == 1_000
    assert len(seen.groups) == (1_000 if upto is None else 0)


# ---- two hops beside each other ----------------------------------------------------------------------------


def test_only_the_span_in_which_both_are_complete_is_compared() -> None:
    """What one has below it, the other was not asked for."""
    found = differences(ORDERS, excerpt([1, 2, 5, 6, 8]), excerpt([4, 5, 7, 8], above=4))
    assert (found.compared, found.missing_keys, found.extra_keys) == (2, ("north/6",), ("north/7",))
    assert (found.missing, found.extra, found.changed) == (1, 1, 0)


def test_values_that_differ_are_told_by_field_with_the_first_three() -> None:
    """As people read them; a record that is there twice is right when one of them is."""
    found = differences(ORDERS, excerpt([1, 2, 3, 4]), excerpt([1, 2, 3, 4], total=200))
    assert (found.changed, found.fields) == (3, {"total": 3})
    assert found.changes == (
        ("north/1", "total", "1.00", "2.00"),
        ("north/3", "total", "3.00", "2.00"),
        ("north/4", "total", "4.00", "2.00"),
    )
    twice = Excerpt(
        {NORTH: {n: np.append(c, columns([1], total=5)[n]) for n, c in columns([1]).items()}}, {}, {NORTH: 0}, 2
    )
    assert differences(ORDERS, excerpt([1]), twice).changed == 0


def test_keys_are_compared_by_what_makes_them_not_by_their_number() -> None:
    """A sequence that lies elsewhere is a value that differs."""
    keyed = declared(key=["shop", "total"])
    other = {**columns([1, 2, 3]), "id": np.array([11, 12, 13])}
    found = differences(keyed, excerpt([1, 2, 3]), Excerpt({NORTH: other}, {NORTH: 13}, {NORTH: 10}, 3))
    assert (found.compared, found.fields, found.missing) == (3, {"id": 3}, 0)


# ---- the look ----------------------------------------------------------------------------------------------


class Rows:
    """A hop in memory that can be asked by id: shop -> ids, and its rows' other values."""

    def __init__(self, held: Mapping[Group, Sequence[int]], **more: Any) -> None:
        self.held = {group: list(ids) for group, ids in held.items()}
        self.more = more

    def heads(self) -> Mapping[Group, int]:
        return {group: max(ids) for group, ids in self.held.items()}

    def digest(self, window: Window) -> Sequence[Digest]:
        raise NotImplementedError

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        return columns([n for n in self.held.get(group, ()) if lo < n <= hi], **self.more)


class Told(Rows):
    """One that says itself what its newest records are."""

    def __init__(self, told: Excerpt) -> None:
        super().__init__({})
        self.told = told

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        return self.told


class Tape(Rows):
    """A ledger that knows all from the first on."""

    whole = True


def stack_of(told: Stream = ORDERS, kind: str = "append", **hops: Any) -> Any:
    configs = {name: SimpleNamespace(settings={"kind": kind}) for name in hops}
    return stack(live(hops, told), config=SimpleNamespace(hops=configs))


def rows_of(*given: Any, **hops: Any) -> Mapping[str, Mapping[str, Any]]:
    return {row["what"]: row for row in look(stack_of(*given, **hops))}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SETTLED_WITHIN_S", "ON_ITS_WAY_S", "AGAIN_EVERY_S"):
        monkeypatch.setattr(looking, name, 0.05)


BOTH = "look from first to next"


def test_hops_that_can_only_be_asked_by_id_are_looked_at_too() -> None:
    """Nothing more is needed of a driver from outside."""
    rows = rows_of(first=Rows({NORTH: range(1, 2001)}), next=Rows({NORTH: range(1, 1501)}))
    assert all(row["ok"] for row in rows.values())
    assert rows["look at first"]["note"] == "1,000 records of 1 group; no id is left out"
    assert rows[BOTH]["note"] == "1,000 records are the same; next is 500 ids behind, which were not compared"
    json.dumps(list(rows.values()))


@pytest.mark.usefixtures("soon")
def test_a_group_that_the_next_hop_has_not_is_wrong_once_that_has_passed_the_others() -> None:
    """If it moves; one that has been quiet for long, or in a hop that is still behind, is only told."""
    first = Rows({NORTH: range(1, 51), SOUTH: range(1, 51)})
    rows = rows_of(first=first, next=Rows({NORTH: range(1, 51)}))
    assert (rows[BOTH]["ok"], rows[BOTH]["note"]) == (False, "1 group is not in next: south")
    rows = rows_of(first=first, next=Rows({NORTH: range(1, 41)}))
    assert rows[BOTH]["ok"]
    assert rows[BOTH]["note"].endswith("; 1 group is not in next yet: south")
    quiet = Rows({NORTH: [HOUR_US + n for n in range(1, 51)], SOUTH: range(1, 51)})
    rows = rows_of(declared(gapless=False), first=quiet, next=Rows({NORTH: quiet.held[NORTH]}))
    assert (rows[BOTH]["ok"], "not in next yet: south" in rows[BOTH]["note"]) == (True, True)


class End(Rows):
    """A log, of which only the end is looked at: the newest ids from `since` on."""

    since = 0

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        held = {
            group: columns([n for n in ids if n > self.since and (upto is None or n <= upto.get(group, 0))])
            for group, ids in self.held.items()
            if ids[-1] > self.since
        }
        return Excerpt(held, {g: self.held[g][-1] for g in held}, dict.fromkeys(held, self.since), len(held))

    def heads_before(self, position: Mapping[str, int]) -> Mapping[Group, int]:
        raise NotImplementedError

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        raise NotImplementedError


@pytest.mark.usefixtures("soon")
def test_a_group_that_moves_and_is_not_in_the_end_of_a_log_is_wrong_on_either_side() -> None:
    """A topic that was left out. One that was quiet since before that end may be further back."""
    both, one = Rows({NORTH: range(1, 101), SOUTH: range(1, 101)}), End({NORTH: range(1, 101)})
    one.since = 40
    assert rows_of(first=both, next=one)[BOTH]["note"] == "1 group is not in next: south"
    rows = rows_of(first=one, next=both)
    assert (rows[BOTH]["ok"], rows[BOTH]["note"]) == (False, "1 group is in next and not in first: south")
    quiet = Rows({NORTH: range(1, 101), SOUTH: range(1, 31)})
    assert rows_of(first=one, next=quiet)[BOTH]["ok"]
    assert rows_of(first=quiet, next=one)[BOTH]["ok"]


@pytest.mark.usefixtures("soon")
def test_a_group_that_the_ledger_never_had_is_foreign() -> None:
    """A first hop on the platform's side may have forgotten it."""
    held = {NORTH: range(1, 51)}
    more = Rows({**held, SOUTH: range(1, 5)})
    rows = rows_of(first=Tape(held), next=more)
    assert (rows[BOTH]["ok"], rows[BOTH]["note"]) == (False, "1 group is in next and not in first: south")
    old = Rows({NORTH: [HOUR_US + n for n in range(1, 51)]})
    rows = rows_of(declared(gapless=False), first=old, next=Rows({**old.held, SOUTH: range(1, 5)}))
    assert rows[BOTH]["ok"]


@pytest.mark.usefixtures("soon")
def test_ids_that_a_reference_without_gaps_leaves_out_are_wrong() -> None:
    """Where gaps are declared they are only told; of a later hop its neighbour tells."""
    gaps = Rows({NORTH: [n for n in range(1, 101) if n != 7]})
    rows = rows_of(first=gaps, next=gaps)
    assert (rows["look at first"]["ok"], rows["look at next"]["ok"]) == (False, True)
    assert "99 of 100 ids are there, though streams.orders is gapless" in rows["look at first"]["note"]
    assert rows_of(declared(gapless=False), first=gaps, next=gaps)["look at first"]["ok"]


def test_a_hop_that_fails_or_is_empty_is_no_yes_and_its_neighbours_are_compared() -> None:
    """Each with why."""

    class Broken(Rows):
        def heads(self) -> Mapping[Group, int]:
            raise DriverError("it is away", definite=True)

    held = {NORTH: range(1, 51)}
    rows = rows_of(first=Rows(held), broken=Broken({}), empty=Rows({}), next=Rows(held))
    assert {what: row["ok"] for what, row in rows.items()} == {
        "look at first": True,
        "look at broken": False,
        "look at empty": False,
        "look at next": True,
        BOTH: True,
    }
    assert rows["look at broken"]["note"] == "it is away"
    assert rows["look at empty"]["note"].startswith("0 records: it is empty")


def test_a_hop_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named within its bound."""
    over = threading.Event()
    monkeypatch.setattr(looking, "LOOK_WITHIN_S", 0.2)

    class Hanging(Rows):
        def heads(self) -> Mapping[Group, int]:
            over.wait(30)
            return {}

    began = time.monotonic()
    rows = rows_of(first=Rows({NORTH: range(1, 51)}), next=Hanging({}))
    assert time.monotonic() - began < 10
    over.set()
    assert rows["look at next"]["note"] == "a look at next: no answer within 0.2 s"


def test_a_hop_made_of_others_is_left_out() -> None:
    """Its rows are no records of the stream."""

    class Bars(Rows):
        def derived(self, window: Window, ledger: Any) -> Sequence[Digest]:
            return (Digest("bars", "next", "final", {NORTH: Tally(0, 0, 0, 0, 0)}),)

    rows = rows_of(first=Rows({NORTH: range(1, 51)}), next=Bars({}))
    assert rows["look at next"]["ok"]
    assert "not looked at" in rows["look at next"]["note"]


def test_what_a_plain_check_says_of_a_hop_that_can_t_be_read_is_no_yes() -> None:
    """With how many are malformed and the first reason; where some can be read, it is told beside them."""
    reasons = ("t/0 offset 1: id: is missing", "two", "three")
    with pytest.raises(DriverError, match=r"^0 records, 4,212 malformed: t/0 offset 1: id: is missing$"):
        readable(Told(Excerpt({}, {}, {}, 4212, 4212, reasons)), {}, True)
    with pytest.raises(DriverError, match=r"^0 records: none of the newest 50 belongs to the stream\. Remedy: "):
        readable(Told(Excerpt({}, {}, {}, 50)), {}, True)
    some = Told(Excerpt({NORTH: columns([1])}, {NORTH: 1}, {NORTH: 0}, 4, 3, reasons))
    assert readable(some, {NORTH: 7}, True) == "7 records; of the newest 4, 3 malformed: t/0 offset 1: id: is missing"
    assert readable(Told(excerpt([1])), {NORTH: 7}, True) == readable(Rows({}), {NORTH: 7}, True) == "7 records"
    assert readable(Told(Excerpt({}, {}, {}, 0)), {}, True) == "0 records"
    assert readable(Rows({}), {NORTH: 1_795_000_000_000_000}, False) == "1 group"


def test_a_canary_that_has_not_written_yet_is_no_mistake() -> None:
    """Before the first run of a stack that has nothing else; what can't be read is one all the same."""
    assert "a run writes them" in readable(Told(Excerpt({}, {}, {}, 50)), {}, True, canary=True)
    with pytest.raises(DriverError, match="id: is missing"):
        readable(Told(Excerpt({}, {}, {}, 50, 3, ("t/0 offset 1: id: is missing",))), {}, True, canary=True)


def test_repeats_are_wrong_where_the_kind_promises_once() -> None:
    """Else they are told."""
    seen = Told(excerpt([*range(1, 51), 50]))
    once = {row["what"]: row for row in look(stack_of(kind="once", first=seen, next=seen))}
    assert (once["look at next"]["ok"], rows_of(first=seen, next=seen)["look at next"]["ok"]) == (False, True)
    assert "1 repeat a key, though kind is once" in once["look at next"]["note"]


def test_a_table_that_is_overwritten_is_held_against_any_version_of_its_keys() -> None:
    """A key that only the log has may be deleted since; one that only the table has, or a row that the log never had,
    is wrong. The same the other way round, from a source to the log of its changes."""
    fields = {"total": "decimal(2)", "at": "time(us)", "id": "int"}
    changing = declared(key=["id"], sequence=None, gapless=False, version="v", fields=fields)

    def seen(*rows: tuple[int, int, int]) -> Told:
        ids, versions, totals = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
        held = {**columns(ids.tolist()), "total": totals, "v": versions, "at": 10 * versions}
        return Told(Excerpt({NORTH: held}, {NORTH: 40}, {NORTH: 0}, len(ids)))

    def told(log: Told, table: Told, kinds: tuple[str, str] = ("", "state")) -> Mapping[str, Any]:
        made = stack_of(changing, first=log, next=table)
        for name, kind in zip(made.config.hops, kinds, strict=True):
            made.config.hops[name].settings["kind"] = kind
        return {row["what"]: row for row in look(made)}

    log = seen((1, 1, 100), (1, 2, 150), (2, 1, 100), (3, 1, 100))
    right, foreign, changed = seen((1, 2, 150), (2, 1, 100)), seen((1, 2, 150), (9, 1, 100)), seen((1, 2, 151))
    assert told(log, right)[BOTH]["ok"]
    assert "1 of 2 records are only in next: north/9" in told(log, foreign)[BOTH]["note"]
    assert "total differs in 1 of 1: north/1 has 1.50 in first and 1.51 in next" in told(log, changed)[BOTH]["note"]
    assert told(right, log, ("state", ""))[BOTH]["ok"]
    assert "1 of 2 records are not in next: north/9" in told(foreign, log, ("state", ""))[BOTH]["note"]
    twice = told(log, seen((1, 2, 150), (1, 1, 100)))["look at next"]
    assert not twice["ok"]
    assert "1 repeat a key, though kind is state" in twice["note"]


# ---- the command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fine", "code"), [(True, 0), (False, 3)])
@pytest.mark.parametrize("as_json", [True, False])
def test_the_command_ends_with_3_when_a_look_says_no(
    fine: bool, code: int, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the platform's records say is shown as it is: it is no markup and steers no terminal."""
    note = "total is always [red]\x1b[2J"
    looked = {"what": "look at log", "ok": fine, "note": note, "look": {}}
    monkeypatch.setattr("tasks.survey.requirements", lambda *_: [{"what": "test t", "ok": True, "note": "can run"}])
    monkeypatch.setattr("tasks.look.look", lambda _: [looked])
    monkeypatch.setattr("gameday.cli.looking.opened_stack", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gameday", "check", "--look", *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    told = capsys.readouterr().out
    if as_json:
        assert json.loads(told)[1] == looked
    else:
        assert "total is always [red][2J" in told
        assert "\x1b" not in told


def test_hops_of_different_streams_are_not_held_against_each_other() -> None:
    """Each stream's own ones are."""
    orders = live({"first": Rows({NORTH: range(1, 51)}), "next": Rows({NORTH: range(1, 51)})}, ORDERS)
    others = live(
        {"one": Rows({NORTH: range(1, 31)}), "two": Rows({NORTH: range(1, 31)})}, replace(ORDERS, name="others")
    )
    configs = {hop: SimpleNamespace(settings={"kind": "append"}) for hop in ("first", "next", "one", "two")}
    rows = {row["what"]: row for row in look(stack(orders, others, config=SimpleNamespace(hops=configs)))}
    assert all(row["ok"] for row in rows.values()), rows
    assert {what for what in rows if what.startswith("look from")} == {
        "look from first to next",
        "look from one to two",
    }
