"""The users of forty shops: web events as they click, one a second over all shops, sent to the log.

A few shops have most of the visitors, one is closed for good, and now and then there is a new one. Now and then an
event is sent again, as a client does that never saw its acknowledgement.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from confluent_kafka import Producer

from tests.e2e.events.health import serve

SHOPS = [f"shop-{number:02}" for number in range(1, 41)]
CLOSED = SHOPS[-1]
"""It has the event of its opening, and no other."""

EVENTS_PER_S = 1.0
AGAIN_SHARE = 0.05
POPUP_SHARE = 0.02
"""How many of the events are the first one of a shop that nobody has heard of before."""

ZONE = timezone(timedelta(hours=1))
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0) „Safari“", None)
KINDS = ("page_view", "page_view", "page_view", "add_to_cart", "purchase")


def event(shop: str, chance: random.Random) -> dict[str, Any]:
    """One click. What there is not, such as a referrer or an order, is left out."""
    kind = chance.choice(KINDS)
    page = {"path": f"/{chance.choice('abc')}/{chance.randrange(500)}"}
    agent = chance.choice(AGENTS)
    return {
        "event_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        "shop": shop,
        "type": kind,
        "occurred_at": datetime.now(ZONE).isoformat(timespec="milliseconds"),
        "user": {"id": str(uuid.UUID(int=chance.getrandbits(128), version=4)), **({"agent": agent} if agent else {})},
        "context": {"page": page if chance.random() < 0.5 else {**page, "referrer": "https://example.org/?q=schön"}},
        **({"order": {"total": f"{chance.randrange(100, 20_000) / 100:.2f}"}} if kind == "purchase" else {}),
    }


def main() -> None:
    """Send until killed."""
    chance = random.Random()
    producer = Producer({"bootstrap.servers": os.environ["BROKERS"], "acks": "all", "linger.ms": 5, "log_level": 0})
    pause = threading.Event()
    sent = 0
    serve(int(os.environ["PORT"]), lambda: {"sent": sent})
    weights = [0.0 if shop == CLOSED else 1 / (place + 3) for place, shop in enumerate(SHOPS)]
    waiting = list(SHOPS)
    while True:
        shop = waiting.pop() if waiting else chance.choices(SHOPS, weights)[0]
        if not waiting and chance.random() < POPUP_SHARE:
            shop = f"popup-{chance.getrandbits(32):08x}"
        made = event(shop, chance)
        for _ in range(1 + (chance.random() < AGAIN_SHARE)):
            producer.produce("web-events", json.dumps(made, ensure_ascii=False), key=made["user"]["id"])
            sent += 1
        producer.poll(0)
        if not waiting:
            pause.wait(chance.expovariate(EVENTS_PER_S))


if __name__ == "__main__":
    main()
