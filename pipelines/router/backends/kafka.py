"""A share group of Apache Kafka 4.4, over confluent-kafka. The broker counts deliveries and writes dead letters itself.

It needs share.version 2, and a topic for dead letters whose name begins with dlq.: otherwise the broker drops them, and
only its log says so.
"""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import AcknowledgeType, KafkaError, KafkaException, Producer, ShareConsumer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pipelines.router.backends import ID, KEPT_S, WITHIN_S, Caps, Delivery, Info, Names, Unconnected, Unpublished

__all__ = ["Kafka"]

CLIENT: dict[str, Any] = {
    "enable.sparse.connections": False,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "broker.address.family": "v4",
    "log_level": 0,
}

REFUSED = (
    KafkaError.INVALID_MSG,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
)
"""Errors of the broker, or of the client, before anything is appended."""

KEPT = {"retention.ms": str(KEPT_S * 1000), "segment.ms": str(KEPT_S * 100)}

AT_ONCE = 20
"""How many requests are delivered at once: all must be answered before their lock ends. The broker delivers more only
if one batch of a producer has more."""

POLL_S = 0.1


class Kafka:
    """brokers: host:port,… The broker's group.share.delivery.count.limit limits the deliveries: this class must be
    given the same number."""

    caps = Caps(once="session", delay=False, dead="broker", counted=True)

    def __init__(self, brokers: str, names: Names, ack_wait_s: float, max_deliver: int) -> None:
        if not names.dead.startswith("dlq."):
            raise ValueError(f"dead letters can't go to {names.dead!r}. Remedy: a name that begins with 'dlq.'")
        self._brokers, self._names = {"bootstrap.servers": brokers}, names
        self._admin = AdminClient({**CLIENT, **self._brokers})
        settings = {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.timeout.ms": int(WITHIN_S * 1000),
        }
        self._producer = Producer({**CLIENT, **self._brokers, **settings})
        group = {"group.id": names.group, "share.acknowledgement.mode": "explicit", "max.poll.records": AT_ONCE}
        self._consumer: Any = ShareConsumer({**CLIENT, **self._brokers, **group})
        self._held: list[Any] = []
        self._lock_ms = int(ack_wait_s * 1000)
        self._subscribed = False

    def connect(self) -> None:
        """Connect. A program that only publishes doesn't join the group: a member that gets requests and doesn't handle
        them holds them up."""
        try:
            self._prepare()
        except (KafkaException, OSError) as e:
            raise Unconnected(str(e)) from e

    def _prepare(self) -> None:
        known = self._admin.list_topics(timeout=WITHIN_S).topics
        letters = {**KEPT, "errors.deadletterqueue.group.enable": "true"}
        topics = [NewTopic(self._names.requests, 1, 1, config=KEPT), NewTopic(self._names.dead, 1, 1, config=letters)]
        new = [topic for topic in topics if topic.topic not in known]
        for future in self._admin.create_topics(new).values() if new else ():
            future.result(WITHIN_S)
        wanted = {
            "share.auto.offset.reset": "earliest",
            "share.record.lock.duration.ms": str(self._lock_ms),
            "errors.deadletterqueue.topic.name": self._names.dead,
            "errors.deadletterqueue.copy.record.enable": "true",
        }
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in wanted.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, self._names.group, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result(WITHIN_S)

    def publish(self, to: str, id: str, payload: bytes) -> None:
        told: list[Any] = []
        try:
            self._producer.produce(
                to, payload, key=id, headers={ID: id}, on_delivery=lambda error, _: told.append(error)
            )
        except (BufferError, KafkaException) as e:
            raise Unpublished(str(e), definite=True) from e
        deadline = time.monotonic() + 2 * WITHIN_S
        while not told and time.monotonic() < deadline:
            self._producer.poll(POLL_S)
        if not told:
            raise Unpublished("no word of it", definite=False)
        if told[0] is not None:
            raise Unpublished(str(told[0]), definite=told[0].code() in REFUSED)

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        """Return as many as the broker delivers at once: the broker limits them, `most` does not. Requests without an
        answer are given back before: the client delivers nothing as long as there are any."""
        for message in self._held[:]:
            self._said(message, AcknowledgeType.RELEASE)
        self._held.clear()
        if not self._subscribed:
            self._consumer.subscribe([self._names.requests])
            self._subscribed = True
        deadline = time.monotonic() + within_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                messages = [one for one in self._consumer.poll(min(left_s, POLL_S)) if not one.error()]
            except KafkaException:
                continue
            if messages:
                self._held = messages
                return [_delivery(one) for one in messages]
        return []

    def ack(self, delivery: Delivery) -> bool:
        return self._said(delivery.held, AcknowledgeType.ACCEPT)

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        return self._said(delivery.held, AcknowledgeType.RELEASE)

    def dead(self, delivery: Delivery, why: str) -> bool:
        return self._said(delivery.held, AcknowledgeType.REJECT)

    def info(self) -> Info:
        """Return no counts: the broker doesn't tell them to this client."""
        try:
            self._admin.list_topics(timeout=WITHIN_S)
        except KafkaException:
            return Info(False, 0, None)
        return Info(True, 0, None)

    def _said(self, message: Any, answer: Any) -> bool:
        self._held = [one for one in self._held if one is not message]
        try:
            self._consumer.acknowledge(message, answer)
            return all(error is None for error in (self._consumer.commit_sync(WITHIN_S) or {}).values())
        except KafkaException:
            return False


def _delivery(message: Any) -> Delivery:
    about = {name: (value or b"").decode() for name, value in message.headers() or ()}
    return Delivery(message.key().decode(), message.value(), message.delivery_count(), message, about)
