"""Parses Debezium's messages for the sink. Pure functions, without the target.

A row's columns are JSON values, which Postgres reads by the column's type. Numbers that no float holds come as text
(decimal.handling.mode=string).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

__all__ = ["NOT_SENT", "WRITES", "Event", "decode", "newest", "scanned", "unread"]

NOT_SENT = "__debezium_unavailable_value"
"""Stands for a large value that an update has not changed: the message doesn't have it."""

WRITES = ("c", "u", "r")
SWEEPS = ("last_in_data_collection", "last")
"""The values of source.snapshot in the last row of a table, in a snapshot that read all of it."""

NEW_KEY = "__debezium.newkey"
"""The header of a deletion that is half of a change of the primary key."""

TYPES: Mapping[str, str] = {
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float": "real",
    "double": "double precision",
    "boolean": "boolean",
    "string": "text",
    "bytes": "bytea",
}
NAMED: Mapping[str, str] = {
    "io.debezium.data.Json": "jsonb",
    "io.debezium.data.Uuid": "uuid",
    "io.debezium.time.ZonedTimestamp": "timestamptz",
}
"""A column's type, or its schema's name -> its type in the target."""

Row = dict[str, Any]


TEXT_MAX = 10_000
"""How many characters of a message that can't be read are kept."""


@dataclass(frozen=True)
class Event:
    """One change of one table.

    op: c, u, d, r (read by a snapshot), t (truncated), k (a message without a value: its key is gone), or ? where that
    can't be read. row: what it leaves. unsent: columns of it that the message doesn't have. number: the change's,
    within its table's shard; None: it has none. types: of the row's columns in the target. sweeps: whether a snapshot
    has read all of the table now. moves: whether a deletion is half of a change of the key. at_ms: when the source
    committed it. unreadable: why its message is no change event; then it has what else could be read, and text is the
    message.
    """

    table: str
    op: str
    topic: str
    partition: int
    offset: int
    lsn: int = 0
    id: int | None = None
    shard: int = 0
    number: int | None = None
    row: Row = field(default_factory=dict)
    unsent: frozenset[str] = frozenset()
    types: Mapping[str, str] = field(default_factory=dict)
    sweeps: bool = False
    moves: bool = False
    at_ms: int = 0
    unreadable: str = ""
    text: str = ""

    @property
    def group(self) -> tuple[str, int]:
        """The group in which numbers have no gaps."""
        return self.table, self.shard

    @property
    def counted(self) -> bool:
        """Whether it is a change: a snapshot only reads rows that were written before."""
        return self.op in "cud" and self.number is not None and not self.moves


def decode(
    place: tuple[str, int, int], key: bytes | None, value: bytes | None, headers: Sequence[str] = ()
) -> Event | None:
    """Return the event of a message; None: it is not of a table. place: topic, partition and offset. headers: the names
    of its headers."""
    event = Event(place[0].rpartition(".")[2], "?", *place)
    try:
        event = replace(event, id=None if key is None else _payload(orjson.loads(key))["id"])
        if value is None:
            return replace(event, op="k")
        whole = orjson.loads(value)
        told = _payload(whole)
        op, source = told["op"], told["source"]
        event = replace(event, op=op, lsn=source.get("lsn") or 0, at_ms=source.get("ts_ms") or 0)
        if op == "t":
            return event
        if op == "d":
            before = told["before"]
            return replace(event, shard=before["shard"], number=before["change"] + 1, moves=NEW_KEY in headers)
        if op not in WRITES:
            return None
        row, types = told["after"], _types(whole)
        sweeps = op == "r" and source.get("snapshot") in SWEEPS
        event = replace(event, shard=row["shard"], number=row["change"], sweeps=sweeps)
        unsent = frozenset(name for name, held in row.items() if held == NOT_SENT)
        kept = {name: _read(types.get(name), held) for name, held in row.items() if name not in unsent}
        return replace(
            event,
            row=kept,
            unsent=unsent,
            types=types,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as e:
        return unread(event, value, f"it is no change event of Debezium's: {type(e).__name__}: {e}")


def unread(event: Event, value: bytes | None, why: str) -> Event:
    """Return what is known of a message that can't be read."""
    text = (value or b"").decode(errors="replace").replace("\0", "")[:TEXT_MAX]
    return replace(event, row={}, unsent=frozenset(), unreadable=why, text=text)


def scanned(value: bytes | None) -> str | None:
    """Return the empty table that a snapshot has read, from its notification: there is no message for it. None: it is
    another notification."""
    try:
        told = _payload(orjson.loads(value or b"null"))
        more = told["additional_data"]
        if told["type"] == "TABLE_SCAN_COMPLETED" and int(more["total_rows_scanned"]) == 0:
            return str(more["scanned_collection"]).rpartition(".")[2]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    return None


def newest(events: Sequence[Event], better: Callable[[Event, Event], bool] | None = None) -> dict[int, Event]:
    """Return the last event of each key, in the order of the log: one statement can't write a row twice. Values that
    the last event doesn't send are taken from earlier ones."""
    found: dict[int, Event] = {}
    for event in events:
        if (key := event.id) is None:
            continue
        before = found.pop(key, None)
        if before is not None and better is not None and not better(event, before):
            found[key] = before
            continue
        if before is not None and event.unsent and before.op in WRITES:
            sent = {name: before.row[name] for name in event.unsent if name in before.row}
            event = replace(event, row=event.row | sent, unsent=event.unsent - sent.keys())
        found[key] = event
    return found


def _payload(told: Any) -> Any:
    """Return the payload without the schema that may be beside it."""
    return told["payload"] if isinstance(told, dict) and "payload" in told else told


def _types(whole: Any) -> dict[str, str]:
    """Return the types of the row's columns by the message's schema; {}: it has none."""
    schema = whole.get("schema") or {}
    rows: Any = next((one for one in schema.get("fields", ()) if one.get("field") == "after"), {})
    return {
        one["field"]: NAMED.get(one.get("name") or "", TYPES.get(one["type"], "text")) for one in rows.get("fields", ())
    }


def _read(kind: str | None, value: Any) -> Any:
    """Parse a document, which comes as text."""
    return orjson.loads(value) if kind == "jsonb" and isinstance(value, str) else value
