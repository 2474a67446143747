"""How often requests were handed out, as far as each broker tells it, and what else it tells of the requests' stream.

None of them takes part: nothing is read that somebody else would then not be given.
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
"""Messages that are read at once."""


class Away(Exception):
    """The broker does not answer."""


@dataclass(frozen=True)
class Ended:
    """A request that was answered for good, and how often it had been handed out by then."""

    id: str
    deliveries: int


class Account(Protocol):
    """One broker's. Both methods raise Away; each is called by one thread of its own."""

    kind: ClassVar[str]
    """Who counted: "broker", or "copied", where a router has copied the broker's count."""

    def read(self) -> list[Ended]:
        """What has ended since the last time."""
        ...

    def look(self) -> Iterator[Line]:
        """Metrics: broker_up, and where the broker tells them broker_beyond_end and broker_unanswered."""
        ...


def account(backend: str, address: str) -> Account:
    """The account of a backend. Only its own client is imported."""
    kinds: Mapping[str, Callable[[str], Account]] = {"jetstream": JetStream, "kafka": Kafka, "valkey": Valkey}
    return kinds[backend](address)


class JetStream:
    """The server tells of each acknowledgement, on a subject that a stream keeps: it is none of the router's words."""

    kind: ClassVar[str] = "broker"

    STREAM = "deliveries"
    SUBJECT = f"$JS.EVENT.METRIC.CONSUMER.ACK.{REQUESTS.requests}.{REQUESTS.group}"

    def __init__(self, url: str) -> None:
        self._at, self._next = urlsplit(url), 1

    def read(self) -> list[Ended]:
        """The stream's own copies of what the server told. Of what came once, the id is not asked for."""
        return self._asked(self._read())

    def look(self) -> Iterator[Line]:
        """A consumer beyond the stream's end is never given what comes next: the stream numbers it anew."""
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
            self._next = max(self._next, state.first_seq)
            found = []
            for number in range(self._next, min(self._next + BATCH, state.last_seq + 1)):
                told = orjson.loads((await js.get_msg(self.STREAM, number)).data)
                ended = Ended("", told["deliveries"])
                if ended.deliveries > 1:
                    with contextlib.suppress(NotFoundError):  # the stream keeps it no more
                        request = await js.get_msg(REQUESTS.requests, told["stream_seq"])
                        ended = Ended((request.headers or {})[ID], told["deliveries"])
                found.append(ended)
                self._next = number + 1
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
    """The count that the broker gave with a request, as decisions and dead letters have it: it tells nobody else."""

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
        """From the topics' ends on, as they were at the first time."""
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
        """Whether it answers; of a share group's place it tells this client nothing."""
        from confluent_kafka import KafkaException

        try:
            self._looker_ends(self._slots[0])
        except KafkaException as e:
            raise Away(str(e)) from e
        yield "broker_up", {}, 1.0

    def _looker_ends(self, slot: Any) -> Any:
        return self._looker.get_watermark_offsets(slot, timeout=ANSWER_WAIT_S)


class Valkey:
    """times_delivered as the server gave it, as decisions and dead letters have it: behind an XACK nobody is told."""

    kind: ClassVar[str] = "copied"

    def __init__(self, url: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        bounds: dict[str, Any] = {"socket_timeout": ANSWER_WAIT_S, "socket_connect_timeout": ANSWER_WAIT_S}
        self._client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **bounds)
        self._places: dict[str, bytes] = {}

    def read(self) -> list[Ended]:
        """From the streams' ends on, as they were at the first time."""
        from redis.exceptions import RedisError

        from pipelines.router.backends.valkey import again

        found = []
        try:
            for stream in (DECISIONS.requests, again(DECISIONS.requests), REQUESTS.dead):
                if stream not in self._places:
                    newest = self._client.xrevrange(stream, count=1)
                    self._places[stream] = newest[0][0] if newest else b"0-0"
                for place, fields in self._client.xrange(stream, min=b"(" + self._places[stream], count=BATCH):
                    count = fields.get(ATTEMPTS.encode()) or orjson.loads(fields[b"data"]).get("attempt", 0)
                    found.append(Ended(fields[ID.encode()].decode(), int(count)))
                    self._places[stream] = place
        except RedisError as e:
            raise Away(str(e)) from e
        return found

    def look(self) -> Iterator[Line]:
        """A group beyond the stream's end is never given what comes next."""
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
