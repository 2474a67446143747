"""A team's feed handler, with the venue in it: `python -m tests.docker.theirs.feed_handler VENUE SYMBOL…` puts a few
trades a second on the venue's topic, each symbol's ids without a gap, from where the topic ends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from gameday.system.polling import until

BROKERS = "redpanda:9092"
RATE_HZ = 4.0
"""Of each symbol."""

TAIL = 200
READ_S = 5.0
BEGINS_WITHIN_S = 300.0


def last(topic: str) -> Mapping[str, int]:
    """Symbol -> the last id on the topic, which has one partition."""
    consumer = Consumer({"bootstrap.servers": BROKERS, "group.id": "feed", "enable.auto.commit": False})
    try:
        low, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=READ_S)
        consumer.assign([TopicPartition(topic, 0, max(low, end - TAIL))])
        found: dict[str, int] = {}
        at = max(low, end - TAIL)
        while at < end:
            message = consumer.poll(READ_S)
            if message is None or message.error():
                raise KafkaException(message.error() if message else "the end of the topic did not come")
            known = json.loads(message.value() or b"")
            found[known["symbol"]] = max(found.get(known["symbol"], 0), known["trade_id"])
            at = (message.offset() or 0) + 1
        return found
    finally:
        consumer.close()


def begun(topic: str) -> Mapping[str, int] | None:
    """The last ids, wrapped so that an empty topic counts; None while the broker or the topic isn't there."""
    try:
        return {"": 0, **last(topic)}
    except KafkaException:
        return None


def trade(venue: str, symbol: str, key: int) -> dict[str, Any]:
    return {
        "exchange": venue,
        "symbol": symbol,
        "trade_id": key,
        "price": f"{60_000 + key % 1000}.25",
        "quantity": f"0.{key % 977 + 1:05}",
        "side": "buy" if key % 3 else "sell",
        "exchange_timestamp": time.time_ns() // 1_000_000,
    }


def main() -> None:
    """Until it is killed."""
    venue, *symbols = sys.argv[1:]
    topic = f"market.crypto.trades.{venue}"
    ids = dict(until(lambda: begun(topic), BEGINS_WITHIN_S, 1.0, f"topic {topic}"))
    producer = Producer({"bootstrap.servers": BROKERS, "enable.idempotence": True, "linger.ms": 50})
    period_s = 1 / (RATE_HZ * len(symbols))
    while True:
        for symbol in symbols:
            ids[symbol] = ids.get(symbol, 0) + 1
            producer.produce(topic, json.dumps(trade(venue, symbol, ids[symbol])), key=symbol)
            producer.poll(period_s)


if __name__ == "__main__":
    main()
