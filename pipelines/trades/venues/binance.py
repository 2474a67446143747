"""Binance Spot's formats: combined `trade` streams in microseconds, REST historicalTrades by fromId."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipelines.trades.venues import FeedError, Parsed, Place, Request, Trade, plain

__all__ = ["NAME", "PAGE_ROWS", "SYMBOLS", "page", "parse", "parse_page", "socket_path", "subscriptions"]

NAME = "binance"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PAGE_ROWS = 1000


def socket_path(symbols: Sequence[str]) -> str:
    return f"/stream?streams={'/'.join(f'{s.lower()}@trade' for s in symbols)}&timeUnit=MICROSECOND"


def subscriptions(symbols: Sequence[str]) -> list[str]:
    return []


def parse(text: str) -> Parsed:
    message = json.loads(text)
    data = message.get("data", message)
    if data.get("e") == "trade":
        return Parsed((_trade(data["s"], data["t"], data["m"], data["p"], data["q"], data["T"]),))
    if "error" in message:
        raise FeedError(f"binance: {message['error']}")
    return Parsed()


def page(symbol: str, after: Place) -> Request:
    params = {"symbol": symbol, "fromId": str(after.trade_id + 1), "limit": str(PAGE_ROWS)}
    return Request("/api/v3/historicalTrades", params, {"X-MBX-TIME-UNIT": "MICROSECOND"})


def parse_page(symbol: str, text: str) -> list[Trade]:
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise FeedError(f"binance: {rows}")
    return [_trade(symbol, r["id"], r["isBuyerMaker"], r["price"], r["qty"], r["time"]) for r in rows]


def _trade(symbol: str, trade_id: int, buyer_is_maker: Any, price: str, quantity: str, at: int) -> Trade:
    return Trade(symbol, trade_id, "sell" if buyer_is_maker else "buy", plain(price), plain(quantity), at)
