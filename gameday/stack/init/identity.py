"""What makes a record of these messages: which number counts it in which group, or which fields tell it from others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gameday.records.declaration import GROUPED

__all__ = ["Identity", "identity"]

Record = Mapping[str, Hashable | None]

COUNTED_MIN = 10
"""Numbers without a gap between them before it is no accident."""

EACH_MIN = 4
"""Of a group, whose lower half may lack what other partitions have further back."""

GROUP_FIELDS_MAX = 2
GROUP_CANDIDATES_MAX = 6
GROUPS_MAX = 64
"""A field of more values tells records apart, not kinds of them."""

EACH_OF_GROUP_MIN = 4
"""Records of each value, on average."""


@dataclass(frozen=True)
class Identity:
    """why: of each key of [streams.NAME], where it is from. unsure: those that a person must confirm."""

    key: tuple[str, ...]
    group: tuple[str, ...] = ()
    sequence: str | None = None
    gapless: bool = False
    why: str = ""
    why_group: str = ""
    sure: bool = True


def identity(
    records: Sequence[Record], types: Mapping[str, str], told: Sequence[str], who: str, fixed: Sequence[str] = ()
) -> Identity:
    """Args: records: field -> value, in the log's order. told: the fields that a table's key names, all of them or
    none. who: that table, for people. fixed: fields that are the same in all messages of a topic."""
    count = len(records)
    if (found := _counted(records, types, _grouping(records, types))) is not None:
        return found
    group = tuple(fixed[:1])
    if told and _distinct(records, told) == count:
        return Identity(tuple(told), group, why=f"the key of {who}; different in all {count} messages")
    named = [name for name, kind in types.items() if kind == "uuid" or name.lower().endswith(("id", "uuid", "key"))]
    for name in sorted(named, key=lambda one: (types[one] != "uuid", list(types).index(one))):
        if all(record[name] is not None for record in records) and _distinct(records, [name]) == count:
            return Identity((name,), group, why=f"likely: different in all {count} messages")
    whole = tuple(n for n, kind in types.items() if kind != "bool" and all(record[n] is not None for record in records))
    short = _shortest(records, whole)
    if told and set(told) - set(group) and all(record[n] is not None for record in records for n in told):
        again = count - _distinct(records, told)
        why = f"the key of {who}; {again} of {count} messages repeat one: are they sent again, or rows that change?"
        return Identity(tuple(told), group, why=why, sure=False)
    again = count - _distinct(records, short)
    why = "no field tells records apart, these together do" if not again else f"{again} of {count} messages repeat one"
    return Identity(short, group, why=f"{why}: two records that agree in all of these count as one", sure=False)


def _counted(records: Sequence[Record], types: Mapping[str, str], grouping: Sequence[str]) -> Identity | None:
    """By an integer that leaves no number out in each group; of the fewest fields that make it so."""
    numbers = [name for name, kind in types.items() if kind == "int" and _distinct(records, [name]) >= EACH_MIN]
    for size in range(GROUP_FIELDS_MAX + 1):
        for group in combinations(grouping, size):
            for name in (n for n in numbers if n not in group):
                seen, groups = _unbroken(records, name, group)
                if seen >= COUNTED_MIN:
                    where = f" in each of {groups} groups" if groups > 1 else ""
                    why = f"likely: counts up and leaves no number out{where}, in the newest {seen} messages"
                    told = "in each of its values the sequence has no gap" if group else ""
                    return Identity((*group, name), group, name, True, why, told)
    return None


def _unbroken(records: Sequence[Record], name: str, group: Sequence[str]) -> tuple[int, int]:
    """How many numbers follow each other without a gap, in how many groups; (0, 0) where one has a gap, or two records
    of one number differ."""
    held: dict[tuple[Hashable, ...], dict[int, Record]] = defaultdict(dict)
    for record in records:
        number = record[name]
        if not isinstance(number, int):
            return 0, 0
        mine = held[tuple(record[field] for field in group)]
        if mine.setdefault(number, record) != record:
            return 0, 0
    seen = groups = 0
    for mine in held.values():
        upper = sorted(mine)[len(mine) // 2 :]
        if upper[-1] - upper[0] + 1 != len(upper):
            return 0, 0
        seen += len(upper)
        groups += len(mine) >= EACH_MIN
    return (seen, groups) if groups * 2 >= len(held) else (0, 0)


def _grouping(records: Sequence[Record], types: Mapping[str, str]) -> list[str]:
    """Fields that may tell groups: present in all records, of few values, the fewest first."""
    found = []
    for name, kind in types.items():
        values = _distinct(records, [name])
        few = 1 < values <= min(GROUPS_MAX, len(records) // EACH_OF_GROUP_MIN)
        if kind in GROUPED and few and all(record[name] not in (None, "") for record in records):
            found.append((values, name))
    return [name for _, name in sorted(found)][:GROUP_CANDIDATES_MAX]


def _distinct(records: Sequence[Record], names: Sequence[str]) -> int:
    return len({tuple(record[name] for name in names) for record in records})


def _shortest(records: Sequence[Record], whole: Sequence[str]) -> tuple[str, ...]:
    """Without those that tell nothing more: a constant, or what hangs on others."""
    most, kept = _distinct(records, whole), list(whole)
    for name in whole:
        without = [one for one in kept if one != name]
        if without and _distinct(records, [name]) == 1 and _distinct(records, without) == most:
            kept = without
    return tuple(kept)
