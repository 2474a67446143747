"""A shop's web tier: `python -m tests.docker.foreign.producer` puts what visitors do on a topic, eight events a second,
each with a UUID and nothing that counts."""

from __future__ import annotations

import json
import random
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

BROKERS = "kafka:9092"
TOPIC = "user_activity"
RATE_HZ = 8.0
VISITORS = 40


def event(chance: random.Random) -> dict[str, Any]:
    """One, as JSON has it. A visitor who buys nothing has no amount."""
    kind = chance.choice(("page_view", "add_to_cart", "purchase"))
    place = {"lat": round(chance.uniform(47, 54), 4), "lon": round(chance.uniform(6, 14), 4)}
    return {
        "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "event_type": kind,
        "user": f"u-{chance.randrange(VISITORS)}",
        "device": chance.choice(("ios", "android", "web", None)),
        "geo_location": place,
        "purchase_amount": round(chance.uniform(1, 300), 2) if kind == "purchase" else None,
        "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def main() -> None:
    """Until it is killed. A client of Kafka sends what it has again by itself when the broker is back."""
    chance = random.SystemRandom()
    producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True, "linger.ms": 50})
    while True:
        made = event(chance)
        producer.produce(TOPIC, json.dumps(made), key=made["user"])
        producer.poll(0)
        threading.Event().wait(1 / RATE_HZ)


if __name__ == "__main__":
    main()
