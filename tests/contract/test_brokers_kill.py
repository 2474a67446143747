"""The embedded NATS and Valkey: they start, answer who knows the password, and have what they acknowledged after a
kill."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import pytest
import redis
from nats.js import JetStreamContext
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.service import answers
from tests.contract.conftest import new_nats, new_valkey, serving
from tests.contract.streamrigs import connected

WRITES = 200


async def _asked(url: str, ask: Callable[[JetStreamContext], Awaitable[int]]) -> int:
    client = await connected(url)
    try:
        return await ask(client.jetstream())
    finally:
        await client.close()


async def _filled(stream: JetStreamContext) -> int:
    await stream.add_stream(name="kept", subjects=["kept"])
    for n in range(WRITES):
        last = await stream.publish("kept", b"%d" % n)
    return last.seq


async def _held(stream: JetStreamContext) -> int:
    return (await stream.stream_info("kept")).state.messages


def test_nats_has_what_it_acknowledged_after_a_kill(tmp_path: Path) -> None:
    """And refuses who has another password, before and after."""
    service, url = new_nats(tmp_path)
    with serving(service) as process:
        assert asyncio.run(_asked(url, _filled)) == WRITES
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            asyncio.run(_asked(url.replace("@127", "x@127"), _held))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not answers(service.ready, 1.0)
    with serving(service):
        assert asyncio.run(_asked(url, _held)) == WRITES


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def test_valkey_has_what_it_acknowledged_after_a_kill(tmp_path: Path) -> None:
    """And refuses who has another password, or none."""
    service, url = new_valkey(tmp_path)
    with serving(service) as process:
        for n in range(WRITES):
            client(url).xadd("kept", {"n": n})
        for wrong in (url.replace("@127", "x@127"), f"redis://127.0.0.1:{url.rpartition(':')[2]}"):
            with pytest.raises(redis.RedisError):
                client(wrong).xlen("kept")
            assert not answers(wrong, 1.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not answers(service.ready, 1.0)
    with serving(service):
        assert client(url).xlen("kept") == WRITES
