"""The streams of Valkey or Redis, over redis-py, whose retries are off: they would send an XADD again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

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

__all__ = ["Valkey", "again"]

WINDOW_S = 120
"""How long an id is remembered."""

ADD = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[1]) then
  return redis.call('XADD', KEYS[1], 'MINID', '~', ARGV[2], '*', unpack(ARGV, 3))
end
redis.call('XADD', KEYS[3], 'MINID', '~', ARGV[2], '*', unpack(ARGV, 3))
"""
"""Adds an entry unless its id is remembered, and drops what is too old. One whose id is remembered goes where only the
observer reads: it tells how often its request was handed out. A script's effects are one entry in the file: all of them
or none."""


class Valkey:
    """url: redis://user:password@host:port; with appendfsync always, or acknowledged writes can be lost at a kill."""

    caps = Caps(once="window", delay=True, dead="router", counted=True)

    def __init__(self, url: str, names: Names, ack_wait_s: float, max_deliver: int) -> None:
        self._names, self._wait_ms, self._most = names, int(ack_wait_s * 1000), max_deliver
        self._me = f"router-{uuid.uuid4()}"
        bounds: dict[str, Any] = {"socket_timeout": WITHIN_S, "socket_connect_timeout": WITHIN_S}
        self._client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), decode_responses=False, **bounds)

    def connect(self) -> None:
        try:
            self._client.xgroup_create(self._names.requests, self._names.group, "0", mkstream=True)
        except RedisError as e:
            if "BUSYGROUP" not in str(e):
                raise Unconnected(str(e)) from e

    def publish(self, to: str, id: str, payload: bytes) -> None:
        try:
            kept = int((time.time() - KEPT_S) * 1000)
            keys = to, _remembered(to, id), again(to)
            self._client.eval(ADD, len(keys), *keys, WINDOW_S, kept, ID, id, "data", payload)
        except ResponseError as e:
            raise Unpublished(str(e), definite=True) from e
        except RedisError as e:
            raise Unpublished(str(e), definite=False) from e

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        requests, group = self._names.requests, self._names.group
        try:
            due = self._client.xautoclaim(requests, group, self._me, self._wait_ms, count=most)[1]
            counts = {place: self._count(place) for place, _ in due}
            new: Any = []
            if not due:
                block_ms = max(1, int(min(within_s, WITHIN_S / 2) * 1000))
                new = self._client.xreadgroup(group, self._me, {requests: ">"}, count=most, block=block_ms)
        except RedisError:
            return []
        found = []
        for place, fields in [*due, *(new[0][1] if new else [])]:
            payload = fields.pop(b"data")
            headers = {name.decode(): text.decode() for name, text in fields.items()}
            one = Delivery(headers[ID], payload, counts.get(place, 1), place, headers)
            if one.attempt > self._most:
                self.dead(one, f"handed out {self._most} times")
            else:
                found.append(one)
        return found

    def ack(self, delivery: Delivery) -> bool:
        return self._said(lambda: self._client.xack(self._names.requests, self._names.group, delivery.held))

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        """Set its idle time so that it is due after delay_s, at most one ack wait. Its count stays."""
        idle_ms = max(0, self._wait_ms - int(delay_s * 1000))
        held = [delivery.held]
        return self._said(
            lambda: self._client.xclaim(
                self._names.requests, self._names.group, self._me, 0, held, idle=idle_ms, justid=True
            )
        )

    def dead(self, delivery: Delivery, why: str) -> bool:
        """The letter and the end of the request are one transaction."""
        letter = {ID: delivery.id, "data": delivery.payload, REASON: why, ATTEMPTS: delivery.attempt}
        with self._client.pipeline(transaction=True) as both:
            both.xadd(self._names.dead, letter)
            both.xack(self._names.requests, self._names.group, delivery.held)
            return self._said(both.execute)

    def info(self) -> Info:
        try:
            groups = self._client.xinfo_groups(self._names.requests)
        except RedisError:
            return Info(False, 0, None)
        mine = next(group for group in groups if group["name"] == self._names.group.encode())
        return Info(True, int(mine["lag"] or 0), int(mine["pending"]))

    def _count(self, place: bytes) -> int:
        (told,) = self._client.xpending_range(self._names.requests, self._names.group, place, place, 1)
        return int(told["times_delivered"])

    def _said(self, ask: Callable[[], object]) -> bool:
        try:
            ask()
        except RedisError:
            return False
        return True


def again(stream: str) -> str:
    """The stream of what was published under an id that is remembered."""
    return f"{stream}:again"


def _remembered(stream: str, id: str) -> str:
    return f"{stream}:seen:{id}"
