"""The row hash against a plain reference, and the tally's promises under random input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gameday.model import Tally
from gameday.records import in_clickhouse
from gameday.records.hashing import hash64, row_hash
from gameday.records.tallies import EMPTY, add, tally

MASK = (1 << 64) - 1

uint64 = st.integers(0, MASK)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
rows = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), max_size=40)


def reference_hash64(x: int) -> int:
    """intHash64 as it is defined, in whole numbers."""
    y = x ^ 0x4CF2D2BAAE6DA887
    y ^= y >> 33
    y = y * 0xFF51AFD7ED558CCD & MASK
    y ^= y >> 33
    y = y * 0xC4CEB9FE1A85EC53 & MASK
    return y ^ (y >> 33)


def reference_row_hash(values: list[int]) -> int:
    h = 0
    for value in values:
        h = reference_hash64(h ^ (value & MASK))
    return h


def reference_tally(pairs: list[tuple[int, int]]) -> Tally:
    """The definitions in model.Tally, said once more with sets and loops."""
    ids = [i for i, _ in pairs]
    hashes: dict[int, set[int]] = {}
    highest, back = 0, 0
    for i, h in pairs:
        if i not in hashes:
            back += i < highest
            highest = max(highest, i)
        hashes.setdefault(i, set()).add(h)
    return Tally(
        rows=len(pairs),
        keys=len(hashes),
        lo=min(ids, default=0),
        hi=max(ids, default=0),
        sum=sum(h for found in hashes.values() for h in found) & MASK,
        conflicts=sum(len(found) > 1 for found in hashes.values()),
        back=back,
    )


def tally_of(pairs: list[tuple[int, int]], ordered: bool = True) -> Tally:
    return tally(
        np.array([i for i, _ in pairs], dtype=np.int64), np.array([h for _, h in pairs], dtype=np.uint64), ordered
    )


def test_the_published_value_comes_out() -> None:
    """intHash64(12345) is what ClickHouse answers."""
    assert hash64(12345).tolist() == [16722121143744093920]


@given(uint64)
def test_hash64_is_the_definition(x: int) -> None:
    """numpy's wrapping arithmetic gives what whole numbers modulo 2^64 give."""
    assert hash64(np.array([x], dtype=np.uint64))[0] == reference_hash64(x)


@given(st.lists(st.tuples(uint64, int64, int64, st.integers(0, 1), int64), min_size=1, max_size=20))
def test_row_hash_is_the_definition_for_every_sign_and_type(found: list[tuple[int, ...]]) -> None:
    """Signed columns count as two's complement, unsigned as they are, small types as their value."""
    types = (np.uint64, np.int64, np.int64, np.uint8, np.int64)
    columns = [np.array([row[n] for row in found], dtype=t) for n, t in enumerate(types)]
    assert row_hash(columns).tolist() == [reference_row_hash(list(row)) for row in found]


def test_row_hash_is_the_same_across_its_chunks() -> None:
    """Rows beyond the first chunk hash as they would alone."""
    many = np.arange(200_000, dtype=np.int64)
    hashes = row_hash([many, many * 3])
    for place in (0, 65_535, 65_536, 199_999):
        assert hashes[place] == row_hash([many[place : place + 1], many[place : place + 1] * 3])[0]


def test_row_hash_leaves_its_input_alone() -> None:
    """Columns that were uint64 already are not written over."""
    column = np.arange(10, dtype=np.uint64)
    row_hash([column, column])
    assert column.tolist() == list(range(10))


@pytest.mark.parametrize(
    "columns",
    [[], [np.array([1.5])], [np.array(["a"])], [np.array([1, 2]), np.array([1])], [np.array([[1]])]],
    ids=["none", "floats", "texts", "unequal", "two-dimensional"],
)
def test_what_has_no_row_hash_is_refused(columns: list[np.ndarray]) -> None:
    """A float would be rounded silently, so it is an error, and so are unequal lengths."""
    with pytest.raises(ValueError, match=r"column|row_hash"):
        row_hash(columns)


def test_sql_names_each_expression_once_and_in_order() -> None:
    """The text grows with the number of columns, not exponentially."""
    text = in_clickhouse.row_hash(["trade_id", "toInt64(price * 100000000)", "side"])
    assert text.count("intHash64") == 3
    assert text.index("trade_id") < text.index("price") < text.index("side")


@given(rows)
def test_tally_is_the_definition(pairs: list[tuple[int, int]]) -> None:
    """Repeats, conflicts and disorder count as model.Tally says, whichever way numpy takes."""
    assert tally_of(pairs) == reference_tally(pairs)


@given(rows, st.randoms())
def test_only_back_depends_on_the_order(pairs: list[tuple[int, int]], random: object) -> None:
    """The same records in another order have the same tally, where the hop keeps no order."""
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert tally_of(pairs, ordered=False) == tally_of(shuffled, ordered=False)


@given(rows, rows)
def test_tallies_of_disjoint_ids_add(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    """Parts of a range digested one by one give the digest of the whole."""
    beyond = [(i + 100, h) for i, h in right]
    assert add(tally_of(left, ordered=False), tally_of(beyond, ordered=False)) == tally_of(left + beyond, ordered=False)


@given(rows)
def test_the_empty_tally_adds_nothing(pairs: list[tuple[int, int]]) -> None:
    """EMPTY is the neutral element from both sides."""
    one = tally_of(pairs, ordered=False)
    assert add(one, EMPTY) == add(EMPTY, one) == one


@given(arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 1 << 40), unique=True), st.data())
def test_any_one_changed_record_changes_the_sum(ids: np.ndarray, data: st.DataObject) -> None:
    """A row that differs in one unit of one field is seen."""
    place = data.draw(st.integers(0, len(ids) - 1))
    price = np.arange(len(ids))
    changed = price.copy()
    changed[place] += 1
    assert tally(ids, row_hash([ids, price])).sum != tally(ids, row_hash([ids, changed])).sum


def test_two_records_that_swap_a_field_change_the_sum() -> None:
    """A sum over field hashes alone would not see this; the id is part of each row's hash."""
    ids, price = np.array([1, 2]), np.array([10, 20])
    assert tally(ids, row_hash([ids, price])).sum != tally(ids, row_hash([ids, price[::-1]])).sum


def test_unequal_lengths_are_refused() -> None:
    """A hash too few would silently pair ids with the wrong rows."""
    with pytest.raises(ValueError, match="equally long"):
        tally([1, 2], np.array([1], dtype=np.uint64))
