"""The simulated venues over real sockets: what they serve is the ledger, in the form that the handlers read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from pipelines.trades import exchange as simulator
from pipelines.trades import tape as ledger
from pipelines.trades.exchange import Exchange
from pipelines.trades.simulated.market import SimTrade, decimal, short
from pipelines.trades.simulated.market import trades as rows
from pipelines.trades.tape import SCALE, SYMBOLS, Tape
from pipelines.trades.venues import Place, Trade, Venue, binance, coinbase, kraken

VENUES: tuple[Venue, ...] = (binance, kraken, coinbase)
HISTORY_US = 120_000_000
WAIT_S = 60.0

by_venue = pytest.mark.parametrize("venue", VENUES, ids=lambda v: v.NAME)

Client = TestClient[Any, Any]


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[Callable[[Client, Tape], Awaitable[None]]], None]:
    """Run a test against an exchange that has two minutes of history."""
    tape_file = {"seed": 3, "rate": 300.0, "segments": [[0, 1_790_000_000_000_000]], "reserved_ns": HISTORY_US * 1000}
    (tmp_path / "tape.json").write_text(json.dumps(tape_file))

    async def session(test: Callable[[Client, Tape], Awaitable[None]]) -> None:
        tape = Tape(tmp_path, 3, 300.0)
        async with TestClient(TestServer(Exchange(tape).app())) as client:
            async with asyncio.timeout(WAIT_S):
                await test(client, tape)

    return lambda test: asyncio.run(session(test))


def as_ledger(trade: Trade) -> SimTrade:
    """A parsed trade in the ledger's integers; fails when a digit was lost."""
    scaled = [Decimal(text) * SCALE for text in (trade.price, trade.quantity)]
    assert all(value == int(value) for value in scaled)
    return SimTrade(
        trade.trade_id, int(scaled[0]), int(scaled[1]), ("buy", "sell").index(trade.side), trade.exchange_us
    )


async def page(client: Client, venue: Venue, symbol: str, after: Place) -> list[Trade]:
    request = venue.page(symbol, after)
    answer = await client.get(f"/{venue.NAME}{request.path}", params=request.params, headers=request.headers)
    assert answer.status == 200
    return venue.parse_page(symbol, await answer.text())


@by_venue
def test_history_is_the_ledger(venue: Venue, serve: Any) -> None:
    """Paging from nothing as a handler does gives every trade of the ledger once, digit by digit."""

    async def test(client: Client, tape: Tape) -> None:
        for symbol in venue.SYMBOLS:
            head = ledger.count(tape.json(), venue.NAME, symbol, HISTORY_US * 1000)
            found: list[Trade] = []
            while not found or found[-1].trade_id < head:
                place = Place(found[-1].trade_id, found[-1].exchange_us) if found else Place(0, 0)
                new = [t for t in await page(client, venue, symbol, place) if t.trade_id > place.trade_id]
                assert new
                found += new
            assert [as_ledger(t) for t in found[:head]] == rows(tape, venue.NAME, symbol, 0, head)

    serve(test)


@by_venue
def test_live_trades_are_the_ledger_in_order(venue: Venue, serve: Any) -> None:
    """After subscribing, every symbol's trades arrive contiguously and as the ledger has them."""

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect(f"/{venue.NAME}{venue.socket_path(venue.SYMBOLS)}") as ws:
            for request in venue.subscriptions(venue.SYMBOLS):
                await ws.send_str(request)
            found: dict[str, list[Trade]] = {s: [] for s in venue.SYMBOLS}
            confirmed: set[str] = set()
            while any(len(trades) < 60 for trades in found.values()):
                parsed = venue.parse(await ws.receive_str())
                confirmed.update(parsed.subscribed)
                for trade in parsed.trades:
                    found[trade.symbol].append(trade)
        assert confirmed == (set(venue.SYMBOLS) if venue.subscriptions(venue.SYMBOLS) else set())
        for symbol, trades in found.items():
            lo, hi = trades[0].trade_id - 1, trades[-1].trade_id
            assert [as_ledger(t) for t in trades] == rows(tape, venue.NAME, symbol, lo, hi)

    serve(test)


def test_kraken_begins_with_the_last_fifty(serve: Any) -> None:
    """The snapshot holds the newest 50 trades, older ones first, and the updates go on from there."""

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect("/kraken/v2") as ws:
            await ws.send_str(kraken.subscriptions(["BTC/USD"])[0])
            kinds: dict[str, list[Trade]] = {"snapshot": [], "update": []}
            while not kinds["update"]:
                text = await ws.receive_str()
                message = json.loads(text)
                if message.get("channel") == "trade":
                    kinds[message["type"]] += kraken.parse(text).trades
        assert len(kinds["snapshot"]) == 50
        head = kinds["snapshot"][-1].trade_id
        assert [t.trade_id for t in kinds["snapshot"]] == list(range(head - 49, head + 1))
        assert head >= ledger.count(tape.json(), "kraken", "BTC/USD", HISTORY_US * 1000)
        assert kinds["update"][0].trade_id <= head + 1

    serve(test)


def test_kraken_answers_pings_and_refuses_what_it_does_not_have(serve: Any) -> None:
    """Pongs carry the request's id; an unknown pair, channel or method is refused by name."""

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect("/kraken/v2") as ws:
            assert (await ws.receive_json())["channel"] == "status"
            await ws.send_json({"method": "ping", "req_id": 9})
            pong = await ws.receive_json()
            assert (pong["method"], pong["req_id"]) == ("pong", 9)
            for params, said in (
                ({"channel": "trade", "symbol": ["XXX/USD"]}, "Currency pair not supported XXX/USD"),
                ({"channel": "gossip", "symbol": ["BTC/USD"]}, "Unsupported channel"),
                ({"channel": "trade"}, "Missing field: symbol"),
            ):
                await ws.send_json({"method": "subscribe", "params": params})
                answer = await ws.receive_json()
                assert (answer["success"], answer["error"]) == (False, said)
            await ws.send_str("{")
            assert (await ws.receive_json())["success"] is False

    serve(test)


def test_binance_subscribes_while_connected(serve: Any) -> None:
    """SUBSCRIBE adds streams to a connection, LIST_SUBSCRIPTIONS shows them, UNSUBSCRIBE ends them; nonsense is
    refused.
    """

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect("/binance/ws/solusdt@trade") as ws:
            assert json.loads(await ws.receive_str())["s"] == "SOLUSDT"
            await ws.send_json({"method": "UNSUBSCRIBE", "params": ["solusdt@trade"], "id": 1})
            await ws.send_json({"method": "SUBSCRIBE", "params": ["ethusdt@trade"], "id": 2})
            await ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 3})
            await ws.send_json({"method": "DANCE", "id": 4})
            answers: dict[int | None, Any] = {}
            after: set[str] = set()
            while None not in answers or not after:
                message = await ws.receive_json()
                if 3 in answers and "e" in message:
                    after.add(message["s"])
                elif "e" not in message:
                    answers[message.get("id")] = message
            assert (answers[1]["result"], answers[2]["result"]) == (None, None)
            assert answers[3]["result"] == ["ethusdt@trade"]
            assert answers[None]["error"]["code"] == 2
            assert after == {"ETHUSDT"}

    serve(test)


def test_binance_times_are_milliseconds_unless_asked(serve: Any) -> None:
    """As on the venue: microseconds only with timeUnit, or with its header."""

    async def test(client: Client, tape: Tape) -> None:
        params = {"symbol": "BTCUSDT", "fromId": "5", "limit": "1"}
        coarse = await (await client.get("/binance/api/v3/historicalTrades", params=params)).json()
        fine = await page(client, binance, "BTCUSDT", Place(4, 0))
        assert coarse[0]["time"] == fine[0].exchange_us // 1000
        async with client.ws_connect("/binance/stream?streams=btcusdt@trade") as ws:
            assert (await ws.receive_json())["data"]["T"] < 10**14

    serve(test)


def test_coinbase_begins_with_the_last_match_and_beats(serve: Any) -> None:
    """Subscribing is confirmed, the newest trade repeated as last_match; heartbeats name the last trade."""

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect("/coinbase/") as ws:
            await ws.send_str(coinbase.subscriptions(["BTC-USD"])[0])
            kinds: dict[str, Any] = {}
            while not kinds.keys() >= {"subscriptions", "last_match", "match", "heartbeat"}:
                message = await ws.receive_json()
                kinds.setdefault(message["type"], message)
            assert {c["name"] for c in kinds["subscriptions"]["channels"]} == {"matches", "heartbeat"}
            assert kinds["heartbeat"]["last_trade_id"] >= kinds["last_match"]["trade_id"]
            await ws.send_json({"type": "subscribe", "product_ids": ["XXX-USD"], "channels": ["matches"]})
            while (message := await ws.receive_json())["type"] != "error":
                pass
            assert "XXX-USD" in message["reason"]

    serve(test)


def test_coinbase_pages_by_cursor(serve: Any) -> None:
    """Newest first; CB-AFTER leads to older pages, CB-BEFORE to newer ones."""

    async def test(client: Client, tape: Tape) -> None:
        path = "/coinbase/products/BTC-USD/trades"
        first = await client.get(path, params={"limit": "10", "after": "101"})
        assert [t["trade_id"] for t in await first.json()] == list(range(100, 90, -1))
        assert (first.headers["CB-BEFORE"], first.headers["CB-AFTER"]) == ("100", "91")
        older = await client.get(path, params={"limit": "10", "after": first.headers["CB-AFTER"]})
        assert (await older.json())[0]["trade_id"] == 90
        newer = await client.get(path, params={"limit": "1000", "before": first.headers["CB-BEFORE"]})
        assert all(t["trade_id"] > 100 for t in await newer.json())

    serve(test)


@pytest.mark.parametrize(
    ("path", "params", "status", "said"),
    [
        ("/binance/api/v3/historicalTrades", {}, 400, -1102),
        ("/binance/api/v3/historicalTrades", {"symbol": "NOPE"}, 400, -1121),
        ("/binance/api/v3/historicalTrades", {"symbol": "BTCUSDT", "fromId": "x"}, 400, -1100),
        ("/kraken/0/public/Trades", {}, 200, "EGeneral:Invalid arguments"),
        ("/kraken/0/public/Trades", {"pair": "NOPE"}, 200, "EQuery:Unknown asset pair"),
        ("/kraken/0/public/Trades", {"pair": "XBTUSD", "since": "x"}, 200, "EGeneral:Invalid arguments"),
        ("/coinbase/products/NOPE/trades", {}, 404, "NotFound"),
        ("/coinbase/products/BTC-USD/trades", {"limit": "0"}, 400, "limit"),
        ("/coinbase/products/BTC-USD/trades", {"after": "x"}, 400, "after"),
    ],
)
def test_bad_requests_get_the_venues_answers(
    path: str, params: dict[str, str], status: int, said: object, serve: Any
) -> None:
    """Status and code are the venue's own."""

    async def test(client: Client, tape: Tape) -> None:
        answer = await client.get(path, params=params)
        assert answer.status == status
        assert str(said) in await answer.text()

    serve(test)


def test_too_many_requests_are_refused(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is generous, but a client that hammers meets it."""
    monkeypatch.setattr("pipelines.trades.simulated.market.REQUESTS_PER_S", 3)

    async def test(client: Client, tape: Tape) -> None:
        path = "/coinbase/products/BTC-USD/trades"
        statuses = [(await client.get(path, params={"limit": "1"})).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]

    serve(test)


def test_the_tape_names_the_heads(serve: Any) -> None:
    """/tape holds what the ledger needs, and the heads are those that the ledger counts."""

    async def test(client: Client, tape: Tape) -> None:
        body = await (await client.get("/tape")).json()
        assert body["heads"] == {
            v: {s: ledger.count(body, v, s, body["tape_ns"]) for s in symbols} for v, symbols in SYMBOLS.items()
        }
        assert (await (await client.get("/healthz")).json())["ok"] is True

    serve(test)


def test_a_tape_that_cannot_be_kept_is_not_healthy(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk /healthz says 503 and why, and the tape stands still."""

    async def test(client: Client, tape: Tape) -> None:
        def full() -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tape, "reserve", full)
        while (answer := await client.get("/healthz")).status == 200:
            await asyncio.sleep(simulator.PACE_S)
        assert "No space left" in (await answer.json())["error"]
        monkeypatch.undo()

    serve(test)


def test_a_slow_client_is_cut_off_and_the_others_are_not(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who doesn't read is disconnected; the one beside goes on without a gap."""
    monkeypatch.setattr("pipelines.trades.simulated.market.BUFFER_BYTES_MAX", -1)

    async def test(client: Client, tape: Tape) -> None:
        async with client.ws_connect("/binance/stream?streams=btcusdt@trade") as ws:
            message = await ws.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
        assert (await client.get("/healthz")).status == 200

    serve(test)


@pytest.mark.parametrize(
    ("value", "long", "brief"),
    [
        (1, "0.00000001", "0.00000001"),
        (6425010000000, "64250.10000000", "64250.1"),
        (4000000000, "40.00000000", "40.0"),
    ],
)
def test_decimals_are_written_exactly(value: int, long: str, brief: str) -> None:
    """Integers of 10^-8 as text with all places, or with as few as are exact."""
    assert (decimal(value), short(value)) == (long, brief)
