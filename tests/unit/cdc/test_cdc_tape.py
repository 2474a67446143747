"""The tape of transactions: what it counts, what it makes, and what a fold of it leaves are one and the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cdc.tape import (
    FOREIGN,
    HORIZON,
    KINDS,
    RULES,
    SHAPES,
    SHARDS,
    TABLES,
    Change,
    Forgotten,
    changes,
    count,
    ddl,
    due_us,
    events,
    existing,
    extra,
    heads,
    md5,
    outcomes,
    records,
    state,
    transaction,
)

START_US = 1_790_000_000_000_000
GROUPS = [(table, shard) for table in TABLES for shard in SHARDS]


@st.composite
def tapes(draw: st.DrawFn) -> dict[str, Any]:
    """Up to two lives of the longest-lived rows, with bursts, changes of shape, and pauses."""
    begun = {shard: draw(st.integers(0, 2 * HORIZON)) for shard in SHARDS}
    shards = {}
    for shard in SHARDS:
        firsts = sorted({1, *draw(st.lists(st.integers(2, 2 + begun[shard]), max_size=2))})
        shards[shard] = {
            "begun": begun[shard],
            "segments": [[first, START_US + place * 10**10, 100_000] for place, first in enumerate(firsts)],
        }
    bursts = [
        {"shard": shard, "j": draw(st.integers(1, 1 + begun[shard])), "rows": draw(st.integers(1, 40)), "age_us": 10**9}
        for shard in draw(st.lists(st.sampled_from(SHARDS), max_size=3))
    ]
    versions: list[dict[str, Any]] = []
    place = dict.fromkeys(SHARDS, 1)
    for kind in draw(st.sampled_from([(), ("add",), ("mid_transaction", "rename"), ("add_default", "drop", "add")])):
        place = {shard: at + draw(st.integers(1, 300)) for shard, at in place.items()}
        versions.append({"kind": kind, "j": place})
    seed = draw(st.integers(0, 3))
    return {"seed": seed, "shards": shards, "bursts": bursts, "versions": versions, "poison": []}


def carried_out(tape: Mapping[str, Any], shard: str, upto: int) -> dict[str, list[Change]]:
    """All changes of a shard's transactions, by table, in the order in which a database would see them."""
    found: dict[str, list[Change]] = {table: [] for table in TABLES}
    for j in range(1, upto + 1):
        for change in transaction(tape, shard, j):
            found[change.table].append(change)
    return found


@given(tapes(), st.sampled_from(SHARDS))
@settings(max_examples=40, deadline=None)
def test_numbers_leave_none_out_and_agree_with_their_count(tape: dict[str, Any], shard: str) -> None:
    """Each table's changes are 1, 2, 3 ... however many transactions there were; and a row has its change's number."""
    upto = tape["shards"][shard]["begun"]
    for table, made in carried_out(tape, shard, upto).items():
        assert [change.number for change in made] == list(range(1, len(made) + 1))
        assert len(made) == count(tape, table, shard, upto) == heads(tape)[table][shard]
        assert all(change.row["change"] == change.number - (change.op == "d") for change in made)
        assert existing(tape)[table][shard] == max((c.number for c in made if c.op != "d"), default=0)


@given(tapes(), st.sampled_from(SHARDS), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_the_state_at_any_number_is_the_fold_of_all_changes_up_to_it(
    tape: dict[str, Any], shard: str, part: float
) -> None:
    """Though only the last HORIZON transactions are looked at."""
    for table, made in carried_out(tape, shard, tape["shards"][shard]["begun"]).items():
        number = int(part * len(made))
        folded: dict[int, Change] = {}
        for change in made[:number]:
            folded[change.row["id"]] = change
        right = {key: change.number for key, change in folded.items() if change.op != "d"}
        found = state(tape, {(table, shard): number})
        assert dict(zip(found["id"].tolist(), found["change"].tolist(), strict=True)) == right
        amounts = dict(zip(found["id"].tolist(), found["amount"].tolist(), strict=True))
        assert amounts == {key: folded[key].row["amount"] for key in right}


@given(tapes(), st.sampled_from(SHARDS))
@settings(max_examples=30, deadline=None)
def test_a_database_would_take_every_change(tape: dict[str, Any], shard: str) -> None:
    """Only what is there is changed or deleted, nothing is made twice, and foreign keys hold after each change."""
    there: dict[str, dict[int, dict[str, Any]]] = {table: {} for table in TABLES}
    for j in range(1, tape["shards"][shard]["begun"] + 1):
        for change in transaction(tape, shard, j):
            rows, key = there[change.table], change.row["id"]
            assert (key in rows) == (change.op != "c")
            if change.op != "d":
                rows[key] = change.row
            else:
                assert rows.pop(key)["change"] == change.row["change"]
                assert not any(
                    row[FOREIGN[below]] == key
                    for below, above in (("orders", "customers"), ("items", "orders"))
                    if above == change.table
                    for row in there[below].values()
                )
            above = {"orders": "customers", "items": "orders"}.get(change.table)
            parent = change.row.get(FOREIGN.get(change.table, ""))
            assert above is None or parent is None or parent in there[above]


@given(tapes(), st.sampled_from(GROUPS), st.integers(0, 5_000), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_a_window_is_cut_out_of_all_changes(tape: dict[str, Any], group: tuple[str, str], lo: int, rows: int) -> None:
    """Wherever it begins; records are those of them that leave a row."""
    found = list(changes(tape, *group, lo, lo + rows))
    assert [change.number for change in found] == list(range(lo + 1, lo + rows + 1))
    assert events(tape, group, lo, lo + rows)["change"].tolist() == [change.number for change in found]
    left = records(tape, group, lo, lo + rows)
    assert left["change"].tolist() == [change.number for change in found if change.op != "d"]


def test_poison_is_a_group_of_its_own_which_only_the_outcomes_have() -> None:
    """Each with how the target has to end it; of one that can't be read nothing else is known."""
    tape = plain(poison=[{"kind": kind, "at_us": 1} for kind in KINDS])
    group = ("orders", "9")
    assert outcomes(tape)["orders"]["9"] == len(KINDS)
    assert "9" not in heads(tape)["orders"]
    assert "9" not in outcomes(plain())["orders"]
    found = events(tape, group, 0, len(KINDS))
    assert found["outcome"].tolist() == list(KINDS)
    assert found["rule"].tolist() == list(RULES.values())
    assert [status is None for status in found["status"]] == [kind == "malformed" for kind in KINDS]
    assert events(tape, group, 2, 3)["change"].tolist() == [3]


def plain(**more: Any) -> dict[str, Any]:
    shards = {shard: {"begun": 700, "segments": [[1, START_US, 100_000]]} for shard in SHARDS}
    return {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": [], **more}


def test_every_kind_of_value_is_on_the_tape() -> None:
    """Notes that are kept apart from their row, empty ones and none; amounts that no float holds; deletions."""
    made = [change for j in range(1, 701) for change in transaction(plain(), "0", j)]
    notes = [change.row["note"] for change in made if change.op != "d"]
    assert {None, ""} < set(notes)
    assert sum(note is not None and len(note) > 8_000 for note in notes) > len(notes) // 20
    amounts = [change.row["amount"] for change in made if change.op != "d"]
    assert any(int(float(amount)) != amount for amount in amounts)
    assert {(change.table, change.op) for change in made} == {(table, op) for table in TABLES for op in "cud"}
    large = {c.row["id"] for c in made if c.table == "items" and c.op == "c" and len(c.row["note"] or "") > 8_000}
    assert large & {c.row["id"] for c in made if c.table == "items" and c.row.get("status") == "shipped"}


def test_orders_have_another_column_from_the_change_of_shape_on() -> None:
    """Each shard from a transaction of its own on; in the middle of one, its first change has the old shape."""
    tape = plain(versions=[{"kind": "mid_transaction", "j": {"0": 50, "1": 60}}])
    assert [extra(tape, "1", j) for j in (59, 60, 61)] == [None, "tier", "tier"]
    changed = [change.row.get("tier") is not None for change in transaction(tape, "0", 50) if change.table == "orders"]
    assert changed == [False, True, True]
    assert ddl(tape, "0", 50) == (None, SHAPES["mid_transaction"][1])
    assert ddl(tape, "0", 51) == ddl(tape, "1", 60) == (None, None)
    whole = plain(versions=[{"kind": "add", "j": {"0": 50, "1": 60}}])
    assert all("tier" in change.row for change in transaction(whole, "0", 50, "orders"))
    assert ddl(whole, "0", 50) == (SHAPES["add"][1], None)


def test_a_burst_is_one_transaction_of_old_rows_that_go_again() -> None:
    """Their numbers go on where the shard's were; the other shard has none of them."""
    tape = plain(bursts=[{"shard": "1", "j": 20, "rows": 30, "age_us": 86_400_000_000}])
    made = transaction(tape, "1", 20, "orders")
    assert len(made) == 3 + 30
    assert len(transaction(tape, "0", 20, "orders")) == 3
    day_before = [change.row["at"] for change in made if change.op == "c"][1:]
    assert max(day_before) < transaction(tape, "1", 1, "orders")[0].row["at"]
    assert sum(change.op == "d" for change in transaction(tape, "1", 620, "orders")) == 30


def test_a_time_that_the_tape_has_forgotten_is_said() -> None:
    """It is never made up."""
    tape = plain()
    tape["shards"]["0"]["segments"] = [[500, START_US, 100_000]]
    assert due_us(tape, "0", 501) == START_US + 100_000
    with pytest.raises(Forgotten, match=r"the tape has forgotten when transaction 499 of shard 0 was"):
        transaction(tape, "0", 499)


@pytest.mark.parametrize("text", [None, "", "ä€"])
def test_a_note_is_told_by_its_digest(text: str | None) -> None:
    """An empty one has a digest, a missing one none."""
    assert (md5(text) is None) == (text is None)
