"""Kraken's formats: WebSocket v2 `trade` channel, whose numbers are read as exact decimals, and REST Trades by time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal

from pipelines.trades.venues import FeedError, Parsed, Place, Request, Side, Trade, micros, plain

__all__ = ["NAME", "PAGE_ROWS", "SYMBOLS", "page", "parse", "parse_page", "socket_path", "subscriptions"]

NAME = "kraken"
SYMBOLS = ("BTC/USD", "ETH/USD", "SOL/USD")
PAGE_ROWS = 1000

SIDES: Mapping[str, Side] = {"b": "buy", "s": "sell", "buy": "buy", "sell": "sell"}
REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""Currencies that REST calls otherwise than the WebSocket."""


def socket_path(symbols: Sequence[str]) -> str:
    return "/v2"


def subscriptions(symbols: Sequence[str]) -> list[str]:
    return [
        json.dumps({"method": "subscribe", "params": {"channel": "trade", "symbol": list(symbols), "snapshot": True}})
    ]


def parse(text: str) -> Parsed:
    message = json.loads(text, parse_float=Decimal)
    if message.get("channel") == "trade":
        return Parsed(
            [
                Trade(
                    t["symbol"],
                    t["trade_id"],
                    SIDES[t["side"]],
                    plain(t["price"]),
                    plain(t["qty"]),
                    micros(t["timestamp"]),
                )
                for t in message["data"]
            ]
        )
    if message.get("success") is False:
        raise FeedError(f"kraken: {message.get('error')} (symbol {message.get('symbol')})")
    if message.get("method") == "subscribe":
        return Parsed(subscribed=(message["result"]["symbol"],))
    return Parsed()


def page(symbol: str, after: Place) -> Request:
    base, _, quote = symbol.partition("/")
    params = {
        "pair": REST_NAMES.get(base, base) + REST_NAMES.get(quote, quote),
        "since": str(after.exchange_us * 1000),
        "count": str(PAGE_ROWS),
    }
    return Request("/0/public/Trades", params)


def parse_page(symbol: str, text: str) -> list[Trade]:
    """The one key of the result that isn't `last` is Kraken's own name of the pair."""
    message = json.loads(text, parse_float=Decimal)
    if message["error"]:
        raise FeedError(f"kraken: {', '.join(message['error'])}")
    (rows,) = (value for key, value in message["result"].items() if key != "last")
    return [Trade(symbol, r[6], SIDES[r[3]], plain(r[0]), plain(r[1]), int(Decimal(r[2]) * 1_000_000)) for r in rows]
