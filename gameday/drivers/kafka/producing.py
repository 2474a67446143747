"""Writes the canary's records to a topic. This side sends each only once."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from gameday.drivers.kafka.log import CLIENT
from gameday.drivers.kafka.secured import security
from gameday.drivers.kafka.wire import Cluster
from gameday.errors import DriverError
from gameday.model import Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Brokers

__all__ = ["Canary"]

WRITER: Mapping[str, Any] = {
    "acks": "all",  # done: all replicas in sync have it
    "retries": 0,  # a message without an answer is unknown; sent again, it might be there twice
    "linger.ms": 0,
}

REFUSED = frozenset(
    (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError.POLICY_VIOLATION,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_ENOUGH_REPLICAS,  # not the one that says "after append"
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    )
)
"""Errors of a broker, or of the client, before anything is appended."""

RENEW_AFTER_S = 15.0
"""After so long without an acknowledgement a new producer is made: librdkafka can forget its brokers for good (its
issue 5301), which would look as if the platform never came back."""

LATER_S = 0.5
"""How much later than its time-out librdkafka may report it."""

POLL_S = 0.02


@dataclass
class Canary:
    """Produces a message with this key and text to the topic. headers: those of each message. client: librdkafka's own
    settings, such as those of TLS and SASL. The topic must exist: it is not created."""

    brokers: Brokers
    topic: str
    text: str
    timeout_s: float
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, str] = field(default_factory=dict)
    _producer: Producer | None = field(default=None, init=False, repr=False)
    _good_s: float = field(default=0.0, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        security(self.client, "canary.client")

    def send(self, known: Mapping[str, str]) -> Sent:
        """Send one record. done: acknowledged by all replicas in sync. refused: a broker said that it has not appended
        it, or it was not sent to any."""
        deadline = time.monotonic() + self.timeout_s + LATER_S
        try:
            producer = self._taken()
        except (DriverError, KafkaException) as e:
            return Sent(Outcome.REFUSED, f"nothing was sent: {e}")
        told: list[Sent] = []
        try:
            producer.produce(
                self.topic,
                value=filled(self.text, known).encode(),
                key=filled(self.key, known).encode() if self.key else None,
                headers={name: filled(text, known).encode() for name, text in self.headers.items()},
                on_delivery=partial(_note, told),
            )
        except (BufferError, KafkaException) as e:  # it was not taken into the queue
            return Sent(Outcome.REFUSED, f"nothing was sent: {e}")
        while not told and time.monotonic() < deadline:
            producer.poll(POLL_S)
        if not told:
            return Sent(Outcome.UNKNOWN, f"no word of it within {self.timeout_s:g} s")
        if told[0].outcome is Outcome.DONE:
            self._good_s = time.monotonic()
        return told[0]

    def _taken(self) -> Producer:
        """Return the producer, within timeout_s; a new one if the last has had no acknowledgement for RENEW_AFTER_S."""
        deadline = time.monotonic() + self.timeout_s
        if not self._lock.acquire(timeout=self.timeout_s):
            raise DriverError(f"the brokers did not answer within {self.timeout_s:g} s", definite=True)
        try:
            if self._producer is not None and time.monotonic() - self._good_s < max(RENEW_AFTER_S, 3 * self.timeout_s):
                return self._producer
            with Cluster(self.brokers, max(POLL_S, deadline - time.monotonic()), self.client) as cluster:
                cluster.leaders([self.topic])  # if a producer asked for the topic, a broker might create it
            self._good_s = time.monotonic()
            self._producer = Producer(
                {
                    **self.client,
                    **CLIENT,
                    **WRITER,
                    "bootstrap.servers": self.brokers,
                    "message.timeout.ms": max(1, int(self.timeout_s * 1000)),
                }
            )
            return self._producer
        finally:
            self._lock.release()


def _note(told: list[Sent], error: KafkaError | None, _message: Any) -> None:
    """Note what librdkafka reports about a message."""
    if error is None:
        told.append(Sent(Outcome.DONE))
    else:
        told.append(Sent(Outcome.REFUSED if error.code() in REFUSED else Outcome.UNKNOWN, str(error)))
