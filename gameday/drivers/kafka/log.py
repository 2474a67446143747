"""Reads the log as a hop of the stream: which records its end holds, in which order, and which are repeated."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from gameday.drivers._log import READ_RECORDS_S_MIN, READ_WITHIN_S, LogHop, Slot, Span, T
from gameday.drivers.kafka.secured import security
from gameday.drivers.kafka.wire import EARLIEST, LATEST, Cluster
from gameday.errors import DriverError
from gameday.records.declaration import Stream
from gameday.records.formats import JSON
from gameday.records.types import INT64_MAX
from gameday.stack.config import Brokers

__all__ = ["Hop"]

BATCH_RECORDS = 2_000
"""So many fit into the processor's cache while they become columns."""

BATCH_WITHIN_S = 0.03
"""How long to wait for a batch to fill, also at the end of a log."""


# Without these a client needs seconds to find a broker that is back: librdkafka connects to a broker only when it has
# something to ask it, and doubles its patience up to 10 s.
CLIENT: Mapping[str, Any] = {
    "enable.sparse.connections": False,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    "socket.connection.setup.timeout.ms": 2000,
    "topic.metadata.refresh.interval.ms": 5000,
    "log_level": 0,  # outages are expected here; the samples have them, stderr needs no log of them
}
READER: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",  # as the platform's consumers; so is the end that is asked
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "allow.auto.create.topics": False,
    "fetch.wait.max.ms": 20,
    "fetch.error.backoff.ms": 50,
    "queued.max.messages.kbytes": 16_384,
}

PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT)


@dataclass
class Hop(LogHop):
    """One or several Kafka topics. client: librdkafka's own settings, such as those of TLS and SASL."""

    brokers: Brokers
    stream: Stream
    topics: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    each: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    format: str = JSON
    registry: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    message: str = ""
    deleted: str | Mapping[str, Any] | None = None
    kind: str = "log"
    part: Sequence[Mapping[str, Any]] = ()
    client: Mapping[str, str] = field(default_factory=dict)
    name: str = "broker"

    def __post_init__(self) -> None:
        security(self.client, f"hops.{self.name}.client")
        super().__post_init__()

    def _asking(self) -> AbstractContextManager[None]:
        return _errors(self.brokers)

    def _bounds(self) -> dict[Slot, Span]:
        """Return (lowest offset, end) of every partition."""
        with Cluster(self.brokers, READ_WITHIN_S, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            lows, ends = cluster.offsets(leaders, EARLIEST), cluster.offsets(leaders, LATEST, committed=True)
        return {slot: (lows[slot], end) for slot, end in ends.items()}

    def _spans_since(self, since_us: int) -> dict[Slot, Span]:
        with Cluster(self.brokers, READ_WITHIN_S, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            starts = cluster.offsets(leaders, since_us // 1000)
            ends = cluster.offsets(leaders, LATEST, committed=True)
        return {s: (min(start, ends[s]) if start >= 0 else ends[s], ends[s]) for s, start in starts.items()}

    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], T]) -> dict[Slot, list[T]]:
        """See LogHop. A partition that has been read and goes on growing doesn't extend the time for the others."""
        reading: dict[Slot, list[T]] = {slot: [] for slot in spans}
        left = {slot: stop for slot, (start, stop) in spans.items() if start < stop}
        came = {slot: spans[slot][0] for slot in left}
        records = sum(stop - came[slot] for slot, stop in left.items())
        deadline = time.monotonic() + READ_WITHIN_S + records / READ_RECORDS_S_MIN
        self._consumer.assign([TopicPartition(*slot, spans[slot][0]) for slot in left])
        try:
            patience = time.monotonic() + READ_WITHIN_S
            while left:
                left_s = min(patience, deadline) - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(_unread(left, came))
                batch: list[Any] = self._consumer.consume(BATCH_RECORDS, min(BATCH_WITHIN_S, left_s))
                fresh: dict[Slot, list[Any]] = {}
                over: set[Slot] = set()
                for message in batch:
                    slot = (message.topic(), message.partition())
                    error = message.error()
                    if error is None:
                        fresh.setdefault(slot, []).append(message)
                    elif _ended(error) and message.offset() >= left.get(slot, INT64_MAX):
                        over.add(slot)
                for slot, messages in fresh.items():
                    stop, last = left.get(slot, -1), messages[-1].offset()
                    if last >= stop - 1:
                        over.add(slot)
                        messages = [message for message in messages if message.offset() < stop]
                    if messages:
                        reading[slot].append(parse(messages))
                        came[slot] = messages[-1].offset() + 1
                        patience = time.monotonic() + READ_WITHIN_S
                for slot in over & left.keys():
                    del left[slot]
                    patience = time.monotonic() + READ_WITHIN_S
        finally:
            self._consumer.unassign()
        return reading

    @cached_property
    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **self.client,
                **CLIENT,
                **READER,
                "bootstrap.servers": self.brokers,
                "group.id": f"gameday-{uuid.uuid4()}",
            }
        )


def _ended(error: KafkaError | None) -> bool:
    """Whether this event says that a partition's end was reached. Raises for an error that waiting can't mend; others
    are about a connection, maybe one that ended long ago."""
    if error is None:
        return False
    if error.code() not in PASSING and not error.retriable() and error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return error.code() == KafkaError._PARTITION_EOF


def _unread(left: Mapping[Slot, int], came: Mapping[Slot, int]) -> str:
    """Name the partition that timed out, and how far it came."""
    slot, stop = next(iter(left.items()))
    more = f", and {len(left) - 1} more" if len(left) > 1 else ""
    return f"{slot[0]}/{slot[1]} gives nothing beyond offset {came[slot]} of {stop}{more}: timed out"


@contextmanager
def _errors(brokers: str) -> Iterator[None]:
    """Turn a client's errors into DriverError; definite, because nothing here changes anything at the brokers."""
    try:
        yield
    except (KafkaException, OSError) as e:
        raise DriverError(f"brokers {brokers}: {e}", definite=True) from e
