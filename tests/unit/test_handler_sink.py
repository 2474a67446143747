"""The sink without a broker: it holds on to what it is given, and says when it can't go on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

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


@pytest.mark.parametrize(
    ("brokers", "forgotten"),
    [
        ({}, True),
        ({"GroupCoordinator": {"source": "logical"}}, True),
        ({"127.0.0.1:9/bootstrap": {"source": "configured"}}, False),
        ({"127.0.0.1:9/1": {"source": "learned"}, "GroupCoordinator": {"source": "logical"}}, False),
    ],
)
def test_a_producer_that_has_forgotten_its_brokers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, brokers: Mapping[str, object], forgotten: bool
) -> None:
    """It would never connect again: its successor takes over at the next statistics, not after STALLED_S."""

    class Told(Producer):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__(config)
            self.tell = config["stats_cb"]

        def poll(self, timeout: float = 0) -> int:
            self.tell(json.dumps({"brokers": brokers}))
            return super().poll(timeout)

    monkeypatch.setattr(topic, "Producer", Told)

    async def test() -> bool:
        sink = Sink(NOBODY, "t", asyncio.get_running_loop())
        try:
            await asyncio.wait([sink.failed], timeout=5.0 if forgotten else 0.3)
            return sink.failed.done()
        finally:
            await asyncio.to_thread(sink.close)

    assert asyncio.run(test()) is forgotten


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
