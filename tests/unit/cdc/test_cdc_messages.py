"""What the sink makes of each kind of message."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from pipelines.cdc.messages import NOT_SENT, Event, decode, newest, scanned

PLACE = ("cdc.public.orders", 0, 17)
KEY = orjson.dumps({"schema": {}, "payload": {"id": 4}})
ROW = {"id": 4, "shard": 1, "change": 8, "note": "n", "facts": '{"a": 1}'}
FIELDS = [
    {"field": "id", "type": "int64"},
    {"field": "shard", "type": "int32"},
    {"field": "change", "type": "int64"},
    {"field": "note", "type": "string"},
    {"field": "facts", "type": "string", "name": "io.debezium.data.Json"},
    {"field": "at", "type": "string", "name": "io.debezium.time.ZonedTimestamp"},
]


def message(op: str, after: dict[str, Any] | None = None, before: dict[str, Any] | None = None, **source: Any) -> bytes:
    about = {"lsn": 90, "ts_ms": 5, "snapshot": "false", **source}
    schema = {"fields": [{"field": "after", "fields": FIELDS}]}
    return orjson.dumps({"schema": schema, "payload": {"op": op, "before": before, "after": after, "source": about}})


def test_a_row_comes_with_its_number_and_the_types_of_its_columns() -> None:
    """A document as such, and not as its text."""
    event = decode(PLACE, KEY, message("c", ROW))
    assert event is not None
    assert (event.table, event.op, event.id, event.shard, event.number, event.lsn) == ("orders", "c", 4, 1, 8, 90)
    assert event.row["facts"] == {"a": 1}
    assert event.types["at"] == "timestamptz"
    assert event.types["facts"] == "jsonb"
    assert event.counted


def test_a_deletion_has_the_number_behind_its_rows() -> None:
    """The row got one of its own before it went."""
    event = decode(PLACE, KEY, message("d", before={"id": 4, "shard": 1, "change": 8, "note": None}))
    assert event is not None
    assert (event.op, event.number, event.shard, event.moves, event.counted) == ("d", 9, 1, False, True)


def test_a_deletion_that_is_half_of_a_change_of_the_key_is_no_change_by_itself() -> None:
    """The creation behind it has the number."""
    event = decode(PLACE, KEY, message("d", before=ROW), ["__debezium.newkey"])
    assert event is not None
    assert (event.moves, event.counted) == (True, False)


def test_what_was_not_sent_is_no_value() -> None:
    """A placeholder stands for a large value that an update has left as it is."""
    event = decode(PLACE, KEY, message("u", {**ROW, "note": NOT_SENT}))
    assert event is not None
    assert event.unsent == {"note"}
    assert "note" not in event.row


@pytest.mark.parametrize(
    ("snapshot", "sweeps"),
    [("first", False), ("true", False), ("last_in_data_collection", True), ("last", True), ("incremental", False)],
)
def test_the_last_row_of_a_snapshot_ends_it(snapshot: str, sweeps: bool) -> None:
    """Of one that read all of the table. What a snapshot reads is no change."""
    event = decode(PLACE, KEY, message("r", ROW, snapshot=snapshot))
    assert event is not None
    assert (event.sweeps, event.counted) == (sweeps, False)


def test_a_tombstone_and_a_truncate_are_told() -> None:
    """The one by its key, the other has none."""
    gone, truncated = decode(PLACE, KEY, None), decode(PLACE, None, message("t"))
    assert gone is not None
    assert truncated is not None
    assert (gone.op, gone.id, truncated.op, truncated.id, truncated.lsn) == ("k", 4, "t", None, 90)


@pytest.mark.parametrize("value", [b"\xff", b"7", b"{}", message("c"), message("d"), message("c", {"id": 4})])
def test_what_is_no_change_event_says_so(value: bytes) -> None:
    """It is never passed over: what can be read of it is kept, and the message itself."""
    event = decode(PLACE, KEY, value)
    assert event is not None
    assert event.unreadable.startswith("it is no change event of Debezium's: ")
    assert (event.id, event.text) == (4, value.decode(errors="replace"))


def test_a_change_that_cant_be_read_keeps_its_number() -> None:
    """So it can be told from one that is lost; and a snapshot that ends with it has ended."""
    row = {**ROW, "facts": '{"serial": 1e999}'}
    events = [
        decode(PLACE, KEY, message("c", row)),
        decode(PLACE, KEY, message("r", row, snapshot="last")),
    ]
    for event in events:
        assert event is not None
        assert event.unreadable
        assert (event.group, event.number, event.row) == (("orders", ROW["shard"]), ROW["change"], {})
    assert [event.sweeps for event in events if event] == [False, True]


@pytest.mark.parametrize(
    ("kind", "rows", "table"),
    [("TABLE_SCAN_COMPLETED", "0", "items"), ("TABLE_SCAN_COMPLETED", "3", None), ("STARTED", "0", None)],
)
def test_only_a_notification_tells_of_an_empty_table(kind: str, rows: str, table: str | None) -> None:
    """Of others the last row does."""
    more = {"scanned_collection": "public.items", "total_rows_scanned": rows}
    value = orjson.dumps({"payload": {"type": kind, "additional_data": more}})
    assert scanned(value) == table
    assert scanned(b"no JSON") is None


def test_of_several_changes_of_a_row_the_last_counts_with_what_it_did_not_send() -> None:
    """What one before it has sent is part of it; a deletion between them has nothing."""
    first = Event("orders", "c", *PLACE, id=4, row={"id": 4, "note": "large", "status": "new"})
    second = Event("orders", "u", *PLACE, id=4, row={"id": 4, "status": "paid"}, unsent=frozenset({"note"}))
    gone = Event("orders", "d", *PLACE, id=4)
    other = Event("orders", "c", *PLACE, id=5, row={"id": 5})
    found = newest([first, other, second])
    assert found[4].row == {"id": 4, "note": "large", "status": "paid"}
    assert (found[4].unsent, list(found)) == (frozenset(), [5, 4])
    assert newest([first, gone])[4].op == "d"
    assert newest([gone, second])[4].unsent == {"note"}
