"""Tallies: what a hop holds of a group, as figures that two engines can compare."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gameday.model import EMPTY, Tally
from gameday.records.hashing import U64

__all__ = ["EMPTY", "add", "tally"]

_MASK = (1 << 64) - 1


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
