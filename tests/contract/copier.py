"""A consumer of a group, as a process of its own: what it reads in one topic it writes to another, then commits.

At least once: whoever takes over begins at what was committed.
"""

from __future__ import annotations

import os
import sys

from confluent_kafka import Consumer, KafkaException, Producer

from tests.e2e.events.health import serve

BATCH, POLL_S, FLUSH_S = 500, 0.2, 60.0
SOURCE, SINK, GROUP = "orders", "copies", "copiers"


def main() -> None:
    """Copy until killed."""
    brokers = {"bootstrap.servers": os.environ["BROKERS"], "log_level": 0}
    producer = Producer({**brokers, "acks": "all"})
    consumer = Consumer(
        {
            **brokers,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 1000,
        }
    )
    copied = 0
    serve(int(os.environ["PORT"]), lambda: {"copied": copied})
    consumer.subscribe([SOURCE])
    while True:
        batch = [one for one in consumer.consume(BATCH, POLL_S) if one.error() is None]
        for one in batch:
            producer.produce(SINK, one.value(), one.key())
        if not batch:
            continue
        if producer.flush(FLUSH_S):
            sys.exit("what was read could not be written: whoever comes next reads it again")
        copied += len(batch)
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as e:  # its partitions are another's by now, who copies it again
            print(f"not committed: {e}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
