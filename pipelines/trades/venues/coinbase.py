"""Coinbase Exchange's formats: `matches` and `heartbeat` channels, REST product trades by cursor. Its `side` is the
maker's: the taker's is the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipelines.trades.venues import FeedError, Parsed, Place, Request, Side, Trade, micros, plain

__all__ = ["NAME", "PAGE_ROWS", "SYMBOLS", "page", "parse", "parse_page", "socket_path", "subscriptions"]

NAME = "coinbase"
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
PAGE_ROWS = 1000

TAKER: Mapping[str, Side] = {"buy": "sell", "sell": "buy"}
"""The taker's side by the maker's."""


def socket_path(symbols: Sequence[str]) -> str:
    return "/"


def subscriptions(symbols: Sequence[str]) -> list[str]:
    return [json.dumps({"type": "subscribe", "product_ids": list(symbols), "channels": ["matches", "heartbeat"]})]


def parse(text: str) -> Parsed:
    message = json.loads(text)
    kind = message.get("type")
    if kind in ("match", "last_match"):
        return Parsed((_trade(message["product_id"], message),))
    if kind == "error":
        raise FeedError(f"coinbase: {message.get('message')} ({message.get('reason')})")
    if kind == "subscriptions":
        return Parsed(subscribed=[p for c in message["channels"] if c["name"] == "matches" for p in c["product_ids"]])
    return Parsed()


def page(symbol: str, after: Place) -> Request:
    """Pages run from new to old, but ids are contiguous: the page that ends PAGE_ROWS further on is the next one."""
    return Request(
        f"/products/{symbol}/trades", {"after": str(after.trade_id + PAGE_ROWS + 1), "limit": str(PAGE_ROWS)}
    )


def parse_page(symbol: str, text: str) -> list[Trade]:
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise FeedError(f"coinbase: {rows}")
    return [_trade(symbol, row) for row in reversed(rows)]


def _trade(symbol: str, t: Mapping[str, str]) -> Trade:
    return Trade(symbol, int(t["trade_id"]), TAKER[t["side"]], plain(t["price"]), plain(t["size"]), micros(t["time"]))
