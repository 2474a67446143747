"""The row hash and the tally: what makes two engines comparable without moving rows between them.

As numpy over columns for the ledger and the log, and as ClickHouse SQL text for tables. Which columns make a row is the
drivers' business; what a difference means is checks/'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gameday.model import EMPTY, SIDES, TRADE_FIELDS, Tally

__all__ = ["EMPTY", "SIDES", "TRADE_FIELDS", "add", "hash64", "row_hash", "sql_row_hash", "tally"]

U64 = npt.NDArray[np.uint64]

# intHash64 as ClickHouse's source has it (Common/HashTable/Hash.h): one xor, then MurmurHash3's 64-bit finaliser.
_SALT = np.uint64(0x4CF2D2BAAE6DA887)
_FIRST = np.uint64(0xFF51AFD7ED558CCD)
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_MASK = (1 << 64) - 1
_CHUNK_ROWS = 1 << 16  # a chunk of 512 kB stays in the processor's cache through all the steps of the hash


def hash64(values: npt.ArrayLike) -> U64:
    """ClickHouse's intHash64 of each value, in a new array. hash64(12345) = 16722121143744093920."""
    out = np.array(values, dtype=np.uint64, copy=True, ndmin=1)
    _mix(out, np.empty_like(out))
    return out


def row_hash(columns: Sequence[npt.NDArray[np.integer]]) -> U64:
    """One 64-bit hash a row: h = 0; for each column f: h = hash64(h xor f), f as two's-complement UInt64.

    columns: equally long integer arrays. Raises ValueError on unequal lengths and on other types: a float would be
    rounded silently.
    """
    if not columns:
        raise ValueError("row_hash needs at least one column")
    arrays = [np.asarray(column) for column in columns]
    rows = len(arrays[0])
    for number, array in enumerate(arrays):
        if array.dtype.kind not in "iub":
            raise ValueError(
                f"column {number} has type {array.dtype}: only integers have a row hash; scale decimals to int64 first"
            )
        if array.shape != (rows,):
            raise ValueError(
                f"column {number} has shape {array.shape}, the first one ({rows},): columns must be equally long"
            )
    out = np.zeros(rows, dtype=np.uint64)
    scratch = np.empty(min(rows, _CHUNK_ROWS), dtype=np.uint64)
    for start in range(0, rows, _CHUNK_ROWS):
        part = out[start : start + _CHUNK_ROWS]
        for array in arrays:
            np.bitwise_xor(part, _unsigned(array[start : start + _CHUNK_ROWS]), out=part)
            _mix(part, scratch[: len(part)])
    return out


def sql_row_hash(expressions: Sequence[str]) -> str:
    """The same hash as ClickHouse SQL over integer expressions; the result is a UInt64.

    An expression must be an integer in SQL already: `toInt64(price * 100000000)`, not `price`. sum() over it wraps
    modulo 2^64, as Tally.sum does.
    """
    if not expressions:
        raise ValueError("sql_row_hash needs at least one expression")
    text = "toUInt64(0)"
    for expression in expressions:
        text = f"intHash64(bitXor({text}, reinterpretAsUInt64(toInt64({expression}))))"
    return text


def tally(ids: npt.ArrayLike, hashes: npt.ArrayLike, ordered: bool = False) -> Tally:
    """One group's records, in the order in which the hop holds them, as a Tally.

    ids: integers; hashes: uint64, from row_hash; equally long. ordered: the hop keeps an order, so count `back`, the
    ids whose first sighting comes after a higher id's.
    """
    keys = np.asarray(ids)
    sums = np.asarray(hashes, dtype=np.uint64)
    if keys.shape != sums.shape or keys.ndim != 1:
        raise ValueError(f"ids have shape {keys.shape}, hashes {sums.shape}: they must be equally long lists")
    rows = len(keys)
    if rows == 0:
        return Tally(rows=0, keys=0, lo=0, hi=0, sum=0, back=0 if ordered else None)
    if rows == 1 or bool(np.all(keys[1:] > keys[:-1])):  # the common case: in order, nothing repeated
        return Tally(
            rows=rows, keys=rows, lo=int(keys[0]), hi=int(keys[-1]), sum=_total(sums), back=0 if ordered else None
        )
    by_id = np.argsort(keys, kind="stable")  # stable: among equal ids the first sighting stays first
    sorted_keys = keys[by_id]
    fresh = np.empty(rows, dtype=bool)
    fresh[0] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=fresh[1:])
    distinct = int(np.count_nonzero(fresh))
    total, conflicts = (
        (_total(sums[by_id]), 0) if distinct == rows else _distinct_pairs(sorted_keys, sums[by_id], fresh)
    )
    return Tally(
        rows=rows,
        keys=distinct,
        lo=int(sorted_keys[0]),
        hi=int(sorted_keys[-1]),
        sum=total,
        conflicts=conflicts,
        back=_out_of_order(keys, np.sort(by_id[fresh])) if ordered else None,
    )


def add(left: Tally, right: Tally) -> Tally:
    """The tally of both, for parts that share no id, such as ranges of ids; `back` adds what each part saw."""
    if not left.rows or not right.rows:
        return right if right.rows else left
    return Tally(
        rows=left.rows + right.rows,
        keys=left.keys + right.keys,
        lo=min(left.lo, right.lo),
        hi=max(left.hi, right.hi),
        sum=(left.sum + right.sum) & _MASK,
        conflicts=left.conflicts + right.conflicts,
        back=None if left.back is None or right.back is None else left.back + right.back,
    )


def _mix(values: U64, scratch: U64) -> None:
    """hash64 in place: three xor-shifts and two multiplications, without allocating."""
    np.bitwise_xor(values, _SALT, out=values)
    for factor in (_FIRST, _SECOND):
        np.right_shift(values, _SHIFT, out=scratch)
        np.bitwise_xor(values, scratch, out=values)
        np.multiply(values, factor, out=values)
    np.right_shift(values, _SHIFT, out=scratch)
    np.bitwise_xor(values, scratch, out=values)


def _unsigned(values: npt.NDArray[np.integer]) -> U64:
    if values.dtype == np.uint64:
        return values.view(np.uint64)
    signed: npt.NDArray[np.int64] = values.astype(np.int64)
    return signed.view(np.uint64)


def _total(hashes: U64) -> int:
    return int(np.sum(hashes, dtype=np.uint64))


def _distinct_pairs(keys: npt.NDArray[np.integer], hashes: U64, fresh: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Sum over distinct (id, hash) pairs; how many ids have more than one hash. keys sorted; fresh: each id's first."""
    same = hashes[1:] == hashes[:-1]
    if bool(np.all(same | fresh[1:])):  # every repeat carries the hash before it: no id has two
        return _total(hashes[fresh]), 0
    order = np.lexsort((hashes, keys))
    keys, hashes = keys[order], hashes[order]
    new_key = np.append(True, keys[1:] != keys[:-1])
    new_pair = new_key | np.append(True, hashes[1:] != hashes[:-1])
    second = keys[new_pair & ~new_key]
    return _total(hashes[new_pair]), len(np.unique(second))


def _out_of_order(keys: npt.NDArray[np.integer], first_seen: npt.NDArray[np.intp]) -> int:
    """How many first sightings come after a higher id's. first_seen: the places of first sightings, ascending."""
    firsts = keys[first_seen]
    return int(np.count_nonzero(firsts[1:] < np.maximum.accumulate(firsts)[:-1]))
