"""The selftest's rows that change and go: a table, a log of its changes, and a copy made of that log, to be spoiled.

What is compared is what a run compares: hashes of typed values, folded and held against each other as
records/states.py does it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from gameday.model import Columns, Compared, Group, Json
from gameday.records.columns import array
from gameday.records.declaration import Stream, stream
from gameday.records.states import UNTOLD, Changes, State, compare, deltas, state

__all__ = ["COPY", "LOG", "PLANTED", "Changing"]

SOURCE, LOG, COPY = "source", "changes", "copy"
KEYS = 40
VERSIONS = 3
DELETED_EVERY = 5
AT_US = 1_700_000_000_000_000
ZONE_US = 7_200_000_000
SLOT = "orders/0"
SHOPS = ("east", "west")

Row: TypeAlias = dict[str, Any]
"""Values as JSON has them; one that deletes has id, version and gone."""

ONE, GONE = 7, 10
"""The key that is spoiled, and one that was deleted."""


@functools.cache
def _orders() -> Stream:
    mistakes: list[str] = []
    made = stream(
        "orders",
        {
            "key": ["id"],
            "group": ["shop"],
            "version": "version",
            "time": "at",
            "fields": {
                "id": "int",
                "note": "text",
                "total": "decimal(2)",
                "weight": "float(15)",
                "at": "time(us)",
            },
            "hops": [SOURCE, LOG, COPY],
            "visible": COPY,
            "path": ["writer"],
        },
        [SOURCE, LOG, COPY],
        mistakes,
    )
    assert made is not None, mistakes
    return made


def _row(key: int, version: int) -> Row:
    return {
        "id": key,
        "shop": SHOPS[key % 2],
        "note": None if key % 2 else f"note {key}",
        "total": f"{key}.{version}5",
        "weight": 1 / (3 * key + version),
        "at": AT_US + 1_000_000 * (KEYS * version + key),
        "version": version,
    }


def _changes() -> list[Row]:
    """Each key's versions one after the other, and every fifth key deleted at last."""
    made = [_row(key, version) for version in range(1, VERSIONS + 1) for key in range(1, KEYS + 1)]
    return made + [
        {"id": key, "version": VERSIONS + 1, "gone": True} for key in range(DELETED_EVERY, KEYS + 1, DELETED_EVERY)
    ]


def _counting(changes: Sequence[Row]) -> dict[int, Row]:
    """What a table has of these changes, key by key."""
    best: dict[int, Row] = {}
    for row in changes:
        if row["version"] >= best.get(row["id"], row)["version"]:
            best[row["id"]] = row
    return {key: dict(row) for key, row in best.items() if not row.get("gone")}


def _as_it_is(rows: list[Row]) -> None:
    """Nothing is wrong with the copy."""


@dataclass
class Changing:
    """log: the changes as the log holds them. copy: what is done to the copy's rows after it was made of the log."""

    log: list[Row] = field(default_factory=_changes)
    copy: Callable[[list[Row]], None] = _as_it_is

    def compared(self) -> tuple[Compared, ...]:
        """The log beside the table that it tells the changes of, and the copy beside the log."""
        if self.copy is _as_it_is and self.log == _changes():
            return _clean()
        return self.held()

    def held(self) -> tuple[Compared, ...]:
        """The same, worked out."""
        rows = list(_counting(self.log).values())
        self.copy(rows)
        log = self._folded().upto({SLOT: len(self.log)}, whole=True, dense=True)
        pairs = ((SOURCE, _state(list(_counting(_changes()).values())), LOG, log), (LOG, log, COPY, _state(rows)))
        return tuple(
            Compared("orders", hop, against, deltas(right, held, compare(right, held)), {SLOT: len(self.log)})
            for against, right, hop, held in pairs
        )

    def back(self) -> Json:
        """What the log tells as symptom versions_back."""
        found = self._folded().back({})
        first = [
            {"key": self.log[offset]["id"], "at": f"{slot} offset {offset}", "version": own, "after": top}
            for _, slot, offset, own, top in found
        ]
        return {"count": len(found), "changes": len(self.log), "first": first[:3]}

    def _folded(self) -> Changes:
        made = Changes(LOG)
        number = {shop: made.number((shop,)) for shop in SHOPS}
        for gone in (False, True):
            offsets = [offset for offset, row in enumerate(self.log) if bool(row.get("gone")) is gone]
            rows = [{**_row(self.log[offset]["id"], 0), **self.log[offset]} for offset in offsets]
            keys, hashes = _orders().state_hashes(_columns(rows))
            groups = UNTOLD if gone else [number[row["shop"]] for row in rows]
            made.add(SLOT, offsets, keys, groups, [row["version"] for row in rows], hashes, gone)
        return made


@functools.cache
def _clean() -> tuple[Compared, ...]:
    return Changing().held()


def _columns(rows: Sequence[Row]) -> Columns:
    kinds = _orders().types
    return {name: array(kind, [kind.canonical(row[name]) for row in rows]) for name, kind in kinds.items()}


def _state(rows: Sequence[Row]) -> State:
    columns = _columns(rows)
    keys, hashes = _orders().state_hashes(columns)
    groups: list[Group] = list(dict.fromkeys((row["shop"],) for row in rows))
    numbers = np.array([groups.index((row["shop"],)) for row in rows], dtype=np.int64)
    return state(groups, numbers, keys, columns["version"], hashes)


# ---- what can be wrong ----------------------------------------------------------------------------------------------


def _altered(**values: Callable[[Row], Any]) -> Callable[[list[Row]], None]:
    def spoil(rows: list[Row]) -> None:
        row = next(row for row in rows if row["id"] == ONE)
        row.update({name: value(row) for name, value in values.items()})

    return spoil


def _without(key: int) -> Callable[[list[Row]], None]:
    def spoil(rows: list[Row]) -> None:
        rows[:] = [row for row in rows if row["id"] != key]

    return spoil


def _with(row: Row) -> Callable[[list[Row]], None]:
    return lambda rows: rows.append(row)


def _swapped(rows: list[Row]) -> None:
    """One lost, and a deleted one alive in its place: as many rows."""
    _without(ONE)(rows)
    rows.append(_row(GONE, VERSIONS))


def _older(rows: list[Row]) -> None:
    _without(ONE)(rows)
    rows.append(_row(ONE, VERSIONS - 1))


Planted: TypeAlias = tuple[Callable[[Changing], object], tuple[str, ...], str]
"""What is done, which checks must fail, which hop the first of them must name."""


def _planted() -> dict[str, Planted]:
    copies: dict[str, tuple[Callable[[list[Row]], None], tuple[str, ...]]] = {
        "a row lost": (_without(ONE), ("no_loss",)),
        "a deleted row that came back": (_with(_row(GONE, VERSIONS)), ("no_duplicates",)),
        "a deleted row in place of a lost one": (_swapped, ("no_loss", "no_duplicates")),
        "a row beside its older version": (_with(_row(ONE, 1)), ("no_duplicates",)),
        "a version that went back": (_older, ("unchanged",)),
        "an older content under the newest version": (
            _altered(total=lambda row: _row(ONE, 1)["total"]),
            ("unchanged",),
        ),
        "a NULL that became ''": (_altered(note=lambda row: ""), ("unchanged",)),
        "a decimal cut": (_altered(total=lambda row: row["total"].partition(".")[0]), ("unchanged",)),
        "a time shifted by a zone": (_altered(at=lambda row: row["at"] + ZONE_US), ("unchanged",)),
        "a float rounded to seven digits": (_altered(weight=lambda row: float(f"{row['weight']:.6e}")), ("unchanged",)),
        "a row in another group": (_altered(shop=lambda row: "north"), ("unchanged",)),
    }
    found: dict[str, Planted] = {}
    for name, (spoil, caught) in copies.items():
        found[f"{name} at {COPY}"] = (lambda of, spoil=spoil: setattr(of, "copy", spoil), caught, COPY)  # type: ignore[misc]

    def logged(name: str, spoil: Callable[[list[Row]], object], *caught: str) -> None:
        found[f"{name} at {LOG}"] = (lambda of: spoil(of.log), caught, LOG)

    logged("a deletion that was not told", lambda log: _drop(log, GONE, VERSIONS + 1), "no_duplicates")
    logged("a row that was not told", _without(ONE), "no_loss")
    logged("a change that was not told", lambda log: _drop(log, ONE, VERSIONS), "unchanged")
    logged("a version that goes back", lambda log: log.append(_drop(log, ONE, 2)), "order")
    return found


def _drop(log: list[Row], key: int, version: int) -> Row:
    place = next(n for n, row in enumerate(log) if (row["id"], row["version"]) == (key, version))
    return log.pop(place)


PLANTED: Mapping[str, Planted] = _planted()
