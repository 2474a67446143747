"""Reads from each broker how often it delivered requests, and what else it reports about the requests' stream.

No account is a consumer: it reads nothing that another consumer would then not get.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import unquote, urlsplit

import orjson

from pipelines.exporting import ANSWER_WAIT_S, Line
from pipelines.router.backends import ATTEMPTS, ID, KEPT_S
from pipelines.router.settings import DECISIONS, REQUESTS

__all__ = ["Account", "Away", "Ended", "account"]

BATCH = 500
"""How many messages are read at once."""


class Away(Exception):
    """The broker does not answer."""


@dataclass(frozen=True)
class Ended:
    """A request that was acknowledged, and how often it had been delivered by then. id: "" where it is not asked for,
    as of one that came once; its place in the stream where that has forgotten it."""

    id: str
    deliveries: int


class Account(Protocol):
    """The account of one broker. Both methods raise Away; each has a thread of its own that calls it."""

    kind: ClassVar[str]
    """Where the count is from: "broker"; or "copied": a router has copied the broker's count."""

    def read(self) -> list[Ended]:
        """Return the requests that have ended since the last call."""
        ...

    def look(self) -> Iterator[Line]:
        """Yield metrics: broker_up, and broker_beyond_end and broker_unanswered if the broker reports them."""
        ...


def account(backend: str, address: str) -> Account:
    """Return the account of a backend. Only its own client is imported."""
    kinds: Mapping[str, Callable[[str], Account]] = {"jetstream": JetStream, "kafka": Kafka, "valkey": Valkey}
    return kinds[backend](address)


class JetStream:
    """Reads the server's own report of each acknowledgement, on a subject that a stream keeps. No router writes it."""

    kind: ClassVar[str] = "broker"

    STREAM = "deliveries"
    SUBJECT = f"$JS.EVENT.METRIC.CONSUMER.ACK.{REQUESTS.requests}.{REQUESTS.group}"

    def __init__(self, url: str) -> None:
        self._at, self._next = urlsplit(url), 1
        self._found: list[Ended] = []
        """Read, and not told yet: a reading that fails midway goes on behind it."""

    def read(self) -> list[Ended]:
        """Read the stream's copies of the reports. For a message that came once, the id is not asked for."""
        return self._asked(self._read())

    def look(self) -> Iterator[Line]:
        """Yield metrics. A consumer beyond the stream's end never gets the next messages: the stream reuses their
        numbers."""
        stream, consumer = self._asked(self._looked())
        yield "broker_up", {}, 1.0
        yield "broker_beyond_end", {}, float(max(0, consumer.delivered.stream_seq - stream.state.last_seq))
        yield "broker_unanswered", {}, float(consumer.num_ack_pending or 0)

    async def _read(self) -> list[Ended]:
        from nats.js.errors import NotFoundError

        async with self._connected() as js:
            try:
                state = (await js.stream_info(self.STREAM)).state
            except NotFoundError:
                await js.add_stream(name=self.STREAM, subjects=[self.SUBJECT], no_ack=True, max_age=KEPT_S)
                return []
            self._next = min(max(self._next, state.first_seq), state.last_seq + 1)  # one that lost its end numbers anew
            for number in range(self._next, min(self._next + BATCH, state.last_seq + 1)):
                told = orjson.loads((await js.get_msg(self.STREAM, number)).data)
                ended = Ended("", told["deliveries"])
                if ended.deliveries > 1:
                    ended = Ended(f"number {told['stream_seq']}", told["deliveries"])
                    with contextlib.suppress(NotFoundError):  # the stream keeps it no more
                        request = await js.get_msg(REQUESTS.requests, told["stream_seq"])
                        ended = Ended((request.headers or {})[ID], told["deliveries"])
                self._found.append(ended)
                self._next = number + 1
            found, self._found = self._found, []
            return found

    async def _looked(self) -> tuple[Any, Any]:
        async with self._connected() as js:
            consumer = await js.consumer_info(REQUESTS.requests, REQUESTS.group)
            return await js.stream_info(REQUESTS.requests), consumer

    @contextlib.asynccontextmanager
    async def _connected(self) -> Any:
        import nats

        async def silent(_: Exception) -> None:
            return

        at = self._at
        told: dict[str, Any] = {"user": unquote(at.username or ""), "password": unquote(at.password or "")}
        told |= {"allow_reconnect": False, "max_reconnect_attempts": 1, "error_cb": silent}
        client = await nats.connect(f"nats://{at.hostname}:{at.port}", connect_timeout=2, **told)
        try:
            yield client.jetstream(timeout=ANSWER_WAIT_S)
        finally:
            await client.close()

    def _asked(self, question: Any) -> Any:
        from nats.errors import Error

        try:
            return asyncio.run(asyncio.wait_for(question, 10 * ANSWER_WAIT_S))
        except (Error, OSError) as e:
            raise Away(repr(e)) from e


class Kafka:
    """Reads the broker's count from decisions and dead letters: the broker gives it only with a request."""

    kind: ClassVar[str] = "copied"

    COUNT = "__dlq.errors.delivery.count"

    def __init__(self, brokers: str) -> None:
        from confluent_kafka import Consumer, TopicPartition

        client = {"bootstrap.servers": brokers, "broker.address.family": "v4", "log_level": 0}
        client |= {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 500}
        self._reader = Consumer({**client, "group.id": "observer", "enable.auto.commit": False})
        self._looker = Consumer({**client, "group.id": "observer", "enable.auto.commit": False})
        self._slots = [TopicPartition(topic, 0) for topic in (DECISIONS.requests, REQUESTS.dead)]
        self._assigned = False

    def read(self) -> list[Ended]:
        """Read on from the topics' ends at the first call."""
        from confluent_kafka import OFFSET_END, KafkaException, TopicPartition

        try:
            if not self._assigned:
                for slot in self._slots:
                    self._looker_ends(slot)
                self._reader.assign([TopicPartition(slot.topic, 0, OFFSET_END) for slot in self._slots])
                self._assigned = True
            messages = [one for one in self._reader.consume(BATCH, 0.2) if one.error() is None]
        except KafkaException as e:
            raise Away(str(e)) from e
        found = []
        for message in messages:
            headers = dict(message.headers() or ())
            count = headers.get(self.COUNT) or orjson.loads(message.value() or b"{}").get("attempt", 0)
            found.append(Ended((message.key() or b"").decode(), int(count)))
        return found

    def look(self) -> Iterator[Line]:
        """Yield whether it answers; it doesn't tell this client a share group's position."""
        from confluent_kafka import KafkaException

        try:
            self._looker_ends(self._slots[0])
        except KafkaException as e:
            raise Away(str(e)) from e
        yield "broker_up", {}, 1.0

    def _looker_ends(self, slot: Any) -> Any:
        return self._looker.get_watermark_offsets(slot, timeout=ANSWER_WAIT_S)


class Valkey:
    """Reads the server's times_delivered from decisions and dead letters: after an XACK the server doesn't have it."""

    kind: ClassVar[str] = "copied"

    def __init__(self, url: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        bounds: dict[str, Any] = {"socket_timeout": ANSWER_WAIT_S, "socket_connect_timeout": ANSWER_WAIT_S}
        self._client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **bounds)
        self._places: dict[str, bytes] = {}
        self._found: list[Ended] = []
        """As JetStream's."""

    def read(self) -> list[Ended]:
        """Read on from the streams' ends at the first call."""
        from redis.exceptions import RedisError

        from pipelines.router.backends.valkey import again

        try:
            for stream in (DECISIONS.requests, again(DECISIONS.requests), REQUESTS.dead):
                if stream not in self._places:
                    newest = self._client.xrevrange(stream, count=1)
                    self._places[stream] = newest[0][0] if newest else b"0-0"
                for place, fields in self._client.xrange(stream, min=b"(" + self._places[stream], count=BATCH):
                    count = fields.get(ATTEMPTS.encode()) or orjson.loads(fields[b"data"]).get("attempt", 0)
                    self._found.append(Ended(fields[ID.encode()].decode(), int(count)))
                    self._places[stream] = place
        except RedisError as e:
            raise Away(str(e)) from e
        found, self._found = self._found, []
        return found

    def look(self) -> Iterator[Line]:
        """Yield metrics. A group beyond the stream's end never gets the next messages."""
        from redis.exceptions import RedisError

        try:
            stream = self._client.xinfo_stream(REQUESTS.requests)
            groups = self._client.xinfo_groups(REQUESTS.requests)
        except RedisError as e:
            raise Away(str(e)) from e
        yield "broker_up", {}, 1.0
        group = next((one for one in groups if one["name"] == REQUESTS.group.encode()), None)
        if group is None:
            return
        yield "broker_beyond_end", {}, float(_place(group["last-delivered-id"]) > _place(stream["last-generated-id"]))
        yield "broker_unanswered", {}, float(group["pending"])


def _place(entry: bytes) -> tuple[int, int]:
    first, _, second = entry.partition(b"-")
    return int(first), int(second)
