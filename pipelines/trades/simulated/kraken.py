"""Kraken: WebSocket v2 (`trade` channel with snapshot, heartbeats, ping and pong) and REST GET /0/public/Trades.

Field names as in the public documentation of spot-websocket-v2 and get-recent-trades. Prices and quantities on the
WebSocket are JSON numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from pipelines.trades.simulated.market import Client, Limit, Market, SimTrade, decimal, iso, serve, short
from pipelines.trades.tape import SYMBOLS

__all__ = ["Kraken", "message", "row"]

SNAPSHOT_TRADES = 50
COUNT_MAX = 1000
SECONDS_BELOW = 10**12
"""A `since` below this is seconds, else nanoseconds."""

PAIRS = {"BTC/USD": ("XXBTZUSD", "XBTUSD"), "ETH/USD": ("XETHZUSD", "ETHUSD"), "SOL/USD": ("SOLUSD",)}
"""Symbol -> REST's name of the pair (the key of its answer), and the other names it takes."""

SIDES = ("buy", "sell")


def message(kind: str, symbol: str, batch: Iterable[SimTrade]) -> str:
    """A message of the trade channel; kind: snapshot or update."""
    data = ",".join(
        f'{{"symbol":"{symbol}","side":"{SIDES[t.side]}","price":{short(t.price)},"qty":{short(t.quantity)},'
        f'"ord_type":"{_order(t)}","trade_id":{t.id},"timestamp":"{iso(t.time_us)}"}}'
        for t in batch
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{data}]}}'


def row(t: SimTrade) -> str:
    """One element of the history."""
    at = f"{t.time_us // 1_000_000}.{t.time_us % 1_000_000:06d}"
    return f'["{decimal(t.price, 5)}","{decimal(t.quantity)}",{at},"{SIDES[t.side][0]}","{_order(t)[0]}","",{t.id}]'


def _order(t: SimTrade) -> str:
    return "market" if t.id % 3 else "limit"


class Kraken:
    """The venue. A client's topics are symbols."""

    name = "kraken"

    def __init__(self, market: Market) -> None:
        self._market = market
        self._limit = Limit()
        self.clients: set[Client] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        return (web.get("/kraken/v2", self._socket), web.get("/kraken/0/public/Trades", self._history))

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        return await serve(self, request)

    async def connected(self, client: Client) -> None:
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": id(client)}
        await client.send(json.dumps({"channel": "status", "type": "update", "data": [status]}))

    async def received(self, client: Client, text: str) -> None:
        time_in = _now()
        try:
            request = json.loads(text)
        except ValueError:
            return await client.send(json.dumps({"error": "Malformed request", "success": False, **_times(time_in)}))
        method = request.get("method") if isinstance(request, dict) else None
        extra = {"req_id": request["req_id"]} if isinstance(request, dict) and "req_id" in request else {}
        if method == "ping":
            return await client.send(json.dumps({"method": "pong", **_times(time_in), **extra}))
        if method not in ("subscribe", "unsubscribe"):
            return await client.send(
                json.dumps({"error": "Unsupported method", "success": False, **_times(time_in), **extra})
            )
        params = request.get("params")
        if not isinstance(params, dict) or params.get("channel") != "trade":
            return await client.send(_refused(method, "Unsupported channel", time_in, extra))
        if not isinstance(params.get("symbol"), list) or not params["symbol"]:
            return await client.send(_refused(method, "Missing field: symbol", time_in, extra))
        for symbol in params["symbol"]:
            await self._subscribe(client, method, str(symbol), bool(params.get("snapshot", True)), time_in, extra)

    async def _subscribe(
        self, client: Client, method: str, symbol: str, snapshot: bool, time_in: str, extra: Mapping[str, Any]
    ) -> None:
        if symbol not in SYMBOLS[self.name]:
            return await client.send(
                _refused(method, f"Currency pair not supported {symbol}", time_in, {"symbol": symbol, **extra})
            )
        result: dict[str, Any] = {"channel": "trade", "symbol": symbol}
        if method == "unsubscribe":
            client.topics.discard(symbol)
        else:
            client.topics.add(symbol)
            result["snapshot"] = snapshot
        await client.send(json.dumps({"method": method, "result": result, "success": True, **_times(time_in), **extra}))
        if method == "subscribe" and snapshot:
            head = self._market.published.get((self.name, symbol), 0)
            await client.send(
                message("snapshot", symbol, self._market.history(self.name, symbol, head - SNAPSHOT_TRADES, head))
            )

    async def publish(self, new: Mapping[str, Sequence[SimTrade]]) -> None:
        for symbol, batch in new.items():
            clients = [c for c in self.clients if symbol in c.topics]
            text = message("update", symbol, batch) if clients else ""
            for client in clients:
                await client.send(text)

    async def beat(self) -> None:
        for client in [c for c in self.clients if c.topics]:
            await client.send('{"channel":"heartbeat"}')

    async def _history(self, request: web.Request) -> web.Response:
        if self._limit.exceeded():
            return _answer(errors=["EAPI:Rate limit exceeded"])
        query = request.query
        if "pair" not in query:
            return _answer(errors=["EGeneral:Invalid arguments"])
        symbol = next((s for s, names in PAIRS.items() if query["pair"] in (s, *names)), None)
        if symbol is None:
            return _answer(errors=["EQuery:Unknown asset pair"])
        count, since = query.get("count", str(COUNT_MAX)), query.get("since")
        if not count.isdecimal() or not 1 <= int(count) <= COUNT_MAX:
            return _answer(errors=["EGeneral:Invalid arguments:count"])
        if since is not None and not since.isdecimal():
            return _answer(errors=["EGeneral:Invalid arguments:since"])
        if since is None:
            lo = self._market.head(self.name, symbol) - int(count)
            since_ns = time.time_ns()
        else:
            since_ns = int(since) * (10**9 if int(since) < SECONDS_BELOW else 1)
            lo = self._market.until(self.name, symbol, since_ns // 1000)
        rows = self._market.history(self.name, symbol, lo, lo + int(count))
        last = rows[-1].time_us * 1000 if rows else since_ns
        return _answer(result=f'{{"{PAIRS[symbol][0]}":[{",".join(map(row, rows))}],"last":"{last}"}}')


def _now() -> str:
    return iso(time.time_ns() // 1000)


def _times(time_in: str) -> dict[str, str]:
    return {"time_in": time_in, "time_out": _now()}


def _refused(method: str, why: str, time_in: str, extra: Mapping[str, Any]) -> str:
    return json.dumps({"error": why, "method": method, "success": False, **_times(time_in), **extra})


def _answer(result: str | None = None, errors: Sequence[str] = ()) -> web.Response:
    """Kraken answers 200 to everything; what went wrong is in `error`."""
    text = f'{{"error":{json.dumps(errors)}{"" if result is None else f",{chr(34)}result{chr(34)}:{result}"}}}'
    return web.Response(text=text, content_type="application/json")
