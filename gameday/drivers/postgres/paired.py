"""Two tables that should hold the same records, compared by sums: only what differs is read.

Each side sums up its rows by itself, of each group and then of ranges of those groups that differ. Pure: how a server
sums, and where equal sums mean equal records, is table.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from gameday.model import EMPTY, Group, Tally, Window
from gameday.records.tallies import add
from gameday.records.types import INT64_MAX

__all__ = ["Side", "Sum", "compared", "width"]

T = TypeVar("T")

RANGES_MAX = 256
"""In so many at most a group that differs is looked at."""

SUMS_MAX = 65_536
"""Of all groups that differ, so many sums are asked for: what a server has in memory meanwhile, and sends."""


@dataclass(frozen=True)
class Sum:
    """Of some rows, no two of which have one key: how many there are, the lowest and highest id, and the sum of their
    hashes."""

    rows: int
    lo: int
    hi: int
    total: int


Sums: TypeAlias = Mapping[Group, Mapping[int, Sum]]
"""Group -> the range's number -> its rows; a range without rows is absent."""


class Side(Protocol):
    """One of the two, all of it as of one moment."""

    def sums(self, window: Window, ranges: int) -> Sums:
        """Of the window, each group in so many ranges of ids, see `width`."""
        ...

    def tallies(self, window: Window) -> Mapping[Group, Tally]:
        """The window's rows, read and told apart by key."""
        ...


def width(lo: int, hi: int, ranges: int) -> int:
    """How many ids one range of (lo, hi] has: id belongs to the range (id - lo - 1) // width."""
    return (hi - lo) // ranges + 1


def compared(one: Side, other: Side, window: Window) -> tuple[dict[Group, Tally], dict[Group, Tally]]:
    """The tallies of both, right where they are held against each other and nothing else: where sums are equal they
    stand for both."""
    sides = (one, other)
    whole = _each(sides, lambda side: side.sums(window, 1))
    groups = [group for group in window.hi if any(group in found for found in whole)]
    differ = [group for group in groups if whole[0].get(group) != whole[1].get(group)]
    found: tuple[dict[Group, Tally], ...] = ({}, {})
    for sums, tallies in zip(whole, found, strict=True):
        tallies |= {group: _tally(sums[group].values()) for group in groups if group not in differ}
    if differ:
        tight = _tight(differ, whole)
        ranges = max(1, min(RANGES_MAX, SUMS_MAX // len(differ)))
        narrow = [group for group, lo in tight.lo.items() if tight.hi[group] - lo <= INT64_MAX]  # as a server counts
        ranged = Window({g: tight.lo[g] for g in narrow}, {g: tight.hi[g] for g in narrow})
        parts = _each(sides, lambda side: side.sums(ranged, ranges))
        read, inside = _read(tight, parts, ranges)
        exact = _each(sides, lambda side: side.tallies(read))
        for sums, own, tallies in zip(parts, exact, found, strict=True):
            for group in differ:
                around = _tally(one for at, one in sums.get(group, {}).items() if at not in inside[group])
                if (told := add(around, own.get(group, EMPTY))).rows:
                    tallies[group] = told
    return found[0], found[1]


def _tight(groups: Iterable[Group], whole: tuple[Sums, Sums]) -> Window:
    """The ids that either side has of these groups."""
    held = {group: [sums[group][0] for sums in whole if group in sums] for group in groups}
    lo = {group: min(one.lo for one in both) - 1 for group, both in held.items()}
    return Window(lo, {group: max(one.hi for one in both) for group, both in held.items()})


def _read(tight: Window, parts: tuple[Sums, Sums], ranges: int) -> tuple[Window, dict[Group, range]]:
    """What has to be read: from the first range that differs to the last, with these ranges' numbers."""
    lo, hi, inside = {}, {}, {}
    for group, low in tight.lo.items():
        left, right = (sums.get(group, {}) for sums in parts)
        differ = [at for at in left.keys() | right.keys() if left.get(at) != right.get(at)]
        first, last = (min(differ), max(differ)) if differ else (0, ranges - 1)
        step = width(low, tight.hi[group], ranges)
        inside[group] = range(first, last + 1)
        lo[group], hi[group] = low + first * step, min(tight.hi[group], low + (last + 1) * step)
    return Window(lo, hi), inside


def _tally(sums: Iterable[Sum]) -> Tally:
    """Rows that are there once each, as a tally: their hash is no other hop's."""
    told = EMPTY
    for one in sums:
        told = add(told, Tally(one.rows, one.rows, one.lo, one.hi, one.total, key_sum=one.total))
    return told


def _each(sides: tuple[Side, Side], ask: Callable[[Side], T]) -> tuple[T, T]:
    """Both asked at a time: each is a server of its own."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(ask, sides[1])
        return ask(sides[0]), other.result()
