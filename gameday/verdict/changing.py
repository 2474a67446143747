"""The selftest's stream of rows that change and are deleted: a table, a log of its changes, and a copy made from that
log. Faults are planted into the log or the copy.

The comparison is a run's own: hashes of typed values, folded and compared by records/states.py.
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
"""A row's values as JSON has them. A row that deletes has only id, version and gone."""

SPOILED, DELETED = 7, 10
"""The key whose row is spoiled, and a key that was deleted."""


@functools.cache
def _orders() -> Stream:
    mistakes: list[str] = []
    orders = stream(
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
    assert orders is not None, mistakes
    return orders


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
    """Return the log: each key's versions one after the other, then the deletion of every fifth key."""
    changes = [_row(key, version) for version in range(1, VERSIONS + 1) for key in range(1, KEYS + 1)]
    return changes + [
        {"id": key, "version": VERSIONS + 1, "gone": True} for key in range(DELETED_EVERY, KEYS + 1, DELETED_EVERY)
    ]


def _current(changes: Sequence[Row]) -> dict[int, Row]:
    """Return the rows that a table has after these changes, by key."""
    best: dict[int, Row] = {}
    for row in changes:
        if row["version"] >= best.get(row["id"], row)["version"]:
            best[row["id"]] = row
    return {key: dict(row) for key, row in best.items() if not row.get("gone")}


def _as_it_is(rows: list[Row]) -> None:
    """Leave the copy as it is."""


@dataclass
class Changing:
    """The stream with its planted faults.

    log: the changes as the log holds them. copy: spoils the copy's rows after it was made from the log.
    """

    log: list[Row] = field(default_factory=_changes)
    copy: Callable[[list[Row]], None] = _as_it_is

    def compared(self) -> tuple[Compared, ...]:
        """Compare the log with the table whose changes it has, and the copy with the log."""
        if self.copy is _as_it_is and self.log == _changes():
            return _clean()
        return self.held()

    def held(self) -> tuple[Compared, ...]:
        """Compute what `compared` returns, without its cache."""
        rows = list(_current(self.log).values())
        self.copy(rows)
        log = self._folded().upto({SLOT: len(self.log)}, whole=True, dense=True)
        pairs = ((SOURCE, _state(list(_current(_changes()).values())), LOG, log), (LOG, log, COPY, _state(rows)))
        return tuple(
            Compared("orders", hop, against, deltas(right, held, compare(right, held)), {SLOT: len(self.log)})
            for against, right, hop, held in pairs
        )

    def back(self) -> Json:
        """Return the symptom versions_back, as a log tells it."""
        versions = self._folded().back({})
        first = [
            {"key": self.log[offset]["id"], "at": f"{slot} offset {offset}", "version": own, "after": top}
            for _, slot, offset, own, top in versions
        ]
        return {"count": len(versions), "changes": len(self.log), "first": first[:3]}

    def _folded(self) -> Changes:
        changes = Changes(LOG)
        number = {shop: changes.number((shop,)) for shop in SHOPS}
        for gone in (False, True):
            offsets = [offset for offset, row in enumerate(self.log) if bool(row.get("gone")) is gone]
            rows = [{**_row(self.log[offset]["id"], 0), **self.log[offset]} for offset in offsets]
            keys, hashes = _orders().state_hashes(_columns(rows))
            groups = UNTOLD if gone else [number[row["shop"]] for row in rows]
            changes.add(SLOT, offsets, keys, groups, [row["version"] for row in rows], hashes, gone)
        return changes


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
        row = next(row for row in rows if row["id"] == SPOILED)
        row.update({name: value(row) for name, value in values.items()})

    return spoil


def _without(key: int) -> Callable[[list[Row]], None]:
    def spoil(rows: list[Row]) -> None:
        rows[:] = [row for row in rows if row["id"] != key]

    return spoil


def _with(row: Row) -> Callable[[list[Row]], None]:
    return lambda rows: rows.append(row)


def _swapped(rows: list[Row]) -> None:
    """Lose one row, and bring a deleted one back in its place, so that the number of rows stays."""
    _without(SPOILED)(rows)
    rows.append(_row(DELETED, VERSIONS))


def _older(rows: list[Row]) -> None:
    _without(SPOILED)(rows)
    rows.append(_row(SPOILED, VERSIONS - 1))


Planted: TypeAlias = tuple[Callable[[Changing], object], tuple[str, ...], str]
"""(what spoils the stream, which checks must fail, which hop the first of them must name)."""


def _planted() -> dict[str, Planted]:
    copies: dict[str, tuple[Callable[[list[Row]], None], tuple[str, ...]]] = {
        "a row lost": (_without(SPOILED), ("no_loss",)),
        "a deleted row that came back": (_with(_row(DELETED, VERSIONS)), ("no_duplicates",)),
        "a deleted row in place of a lost one": (_swapped, ("no_loss", "no_duplicates")),
        "a row beside its older version": (_with(_row(SPOILED, 1)), ("no_duplicates",)),
        "a version that went back": (_older, ("unchanged",)),
        "an older content under the newest version": (
            _altered(total=lambda row: _row(SPOILED, 1)["total"]),
            ("unchanged",),
        ),
        "a NULL that became ''": (_altered(note=lambda row: ""), ("unchanged",)),
        "a decimal cut": (_altered(total=lambda row: row["total"].partition(".")[0]), ("unchanged",)),
        "a time shifted by a zone": (_altered(at=lambda row: row["at"] + ZONE_US), ("unchanged",)),
        "a float rounded to seven digits": (_altered(weight=lambda row: float(f"{row['weight']:.6e}")), ("unchanged",)),
        "a row in another group": (_altered(shop=lambda row: "north"), ("unchanged",)),
    }
    planted: dict[str, Planted] = {}
    for name, (spoil, failing_checks) in copies.items():
        planted[f"{name} at {COPY}"] = (lambda of, spoil=spoil: setattr(of, "copy", spoil), failing_checks, COPY)  # type: ignore[misc]

    def logged(name: str, spoil: Callable[[list[Row]], object], *failing_checks: str) -> None:
        planted[f"{name} at {LOG}"] = (lambda of: spoil(of.log), failing_checks, LOG)

    logged("a deletion that was not told", lambda log: _drop(log, DELETED, VERSIONS + 1), "no_duplicates")
    logged("a row that was not told", _without(SPOILED), "no_loss")
    logged("a change that was not told", lambda log: _drop(log, SPOILED, VERSIONS), "unchanged")
    logged("a version that goes back", lambda log: log.append(_drop(log, SPOILED, 2)), "order")
    return planted


def _drop(log: list[Row], key: int, version: int) -> Row:
    place = next(n for n, row in enumerate(log) if (row["id"], row["version"]) == (key, version))
    return log.pop(place)


PLANTED: Mapping[str, Planted] = _planted()
