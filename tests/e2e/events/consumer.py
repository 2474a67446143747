"""Web events from the log into Postgres, in batches: each is written in one transaction, then its offsets committed.

ACK=first plants the defect that the test must find: offsets are committed as soon as messages have been read.
BATCH_S: how long a batch is collected, 5 s when left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, Message

from tests.e2e.events.health import serve

AGAIN_S = 0.5
POLL_S = 0.2

COLUMNS = ("event_id", "shop", "kind", "occurred_at", "user_id", "user_agent", "context", "total")
TABLE = """
CREATE TABLE IF NOT EXISTS web_events (
    event_id uuid PRIMARY KEY, shop text NOT NULL, kind text NOT NULL, occurred_at timestamptz NOT NULL,
    user_id uuid NOT NULL, user_agent text, context jsonb NOT NULL, total numeric(10, 2)
);
CREATE INDEX IF NOT EXISTS web_events_newest ON web_events (shop, occurred_at);
"""
INSERT = (
    f"INSERT INTO web_events ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "
    "ON CONFLICT (event_id) DO NOTHING"  # the log may repeat
)


def row(message: Message) -> tuple[Any, ...]:
    """A message as the table has it."""
    made = json.loads(message.value() or b"")
    return (
        *(made["event_id"], made["shop"], made["type"], made["occurred_at"]),
        *(made["user"]["id"], made["user"].get("agent"), json.dumps(made["context"])),
        made.get("order", {}).get("total"),
    )


def write(dsn: str, batch: Sequence[Message]) -> bool:
    """All of a batch or nothing; whether it is written."""
    try:
        with psycopg.connect(dsn, connect_timeout=2) as connection, connection.cursor() as cursor:
            cursor.executemany(INSERT, [row(message) for message in batch])
    except psycopg.OperationalError as e:
        print(f"not written: {e}", file=sys.stderr, flush=True)
        return False
    return True


def commit(consumer: Consumer) -> None:
    """All that was read. Where it fails, the next time commits it too; who begins again before that reads it again."""
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as e:
        print(f"not committed: {e}", file=sys.stderr, flush=True)


def main() -> None:
    """Consume until killed."""
    dsn, first = os.environ["DSN"], os.environ.get("ACK") == "first"
    batch_s = float(os.environ.get("BATCH_S", "5"))
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["BROKERS"],
            "group.id": "web-events-to-postgres",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
            "log_level": 0,
        }
    )
    written = 0
    serve(int(os.environ["PORT"]), lambda: {"written": written})
    consumer.subscribe(["web-events"])
    batch: list[Message] = []
    due_s = time.monotonic() + batch_s
    while True:
        message = consumer.poll(POLL_S)
        if message is not None and message.error() is None:
            batch.append(message)
            if first:
                commit(consumer)
        if time.monotonic() < due_s:
            continue
        if batch and not write(dsn, batch):
            due_s = time.monotonic() + AGAIN_S
            continue
        if batch and not first:
            commit(consumer)
        written += len(batch)
        batch.clear()
        due_s = time.monotonic() + batch_s


def prepare(dsn: str) -> None:
    """Make the table."""
    with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as connection:
        connection.execute(TABLE)


if __name__ == "__main__":
    main()
