"""Binance Spot: combined and raw streams (`<symbol>@trade`), live subscribing, ping frames; REST GET
/api/v3/historicalTrades.

Field names as in the public documentation of web-socket-streams and rest-api. Times are milliseconds unless
microseconds are asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from pipelines.trades.simulated.market import Client, Limit, Market, SimTrade, decimal, serve
from pipelines.trades.tape import SCALE, SYMBOLS

__all__ = ["Binance", "row", "trade"]

LIMIT_DEFAULT, LIMIT_MAX = 500, 1000


def trade(symbol: str, t: SimTrade, micro: bool) -> str:
    """The `trade` event. m: the buyer is the maker, so the taker sold."""
    at = t.time_us if micro else t.time_us // 1000
    return (
        f'{{"e":"trade","E":{at},"s":"{symbol}","t":{t.id},"p":"{decimal(t.price)}","q":"{decimal(t.quantity)}",'
        f'"T":{at},"m":{"true" if t.side else "false"},"M":true}}'
    )


def row(t: SimTrade, micro: bool) -> str:
    """One element of the history."""
    at = t.time_us if micro else t.time_us // 1000
    value = decimal(t.price * t.quantity // SCALE)
    return (
        f'{{"id":{t.id},"price":"{decimal(t.price)}","qty":"{decimal(t.quantity)}","quoteQty":"{value}",'
        f'"time":{at},"isBuyerMaker":{"true" if t.side else "false"},"isBestMatch":true}}'
    )


class Binance:
    """The venue. A client's topics are stream names."""

    name = "binance"

    def __init__(self, market: Market) -> None:
        self._market = market
        self._limit = Limit()
        self._streams = {f"{symbol.lower()}@trade": symbol for symbol in SYMBOLS[self.name]}
        self.clients: set[Client] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        return (
            web.get("/binance/stream", self._socket),
            web.get("/binance/ws", self._socket),
            web.get("/binance/ws/{stream}", self._socket),
            web.get("/binance/api/v3/historicalTrades", self._history),
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        return await serve(self, request)

    async def connected(self, client: Client) -> None:
        wanted = client.options.get("streams", "").split("/")
        wanted.append(client.options.get("stream", ""))
        client.topics.update(stream for stream in wanted if stream in self._streams)

    async def received(self, client: Client, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError as e:
            return await client.send(_problem(3, f"Invalid JSON: {e}"))
        if not isinstance(message, dict) or "method" not in message:
            return await client.send(_problem(2, "Invalid request: request must be an object with a method"))
        params, id_ = message.get("params", []), message.get("id")
        if message["method"] == "LIST_SUBSCRIPTIONS":
            return await client.send(json.dumps({"result": sorted(client.topics), "id": id_}))
        if message["method"] not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return await client.send(_problem(2, "Invalid request: unknown variant " + json.dumps(message["method"])))
        if not isinstance(params, list) or not all(isinstance(p, str) for p in params):
            return await client.send(_problem(2, "Invalid request: params must be an array of strings"))
        if message["method"] == "SUBSCRIBE":
            client.topics.update(p for p in params if p in self._streams)
        else:
            client.topics.difference_update(params)
        await client.send(json.dumps({"result": None, "id": id_}))

    async def publish(self, new: Mapping[str, Sequence[SimTrade]]) -> None:
        for stream, symbol in self._streams.items():
            clients = [c for c in self.clients if stream in c.topics]
            for t in new.get(symbol, ()) if clients else ():
                texts: dict[tuple[bool, bool], str] = {}
                for client in clients:
                    micro = client.options.get("timeUnit", "").upper() == "MICROSECOND"
                    combined = "streams" in client.options
                    if (micro, combined) not in texts:
                        event = trade(symbol, t, micro)
                        texts[micro, combined] = f'{{"stream":"{stream}","data":{event}}}' if combined else event
                    await client.send(texts[micro, combined])

    async def beat(self) -> None:
        """Binance's heartbeat is the ping frame."""

    async def _history(self, request: web.Request) -> web.Response:
        if self._limit.exceeded():
            return _error(
                429, -1003, "Too many requests; please use the websocket for live updates.", {"Retry-After": "1"}
            )
        query = request.query
        symbol = query.get("symbol")
        if not symbol:
            return _error(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol not in SYMBOLS[self.name]:
            return _error(400, -1121, "Invalid symbol.")
        for name in ("limit", "fromId"):
            if name in query and not query[name].isdecimal():
                return _error(
                    400, -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
                )
        limit = min(LIMIT_MAX, int(query.get("limit", LIMIT_DEFAULT)))
        if limit == 0:
            return _error(400, -1130, "Data sent for parameter 'limit' is not valid.")
        first = int(query["fromId"]) if "fromId" in query else max(1, self._market.head(self.name, symbol) - limit + 1)
        micro = request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        rows = self._market.history(self.name, symbol, first - 1, first - 1 + limit)
        return web.Response(text=f"[{','.join(row(t, micro) for t in rows)}]", content_type="application/json")


def _problem(code: int, text: str) -> str:
    return json.dumps({"error": {"code": code, "msg": text}})


def _error(status: int, code: int, text: str, headers: Mapping[str, Any] | None = None) -> web.Response:
    return web.json_response({"code": code, "msg": text}, status=status, headers=headers)
