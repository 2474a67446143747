"""Orders from the log into Postgres: each batch in one transaction, with the place in the log that it is right as of.

APPLY=any plants the defect that the test must find: a change is applied whatever version is there already.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence

import psycopg
from confluent_kafka import Consumer, KafkaException, Message
from psycopg.sql import SQL

from tests.e2e.events.health import serve
from tests.e2e.events.orders import TOPIC

POLL_S = 0.1
BATCH_MAX = 200

GROUP = "orders-to-postgres"
TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint PRIMARY KEY, shop text NOT NULL, status text NOT NULL, note text, total numeric(10, 2) NOT NULL,
    version bigint NOT NULL, updated_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_newest ON orders (shop, updated_at);
CREATE TABLE IF NOT EXISTS heads (topic text, partition int, next bigint NOT NULL, PRIMARY KEY (topic, partition));
"""
COLUMNS = ("id", "shop", "status", "note", "total", "version", "updated_at")
UPSERT = (
    f"INSERT INTO orders ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE "
    f"SET {', '.join(f'{name} = EXCLUDED.{name}' for name in COLUMNS)}"
)
NEWER = " WHERE orders.version < EXCLUDED.version"
HEAD = "INSERT INTO heads VALUES (%s, %s, %s) ON CONFLICT (topic, partition) DO UPDATE SET next = EXCLUDED.next"


def write(connection: psycopg.Connection, batch: Sequence[Message], upsert: str) -> None:
    """All of a batch that is not there yet, or nothing."""
    with connection.transaction():
        known = {part: at for part, at in connection.execute("SELECT partition, next FROM heads FOR UPDATE")}
        for message in batch:
            at = message.offset() or 0
            if at < known.get(message.partition(), 0):
                continue  # it is read again after a restart
            row = json.loads(message.value() or b"")
            if row.get("op") == "delete":
                connection.execute("DELETE FROM orders WHERE id = %s", [json.loads(message.key() or b"")["id"]])
            else:
                connection.execute(SQL(upsert), [row[name] for name in COLUMNS])
            known[message.partition()] = at + 1
        for part, at in known.items():
            connection.execute(HEAD, [TOPIC, part, at])


def main() -> None:
    """Apply until killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["BROKERS"],
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "log_level": 0,
        }
    )
    upsert = UPSERT if os.environ.get("APPLY") == "any" else UPSERT + NEWER
    written = 0
    serve(int(os.environ["PORT"]), lambda: {"written": written})
    consumer.subscribe([TOPIC])
    with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
        while True:
            batch = [message for message in consumer.consume(BATCH_MAX, POLL_S) if message.error() is None]
            if not batch:
                continue
            write(connection, batch, upsert)
            written += len(batch)
            with contextlib.suppress(KafkaException):  # the next commit takes it too
                consumer.commit(asynchronous=False)


def prepare(dsn: str) -> None:
    """Make the tables."""
    with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute(TABLES)


if __name__ == "__main__":
    main()
