"""Tallies: what a hop holds of a group, as figures that two engines can compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.model import EMPTY, Digest, Tally
from gameday.records.hashing import U64, hash64, row_hash

__all__ = ["EMPTY", "add", "proved", "tallied", "tally"]

_MASK = (1 << 64) - 1


def tally(ids: npt.ArrayLike, hashes: npt.ArrayLike, ordered: bool = False, keys: U64 | None = None) -> Tally:
    """One group's records, in the order in which the hop holds them, as a Tally.

    ids: integers; hashes: uint64, from row_hash; equally long. ordered: the hop keeps an order, so count `back`, the
    records whose first sighting comes after a higher id's. keys: their key hashes, where not the id is the key.
    """
    numbers = np.asarray(ids)
    sums = np.asarray(hashes, dtype=np.uint64)
    if numbers.shape != sums.shape or numbers.ndim != 1:
        raise ValueError(f"ids have shape {numbers.shape}, hashes {sums.shape}: they must be equally long lists")
    rows = len(numbers)
    if rows == 0:
        return Tally(rows=0, keys=0, lo=0, hi=0, sum=0, back=0 if ordered else None, key_sum=0)
    lo, hi = int(numbers.min()), int(numbers.max())
    if keys is None and bool(np.all(numbers[1:] > numbers[:-1])):  # the common case: in order, nothing repeated
        own = row_hash([numbers])
        return Tally(rows, rows, lo, hi, _total(sums), 0, 0 if ordered else None, key_sum=_total(own))
    told: npt.NDArray[Any] = numbers if keys is None else keys
    by_key = np.argsort(told, kind="stable")  # stable: among equal keys the first sighting stays first
    sorted_keys = told[by_key]
    fresh = np.empty(rows, dtype=bool)
    fresh[0] = True
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=fresh[1:])
    distinct = int(np.count_nonzero(fresh))
    total, conflicts = (
        (_total(sums[by_key]), 0) if distinct == rows else _distinct_pairs(sorted_keys, sums[by_key], fresh)
    )
    once = sorted_keys[fresh]
    return Tally(
        rows=rows,
        keys=distinct,
        lo=lo,
        hi=hi,
        sum=total,
        conflicts=conflicts,
        back=_out_of_order(numbers, np.sort(by_key[fresh])) if ordered else None,
        key_sum=_total(row_hash([once]) if keys is None else once),
    )


def tallied(groups: npt.NDArray[np.integer], keys: U64, hashes: U64) -> dict[int, Tally]:
    """Of many groups at once, by the group's number: rows, keys, sum, conflicts and key_sum; lo and hi are 0, for no id
    is given.

    groups, keys, hashes: of each record its group's number, its key's hash and its row's; equally long, in any order.
    """
    if not len(keys):
        return {}
    groups, keys, hashes = (np.ascontiguousarray(column) for column in (groups, keys, hashes))
    told = np.sort(keys ^ hash64(groups))  # where no two are the same, no key is there twice in its group
    if bool(np.all(told[1:] != told[:-1])):
        return _each_once(groups, keys, hashes)
    order = np.lexsort((keys, groups))
    groups, keys, hashes = groups[order], keys[order], hashes[order]
    new_group = np.append(True, groups[1:] != groups[:-1])
    new_key = new_group | np.append(True, keys[1:] != keys[:-1])
    new_pair = new_key
    if not new_key.all():  # among equal keys, equal hashes must be neighbours
        order = np.lexsort((hashes, np.cumsum(new_key)))
        hashes = hashes[order]
        new_pair = new_key | np.append(True, hashes[1:] != hashes[:-1])
    starts = np.flatnonzero(new_group)
    several = np.zeros(len(keys), dtype=np.int64)  # 1 at the first row of a key that has more than one hash
    firsts = np.flatnonzero(new_key)
    several[firsts[np.add.reduceat(new_pair, firsts, dtype=np.int64) > 1]] = 1
    zero = np.uint64(0)
    figures = (
        np.diff(np.append(starts, len(keys))),
        np.add.reduceat(new_key, starts, dtype=np.int64),
        np.add.reduceat(np.where(new_pair, hashes, zero), starts),
        np.add.reduceat(several, starts),
        np.add.reduceat(np.where(new_key, keys, zero), starts),
    )
    return {
        int(number): Tally(rows, distinct, 0, 0, total, conflicts, key_sum=key_sum)
        for number, rows, distinct, total, conflicts, key_sum in zip(
            groups[starts].tolist(), *(column.tolist() for column in figures), strict=True
        )
    }


def _each_once(groups: npt.NDArray[np.integer], keys: U64, hashes: U64) -> dict[int, Tally]:
    """The same where no key repeats: in a quarter of the time, for nothing has to be sorted by group."""
    numbers, places, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums, key_sums = np.zeros((2, len(numbers)), dtype=np.uint64)
    np.add.at(sums, places, hashes)
    np.add.at(key_sums, places, keys)
    figures = (column.tolist() for column in (numbers, counts, sums, key_sums))
    return {
        number: Tally(rows, rows, 0, 0, total, key_sum=key_sum)
        for number, rows, total, key_sum in zip(*figures, strict=True)
    }


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
        key_sum=None if left.key_sum is None or right.key_sum is None else (left.key_sum + right.key_sum) & _MASK,
    )


def proved(sums: Sequence[Digest], before: Sequence[Digest]) -> list[Digest] | None:
    """The digests that sums prove: as many rows with the same two sums as a reference that has each once are the same
    rows. None where any group differs, or nothing is there to compare with.

    before: the digests of the hops before, the first of each stream its reference.
    """
    found = []
    for digest in sums:
        reference = next((d for d in before if d.stream == digest.stream), None)
        if reference is None or set(reference.groups) != set(digest.groups):
            return None
        if not all(_same(reference.groups[group], held) for group, held in digest.groups.items()):
            return None
        found.append(replace(digest, groups={g: _once(held) for g, held in digest.groups.items()}))
    return found


def _same(right: Tally, held: Tally) -> bool:
    figures = ((t.rows, t.sum, t.key_sum, t.lo, t.hi) for t in (right, held))
    return right.rows == right.keys and not right.conflicts and right.key_sum is not None and len(set(figures)) == 1


def _once(held: Tally) -> Tally:
    return replace(held, keys=held.rows, conflicts=0)


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
