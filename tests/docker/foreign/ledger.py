"""A bank's ledger: each of its replicas is a member of one group, and books the payments that it reads into a table.

`python -m tests.docker.foreign.ledger` writes, then commits. With --write-behind it commits what it has read, and
writes five seconds later: who made it so had a quicker program, and one that forgets payments when it is killed.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException

from tests.docker.foreign.vault import TOPIC, client, connected

BATCH, POLL_S = 200, 0.2
BEHIND_S = 5.0

BOOK = """INSERT INTO payments (id, account, amount, currency, purpose, made_at)
    VALUES (%(payment_id)s, %(account)s, %(amount)s, %(currency)s, %(purpose)s, %(made_at)s) ON CONFLICT DO NOTHING"""


def main() -> None:
    """Until it is killed, or its database is away: the engine starts it again, and it reads again what it had not
    committed."""
    behind_s = BEHIND_S if "--write-behind" in sys.argv else 0.0
    consumer = Consumer(
        {
            **client("ledger"),
            "group.id": "ledger",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 2000,
        }
    )
    consumer.subscribe([TOPIC])
    read: deque[tuple[float, dict[str, Any]]] = deque()
    with connected() as database:
        while True:
            batch = [one for one in consumer.consume(BATCH, POLL_S) if one.error() is None]
            now_s = time.monotonic()
            read.extend((now_s, json.loads(one.value() or b"")) for one in batch)
            if behind_s and batch:
                _commit(consumer)
            due = [read.popleft()[1] for _ in range(sum(at_s <= now_s - behind_s for at_s, _ in read))]
            _book(database, due)
            if batch and not behind_s:
                _commit(consumer)


def _book(database: Any, payments: Sequence[dict[str, Any]]) -> None:
    if payments:
        with database.transaction(), database.cursor() as cursor:
            cursor.executemany(BOOK, payments)


def _commit(consumer: Consumer) -> None:
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as e:  # its partitions are another's by now, who books them again
        print(f"not committed: {e}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
