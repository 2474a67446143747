"""A venue's topic for the feed handler: an idempotent sink that never drops a trade, and how far each symbol has got.

It knows Kafka and no venue. Every record is one trade as JSON, with its symbol as key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from failpoints import point
from pipelines.trades.venues import Place, Trade

__all__ = ["Sink", "record", "tail"]

CLIENT: Mapping[str, Any] = {
    "enable.sparse.connections": False,  # else a client waits seconds before it connects to a broker that came back
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20,
    "broker.address.family": "v4",
    "log.connection.close": False,
}

PRODUCER: Mapping[str, Any] = {
    **CLIENT,
    "acks": "all",
    "enable.idempotence": True,
    "message.timeout.ms": 0,  # never give a trade up
    "request.timeout.ms": 3_000,
    "socket.timeout.ms": 5_000,  # how long a broker may hang before the request is sent again
    "linger.ms": 100,  # trades come singly: a request for each would cost the broker more than all its other work
    "queue.buffering.max.messages": 50_000,
    "statistics.interval.ms": 500,  # how soon it is noticed that the client has forgotten its brokers
}

PRODUCE = point(
    "handler::before_produce", "a trade is about to go to the broker; what dies here has not been sent, live or filled"
)
ACK = point(
    "handler::after_ack", "the broker holds a trade and its handler has not taken note: a successor must not repeat it"
)

TAIL_ROWS = 200
"""Records read back from a partition's end at first; four times as many whenever a symbol is still missing."""

STALLED_S = 30.0
"""Without an acknowledgement for so long the producer is replaced, whatever the cause; a broker that comes back is
found much sooner."""

BROKER_WAIT_S = 5.0
TAIL_WAIT_S = 30.0
FLUSH_S = 5.0
POLL_S = 0.1


def record(venue: str, trade: Trade, received_us: int) -> bytes:
    """Return the message on the topic."""
    return json.dumps(
        {
            "venue": venue,
            "symbol": trade.symbol,
            "trade_id": trade.trade_id,
            "side": trade.side,
            "price": trade.price,
            "quantity": trade.quantity,
            "exchange_us": trade.exchange_us,
            "received_us": received_us,
        },
        separators=(",", ":"),
    ).encode()


class Sink:
    """The producer. `failed` is resolved when it can't go on; then close it, and begin again from the log's tail.

    unsent: symbol -> the first trade whose delivery failed: the log may hold later ones, so a successor starts before
    it.
    """

    def __init__(self, brokers: str, topic: str, loop: asyncio.AbstractEventLoop) -> None:
        self._topic, self._loop = topic, loop
        self.failed: asyncio.Future[str] = loop.create_future()
        self.unsent: dict[str, Place] = {}
        self.produced = self.acked = 0
        self.acked_s = 0.0
        """The time of the last acknowledgement, by time.monotonic."""
        self._space = asyncio.Event()
        self._closing = threading.Event()
        callbacks = {"error_cb": self._error, "stats_cb": self._statistics}
        self._producer = Producer({**PRODUCER, **callbacks, "bootstrap.servers": brokers})
        self._poller = threading.Thread(target=self._poll, name="producer-poll", daemon=True)
        self._poller.start()

    async def put(self, key: str, value: bytes) -> None:
        """Hand over one record. Wait while the queue is full."""
        if PRODUCE.on is not None:
            await PRODUCE.hit_async()
        while True:
            try:
                self._producer.produce(self._topic, value=value, key=key, on_delivery=self._delivered)
            except BufferError:
                self._space.clear()
                await self._space.wait()
                continue
            self.produced += 1
            return

    def waiting(self) -> int:
        """The number of records that are not acknowledged yet."""
        return self.produced - self.acked

    def close(self) -> None:
        """Deliver what is waiting, within FLUSH_S, unless the producer has failed. Blocks."""
        if not self.failed.done():
            self._producer.flush(FLUSH_S)
        self._closing.set()
        self._poller.join()
        self._producer.purge()
        self._producer.flush(FLUSH_S)

    def _poll(self) -> None:
        known, acked, moved = False, 0, time.monotonic()
        while not self._closing.is_set():
            now = time.monotonic()
            if self.acked != acked or not self.waiting():
                acked, moved = self.acked, now
            elif now - moved > STALLED_S:
                why = f"nothing acknowledged for {STALLED_S:g} s, {self.waiting()} records waiting"
                self._loop.call_soon_threadsafe(self._fail, why)
            self._producer.poll(POLL_S if known else 0)
            if not known:
                # An answer with metadata makes librdkafka ask for its producer id now, not at its next timer (0.5 to
                # 1 s).
                with contextlib.suppress(KafkaException):
                    known = self._topic in self._producer.list_topics(self._topic, timeout=1.0).topics

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        """Note the delivery; runs in the polling thread."""
        if error is None:
            if ACK.on is not None:
                ACK()
            self.acked += 1
            self.acked_s = time.monotonic()
            if not self._space.is_set():
                self._loop.call_soon_threadsafe(self._space.set)
        elif not self._closing.is_set():
            trade = json.loads(message.value() or b"{}")
            symbol, place = trade["symbol"], Place(trade["trade_id"], trade["exchange_us"])
            self.unsent[symbol] = min(place, self.unsent.get(symbol, place))
            self._loop.call_soon_threadsafe(self._fail, f"{symbol} {place.trade_id} not delivered: {error}")

    def _error(self, error: KafkaError) -> None:
        """Note an error; runs in the polling thread. The client mends all but fatal errors itself."""
        if error.fatal():
            self._loop.call_soon_threadsafe(self._fail, f"fatal: {error}")

    def _statistics(self, text: str) -> None:
        """Check the brokers; runs in the polling thread. A client that was told of no brokers (by a fenced one, which
        ends or begins) forgets all, also the configured ones, and never connects again (librdkafka issue 5301).
        """
        if all(broker["source"] == "logical" for broker in json.loads(text)["brokers"].values()):
            self._loop.call_soon_threadsafe(self._fail, "the client was told of no brokers and has forgotten its own")

    def _fail(self, why: str) -> None:
        if not self.failed.done():
            self.failed.set_result(why)


def tail(brokers: str, topic: str, symbols: Collection[str]) -> dict[str, Place]:
    """Return the furthest place of each symbol in the log, read back from the end of every partition. Blocks. Raises
    KafkaException: try again.
    """
    consumer = Consumer(
        {
            **CLIENT,
            "bootstrap.servers": brokers,
            "group.id": f"{topic}.tail",  # demanded by the client; nothing is ever committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        metadata = consumer.list_topics(topic, timeout=BROKER_WAIT_S).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=BROKER_WAIT_S)
            for p in metadata.partitions
        }
        return _search(consumer, topic, {p: (low, high) for p, (low, high) in ends.items()}, symbols)
    finally:
        consumer.close()


def _search(
    consumer: Consumer, topic: str, ends: Mapping[int, tuple[int, int]], symbols: Collection[str]
) -> dict[str, Place]:
    found: dict[str, Place] = {}
    until = {p: high for p, (_, high) in ends.items()}
    rows = TAIL_ROWS
    while not found.keys() >= set(symbols):
        begin = {p: max(ends[p][0], end - rows) for p, end in until.items() if end > ends[p][0]}
        if not begin:
            break
        for symbol, place in _read(consumer, topic, begin, until):
            if symbol in symbols and place > found.get(symbol, Place(0, 0)):
                found[symbol] = place
        until = {**until, **begin}
        rows *= 4
    return found


def _read(
    consumer: Consumer, topic: str, begin: Mapping[int, int], until: Mapping[int, int]
) -> Iterator[tuple[str, Place]]:
    """Yield the trades in offsets begin <= offset < until of each partition. Other messages are left to the dead
    letters.
    """
    consumer.assign([TopicPartition(topic, p, offset) for p, offset in begin.items()])
    left = {p for p, offset in begin.items() if offset < until[p]}
    deadline = time.monotonic() + TAIL_WAIT_S
    while left:
        if time.monotonic() > deadline:
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, f"the end of {topic} was not read within {TAIL_WAIT_S:g} s")
            )
        for message in consumer.consume(1000, timeout=0.05):
            partition, offset = message.partition(), message.offset()
            if message.error() is not None or partition is None or offset is None:
                continue
            if offset >= until[partition] - 1:
                left.discard(partition)
            if offset < until[partition]:
                try:
                    trade = json.loads(message.value() or b"")
                    yield trade["symbol"], Place(int(trade["trade_id"]), int(trade["exchange_us"]))
                except (ValueError, KeyError, TypeError):
                    continue
