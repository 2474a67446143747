"""The shops' orders as they are placed, paid, sent, and taken away when they are old: every change with its version, to
the log. Now and then a change is sent again after the next one, as a client does that never saw its acknowledgement.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from tests.e2e.events.health import serve

SHOPS = ("east", "west")
STATUSES = ("placed", "paid", "sent")
CHANGES_PER_S = 8.0
AGAIN_SHARE = 0.2
OLD_S = 20.0
"""An order that was sent so long ago is taken away: by then no change of it comes again."""

TOPIC = "orders"

Order = dict[str, Any]


def changed(order: Order) -> Order:
    """The order's next version."""
    version = order["version"] + 1
    return {
        **order,
        "version": version,
        "status": STATUSES[version - 1],
        "note": None if order["id"] % 3 else f"for „{order['shop']}“",
        "updated_at": datetime.now(UTC).isoformat(timespec="microseconds"),
    }


def main() -> None:
    """Change until killed."""
    chance = random.Random()
    producer = Producer({"bootstrap.servers": os.environ["BROKERS"], "acks": "all", "linger.ms": 5, "log_level": 0})
    pause = threading.Event()
    sent = 0
    serve(int(os.environ["PORT"]), lambda: {"sent": sent})
    number = time.time_ns() // 1_000_000  # so that no two lives of this process share one
    under_way: list[Order] = []
    done: list[tuple[float, Order]] = []

    def tell(order: Order, value: Order) -> None:
        nonlocal sent
        producer.produce(TOPIC, json.dumps(value, ensure_ascii=False), key=json.dumps({"id": order["id"]}))
        sent += 1

    while True:
        if done and done[0][0] < time.monotonic():
            _, order = done.pop(0)
            tell(order, {"op": "delete", "version": order["version"] + 1})
        if not under_way or chance.random() < 1 / len(STATUSES):
            number += 1
            order = changed(
                {"id": number, "shop": chance.choice(SHOPS), "total": f"{number % 10_000}.50", "version": 0}
            )
            tell(order, order)
        else:
            before = under_way.pop(chance.randrange(len(under_way)))
            order = changed(before)
            tell(order, order)
            if chance.random() < AGAIN_SHARE:
                tell(before, before)
        if order["version"] < len(STATUSES):
            under_way.append(order)
        else:
            done.append((time.monotonic() + OLD_S, order))
        producer.poll(0)
        pause.wait(chance.expovariate(CHANGES_PER_S))


if __name__ == "__main__":
    main()
