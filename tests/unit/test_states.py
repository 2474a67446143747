"""Rows that change and go: what counts of each key, and in which keys a table differs from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.errors import DriverError
from gameday.model import Delta
from gameday.records import states
from gameday.records.states import UNTOLD, Changes, State, compare, deltas, moved, state

A, B = ("a",), ("b",)


class Row(NamedTuple):
    """One change. row None: it deletes; version None: and doesn't say of which version."""

    key: int
    version: int | None
    row: int | None
    slot: str = "t/0"


def log(changes: Sequence[Row], group: Any = A) -> Changes:
    """Offsets as they come, from 0 in each partition."""
    made, ends = Changes("log"), {"t/0": 0, "t/1": 0}
    for one in changes:
        gone = one.row is None
        number = UNTOLD if gone else made.number(group)
        made.add(one.slot, [ends[one.slot]], [one.key], [number], [one.version], [one.row or 0], gone)
        ends[one.slot] += 1
    return made


def ends(changes: Sequence[Row]) -> dict[str, int]:
    return {slot: sum(one.slot == slot for one in changes) for slot in ("t/0", "t/1")}


def folded(changes: Sequence[Row], position: dict[str, int] | None = None, whole: bool = True) -> State:
    return log(changes).upto(ends(changes) if position is None else position, whole, dense=True)


def alive(of: State) -> dict[int, tuple[int, int]]:
    """Key -> version and row."""
    rows = zip(of.keys.tolist(), of.versions.tolist(), of.rows.tolist(), of.gone.tolist(), strict=True)
    return {key: (version, row) for key, version, row, gone in rows if not gone}


def table(rows: Sequence[tuple[int, int, int]], group: Any = A) -> State:
    """Rows (key, version, hash), in any order."""
    keys, versions, hashes = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    return state(
        [group],
        np.zeros(len(keys), dtype=np.int64),
        np.array(keys, dtype=np.uint64),
        np.array(versions, dtype=np.int64),
        np.array(hashes, dtype=np.uint64),
    )


def told(right: State, held: State) -> dict[str, list[int]]:
    found = compare(right, held)
    names = ("lost", "ghosts", "changed", "repeated", "unsure")
    return {name: keys for name in names if (keys := getattr(found, name).tolist())}


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ([Row(1, 1, 10), Row(1, 2, 20)], {1: (2, 20)}),
        ([Row(1, 2, 20), Row(1, 1, 10)], {1: (2, 20)}),
        ([Row(1, 1, 10), Row(1, None, None)], {}),
        ([Row(1, 1, 10), Row(1, 2, None)], {}),
        ([Row(1, 1, 10), Row(1, 1, None)], {}),
        ([Row(1, 1, 10), Row(1, None, None), Row(1, 1, 10)], {1: (1, 10)}),
        ([Row(1, 1, 10), Row(1, 2, None), Row(1, None, None), Row(1, 1, 10)], {}),
        ([Row(1, 1, 10), Row(1, None, None), Row(1, 5, 50), Row(1, None, None), Row(1, 5, 50)], {1: (5, 50)}),
        ([Row(1, 1, 10), Row(1, 2, None), Row(1, 1, 10)], {}),
        ([Row(1, 1, 10), Row(1, 2, None), Row(1, None, None), Row(1, 3, 30)], {1: (3, 30)}),
        ([Row(1, None, None), Row(1, 1, 10)], {1: (1, 10)}),
        ([Row(1, 5, 50), Row(2, None, None), Row(2, 1, 10)], {1: (5, 50), 2: (1, 10)}),
        ([Row(1, 5, 50), Row(1, None, None, "t/1"), Row(1, 1, 10, "t/1")], {1: (5, 50)}),
        ([Row(1, 1, 10), Row(1, 1, 11)], {1: (1, 11)}),
        ([Row(1, -3, 10), Row(1, -5, 11), Row(2, -1, None)], {1: (-3, 10)}),
        ([], {}),
    ],
    ids=str,
)
def test_the_highest_version_counts(changes: list[Row], counts: dict[int, tuple[int, int]]) -> None:
    """Whatever its place. After a deletion of a version only a higher one brings the key back; one that tells none
    means all before it in its partition, and nothing after it."""
    assert alive(folded(changes)) == counts


def test_a_fold_is_as_of_a_position() -> None:
    """Of each partition what lies below its offset; of one that the position leaves out, nothing."""
    changes = [Row(1, 1, 10), Row(2, 1, 10, "t/1"), Row(1, 2, 20), Row(1, 3, None), Row(2, 2, 20, "t/1")]
    assert alive(folded(changes, {"t/0": 2, "t/1": 1})) == {1: (2, 20), 2: (1, 10)}
    assert alive(folded(changes, {"t/0": 1})) == {1: (1, 10)}
    assert alive(folded(changes)) == {2: (2, 20)}


CHANGES = st.lists(
    st.builds(
        lambda key, version, deleted, told, slot: Row(
            key, None if deleted and not told else version, None if deleted else 10 * version + key, slot
        ),
        st.integers(1, 4),
        st.integers(1, 5),
        st.integers(0, 3).map(lambda n: n == 0),
        st.booleans(),
        st.sampled_from(["t/0", "t/1"]),
    ),
    max_size=30,
)


def slowly(changes: Sequence[Row]) -> dict[int, tuple[int, int]]:
    """The same fold, one change after the other."""
    rows: dict[tuple[int, str], list[tuple[int, bool, int]]] = {}
    deletions: dict[int, list[tuple[int, bool, int]]] = {}
    for one in changes:
        at = (one.key, one.slot)
        if one.version is None:
            rows.pop(at, None)
        elif one.row is None:
            deletions.setdefault(one.key, []).append((one.version, True, 0))
        else:
            rows.setdefault(at, []).append((one.version, False, one.row))
    best = {}
    for key in {one.key for one in changes}:
        held = [row for (other, _), listed in rows.items() if other == key for row in listed]
        version, gone, row = max([*held, *deletions.get(key, ())], default=(0, True, 0))
        if not gone:
            best[key] = (version, row)
    return best


@given(CHANGES)
def test_a_fold_is_what_one_change_after_the_other_gives(changes: list[Row]) -> None:
    """Also where partitions mix, versions go back, and deletions don't tell theirs."""
    assert alive(folded(changes)) == slowly(changes)


@given(CHANGES, st.integers(0, 30), st.data())
def test_what_comes_again_changes_nothing(changes: list[Row], start: int, data: st.DataObject) -> None:
    """A producer or a connector that sends a part of the log again, all of it in order: the same state, and no version
    goes back that didn't before."""
    start = min(start, len(changes))
    stop = data.draw(st.integers(start, len(changes)))
    before, again = log(changes), log([*changes[:stop], *changes[start:stop], *changes[stop:]])
    twice = again.upto({"t/0": 99, "t/1": 99}, whole=True, dense=True)
    assert alive(twice) == alive(folded(changes))
    assert len(again.back({})) == len(before.back({}))


@given(CHANGES)
def test_a_state_is_right_beside_itself(changes: list[Row]) -> None:
    """And each key taken from it, put into it or altered in it is told, and no other."""
    right = folded(changes)
    rows = [(key, version, row) for key, (version, row) in alive(right).items()]
    assert told(right, table(rows)) == {}
    for place, (key, version, row) in enumerate(rows):
        rest = rows[:place] + rows[place + 1 :]
        assert told(right, table(rest)) == {"lost": [key]}
        assert told(right, table([*rest, (key, version - 1, row + 1)])) == {"changed": [key]}
        assert told(right, table([*rows, (key, version - 1, row + 1)])) == {"repeated": [key]}
    for key in set(right.keys[right.gone].tolist()):
        assert told(right, table([*rows, (key, 1, 1)])) == {"ghosts": [key]}
    assert told(right, table([*rows, (77, 1, 1)])) == {"ghosts": [77]}


def test_one_lost_and_a_ghost_are_no_change() -> None:
    """As many rows, and as many of each kind: a count of rows would call it right."""
    right = folded([Row(1, 1, 10), Row(2, 1, 10), Row(2, 2, None)])
    assert told(right, table([(2, 1, 10)])) == {"lost": [1], "ghosts": [2]}
    assert deltas(right, table([(2, 1, 10)]), compare(right, table([(2, 1, 10)]))) == {A: Delta(1, lost=1, ghosts=1)}


def test_a_row_in_another_group_is_changed() -> None:
    """With the same fields: the group is one of them."""
    right, held = folded([Row(1, 1, 10)]), table([(1, 1, 10)], group=B)
    assert told(right, held) == {"changed": [1]}
    assert deltas(right, held, compare(right, held)) == {A: Delta(1, changed=1)}


def test_what_a_log_has_forgotten_is_not_told() -> None:
    """A key that it knows nothing of is neither a ghost nor lost; one that it saw deleted is."""
    partial = folded([Row(1, 1, 10), Row(2, 4, None)], whole=False)
    found = compare(partial, table([(1, 1, 10), (2, 4, 40), (3, 1, 10)]))
    assert (found.ghosts.tolist(), found.untold) == ([2], 1)
    found = compare(table([(1, 1, 10), (2, 4, 40), (3, 1, 10)]), partial)
    assert (found.lost.tolist(), found.untold) == ([2], 1)


def test_a_log_that_leaves_offsets_out_is_unsure_of_what_moved_on() -> None:
    """It may be compacted, and have forgotten what counted at the position: that is looked at again. What has not moved
    since is told all the same."""
    made = log([Row(1, 1, 10), Row(2, 1, 10), Row(1, 2, 20)])
    held = table([(1, 1, 99), (2, 1, 99)])
    position = {"t/0": 2}
    assert told(made.upto(position, whole=True, dense=False), held) == {"changed": [2], "unsure": [1]}
    assert told(made.upto(position, whole=True, dense=True), held) == {"changed": [1, 2]}
    right = made.upto(position, whole=True, dense=False)
    assert deltas(right, held, compare(right, held)) == {A: Delta(2, changed=1, moving=1)}


def test_versions_that_go_back_are_named() -> None:
    """Inside a partition, at their first sighting: what came again, or in another partition, is no matter."""
    changes = [Row(1, 1, 10), Row(1, 3, 30), Row(1, 2, 20), Row(1, 3, 30), Row(1, 2, 20), Row(2, 9, 9), Row(2, 9, None)]
    made = log([*changes, Row(2, 1, 1, "t/1"), Row(3, None, None)])
    assert made.back({}) == [(1, "t/0", 2, 2, 3)]
    assert made.back({"t/0": 3}) == []
    assert made.counted({"t/0": 3}) == 6
    assert log([Row(1, 4, None), Row(1, 3, 30)]).back({}) == [(1, "t/0", 1, 3, 4)]
    assert log([Row(1, 4, 40), Row(1, None, None), Row(1, 3, 30)]).back({}) == []
    assert Changes("log").back({}) == []


def test_what_moved_between_two_looks() -> None:
    """Another row, one that came, one that went; not one that is as it was, nor one that is nowhere."""
    before = table([(1, 1, 10), (2, 1, 10), (3, 1, 10)])
    after = table([(1, 1, 10), (2, 2, 20), (4, 1, 10)])
    keys = np.array([1, 2, 3, 4, 5], dtype=np.uint64)
    assert moved(before, after, keys).tolist() == [False, True, True, True, False]
    assert moved(table([]), after, keys).tolist() == [True, True, False, True, False]


def test_more_changes_than_are_held_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the hop and what to do."""
    monkeypatch.setattr(states, "ROWS_MAX", 2)
    with pytest.raises(DriverError, match=r"hops.log has more than 2 changes, .* Remedy: topics that are compacted"):
        log([Row(1, 1, 10), Row(1, 2, 20), Row(1, 3, 30)])
