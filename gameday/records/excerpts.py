"""What a hop's newest records look like, and in what two hops' differ: pure. Asking for them is tasks/look.py's.

numpy is not needed: an excerpt has a few thousand records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from operator import eq
from typing import Any, TypeAlias

from gameday.model import Columns, Excerpt, Group, Window
from gameday.records.declaration import Stream
from gameday.records.types import INT64_MAX, INT64_MIN

__all__ = ["NAMED", "Difference", "Facts", "back", "busiest", "covered", "differences", "facts", "moving"]

NAMED = 3
"""How many keys or values are named; the count says how many there are."""

GROUP_RECORDS_MIN = 10
"""Of each group that is looked at, so many records; where there are more groups, the others are left out."""

WIDER = 64
"""How many times as many ids are asked for next, where they turn out to have gaps."""

PAIRS_MAX = 1_000
"""Of a key with several rows, so many pairs are looked at for the two that are most alike."""

ALIKE_MIN = 10
"""Fewer records than that may have the same value by chance."""

MINUTE_US = 60_000_000

Key: TypeAlias = tuple[Any, ...]
Values: TypeAlias = tuple[Any, ...]
"""A record's canonical values in the order of Stream.hashed."""


@dataclass(frozen=True)
class Facts:
    """records: in the excerpt. constant: field -> its only value, as people read it. repeated: records of a key that
    was there already. found, span: ids, and how many there are between the lowest and the highest of each group.
    sparsest: (group, found, span) of the one that lacks most; None: none lacks any."""

    records: int
    groups: int
    constant: Mapping[str, Any]
    repeated: int
    found: int
    span: int
    sparsest: tuple[Group, int, int] | None


@dataclass(frozen=True)
class Difference:
    """What two hops' excerpts have of the span that both are complete in.

    compared: keys that both have. missing: those that the right one lacks, extra: that the left one lacks; changed:
    keys whose values differ. Of each the first are named. changes: (key, field, left, right), the first of each field;
    fields: in how many keys each differs.
    """

    compared: int
    missing: int
    extra: int
    changed: int
    missing_keys: tuple[str, ...] = ()
    extra_keys: tuple[str, ...] = ()
    changes: tuple[tuple[str, str, Any, Any], ...] = ()
    fields: Mapping[str, int] = field(default_factory=dict)


def back(
    ask: Callable[[Window], tuple[Mapping[Group, Columns], int]], upto: Mapping[Group, int], limit: int, stream: Stream
) -> tuple[Mapping[Group, Columns], Window, int]:
    """The records of a hop that can be asked by id, the window they are all of, and how many rows that has: from `upto`
    back, as far as it takes to have about `limit`.

    Args: ask: window -> records by group, and how many rows there are, those that can't be read among them.
    """
    chosen = dict(islice(upto.items(), max(1, limit // GROUP_RECORDS_MIN)))
    width = max(1, limit // max(1, len(chosen)))
    while True:
        window = Window({group: max(INT64_MIN, hi - width) for group, hi in chosen.items()}, chosen)
        held, rows = ask(window)
        begun = stream.gapless and all(lo < 0 for lo in window.lo.values())
        if rows >= limit // 4 or begun or width > INT64_MAX:
            return held, window, rows
        width *= WIDER


def facts(stream: Stream, excerpt: Excerpt) -> Facts:
    """See Facts. The ids are those above which none was left out."""
    constant: dict[str, set[Any]] = {name: set() for name in stream.hashed}
    records = repeated = found = span = 0
    worst: tuple[Group, int, int] | None = None
    for group, columns in excerpt.groups.items():
        rows = list(_rows(stream, columns))
        records += len(rows)
        repeated += len(rows) - len({key for key, _ in rows})
        for name, seen in constant.items():
            if len(seen) < 2:
                seen.update(columns[name].tolist())
        ids = {n for n in columns[stream.sequence].tolist() if n > excerpt.above.get(group, INT64_MIN)}
        if not ids or not stream.counted:  # several may have happened at the same time
            continue
        here = (group, len(ids), max(ids) - min(ids) + 1)
        found, span = found + here[1], span + here[2]
        if here[1] < here[2] and (worst is None or here[1] * worst[2] < worst[1] * here[2]):
            worst = here
    same = {
        name: stream.types[name].shown(next(iter(seen)))
        for name, seen in constant.items()
        if len(seen) == 1 and records >= ALIKE_MIN
    }
    return Facts(records, len(excerpt.groups), same, repeated, found, span, worst)


def differences(stream: Stream, left: Excerpt, right: Excerpt) -> Difference:
    """Which keys only one of them has, where both are complete, and which values differ."""
    missing: list[str] = []
    extra: list[str] = []
    changes: list[tuple[str, str, Any, Any]] = []
    counts = {"missing": 0, "extra": 0, "changed": 0, "compared": 0}
    fields: dict[str, int] = {}
    for group in sorted(left.above.keys() & right.above.keys()):
        lo = max(left.above[group], right.above[group])
        here, there = _by_key(stream, left.groups.get(group)), _by_key(stream, right.groups.get(group))
        for own, other, lacks, keys in ((here, there, "missing", missing), (there, here, "extra", extra)):
            tops = _tops(stream, (left if own is here else right).groups.get(group))
            for key in own:
                if key not in other and tops[key] > lo:
                    counts[lacks] += 1
                    _name(keys, _label(stream, group, key))
        for key, rows in here.items():
            if key not in there:
                continue
            counts["compared"] += 1
            if set(rows) & set(there[key]):
                continue
            counts["changed"] += 1
            alike = max(islice(product(rows, there[key]), PAIRS_MAX), key=lambda pair: sum(map(eq, *pair)))
            pairs = zip(stream.hashed, *alike, strict=True)
            for name, one, other in ((n, one, other) for n, one, other in pairs if one != other):
                kind = stream.types[name]
                fields[name] = fields.get(name, 0) + 1
                if sum(change[1] == name for change in changes) < NAMED:
                    changes.append((_label(stream, group, key), name, kind.shown(one), kind.shown(other)))
    return Difference(
        **counts,
        missing_keys=tuple(missing),
        extra_keys=tuple(extra),
        changes=tuple(changes),
        fields=fields,
    )


def busiest(excerpts: tuple[Excerpt, ...], groups: Mapping[Group, int], most: int) -> dict[Group, int]:
    """Those of the groups that have the most records in these excerpts."""

    def records(group: Group) -> int:
        held = (e.groups.get(group, {}) for e in excerpts)
        return min((max(map(len, columns.values()), default=0) for columns in held), default=0)

    return {group: groups[group] for group in sorted(groups, key=records, reverse=True)[:most]}


def moving(stream: Stream, excerpt: Excerpt, since_us: int | None = None) -> set[Group]:
    """The groups with a record of the newest minute, and since then, by the records' own time; none where the stream
    declares none."""
    times = {group: max(_times(stream, columns), default=0) for group, columns in excerpt.groups.items()}
    since_us = max(max(times.values(), default=0) - MINUTE_US, since_us or 0)
    return {group for group, time_us in times.items() if stream.time is not None and time_us >= since_us}


def covered(stream: Stream, tail: Excerpt) -> int:
    """Since when the end of a log has every record, by the records' own time: since the last of its busy groups begins
    there."""
    begun = [times for columns in tail.groups.values() if len(times := _times(stream, columns)) >= ALIKE_MIN]
    return max(map(min, begun), default=INT64_MAX)


def _times(stream: Stream, columns: Columns) -> list[int]:
    return [] if stream.time is None else columns[stream.time].tolist()


def _rows(stream: Stream, columns: Columns) -> Iterator[tuple[Key, Values]]:
    """By id."""
    ids = columns[stream.sequence].tolist()
    order = sorted(range(len(ids)), key=ids.__getitem__)
    values = zip(*(columns[name][order].tolist() for name in stream.hashed), strict=True)
    return ((row[: len(stream.own)], row) for row in values)


def _tops(stream: Stream, columns: Columns | None) -> dict[Key, int]:
    """Key -> the highest id of its rows."""
    if columns is None:
        return {}
    keys = (key for key, _ in _rows(stream, columns))
    return dict(zip(keys, sorted(columns[stream.sequence].tolist()), strict=True))  # of a key the last one is kept


def _by_key(stream: Stream, columns: Columns | None) -> dict[Key, list[Values]]:
    found: dict[Key, list[Values]] = {}
    for key, values in _rows(stream, columns) if columns is not None else ():
        found.setdefault(key, []).append(values)
    return found


def _label(stream: Stream, group: Group, key: Key) -> str:
    own = (str(stream.types[name].shown(value)) for name, value in zip(stream.own, key, strict=True))
    return "/".join([*group, *own])


def _name(keys: list[str], key: str) -> None:
    if len(keys) < NAMED:
        keys.append(key)
