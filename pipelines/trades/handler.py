"""A feed handler: python -m pipelines.trades.handler --venue binance --ws URL --rest URL --brokers HOST:PORT --port P.

It follows one venue's trades and puts them on the venue's topic, each symbol's ids in order and without a gap. Trades
that it missed (while it or its connection was down) are fetched from the venue's history before live trades go on.
venues/ have the formats, topic.py writes to Kafka.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import structlog
from aiohttp import web
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

import failpoints
from failpoints import point
from pipelines.trades.lines import log_json
from pipelines.trades.topic import Sink, record, tail
from pipelines.trades.venues import FeedError, Parsed, Place, Trade, Venue, binance, coinbase, kraken

__all__ = ["Handler", "main"]

VENUES: Mapping[str, Venue] = {binance.NAME: binance, kraken.NAME: kraken, coinbase.NAME: coinbase}

BACKOFF_FIRST_S = 0.05
PING_EVERY_S = 5.0
"""A connection on which a ping is not answered within half of this is lost."""

CONNECT_WAIT_S = 5.0
SUBSCRIBE_WAIT_S = 10.0
REQUEST_WAIT_S = 10.0
INBOX_MAX = 10_000
"""Messages waiting to be published; when full, the socket isn't read, and the venue may cut the connection: then
history fills the gap.
"""

HOLE_TRIES = 20
"""How often history is asked for an id that live trades have passed, before the venue is taken to have no such id."""

RECEIVE = point(
    "handler::after_receive",
    "a message of the venue is in our hands and nowhere else; return: it is lost, and only history can fill the gap",
    returns=str,
)
FILL = point(
    "handler::in_gap_fill",
    "a page of history is on its way to the log, and the gap is not closed yet: whoever resumes must find the rest",
)

LOST = (aiohttp.ClientError, OSError, TimeoutError, FeedError)
"""Errors that end a connection, after which the handler connects again."""

MALFORMED = (FeedError, ValueError, KeyError, TypeError, IndexError, AttributeError)

log = structlog.get_logger()


class Backoff:
    """Waits that grow, with jitter, so that handlers don't all reconnect at once."""

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self.reset()

    def reset(self) -> None:
        self._next_s = min(BACKOFF_FIRST_S, self._max_s)

    async def wait(self) -> None:
        wait_s = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(self._max_s, 2 * self._next_s)
        await asyncio.sleep(wait_s)


class Handler(Collector):
    """One venue's handler. `run` never returns; it is cancelled."""

    def __init__(
        self, venue: Venue, ws: str, rest: str, brokers: str, *, from_live: bool, backoff_max_s: float
    ) -> None:
        self._venue, self._ws, self._rest, self._brokers = venue, ws.rstrip("/"), rest.rstrip("/"), brokers
        self._topic = f"market.crypto.trades.{venue.NAME}"
        self._from_live, self._backoff_max_s = from_live, backoff_max_s
        self._places: dict[str, Place] = {}
        self._unsent: dict[str, Place] = {}
        self._log = log.bind(venue=venue.NAME)
        self._sink: Sink | None = None
        self._connected = False
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._acked_s = time.monotonic()
        self._counts = dict.fromkeys(
            ("connects", "disconnects", "filled", "holes", "rejected", "restarts", "produced", "acked"), 0
        )

    async def run(self) -> None:
        """Follow the venue; whenever the producer fails, begin again from the log's tail."""
        while True:
            sink = self._sink = Sink(self._brokers, self._topic, asyncio.get_running_loop())
            try:
                async with aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=REQUEST_WAIT_S, connect=CONNECT_WAIT_S)
                ) as http:
                    following = asyncio.create_task(self._follow(http, sink))
                    try:
                        await asyncio.wait((following, sink.failed), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        following.cancel()
                        await asyncio.gather(following, return_exceptions=True)
            finally:
                await asyncio.to_thread(sink.close)
                self._counts["produced"] += sink.produced
                self._counts["acked"] += sink.acked
                self._acked_s = max(self._acked_s, sink.acked_s)
                self._sink = None
            if not sink.failed.done():
                following.result()  # raises what ended it
            self._unsent |= sink.unsent
            self._counts["restarts"] += 1
            self._log.error("producer_failed", why=sink.failed.result(), remedy="beginning again from the log's tail")

    async def _follow(self, http: aiohttp.ClientSession, sink: Sink) -> None:
        await self._recall()
        backoff = Backoff(self._backoff_max_s)
        while True:
            try:
                await self._connection(http, sink, backoff)
            except LOST as e:
                self._counts["disconnects"] += 1
                self._log.warning("disconnected", why=f"{type(e).__name__}: {e}", last_ids=self._last_ids())
            await backoff.wait()

    async def _recall(self) -> None:
        """Resume each symbol where the log ends. An empty log starts at id 1, or with --from live at the first live
        trade."""
        backoff = Backoff(self._backoff_max_s)
        while True:
            try:
                places = await asyncio.to_thread(tail, self._brokers, self._topic, self._venue.SYMBOLS)
                break
            except KafkaException as e:
                self._log.warning("log_unreachable", topic=self._topic, brokers=self._brokers, why=str(e))
                await backoff.wait()
        for symbol, first in self._unsent.items():
            if symbol in places and places[symbol].trade_id >= first.trade_id:
                places[symbol] = Place(first.trade_id - 1, first.exchange_us - 1)
        if not self._from_live:
            places = {symbol: Place(0, 0) for symbol in self._venue.SYMBOLS} | places
        self._places, self._unsent = places, {}
        self._log.info("resuming", last_ids=self._last_ids())

    async def _connection(self, http: aiohttp.ClientSession, sink: Sink, backoff: Backoff) -> None:
        """Run one connection: subscribe, fill gaps, follow. It ends with one of LOST."""
        venue = self._venue
        url = self._ws + venue.socket_path(venue.SYMBOLS)
        async with http.ws_connect(url, heartbeat=PING_EVERY_S, max_msg_size=1 << 24) as ws:
            self._counts["connects"] += 1
            requests = venue.subscriptions(venue.SYMBOLS)
            for request in requests:
                await ws.send_str(request)
            inbox: asyncio.Queue[tuple[Trade, int] | None] = asyncio.Queue(INBOX_MAX)
            subscribed = asyncio.Event()
            reader = asyncio.create_task(self._read(ws, inbox, set(venue.SYMBOLS) if requests else set(), subscribed))
            try:
                async with asyncio.timeout(SUBSCRIBE_WAIT_S):
                    await subscribed.wait()
                self._connected = True
                for symbol in tuple(self._places):
                    await self._fill(http, sink, symbol, None, reader)
                backoff.reset()
                self._log.info("live", url=url, last_ids=self._last_ids())
                while (item := await inbox.get()) is not None:
                    await self._live(http, sink, *item, reader)
                await reader  # raises what ended it
                raise FeedError(f"{venue.NAME} closed the connection (code {ws.close_code})")
            finally:
                self._connected = False
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def _read(
        self,
        ws: aiohttp.ClientWebSocketResponse,
        inbox: asyncio.Queue[tuple[Trade, int] | None],
        wanted: set[str],
        subscribed: asyncio.Event,
    ) -> None:
        """Move trades from the socket to the inbox, during everything else; None is the end."""
        try:
            if not wanted:
                subscribed.set()
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    continue
                received_us = time.time_ns() // 1000
                if RECEIVE.on is not None and await RECEIVE.hit_async() is not None:
                    continue
                parsed = self._parse(message.data)
                for trade in parsed.trades:
                    await inbox.put((trade, received_us))
                if parsed.subscribed:
                    wanted.difference_update(parsed.subscribed)
                    if not wanted:
                        subscribed.set()
            if (error := ws.exception()) is not None:
                raise FeedError(f"the connection broke: {error!r}")
        finally:
            subscribed.set()
            await inbox.put(None)

    def _parse(self, text: str) -> Parsed:
        """Parse a message. One that can't be read is logged, and its trades come from history."""
        try:
            return self._venue.parse(text)
        except FeedError:
            raise
        except MALFORMED as e:
            self._counts["rejected"] += 1
            self._log.error("unreadable_message", why=f"{type(e).__name__}: {e}", text=text[:500])
            return Parsed()

    async def _live(
        self, http: aiohttp.ClientSession, sink: Sink, trade: Trade, received_us: int, reader: asyncio.Task[None]
    ) -> None:
        """Publish a live trade in its order: skip known trades, fetch missing ones first."""
        place = self._places.get(trade.symbol)
        if place is not None and trade.trade_id > place.trade_id + 1:
            await self._fill(http, sink, trade.symbol, trade.trade_id - 1, reader)
            place = self._places[trade.symbol]
        if place is None or trade.trade_id > place.trade_id:
            await self._publish(sink, trade, received_us)

    async def _fill(
        self, http: aiohttp.ClientSession, sink: Sink, symbol: str, upto: int | None, reader: asyncio.Task[None]
    ) -> None:
        """Publish the history after the symbol's place: up to an id, or (None) until live trades follow."""
        first, tries = self._places[symbol].trade_id + 1, 0
        backoff = Backoff(self._backoff_max_s)
        while upto is None or self._places[symbol].trade_id < upto:
            page = await self._page(http, symbol, reader)
            new = [t for t in page if t.trade_id > self._places[symbol].trade_id]
            for trade in new:
                await self._publish(sink, trade, time.time_ns() // 1000)
            if FILL.on is not None:
                await FILL.hit_async()
            self._counts["filled"] += len(new)
            if upto is None and len(new) < self._venue.PAGE_ROWS // 2:
                break
            if not new:
                tries += 1
                if tries == HOLE_TRIES:
                    break  # the next live trade is published, and counted as coming after a hole
                await backoff.wait()
        last = self._places[symbol].trade_id
        if last >= first:
            self._log.info("gap_filled", symbol=symbol, first_id=first, last_id=last)

    async def _page(self, http: aiohttp.ClientSession, symbol: str, reader: asyncio.Task[None]) -> list[Trade]:
        """Return the next page of history. Ask again until the venue answers, or the connection has ended."""
        backoff = Backoff(self._backoff_max_s)
        request = self._venue.page(symbol, self._places[symbol])
        while True:
            try:
                async with http.get(
                    self._rest + request.path, params=request.params, headers=request.headers
                ) as answer:
                    text = await answer.text()
                    if answer.status != 200:
                        raise FeedError(f"HTTP {answer.status}: {text[:200]}")
                    return self._venue.parse_page(symbol, text)
            except (*LOST, *MALFORMED) as e:
                self._log.warning("history_failed", symbol=symbol, path=request.path, why=f"{type(e).__name__}: {e}")
                if reader.done():
                    raise FeedError("the connection ended while history was asked for") from e
                await backoff.wait()

    async def _publish(self, sink: Sink, trade: Trade, received_us: int) -> None:
        place = self._places.get(trade.symbol)
        if place is not None and trade.trade_id != place.trade_id + 1:
            self._counts["holes"] += 1
            self._log.error("venue_has_a_hole", symbol=trade.symbol, after_id=place.trade_id, next_id=trade.trade_id)
        await sink.put(trade.symbol, record(self._venue.NAME, trade, received_us))
        self._places[trade.symbol] = Place(trade.trade_id, trade.exchange_us)

    # ---- health and metrics --------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """/healthz and /metrics."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/metrics", self._metrics)])
        return app

    def _last_ids(self) -> dict[str, int]:
        return {symbol: place.trade_id for symbol, place in self._places.items()}

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "ok": True,
                "connected": self._connected,
                "connects": self._counts["connects"],
                "rejected": self._counts["rejected"],
                "last_ids": self._last_ids(),
            }
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        text = generate_latest(self._registry) + "".join(f"{line}\n" for line in failpoints.metrics()).encode()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def collect(self) -> Iterator[Metric]:
        """Yield its counters, and how far it is."""
        venue, now_us, sink = self._venue.NAME, time.time_ns() // 1000, self._sink
        counts = dict(self._counts)
        if sink is not None:
            counts["produced"] += sink.produced
            counts["acked"] += sink.acked
        for name, count in counts.items():
            yield _of_each(CounterMetricFamily, name, ("venue",), {(venue,): count})
        gauges: dict[str, float] = {
            "connected": int(self._connected),
            "reconnects": max(0, counts["connects"] - 1),
            "waiting": sink.waiting() if sink else 0,
            "last_ack_age_seconds": round(time.monotonic() - max(self._acked_s, sink.acked_s if sink else 0.0), 3),
        }
        for name, gauge in gauges.items():
            yield _of_each(GaugeMetricFamily, name, ("venue",), {(venue,): gauge})
        by_symbol = ("venue", "symbol")
        places = {(venue, symbol): place for symbol, place in self._places.items()}
        last_ids = {of: place.trade_id for of, place in places.items()}
        yield _of_each(GaugeMetricFamily, "last_id", by_symbol, last_ids)
        lags_s = {of: (now_us - place.exchange_us) / 1e6 for of, place in places.items() if place.trade_id}
        yield _of_each(GaugeMetricFamily, "lag_seconds", by_symbol, lags_s)


def _of_each(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    labels: Sequence[str],
    values: Mapping[Any, float],
) -> Metric:
    """Return the metric feed_handler_<name>, with a value for each tuple of the labels' values."""
    found = kind(f"feed_handler_{name}", "", labels=labels)
    for of, value in values.items():
        found.add_metric(of, value)
    return found


async def _serve(handler: Handler, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(handler.app(), access_log=None, shutdown_timeout=1.0)
    running = asyncio.create_task(handler.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()  # raises what ended it
    finally:
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)
        await runner.cleanup()


def main() -> int:
    """Run until SIGTERM. Exit 2: the port can't be used."""
    parser = argparse.ArgumentParser(
        description="Puts one venue's trades on its Kafka topic, in order and without a gap."
    )
    parser.add_argument("--venue", choices=sorted(VENUES), required=True)
    parser.add_argument("--ws", required=True, help="WebSocket address without path, such as wss://ws.kraken.com")
    parser.add_argument("--rest", required=True, help="REST address without path, such as https://api.kraken.com")
    parser.add_argument("--brokers", required=True, help="HOST:PORT,...")
    parser.add_argument("--port", type=int, required=True, help="for /healthz and /metrics")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("start", "live"),
        default="start",
        help="where an empty log begins (default start: id 1)",
    )
    parser.add_argument(
        "--backoff-max-s", type=float, default=1.0, help="longest wait between two attempts (default 1)"
    )
    options = parser.parse_args()
    log_json()
    failpoints.listen()
    handler = Handler(
        VENUES[options.venue],
        options.ws,
        options.rest,
        options.brokers,
        from_live=options.origin == "live",
        backoff_max_s=options.backoff_max_s,
    )
    try:
        asyncio.run(_serve(handler, options.host, options.port))
    except OSError as e:
        log.error(
            "handler_cannot_start", venue=options.venue, error=str(e), remedy=f"a free --port instead of {options.port}"
        )
        return 2
    log.info("stopped", venue=options.venue)
    return 0


if __name__ == "__main__":
    sys.exit(main())
