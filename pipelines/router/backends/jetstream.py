"""NATS JetStream, over nats-py, whose loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import nats
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError, NotFoundError

from pipelines.router.backends import (
    ATTEMPTS,
    ID,
    KEPT_S,
    REASON,
    WITHIN_S,
    Caps,
    Delivery,
    Info,
    Names,
    Unconnected,
    Unpublished,
)

__all__ = ["JetStream", "stream_of"]

T = TypeVar("T")

ALL = "100"
"""The percentage of acknowledgements that the server reports on a subject of its own: its account of deliveries."""

WINDOW_S = 120.0
"""How long an id is remembered. A later retry is a duplicate; so is one after a purge and a restart."""


class JetStream:
    """url: nats://user:password@host:port. The requests' stream keeps acknowledged messages: as a work queue it would
    forget their ids at a restart."""

    caps = Caps(once="window", delay=True, dead="router", counted=False)

    def __init__(self, url: str, names: Names, ack_wait_s: float, max_deliver: int) -> None:
        self._url, self._names, self._wait_s, self._most = url, names, ack_wait_s, max_deliver
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="nats", daemon=True).start()

    def connect(self) -> None:
        try:
            self._run(self._connected(), WITHIN_S)
        except (Error, OSError) as e:
            raise Unconnected(repr(e)) from e

    def publish(self, to: str, id: str, payload: bytes) -> None:
        try:
            self._run(self._published(to, id, payload, {}), WITHIN_S)
        except APIError as e:
            raise Unpublished(str(e), definite=True) from e
        except (Error, OSError) as e:
            raise Unpublished(repr(e), definite=False) from e

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        try:
            messages = self._run(self._requests.fetch(most, timeout=within_s), within_s + WITHIN_S)
        except (Error, OSError):  # nothing came, or the server is away: the client raises the same error
            return []
        found = []
        for message in messages:
            headers = dict(message.headers or {})
            one = Delivery(headers[ID], message.data, message.metadata.num_delivered, message, headers)
            if one.attempt > self._most:
                self.dead(one, f"handed out {self._most} times")
            else:
                found.append(one)
        return found

    def ack(self, delivery: Delivery) -> bool:
        return self._said(delivery.held.ack_sync(timeout=WITHIN_S))

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        return self._said(self._negative(delivery, delay_s))

    def dead(self, delivery: Delivery, why: str) -> bool:
        return self._said(self._dead(delivery, why))

    def info(self) -> Info:
        try:
            told = self._run(self._requests.consumer_info(), WITHIN_S)
        except (Error, OSError):
            return Info(False, 0, None)
        return Info(self._client.is_connected, told.num_pending or 0, told.num_ack_pending)

    # ---- in the loop ---------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        at = urlsplit(self._url)

        async def silent(_: Exception) -> None:
            return

        told: dict[str, Any] = (
            {"user": unquote(at.username), "password": unquote(at.password or "")} if at.username else {}
        )
        told |= {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.02, "error_cb": silent}
        self._client = await nats.connect(f"nats://{at.hostname}:{at.port}", **told)
        self._stream = self._client.jetstream(timeout=WITHIN_S)
        for name in (self._names.requests, self._names.dead):
            try:
                await self._stream.stream_info(stream_of(name))
            except NotFoundError:
                config: dict[str, Any] = {"duplicate_window": WINDOW_S, "max_age": KEPT_S}
                await self._stream.add_stream(name=stream_of(name), subjects=[name], **config)
        group_config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT, ack_wait=self._wait_s, max_deliver=-1, sample_freq=ALL
        )
        requests, group = self._names.requests, self._names.group
        self._requests = await self._stream.pull_subscribe(
            requests, durable=group, stream=stream_of(requests), config=group_config
        )

    async def _published(self, to: str, id: str, payload: bytes, more: dict[str, str]) -> None:
        await self._stream.publish(to, payload, headers={"Nats-Msg-Id": id, ID: id, **more}, timeout=WITHIN_S)

    async def _negative(self, delivery: Delivery, delay_s: float) -> None:
        """Send a nak and wait for the answer, as for an ack. A flush would not prove that it is taken. And a late
        answer to a flush that timed out silently ends all reading of this client."""
        after = f' {{"delay": {int(delay_s * 1_000_000_000)}}}' if delay_s else ""
        await self._client.request(delivery.held.reply, f"-NAK{after}".encode(), timeout=WITHIN_S)

    async def _dead(self, delivery: Delivery, why: str) -> None:
        """The letter first: should it end between the two, the same letter is written again, and is there."""
        headers = {REASON: why, ATTEMPTS: str(delivery.attempt)}
        await self._published(self._names.dead, delivery.id, delivery.payload, headers)
        await delivery.held.ack_sync(timeout=WITHIN_S)

    def _said(self, answer: Coroutine[Any, Any, Any]) -> bool:
        try:
            self._run(answer, 2 * WITHIN_S)
        except (Error, OSError):
            return False
        return True

    def _run(self, what: Coroutine[Any, Any, T], within_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(what, within_s), self._loop).result()


def stream_of(subject: str) -> str:
    """Return the stream that keeps a subject. Its name may have no dots."""
    return subject.replace(".", "-")
