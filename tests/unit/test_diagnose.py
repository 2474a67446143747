"""Differences row by row, and the sentences for the engineer on call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gameday.model import Columns, Evidence, Verdict
from gameday.records.declaration import Stream
from gameday.records.types import parse
from gameday.verdict import checks, diagnose, selftest


def trades(*rows: tuple[int, int]) -> Columns:
    """(id, price) pairs; the other columns follow from the id."""
    ids = np.array([i for i, _ in rows], dtype=np.int64)
    price = np.array([p for _, p in rows], dtype=np.int64)
    return {"id": ids, "price": price, "quantity": ids * 2, "side": ids % 2, "time_us": ids + 10}


STREAM = Stream(
    "trades",
    ("id",),
    (),
    {name: parse("int") for name in ("id", "price", "quantity", "side", "time_us")},
    "id",
    True,
    None,
    ("broker", "bronze"),
    "bronze",
    ("web",),
)


RIGHT = trades((1, 10), (2, 20), (3, 30), (4, 40))
NONE = {"count": 0, "ids": []}


def test_equal_rows_differ_in_nothing() -> None:
    """Whatever their order."""
    shuffled = trades((3, 30), (1, 10), (4, 40), (2, 20))
    found = diagnose.difference(RIGHT, shuffled, STREAM)
    assert found == {"missing": NONE, "extra": NONE, "doubled": NONE, "changed": {**NONE, "rows": []}}


def test_each_kind_of_difference_is_named_by_id() -> None:
    """2 is missing, 9 is foreign, 3 is there twice, 4 costs one unit more."""
    found = diagnose.difference(RIGHT, trades((1, 10), (3, 30), (3, 30), (4, 41), (9, 90)), STREAM)
    assert found["missing"] == {"count": 1, "ids": [2]}
    assert found["extra"] == {"count": 1, "ids": [9]}
    assert found["doubled"] == {"count": 1, "ids": [3]}
    assert found["changed"] == {"count": 1, "ids": [4], "rows": [{"id": 4, "price": [40, 41]}]}


def test_empty_sides_are_no_error() -> None:
    """A hop that holds nothing lacks everything."""
    assert diagnose.difference(RIGHT, trades(), STREAM)["missing"]["ids"] == [1, 2, 3, 4]
    assert diagnose.difference(trades(), RIGHT, STREAM)["extra"]["count"] == 4


def test_only_the_first_ids_are_named_but_all_are_counted() -> None:
    """A whole group gone fits on a page."""
    many = trades(*((n, n) for n in range(1, 1001)))
    found = diagnose.difference(many, trades(), STREAM)
    assert found["missing"] == {"count": 1000, "ids": list(range(1, diagnose.IDS_NAMED + 1)), "last": 1000}


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.randoms())
def test_what_was_planted_is_what_is_found(gone: set[int], twice: set[int], off: set[int], random: object) -> None:
    """Any mix of missing, doubled and changed rows, in any order."""
    rows = [(n, n * 10 + (n in off)) for n in range(1, 41) if n not in gone for _ in range(1 + (n in twice))]
    random.shuffle(rows)  # type: ignore[attr-defined]
    found = diagnose.difference(trades(*((n, n * 10) for n in range(1, 41))), trades(*rows), STREAM)
    here = set(range(1, 41))
    assert found["missing"]["count"] == len(gone & here)
    assert found["doubled"]["count"] == len((twice & here) - gone)
    assert found["changed"]["count"] == len((off & here) - gone)
    assert found["changed"]["ids"] == sorted((off & here) - gone)[: diagnose.IDS_NAMED]


def lossy() -> Evidence:
    """A trade is missing from bronze on, as it would be judged and listed."""
    history = selftest.clean()
    for rows in (history.bronze, history.silver_raw, history.silver):
        rows[selftest.AFFECTED[0]] = {n: np.delete(c, 5) for n, c in rows[selftest.AFFECTED[0]].items()}
    return history.evidence()


def test_rows_are_wanted_only_where_digests_differ() -> None:
    """The guilty hop comes first; a clean run costs nothing."""
    assert diagnose.wanted(selftest.clean().evidence()) == []
    group = selftest.AFFECTED[0]
    assert diagnose.wanted(lossy()) == [("bronze", group), ("silver", group)]


def test_the_sentences_say_what_happened_who_is_guilty_and_where_to_look() -> None:
    """Act, impact, restore, the failed check, the id, the place to look; nothing about what passed."""
    listed = {"bronze east/one": {"missing": {"count": 1, "ids": [1006]}}}
    evidence = replace(lossy(), symptoms={"differences": listed, "trouble": {"gold": "timed out"}})
    findings = [check(evidence) for check in checks.INTACT]
    lines = diagnose.explain(evidence, findings)
    assert lines[0] == "At 0.00 s: kill of writer-east; pid 1 is gone."
    assert lines[1].startswith("Impact came between")
    assert any(line.startswith("no_loss: fail: bronze has 1 record fewer than exchange") for line in lines)
    assert "bronze east/one: 1 missing (id 1006)." in lines
    assert "gold: timed out." in lines
    likely = [line for line in lines if line.startswith("Likely: ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in likely] == [
        "A server can't be reached",
        "Records are lost between two hops, and nobody is behind",
    ]
    assert lines[-1].startswith("Look between broker and bronze: that is where records were first lost (east/one)")
    assert not any("order" in line for line in lines)


def test_a_changed_row_is_told_field_by_field() -> None:
    """What it was, and what it became."""
    found = diagnose.difference(RIGHT, trades((1, 10), (2, 20), (3, 31), (4, 40)), STREAM)
    evidence = Evidence(
        "t", {}, "s", symptoms={"differences": {"broker a/b": found, "gold a/b": {"trouble": "no rows"}}}
    )
    assert diagnose.explain(evidence, []) == [
        "broker a/b: 1 changed (id 3); of id 3: price 30 became 31.",
        "gold a/b: the differing rows can't be listed: no rows.",
    ]


def test_nothing_is_likely_behind_a_pass() -> None:
    """What could not be asked meanwhile is told all the same."""
    evidence = replace(selftest.clean().evidence(), symptoms={"trouble": {"gold": "timed out"}})
    lines = diagnose.explain(evidence, [])
    assert "gold: timed out." in lines
    assert not any(line.startswith("Likely") for line in lines)


def test_an_unmeasured_restore_says_why() -> None:
    """Unmeasured is told, not left out."""
    history = selftest.clean()
    history.timeline = selftest.Timeline(down=(0.02, 99.0), frozen=(0.02, 99.0))
    evidence = history.evidence()
    lines = diagnose.explain(evidence, [checks.recovered(evidence)])
    assert any(line.startswith("Restore is not measured: not back: component/writer-east/health") for line in lines)
    assert any(line.startswith(f"recovered: {Verdict.FAIL}") for line in lines)
