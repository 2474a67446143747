"""The sink without a broker: it holds on to what it is given, and says when it can't go on."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pipelines.trades import topic
from pipelines.trades.topic import Sink

NOBODY = "127.0.0.1:9"  # the discard port: nobody listens
WAIT_S = 30.0


def test_a_producer_that_gets_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After STALLED_S without an acknowledgement the sink fails, and its owner can begin again from the log's tail."""
    monkeypatch.setattr(topic, "STALLED_S", 0.3)

    async def test() -> str:
        sink = Sink(NOBODY, "t", asyncio.get_running_loop())
        try:
            await sink.put("k", b"{}")
            async with asyncio.timeout(WAIT_S):
                return await sink.failed
        finally:
            await asyncio.to_thread(sink.close)

    assert "nothing acknowledged" in asyncio.run(test())


def test_a_full_queue_makes_its_owner_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What doesn't fit is neither refused nor dropped: put returns only when there is room."""
    monkeypatch.setattr(topic, "PRODUCER", {**topic.PRODUCER, "queue.buffering.max.messages": 10})

    async def test() -> None:
        sink = Sink(NOBODY, "t", asyncio.get_running_loop())
        try:
            for _ in range(10):
                await sink.put("k", b"{}")
            more = asyncio.create_task(sink.put("k", b"{}"))
            done, _ = await asyncio.wait([more], timeout=0.3)
            assert not done
            assert (sink.produced, sink.waiting()) == (10, 10)
            more.cancel()
        finally:
            sink.failed.set_result("over")
            await asyncio.to_thread(sink.close)

    asyncio.run(test())
    assert not [t for t in threading.enumerate() if t.name == "producer-poll"]
