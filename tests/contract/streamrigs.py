"""What the contract tests of JetStream and of Redis streams need of each: a topic of their own, messages in it, a
consumer, and the driver's classes for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import nats.js.api
import redis
from nats.aio.client import Client
from redis.backoff import NoBackoff
from redis.retry import Retry

from gameday.drivers import nats as nats_driver
from gameday.drivers import redis_streams
from gameday.drivers._log import LogHop
from gameday.records.declaration import Stream
from gameday.system import address

__all__ = ["JetStream", "RedisStream", "connected"]

T = TypeVar("T")

GIVES_WITHIN_S = 5.0

ACK_WAIT_S = 0.3
"""What is delivered and not acknowledged by then may be delivered again."""

Message = Mapping[str, Any]


async def _silent(_: Exception) -> None:
    return


async def connected(url: str) -> Client:
    """A client of NATS' own that does not reconnect; what is percent-encoded in an address it leaves so."""
    at = address.of(url)
    client = Client()
    told: dict[str, Any] = {"allow_reconnect": False, "connect_timeout": GIVES_WITHIN_S, "error_cb": _silent}
    told |= {"user": at.user, "password": at.password} if at.user else {}
    await client.connect(f"{at.host}:{at.port}", **told)
    return client


@dataclass
class JetStream:
    """A stream with one subject, and what a durable consumer has taken of it."""

    url: str
    topic: str = field(default_factory=lambda: f"T-{uuid4()}")
    config: Mapping[str, Any] = field(default_factory=dict)
    probe: Any = nats_driver.Probe
    cursor: Any = nats_driver.Cursor
    lag: Any = nats_driver.Lag
    serving: Any = nats_driver.Serving
    dense = True
    """Whether places are numbered one by one."""

    def __post_init__(self) -> None:
        subjects = {"subjects": [f"{self.topic}.>"], **self.config}
        self._do(lambda js: js.add_stream(name=self.topic, **subjects))

    def hop(self, stream: Stream, **more: Any) -> LogHop:
        return nats_driver.Hop(self.url, stream, [self.topic], **more)

    def place(self) -> dict[str, str]:
        """The consumer, as the driver's classes take it."""
        return {"topic": self.topic, "consumer": "c"}

    def put(self, messages: Iterable[Message | bytes]) -> None:
        async def published(js: Any) -> None:
            for message in messages:
                await js.publish(f"{self.topic}.x", message if isinstance(message, bytes) else _bytes(message))

        self._do(published)

    def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._do(lambda js: js.publish(subject, data, headers=headers))

    def held(self) -> list[bytes]:
        """All messages, as the server gives them one by one."""

        async def each(js: Any) -> list[bytes]:
            state = (await js.stream_info(self.topic)).state
            numbers = range(state.first_seq, state.last_seq + 1) if state.messages else ()
            return [(await js.get_msg(self.topic, number)).data for number in numbers]

        return self._do(each)

    def delete(self, number: int) -> None:
        """The message that was put so many-th, from 1 on."""
        self._do(lambda js: js.delete_msg(self.topic, number))

    def trim(self, left: int) -> None:
        """All but the last ones."""
        self._do(lambda js: js.purge_stream(self.topic, keep=left))

    def consume(
        self, number: int, acknowledge: Callable[[int], bool] = lambda _: True, subject: str | None = None
    ) -> int:
        """Take so many messages; how many came. acknowledge: whether that of this place in the batch is. subject: the
        consumer's, all of the stream's when left out."""

        async def taken(js: Any) -> int:
            config = nats.js.api.ConsumerConfig(ack_wait=ACK_WAIT_S)
            subscription = await js.pull_subscribe(
                subject or f"{self.topic}.>", durable="c", stream=self.topic, config=config
            )
            try:
                found = await subscription.fetch(number, timeout=2 * ACK_WAIT_S)
            except TimeoutError:
                return 0
            for at, message in enumerate(found):
                if acknowledge(at):
                    await message.ack_sync()
            return len(found)

        return self._do(taken)

    def rewind(self) -> None:
        """Somebody moves the consumer back to the beginning."""

        async def anew(js: Any) -> None:
            await js.delete_consumer(self.topic, "c")
            await js.pull_subscribe(f"{self.topic}.>", durable="c", stream=self.topic)

        self._do(anew)

    def _do(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        async def done() -> T:
            client = await connected(self.url)
            try:
                return await ask(client.jetstream(timeout=GIVES_WITHIN_S))
            finally:
                await client.close()

        return asyncio.run(done())


@dataclass
class RedisStream:
    """A stream with fields for the message's own, and what a group has taken of it."""

    url: str
    topic: str = field(default_factory=lambda: f"t-{uuid4()}")
    probe: Any = redis_streams.Probe
    cursor: Any = redis_streams.Cursor
    lag: Any = redis_streams.Lag
    serving: Any = redis_streams.Serving
    dense = False

    def __post_init__(self) -> None:
        with self.client() as client:
            client.xgroup_create(self.topic, "c", "0", mkstream=True)

    def hop(self, stream: Stream, **more: Any) -> LogHop:
        return redis_streams.Hop(self.url, stream, [self.topic], **{"field": "data", **more})

    def place(self) -> dict[str, str]:
        return {"topic": self.topic, "group": "c"}

    def put(self, messages: Iterable[Message | bytes]) -> None:
        with self.client() as client:
            for message in messages:
                client.xadd(self.topic, {"data": message if isinstance(message, bytes) else _bytes(message)})

    def held(self) -> list[bytes]:
        with self.client() as client:
            return [fields[b"data"] for _, fields in client.xrange(self.topic)]

    def delete(self, number: int) -> None:
        with self.client() as client:
            client.xdel(self.topic, client.xrange(self.topic, count=number)[-1][0])

    def trim(self, left: int) -> None:
        with self.client() as client:
            client.xtrim(self.topic, maxlen=left, approximate=False)

    def consume(self, number: int, acknowledge: Callable[[int], bool] = lambda _: True) -> int:
        with self.client() as client:
            due = client.xautoclaim(self.topic, "c", "me", int(ACK_WAIT_S * 1000), count=number)[1]
            left = number - len(due)
            new = client.xreadgroup("c", "me", {self.topic: ">"}, count=left) if left else []
            found = [*due, *(new[0][1] if new else [])]
            for at, (entry, _) in enumerate(found):
                if acknowledge(at):
                    client.xack(self.topic, "c", entry)
            return len(found)

    def rewind(self) -> None:
        with self.client() as client:
            client.xgroup_setid(self.topic, "c", "0")

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        made = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=GIVES_WITHIN_S)
        try:
            yield made
        finally:
            made.close()


def _bytes(message: Message) -> bytes:
    return json.dumps(message).encode()
