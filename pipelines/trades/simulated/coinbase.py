"""Coinbase Exchange: WebSocket feed (`matches` and `heartbeat` channels) and REST GET /products/{id}/trades with
cursors.

Field names as in the public documentation of websocket-feed and get-product-trades. `side` is the maker's order side,
so it is the opposite of the taker's.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from pipelines.trades.simulated.market import Client, Limit, Market, SimTrade, decimal, iso, serve
from pipelines.trades.tape import SYMBOLS

__all__ = ["Coinbase", "match", "row"]

LIMIT_MAX = 1000
CHANNELS = ("matches", "heartbeat")
MAKER_SIDES = ("sell", "buy")
"""The maker's side by the taker's."""


def match(kind: str, symbol: str, t: SimTrade) -> str:
    """A message of the matches channel; kind: match or last_match. The sequence is the order book's, which numbers
    more than trades.
    """
    orders = [uuid.uuid5(uuid.NAMESPACE_OID, f"{symbol}/{t.id}/{who}") for who in ("maker", "taker")]
    return (
        f'{{"type":"{kind}","trade_id":{t.id},"maker_order_id":"{orders[0]}","taker_order_id":"{orders[1]}",'
        f'"side":"{MAKER_SIDES[t.side]}","size":"{decimal(t.quantity)}","price":"{decimal(t.price, 2)}",'
        f'"product_id":"{symbol}","sequence":{t.id * 7},"time":"{iso(t.time_us)}"}}'
    )


def row(t: SimTrade) -> str:
    """One element of the history."""
    return (
        f'{{"trade_id":{t.id},"side":"{MAKER_SIDES[t.side]}","size":"{decimal(t.quantity)}","price":"{decimal(t.price)}",'
        f'"time":"{iso(t.time_us)}"}}'
    )


class Coinbase:
    """The venue. A client's topics are "<channel> <product>"."""

    name = "coinbase"

    def __init__(self, market: Market) -> None:
        self._market = market
        self._limit = Limit()
        self.clients: set[Client] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        return (
            web.get("/coinbase", self._socket),
            web.get("/coinbase/", self._socket),
            web.get("/coinbase/products/{product}/trades", self._history),
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        return await serve(self, request)

    async def connected(self, client: Client) -> None:
        """Coinbase waits for a subscription."""

    async def received(self, client: Client, text: str) -> None:
        try:
            request = json.loads(text)
        except ValueError:
            return await client.send(_problem("Malformed JSON"))
        if not isinstance(request, dict) or request.get("type") not in ("subscribe", "unsubscribe"):
            return await client.send(_problem("Type has to be either subscribe or unsubscribe"))
        wanted: list[tuple[str, str]] = []
        for channel in request.get("channels", []):
            name = channel.get("name") if isinstance(channel, dict) else channel
            products = channel.get("product_ids") if isinstance(channel, dict) else None
            if name not in CHANNELS:
                return await client.send(_problem(f"{name} is not a valid channel"))
            for product in products or request.get("product_ids", []):
                if product not in SYMBOLS[self.name]:
                    return await client.send(_problem(f"{product} is not a valid product"))
                wanted.append((name, product))
        if not wanted:
            return await client.send(_problem("No channels or products given"))
        topics = {" ".join(topic) for topic in wanted}
        fresh = [product for name, product in wanted if name == "matches" and f"matches {product}" not in client.topics]
        client.topics = client.topics | topics if request["type"] == "subscribe" else client.topics - topics
        await client.send(json.dumps({"type": "subscriptions", "channels": _subscriptions(client)}))
        for product in fresh if request["type"] == "subscribe" else ():
            head = self._market.published.get((self.name, product), 0)
            for t in self._market.history(self.name, product, head - 1, head):
                await client.send(match("last_match", product, t))

    async def publish(self, new: Mapping[str, Sequence[SimTrade]]) -> None:
        for symbol, batch in new.items():
            clients = [c for c in self.clients if f"matches {symbol}" in c.topics]
            for t in batch if clients else ():
                text = match("match", symbol, t)
                for client in clients:
                    await client.send(text)

    async def beat(self) -> None:
        for symbol in SYMBOLS[self.name]:
            clients = [c for c in self.clients if f"heartbeat {symbol}" in c.topics]
            if not clients:
                continue
            head = self._market.head(self.name, symbol)
            beat = {
                "type": "heartbeat",
                "sequence": head * 7,
                "last_trade_id": head,
                "product_id": symbol,
                "time": iso(time.time_ns() // 1000),
            }
            for client in clients:
                await client.send(json.dumps(beat))

    async def _history(self, request: web.Request) -> web.Response:
        """Newest first. after: older than that id; before: newer. CB-BEFORE and CB-AFTER are the page's first and
        last id.
        """
        if self._limit.exceeded():
            return _error(429, "Public rate limit exceeded", {"Retry-After": "1"})
        symbol, query = request.match_info["product"], request.query
        if symbol not in SYMBOLS[self.name]:
            return _error(404, "NotFound")
        for name in ("limit", "before", "after"):
            if name in query and not query[name].isdecimal():
                return _error(400, f"Invalid value for {name}")
        limit = int(query.get("limit", LIMIT_MAX))
        if not 1 <= limit <= LIMIT_MAX:
            return _error(400, f"limit must be between 1 and {LIMIT_MAX}")
        head = self._market.head(self.name, symbol)
        hi = min(head, int(query["after"]) - 1) if "after" in query else head
        rows = self._market.history(self.name, symbol, max(hi - limit, int(query.get("before", 0))), hi)[::-1]
        cursors = {"CB-BEFORE": str(rows[0].id), "CB-AFTER": str(rows[-1].id)} if rows else {}
        return web.Response(text=f"[{','.join(map(row, rows))}]", content_type="application/json", headers=cursors)


def _subscriptions(client: Client) -> list[dict[str, Any]]:
    by_channel = {
        name: sorted(t.partition(" ")[2] for t in client.topics if t.startswith(f"{name} ")) for name in CHANNELS
    }
    return [{"name": name, "product_ids": products} for name, products in by_channel.items() if products]


def _problem(why: str) -> str:
    return json.dumps({"type": "error", "message": "Failed to subscribe", "reason": why})


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"message": text}, status=status, headers=headers)
