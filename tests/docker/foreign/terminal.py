"""A bank's terminals: `python -m tests.docker.foreign.terminal` puts payments on a topic, ten a second, each with a
UUID."""

from __future__ import annotations

import json
import random
import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from tests.docker.foreign.vault import TOPIC, client

RATE_HZ = 10.0
ACCOUNTS = 60


def payment(chance: random.Random) -> dict[str, Any]:
    """One, as JSON has it."""
    return {
        "payment_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "account": f"DE{chance.randrange(ACCOUNTS):06}",
        "amount": f"{chance.randrange(100, 90_000) / 100:.2f}",
        "currency": chance.choice(("EUR", "CHF", "SEK")),
        "purpose": chance.choice(("rent", "groceries", None)),
        "made_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def main() -> None:
    """Until it is killed. A client of Kafka sends what it has again by itself when the brokers are back."""
    chance = random.SystemRandom()
    producer = Producer({**client("terminal"), "enable.idempotence": True, "linger.ms": 50})
    while True:
        made = payment(chance)
        producer.produce(TOPIC, json.dumps(made), key=made["account"])
        producer.poll(0)
        threading.Event().wait(1 / RATE_HZ)


if __name__ == "__main__":
    main()
