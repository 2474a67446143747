"""The hash of a record, in numpy: 64-bit words of each field's canonical form, chained by ClickHouse's intHash64.

The same in SQL is in_clickhouse.py's and in_postgres.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from gameday.records.types import NULL, Canonical, Type, word_of_bytes

__all__ = ["U64", "hash64", "row_hash", "words"]

U64 = npt.NDArray[np.uint64]

# intHash64 as ClickHouse's source has it (Common/HashTable/Hash.h): one xor, then MurmurHash3's 64-bit finaliser.
_SALT = np.uint64(0x4CF2D2BAAE6DA887)
_FIRST = np.uint64(0xFF51AFD7ED558CCD)
_SECOND = np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_CHUNK_ROWS = 1 << 16  # a chunk of 512 kB stays in the processor's cache through all the steps of the hash
_MASK = (1 << 64) - 1


def hash64(values: npt.ArrayLike) -> U64:
    """ClickHouse's intHash64 of each value, in a new array. hash64(12345) = 16722121143744093920."""
    out = np.array(values, dtype=np.uint64, copy=True, ndmin=1)
    _mix(out, np.empty_like(out))
    return out


def row_hash(columns: Sequence[npt.NDArray[np.integer]], before: U64 | None = None) -> U64:
    """One 64-bit hash a row: h = 0; for each word f: h = hash64(h xor f), f as two's-complement UInt64.

    Args: columns: equally long integer arrays, one a word (see words). before: the hashes to go on from, in place of 0.
    Raises ValueError on unequal lengths and on other types: a float would be rounded silently.
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
    out = np.zeros(rows, dtype=np.uint64) if before is None else before.copy()
    scratch = np.empty(min(rows, _CHUNK_ROWS), dtype=np.uint64)
    for start in range(0, rows, _CHUNK_ROWS):
        part = out[start : start + _CHUNK_ROWS]
        for array in arrays:
            np.bitwise_xor(part, _unsigned(array[start : start + _CHUNK_ROWS]), out=part)
            _mix(part, scratch[: len(part)])
    return out


def words(kind: Type, values: npt.NDArray[np.integer] | Sequence[Canonical]) -> tuple[U64, ...]:
    """The words of one field: two of a uuid, one of any other type.

    Args: values: canonical ones (types.Type.canonical); integers may come as an array.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iub":
        return (_unsigned(values),)
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if kind.whole:
        return (_array(NULL if value is None else int(value) & _MASK for value in values),)
    if kind.name == "uuid":
        raw = b"".join(_NULLS if value is None else value for value in values)  # type: ignore[misc]
        pairs = np.frombuffer(raw, dtype="<u8").astype(np.uint64).reshape(-1, 2)
        return (pairs[:, 0].copy(), pairs[:, 1].copy())
    known = {value: _word(value) for value in set(values)}  # most texts of a stream come again and again
    return (np.fromiter(map(known.__getitem__, values), np.uint64, len(values)),)


_NULLS = NULL.to_bytes(8, "little") * 2


def _word(value: Canonical) -> int:
    if value is None:
        return NULL
    return word_of_bytes(value.encode() if isinstance(value, str) else value)  # type: ignore[arg-type]


def _array(numbers: Iterable[int]) -> U64:
    return np.array(list(numbers), dtype=np.uint64)


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
