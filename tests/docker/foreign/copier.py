"""A bookshop's copier: `python -m tests.docker.foreign.copier DSN` reads the changes of orders that Debezium has put on
a topic, and carries them out in another database. Its place in the log is its group's, committed after the rows."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import psycopg
from confluent_kafka import Consumer

BROKERS, TOPIC, GROUP = "kafka:9092", "shop.public.orders", "orders-copy"
COLUMNS = ("id", "customer", "status", "total", "note", "version", "updated_at")
BATCH, POLL_S = 200, 0.2
CONNECT_S = 5
PLACES = 2

WRITE = f"""INSERT INTO orders ({", ".join(COLUMNS)}) VALUES ({", ".join(["%s"] * len(COLUMNS))})
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
    WHERE orders.version < excluded.version"""


def carry_out(connection: psycopg.Connection, event: Mapping[str, Any]) -> None:
    """One change, as Debezium's envelope has it."""
    if event["op"] == "d":
        connection.execute("DELETE FROM orders WHERE id = %s", (event["before"]["id"],))
        return
    row = dict(event["after"])
    unscaled = int.from_bytes(base64.b64decode(row["total"]), "big", signed=True)
    row["total"] = Decimal(unscaled).scaleb(-PLACES)
    connection.execute(WRITE, [row[name] for name in COLUMNS])


def main() -> None:
    """Until it is killed, or the database is away: then it ends, and its container is started again."""
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": GROUP,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )
    consumer.subscribe([TOPIC])
    with psycopg.connect(sys.argv[1], connect_timeout=CONNECT_S) as connection:
        while True:
            messages = [one for one in consumer.consume(BATCH, POLL_S) if one.error() is None]
            for message in messages:
                if value := message.value():  # after a deletion Debezium sends its key without a value
                    carry_out(connection, json.loads(value)["payload"])
            connection.commit()
            if messages:
                consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
