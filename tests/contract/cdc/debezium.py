"""Change events as Debezium 3.7 writes them with this platform's settings, made from the tape without it: the sink is
tried on them without a Connect. test_cdc_captured.py holds their form against what the real one writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import uuid4

import orjson
from confluent_kafka import Producer

from compose.servers import kafka as server
from pipelines.cdc.messages import NOT_SENT
from pipelines.cdc.tape import SCALE, SHARDS, TABLES, Change, md5, moment, text, transaction

__all__ = ["Log", "envelope", "key_of", "row_of"]

TOAST_CHARACTERS = 2_000
KINDS: Mapping[str, dict[str, str]] = {
    "id": {"type": "int64"},
    "shard": {"type": "int32"},
    "change": {"type": "int64"},
    "customer_id": {"type": "int64"},
    "order_id": {"type": "int64"},
    "facts": {"type": "string", "name": "io.debezium.data.Json"},
    "at": {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
}


def row_of(change: Change) -> dict[str, Any]:
    """The row that a change leaves, as it is in a message."""
    row = dict(change.row)
    row["note_md5"] = md5(row["note"])
    amount = row["amount"]
    row["amount"] = None if amount is None else str(Decimal(amount) / SCALE)
    row["facts"] = text(row["facts"])
    row["at"] = moment(row["at"]).isoformat().replace("+00:00", "Z")
    if change.table == "items" and change.op == "u" and len(row["note"] or "") > TOAST_CHARACTERS:
        row["note"] = NOT_SENT
    return row


def key_of(id_: int) -> bytes:
    return orjson.dumps({"schema": {"type": "struct"}, "payload": {"id": id_}})


def envelope(
    table: str, op: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, lsn: int, **source: Any
) -> bytes:
    """A message's value."""
    listed = [
        {"field": name, "optional": True, **KINDS.get(name, {"type": "string"})} for name in after or before or {}
    ]
    schema = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": listed}]}
    about = {"table": table, "lsn": lsn, "snapshot": "false", "ts_ms": 1_790_000_000_000, **source}
    return orjson.dumps({"schema": schema, "payload": {"before": before, "after": after, "op": op, "source": about}})


class Log:
    """Topics of a name of their own, and what is written to them. lsn: of the newest change. sent: the
    last transaction of the tape."""

    def __init__(self, broker: str) -> None:
        self.prefix = f"cdc{uuid4().hex[:8]}"
        self.broker = broker
        self.lsn = 1_000
        self.sent = 0
        self.ends = {self.topic(table): 0 for table in TABLES} | {f"{self.prefix}-notes": 0}
        server.create_topics(broker, dict.fromkeys(self.ends, 1))
        settings = {"bootstrap.servers": broker, "acks": "all", "linger.ms": 1, "log_level": 0}
        self._producer = Producer({**settings, "enable.idempotence": True})  # else a retry changes the order

    def topic(self, table: str) -> str:
        return f"{self.prefix}.public.{table}"

    def put(self, table: str, key: bytes | None, value: bytes | None, headers: Iterable[str] = ()) -> None:
        topic = self.topic(table) if table in TABLES else table
        self._producer.produce(topic, value, key, partition=0, headers=[(name, b"") for name in headers])
        self.ends[topic] += 1

    def change(self, change: Change, lsn: int | None = None) -> None:
        """One change, and the tombstone behind a deletion. lsn: that of a change that comes again."""
        self.lsn += 8
        own, key = lsn or self.lsn, key_of(change.row["id"])
        if change.op == "d":
            self.put(change.table, key, envelope(change.table, "d", change.row, None, own))
            self.put(change.table, key, None)
        else:
            self.put(change.table, key, envelope(change.table, change.op, None, row_of(change), own))

    def transactions(self, tape: Mapping[str, Any], lo: int, hi: int) -> None:
        """Those of both shards, lo < j <= hi."""
        self.sent = hi
        for j in range(lo + 1, hi + 1):
            for shard in SHARDS:
                for change in transaction(tape, shard, j):
                    self.change(change)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(60) == 0
