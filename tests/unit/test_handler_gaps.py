"""The feed handler's promise, against a venue that misbehaves on purpose: every id once and in order, whatever
arrives.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from confluent_kafka import KafkaException

from pipelines.trades import handler as under_test
from pipelines.trades.handler import Handler
from pipelines.trades.venues import Place, binance

WAIT_S = 30.0
SYMBOLS = binance.SYMBOLS


class FakeSink:
    """Keeps what it is given; `full` makes it wait, as a full queue does."""

    def __init__(self, *_: object) -> None:
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.unsent: dict[str, Place] = {}
        self.produced = self.acked = 0
        self.acked_s = 0.0
        self.room = asyncio.Event()
        self.room.set()
        self.ids: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}

    async def put(self, key: str, value: bytes) -> None:
        await self.room.wait()
        self.ids[key].append(json.loads(value)["trade_id"])

    def close(self) -> None: ...


class FakeVenue:
    """Binance, scripted: each connection sends its list of frames; history knows ids up to `head`, but those in
    `missing`.
    """

    def __init__(self, *connections: Sequence[str]) -> None:
        self.connections = list(connections)
        self.head: dict[str, int] = dict.fromkeys(SYMBOLS, 0)
        self.missing: set[int] = set()
        self.answers: list[web.Response] = []
        self.accepted = self.asked = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/stream", self._socket), web.get("/api/v3/historicalTrades", self._history)])
        return app

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self.accepted += 1
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        frames = self.connections.pop(0) if self.connections else []
        for frame in frames:
            await ws.send_str(frame)
        if self.connections:
            await ws.close()
        async for _ in ws:
            pass
        return ws

    async def _history(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.answers:
            return self.answers.pop(0)
        symbol, first, limit = (request.query[name] for name in ("symbol", "fromId", "limit"))
        ids = range(int(first), min(int(first) + int(limit), self.head[symbol] + 1))
        return web.json_response([history(i) for i in ids if i not in self.missing])


def history(trade_id: int) -> dict[str, Any]:
    return {"id": trade_id, "price": "1.5", "qty": "2", "time": 1_790_000_000_000_000 + trade_id, "isBuyerMaker": False}


def frame(trade_id: int, symbol: str = "BTCUSDT") -> str:
    data = {"e": "trade", "s": symbol, "t": trade_id, "p": "1.5", "q": "2", "T": 1_790_000_000_000_000 + trade_id}
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": {**data, "m": False}})


Run = Callable[..., list[FakeSink]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a handler against a venue until `done`, from a log that ends at `tail`; the sinks it used, in order."""
    sinks: list[FakeSink] = []

    def make(*arguments: object) -> FakeSink:
        sinks.append(FakeSink(*arguments))
        return sinks[-1]

    async def session(
        venue: FakeVenue,
        done: Callable[[list[FakeSink]], bool],
        meanwhile: Callable[[list[FakeSink]], Awaitable[None]] | None,
        from_live: bool,
    ) -> None:
        async with TestServer(venue.app()) as server:
            url = str(server.make_url("")).rstrip("/")
            handler = Handler(binance, url, url, "nowhere:1", from_live=from_live, backoff_max_s=0.01)
            running = asyncio.create_task(handler.run())
            try:
                async with asyncio.timeout(WAIT_S):
                    if meanwhile is not None:
                        await meanwhile(sinks)
                    while not (sinks and done(sinks)):
                        assert not running.done(), running.result()
                        await asyncio.sleep(0.005)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    def start(
        venue: FakeVenue,
        done: Callable[[list[FakeSink]], bool],
        *,
        tail: Mapping[str, Place] | None = None,
        tails: Callable[..., Mapping[str, Place]] | None = None,
        meanwhile: Callable[[list[FakeSink]], Awaitable[None]] | None = None,
        from_live: bool = False,
    ) -> list[FakeSink]:
        monkeypatch.setattr(under_test, "Sink", make)
        monkeypatch.setattr(under_test, "tail", tails or (lambda *_: dict(tail or {})))
        asyncio.run(session(venue, done, meanwhile, from_live))
        return sinks

    return start


def reaches(last: int, symbol: str = "BTCUSDT") -> Callable[[list[FakeSink]], bool]:
    return lambda sinks: bool(sinks[-1].ids[symbol]) and sinks[-1].ids[symbol][-1] >= last


def test_an_empty_log_starts_at_id_one(run: Run) -> None:
    """All of the venue's history comes first, then live trades."""
    venue = FakeVenue([frame(2501)])
    venue.head["BTCUSDT"] = 2500
    assert run(venue, reaches(2501))[0].ids["BTCUSDT"] == list(range(1, 2502))


def test_live_trades_wait_until_the_gap_is_filled(run: Run) -> None:
    """What the log lacks goes out before what is new, though the new arrived first."""
    venue = FakeVenue([frame(i) for i in range(108, 112)])
    venue.head["BTCUSDT"] = 109
    sinks = run(venue, reaches(111), tail={"BTCUSDT": Place(100, 1)})
    assert sinks[0].ids["BTCUSDT"] == list(range(101, 112))


def test_a_hole_in_the_live_stream_is_filled_from_history(run: Run) -> None:
    """Two ids that the socket left out are fetched, in their place."""
    venue = FakeVenue([frame(i) for i in (1, 2, 5, 6)])
    venue.answers = [web.json_response([]) for _ in SYMBOLS]  # when it connects, history is as empty as the log
    venue.head["BTCUSDT"] = 4
    assert run(venue, reaches(6))[0].ids["BTCUSDT"] == [1, 2, 3, 4, 5, 6]


def test_what_comes_twice_goes_out_once(run: Run) -> None:
    """Snapshots and last matches repeat known trades."""
    venue = FakeVenue([frame(i) for i in (1, 2, 2, 1, 3, 3, 4)])
    assert run(venue, reaches(4))[0].ids["BTCUSDT"] == [1, 2, 3, 4]


def test_an_unreadable_message_costs_nothing(run: Run) -> None:
    """Its trade comes from history when the next one shows that it is missing."""
    venue = FakeVenue([frame(1), '{"data":{"e":"trade","s":"BTCUSDT","t":2}}', "not json", "[]", frame(3)])
    venue.head["BTCUSDT"] = 2
    assert run(venue, reaches(3))[0].ids["BTCUSDT"] == [1, 2, 3]


def test_a_new_connection_goes_on_from_memory(run: Run) -> None:
    """After the venue hung up, what was missed meanwhile is filled before live trades go on."""
    venue = FakeVenue([frame(1), frame(2)], [], [frame(9)])
    venue.head["BTCUSDT"] = 8
    assert run(venue, reaches(9))[0].ids["BTCUSDT"] == list(range(1, 10))
    assert venue.accepted == 3


def test_history_is_asked_until_it_answers(run: Run) -> None:
    """Limits, server errors and nonsense are waited out; nothing is left out for them."""
    venue = FakeVenue([frame(4)])
    venue.head["BTCUSDT"] = 3
    venue.answers = [
        web.json_response({"code": -1003, "msg": "Too many requests"}, status=429),
        web.Response(status=502, text="<html>"),
        web.Response(text="not json"),
        web.json_response([{"id": 1}]),
    ]
    assert run(venue, reaches(4))[0].ids["BTCUSDT"] == [1, 2, 3, 4]


def test_an_id_that_the_venue_never_had_stops_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After enough tries the next trade is taken; the others of the symbol are all there."""
    monkeypatch.setattr(under_test, "HOLE_TRIES", 3)
    venue = FakeVenue([frame(1), frame(3), frame(4)])
    venue.missing = {2}
    assert run(venue, reaches(4))[0].ids["BTCUSDT"] == [1, 3, 4]


def test_a_full_queue_holds_the_stream_up_and_drops_nothing(run: Run) -> None:
    """While the sink waits nothing is lost; when it goes on, all are there in order."""

    async def hold(sinks: list[FakeSink]) -> None:
        while not sinks:
            await asyncio.sleep(0.001)
        sinks[0].room.clear()
        while not venue.accepted:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        assert sinks[0].ids["BTCUSDT"] == []
        sinks[0].room.set()

    venue = FakeVenue([frame(i) for i in range(1, 501)])
    assert run(venue, reaches(500), meanwhile=hold)[0].ids["BTCUSDT"] == list(range(1, 501))


def test_a_failed_producer_is_replaced_and_nothing_left_out(run: Run) -> None:
    """The successor starts at the log's tail, or before the first trade that was not delivered where that is
    earlier.
    """

    async def fail(sinks: list[FakeSink]) -> None:
        while not (sinks and sinks[0].ids["BTCUSDT"][-1:] == [5]):
            await asyncio.sleep(0.001)
        sinks[0].unsent = {"BTCUSDT": Place(3, 3)}
        sinks[0].failed.set_result("fatal: out of order")

    ends = iter([{}, {"BTCUSDT": Place(4, 4)}])
    venue = FakeVenue([frame(i) for i in range(1, 6)])
    venue.head["BTCUSDT"] = 5
    sinks = run(venue, lambda s: len(s) == 2 and reaches(5)(s), tails=lambda *_: next(ends), meanwhile=fail)
    assert sinks[0].ids["BTCUSDT"] == [1, 2, 3, 4, 5]
    assert sinks[1].ids["BTCUSDT"] == [3, 4, 5]


def test_an_unreachable_log_is_waited_for(run: Run) -> None:
    """Nothing is published before it is known where the log ends."""
    tries = iter([KafkaException("down"), KafkaException("down")])

    def tails(*_: object) -> Mapping[str, Place]:
        for problem in tries:
            raise problem
        return {"BTCUSDT": Place(7, 7)}

    assert run(FakeVenue([frame(8)]), reaches(8), tails=tails)[0].ids["BTCUSDT"] == [8]


def test_from_live_begins_with_the_first_trade_seen(run: Run) -> None:
    """An empty log then doesn't mean all of a venue's history."""
    venue = FakeVenue([frame(900), frame(901)])
    venue.head["BTCUSDT"] = 901
    assert run(venue, reaches(901), from_live=True)[0].ids["BTCUSDT"] == [900, 901]
