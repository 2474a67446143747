"""Rows that change and go: what counts of each key as of a position, made from a log of changes, and held against what
a table has. Pure; how a hop gets it is its driver's, what a difference means checks/'s.

The highest version of a key counts, whatever its place in the log: a log may hold a change again. Of two changes of one
version the deletion counts, so a change that comes again after it brings nothing back. A deletion that tells no version
(a message without a value) can only mean its place: of its key nothing counts that is before it in its partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.errors import DriverError
from gameday.model import Delta, Group, Position
from gameday.records.hashing import U64
from gameday.records.types import INT64_MIN

__all__ = [
    "NONE",
    "ROWS_MAX",
    "UNTOLD",
    "Changes",
    "Differences",
    "State",
    "compare",
    "deltas",
    "grouped",
    "moved",
    "state",
    "went_on",
]

ROWS_MAX = 8_000_000
"""Keys of a table, or changes of a log, that are held in memory: some 300 MB, and twice as much while they are
sorted."""

NOTHING: U64 = np.empty(0, dtype=np.uint64)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NUMBERS = [("key", "<u8"), ("group", "<i4"), ("slot", "<i4"), ("offset", "<i8"), ("version", "<i8"), ("row", "<u8")]
CHANGE = np.dtype([*NUMBERS, ("gone", "?"), ("told", "?")])
"""told: whether the change says its version; only a deletion may leave it out."""

UNTOLD = -1
"""In place of a group's number: a deletion need not tell it."""


@dataclass(frozen=True)
class State:
    """What counts of each key. keys: hashes, ascending, each once; of each the number of its group in `groups`, its
    version, the hash of its row, and whether it was deleted (a table has no such rows).

    position: as of which place in the log, or of the server, it is so; {}: that isn't known. exact: whether rows and
    position are of one moment. repeated: keys of which there is more than one row, one entry for each row too many.
    whole: False where the log has forgotten its beginning, so that a key that it hasn't may be right all the same.
    unsure: keys that have moved on since the position, in a log that may have forgotten what counted then. had: of a
    log the hashes of all rows up to the position, whether or not they count still, ascending.
    """

    groups: Sequence[Group]
    keys: U64
    group: Ints
    versions: Ints
    rows: U64
    gone: Mask
    position: Position = field(default_factory=dict)
    exact: bool = False
    repeated: U64 = field(default_factory=NOTHING.copy)
    whole: bool = True
    unsure: U64 = field(default_factory=NOTHING.copy)
    had: U64 = field(default_factory=NOTHING.copy)

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, keys: U64) -> tuple[npt.NDArray[np.intp], Mask]:
        """Of each key the place where it is, or would be, and whether it is there."""
        if not len(self.keys):
            return np.zeros(len(keys), dtype=np.intp), np.zeros(len(keys), dtype=bool)
        places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return places, self.keys[places] == keys

    def alive(self, keys: U64) -> Mask:
        """Which of these keys count."""
        places, there = self.at(keys)
        return there if not len(self.keys) else there & ~self.gone[places]


@dataclass(frozen=True)
class Differences:
    """Keys in which one state differs from another, by their hashes, each array ascending. lost: missing ones. ghosts:
    those that should be gone, or never were. changed: those with another row, an older version among them. repeated:
    see State. unsure: those that can't be told at this position. untold: how many keys the log has forgotten."""

    lost: U64
    ghosts: U64
    changed: U64
    repeated: U64
    unsure: U64
    untold: int = 0

    @property
    def keys(self) -> U64:
        """All of which anything is wrong, or may be."""
        return np.unique(np.concatenate([self.lost, self.ghosts, self.changed, self.repeated, self.unsure]))

    def only(self, keys: U64) -> Differences:
        """Of these keys alone."""
        kept = {name: found[np.isin(found, keys)] for name, found in self._arrays()}
        return Differences(**kept, untold=self.untold)

    def joined(self, other: Differences) -> Differences:
        """Those of both, which share no key."""
        theirs = dict(other._arrays())
        joined = {name: np.sort(np.concatenate([found, theirs[name]])) for name, found in self._arrays()}
        return Differences(**joined, untold=max(self.untold, other.untold))

    def as_unsure(self) -> Differences:
        """The same, where none of it can be told for sure."""
        return replace(NONE, unsure=self.keys, untold=self.untold)

    def _arrays(self) -> list[tuple[str, U64]]:
        return [(name, getattr(self, name)) for name in ("lost", "ghosts", "changed", "repeated", "unsure")]


def state(
    groups: Sequence[Group],
    group: npt.NDArray[Any],
    keys: U64,
    versions: Ints,
    rows: U64,
    position: Position | None = None,
    exact: bool = False,
) -> State:
    """What a table holds, which has each key once if it is right: equally long columns, in any order. Of the rows of
    one key that with the highest version counts, and the others are told as repeated."""
    order = np.lexsort((rows, versions, keys))
    sorted_keys = keys[order]
    last = np.append(sorted_keys[1:] != sorted_keys[:-1], True)[: len(order)]
    kept = order[last]
    return State(
        groups=groups,
        keys=keys[kept],
        group=group[kept].astype(np.int64),
        versions=versions[kept],
        rows=rows[kept],
        gone=np.zeros(len(kept), dtype=bool),
        position=position or {},
        exact=exact,
        repeated=sorted_keys[~last],
    )


NONE = Differences(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


class Changes:
    """The changes of a log, gathered as they are read: each partition's in its order, from its first one on."""

    def __init__(self, name: str) -> None:
        """name: the hop's, for errors."""
        self.groups: list[Group] = []
        self._name = name
        self._numbers: dict[Group, int] = {}
        self._slots: dict[str, int] = {}
        self._pieces: list[npt.NDArray[Any]] = []
        self._rows = 0

    def number(self, group: Group) -> int:
        """By which `add` knows the group."""
        if group not in self._numbers:
            self._numbers[group] = len(self.groups)
            self.groups.append(group)
        return self._numbers[group]

    def add(
        self,
        slot: str,
        offsets: npt.ArrayLike,
        keys: npt.ArrayLike,
        groups: npt.ArrayLike,
        versions: Sequence[int | None] | Ints,
        rows: npt.ArrayLike,
        gone: bool = False,
    ) -> None:
        """More of one partition, in its order. gone: these delete. versions: None for a deletion that tells none.

        Raises DriverError where they become more than are held.
        """
        found = np.zeros(len(np.asarray(offsets)), dtype=CHANGE)
        told = [version is not None for version in versions] if gone else True
        found["key"], found["group"], found["offset"] = keys, groups, offsets
        found["version"] = [version or 0 for version in versions] if gone else versions
        found["row"], found["gone"], found["told"] = rows, gone, told
        found["slot"] = self._slots.setdefault(slot, len(self._slots))
        self._pieces.append(found)
        self._rows += len(found)
        if self._rows > ROWS_MAX:
            raise DriverError(
                f"hops.{self._name} has more than {ROWS_MAX:,} changes, which are folded in memory. Remedy: topics "
                "that are compacted, or that forget what is old",
                definite=True,
            )

    def upto(self, position: Position, whole: bool, dense: bool) -> State:
        """What counts of each key below these offsets; a partition that the position leaves out has none below it.

        Args: whole: whether the log has its beginning. dense: whether it has every offset since; else, as it may be
        compacted, it may have forgotten changes that others came after.
        """
        found = self._all()
        ends = np.array([position.get(slot, 0) for slot in self._slots], dtype=np.int64)
        below = found["offset"] < ends[found["slot"]] if len(ends) else np.zeros(0, dtype=bool)
        unsure = NOTHING if dense else np.unique(found["key"][~below])
        found = _in_order(found[below])
        had = np.unique(found["row"][~found["gone"]])
        found = found[found["gone"] | ~_forgotten(found)]
        versions = np.where(found["told"], found["version"], INT64_MIN)
        order = np.lexsort((found["offset"], found["gone"], versions, found["key"]))
        keys = found["key"][order]
        kept = order[np.append(keys[1:] != keys[:-1], True)[: len(order)]]
        last = found[kept]
        return State(
            groups=tuple(self.groups),
            keys=last["key"].copy(),
            group=last["group"].astype(np.int64),
            versions=versions[kept],
            rows=last["row"].copy(),
            gone=last["gone"].copy(),
            position=position,
            exact=True,
            whole=whole,
            unsure=unsure,
            had=had,
        )

    def back(self, since: Position) -> list[tuple[int, str, int, int, int]]:
        """Where versions of a key go back inside a partition, among the changes from these offsets on: (key, slot,
        offset, version, the highest before it), in the order of the keys. A change that comes again is no matter: only
        a version's first sighting is judged."""
        found = _in_order(self._all())
        found, highest = found[found["told"]], _highest(found)[found["told"]]
        order = np.lexsort((found["offset"], found["version"], found["slot"], found["key"]))
        held = found[order]
        again = (held["version"][1:] == held["version"][:-1]) & ~_new_part(held)[1:]
        judged = np.append(True, ~again)[: len(order)] & (highest[order] > held["version"])
        starts = np.array([since.get(slot, 0) for slot in self._slots], dtype=np.int64)
        judged &= held["offset"] >= starts[held["slot"]] if len(starts) else False
        slots = list(self._slots)
        return [
            (int(one["key"]), slots[one["slot"]], int(one["offset"]), int(one["version"]), int(before))
            for one, before in zip(held[judged], highest[order][judged], strict=True)
        ]

    def counted(self, since: Position) -> int:
        """How many changes there are from these offsets on."""
        found = self._all()
        starts = np.array([since.get(slot, 0) for slot in self._slots], dtype=np.int64)
        return int(np.count_nonzero(found["offset"] >= starts[found["slot"]])) if len(found) else 0

    def _all(self) -> npt.NDArray[Any]:
        if len(self._pieces) != 1:
            self._pieces = [np.concatenate([np.empty(0, dtype=CHANGE), *self._pieces])]
        return self._pieces[0]


Found = npt.NDArray[Any]


def _in_order(found: Found) -> Found:
    """By key, partition and place."""
    return found[np.lexsort((np.arange(len(found)), found["offset"], found["slot"], found["key"]))]


def _new_part(found: Found) -> Mask:
    """Where another key or partition begins, of changes in order."""
    differs = (found["key"][1:] != found["key"][:-1]) | (found["slot"][1:] != found["slot"][:-1])
    return np.append(True, differs)[: len(found)]


def _forgotten(found: Found) -> Mask:
    """Of each change whether a deletion without a version follows it in its partition: then it counts no more."""
    if not len(found):
        return np.zeros(0, dtype=bool)
    starts = np.flatnonzero(_new_part(found))
    so_far = np.cumsum(~found["told"])
    lengths = np.diff(np.append(starts, len(found)))
    return np.asarray(so_far < np.repeat(so_far[starts + lengths - 1], lengths))


def _highest(found: Found) -> Ints:
    """Of each change, in order, the highest version up to it, itself among them: of its key, inside its partition,
    since the last deletion that tells none."""
    if not len(found):
        return np.empty(0, dtype=np.int64)
    known, rank = np.unique(found["version"], return_inverse=True)
    rank = np.where(found["told"], rank + 1, 0)
    part = np.cumsum(_new_part(found) | ~found["told"]) * (len(known) + 1)  # what is highest in one is below the next
    return np.asarray(np.append(INT64_MIN, known)[np.maximum.accumulate(part + rank) - part])


def compare(right: State, held: State) -> Differences:
    """In what `held` differs from what is right as of the same position. What a log has forgotten is not told."""
    wanted, mine = right.keys[~right.gone], held.keys[~held.gone]
    missing, foreign = wanted[~held.alive(wanted)], mine[~right.alive(mine)]
    lost = missing if held.whole else missing[held.at(missing)[1]]
    ghosts = foreign if right.whole else foreign[right.at(foreign)[1]]
    untold = len(missing) - len(lost) + len(foreign) - len(ghosts)
    both = wanted[held.alive(wanted)]
    here, there = right.at(both)[0], held.at(both)[0]
    changed = both[(right.rows[here] != held.rows[there]) | _elsewhere(right, held, here, there)]
    found = Differences(lost, ghosts, changed, np.sort(held.repeated), NOTHING, untold)
    unsure = right.unsure[np.isin(right.unsure, np.concatenate([lost, ghosts, changed]))]
    if not len(unsure):
        return found
    sure = {name: keys[~np.isin(keys, unsure)] for name, keys in (("lost", lost), ("ghosts", ghosts))}
    sure["changed"] = changed[~np.isin(changed, unsure)]
    return Differences(**sure, repeated=found.repeated, unsure=unsure, untold=found.untold)


def _elsewhere(right: State, held: State, here: npt.NDArray[np.intp], there: npt.NDArray[np.intp]) -> Mask:
    """Whether a key's row is in another group."""
    numbers = {group: number for number, group in enumerate(right.groups)}
    places = np.array([numbers.get(group, -1) for group in held.groups], dtype=np.int64)
    return right.group[here] != places[held.group[there]] if len(here) else np.zeros(0, dtype=bool)


def moved(before: State, after: State, keys: U64) -> Mask:
    """Which of these keys have another row than before, or are there or gone that weren't."""
    was, is_ = before.alive(keys), after.alive(keys)
    if not len(before) or not len(after):
        return np.asarray(was | is_)
    here, there = before.at(keys)[0], after.at(keys)[0]
    return (was != is_) | (was & is_ & (before.rows[here] != after.rows[there]))


def went_on(was: State, after: State, held: State, keys: U64) -> Mask:
    """Which of these keys differ only because they have moved on between the looks. `held` was looked at after `was`
    and before `after`: a log that has had the row of `was`, or a table that has a row which the log has had, and that
    is not older than the one of `was`. What moved is all that it can say of: a key that did not move must be the
    same."""
    found = np.zeros(len(keys), dtype=bool)
    if len(held.had) and len(was):
        found |= was.alive(keys) & np.isin(was.rows[was.at(keys)[0]], held.had)
    if len(after.had) and len(held):
        places, there = held.at(keys)
        known = was.at(keys)
        lowest = np.where(known[1], was.versions[known[0]], INT64_MIN) if len(was) else np.full(len(keys), INT64_MIN)
        found |= there & np.isin(held.rows[places], after.had) & (held.versions[places] >= lowest)
    return found & moved(was, after, keys)


def grouped(right: State, held: State, found: Differences) -> Mapping[Group, Differences]:
    """The same by group, for those in which any key differs. A key's group is that of the row that should be there, of
    a ghost that of the row that is; of one that is nowhere any more, the first."""
    groups = list(dict.fromkeys([*right.groups, *held.groups])) or [()]
    numbers = {group: number for number, group in enumerate(groups)}
    keys = found.keys
    own = np.zeros(len(keys), dtype=np.int64)
    for one in (held, right):
        if len(one):
            at, there = one.at(keys)
            places = np.array([numbers[group] for group in one.groups], dtype=np.int64)
            told = there & ~one.gone[at]
            own[told] = places[one.group[at[told]]]
    return {groups[number]: found.only(keys[own == number]) for number in np.unique(own).tolist()}


def deltas(right: State, held: State, found: Differences) -> Mapping[Group, Delta]:
    """What a verdict needs of it: of each group how many keys should be there, and how many differ in which way."""
    alive = right.group[~right.gone]
    keys = np.bincount(alive, minlength=len(right.groups)) if len(right.groups) else ()
    figures = {group: Delta(int(number)) for group, number in zip(right.groups, keys, strict=True)}
    for group, of in grouped(right, held, found).items():
        counted = [len(part) for part in (of.lost, of.ghosts, of.repeated, of.changed, of.unsure)]
        figures[group] = Delta(figures.get(group, Delta(0)).keys, *counted)
    return figures
