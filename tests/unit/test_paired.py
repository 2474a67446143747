"""Two tables that are compared by sums say what their digests would say, and read no more than what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drivers.postgres import paired
from gameday.drivers.postgres.paired import Sum, compared, width
from gameday.model import Group, Tally, Window
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally
from gameday.records.types import INT64_MAX, INT64_MIN

A: Group = ("a",)
B: Group = ("b",)
WINDOW = Window({A: 0, B: 0}, {A: 100, B: 100})

Rows = Mapping[tuple[Group, int], int]
"""(group, id) -> what the rest of the record is: no key is there twice."""


class Held:
    """A table in memory. read: what had to be read of it row by row."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.read: list[Window] = []

    def _of(self, window: Window) -> dict[Group, list[tuple[int, int]]]:
        found: dict[Group, list[tuple[int, int]]] = {}
        for (group, number), value in self._rows.items():
            if group in window.hi and window.lo[group] < number <= window.hi[group]:
                found.setdefault(group, []).append((number, value))
        return found

    def sums(self, window: Window, ranges: int) -> dict[Group, dict[int, Sum]]:
        found: dict[Group, dict[int, Sum]] = {}
        for group, rows in self._of(window).items():
            step = width(window.lo[group], window.hi[group], ranges)
            by_range: dict[int, list[tuple[int, int]]] = {}
            for number, value in rows:
                by_range.setdefault((number - window.lo[group] - 1) // step, []).append((number, value))
            found[group] = {at: _sum(own) for at, own in by_range.items()}
        return found

    def tallies(self, window: Window) -> dict[Group, Tally]:
        self.read.append(window)
        return {group: _exact(rows) for group, rows in self._of(window).items()}

    def exact(self) -> dict[Group, Tally]:
        return {group: _exact(rows) for group, rows in self._of(WINDOW).items()}


def _sum(rows: Sequence[tuple[int, int]]) -> Sum:
    """With a hash that is none of gameday's."""
    numbers = [number for number, _ in rows]
    total = sum(hash((number, value, "of a server")) for number, value in rows)
    return Sum(len(rows), min(numbers), max(numbers), total % (1 << 64))


def _exact(rows: Sequence[tuple[int, int]]) -> Tally:
    numbers, values = (np.array(column, dtype=np.int64) for column in zip(*sorted(rows), strict=True))
    return tally(numbers, row_hash([numbers, values]))


tables = st.dictionaries(st.tuples(st.sampled_from([A, B]), st.integers(-5, 110)), st.integers(0, 3), max_size=60)
changes = st.dictionaries(st.tuples(st.sampled_from([A, B]), st.integers(1, 100)), st.integers(-1, 3), max_size=4)


@given(tables, changes, st.sampled_from([1, 2, 7, 256]))
@settings(max_examples=300, deadline=None)
def test_it_says_what_the_digests_say(source: Rows, changed: Rows, ranges: int) -> None:
    """Rows, keys, the ids' bounds, and whether the rows and the keys are the same; whatever is lost, new or changed."""
    sink = {key: value for key, value in {**source, **changed}.items() if value >= 0}  # -1: lost
    one, other = Held(source), Held(sink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "RANGES_MAX", ranges)
        left, right = compared(one, other, WINDOW)
    for found, exact in ((left, one.exact()), (right, other.exact())):
        assert {g: (t.rows, t.keys, t.lo, t.hi) for g, t in found.items()} == {
            g: (t.rows, t.keys, t.lo, t.hi) for g, t in exact.items()
        }
    for group in left.keys() & right.keys():
        here, there = one.exact()[group], other.exact()[group]
        assert (left[group].sum == right[group].sum) is (here.sum == there.sum)
        assert (left[group].key_sum == right[group].key_sum) is (here.key_sum == there.key_sum)


def test_only_the_ranges_that_differ_are_read() -> None:
    """Of the group that differs, once; where nothing does, nothing is."""
    rows = {(group, number): 0 for group in (A, B) for number in range(1, 101)}
    same = Held(rows)
    compared(same, Held(rows), WINDOW)
    assert same.read == []
    one, other = Held(rows), Held({**rows, (B, 40): 1, (B, 42): 1})
    compared(one, other, WINDOW)
    assert one.read == other.read == [Window({B: 39}, {B: 42})]


def test_ids_that_are_too_far_apart_for_ranges_are_read_whole() -> None:
    """A server would not count so far."""
    far = {(A, INT64_MIN + 1): 0, (A, 5): 0, (A, INT64_MAX): 0}
    window = Window({A: INT64_MIN}, {A: INT64_MAX})
    one, other = Held(far), Held({**far, (A, 5): 1})
    left, right = compared(one, other, window)
    assert one.read == [window]
    assert (left[A].rows, right[A].rows, left[A].sum == right[A].sum) == (3, 3, False)


def test_ten_thousand_groups_that_differ_are_asked_for_no_more_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more of them, the fewer ranges of each."""
    asked: list[int] = []

    class Counting(Held):
        def sums(self, window: Window, ranges: int) -> dict[Group, dict[int, Sum]]:
            asked.append(ranges * len(window.hi))
            return super().sums(window, ranges)

    groups: list[Group] = [(str(n),) for n in range(10_000)]
    window = Window(dict.fromkeys(groups, 0), dict.fromkeys(groups, 9))
    left, right = compared(Counting({(g, 1): 0 for g in groups}), Counting({(g, 1): 1 for g in groups}), window)
    assert max(asked) <= paired.SUMS_MAX
    assert all(left[g].sum != right[g].sum for g in groups)
