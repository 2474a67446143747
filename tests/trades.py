"""The reference platform's stream, as its gameday.toml declares it."""

from __future__ import annotations

import tomllib

from gameday.records.declaration import Stream, stream
from gameday.state import ROOT

__all__ = ["FIELDS", "SIDE", "TAPED", "TRADES", "TRADE_SQL"]


def _declared() -> Stream:
    document = tomllib.loads((ROOT / "compose" / "trades" / "gameday.toml").read_text())
    mistakes: list[str] = []
    made = stream("trades", document["streams"]["trades"], list(document["hops"]), mistakes)
    assert made is not None, mistakes
    return made


TRADES = _declared()

FIELDS = TRADES.hashed
"""trade_id, price, quantity, side, exchange_time: in the order of the row hash."""

SIDE = "CAST(side AS Enum8('buy' = 0, 'sell' = 1))"
TRADE_SQL = {"side": SIDE, "exchange_time": "exchange_us"}
"""The fields of the platform's tables that have another name or form there."""

TAPED = """
[hops.exchange]
driver = "tape"
url = "{url}"
records = "pipelines.trades.tape:records"
[hops.silver]
driver = "tape"
url = "{url}"
records = "pipelines.trades.tape:records"
[streams.trades]
key = ["venue", "symbol", "trade_id"]
group = ["venue", "symbol"]
sequence = "trade_id"
hops = ["exchange", "silver"]
visible = "silver"
path = ["{role}"]
"""
"""What a small stack's gameday.toml ends with: its stream, which one server tells at both ends."""
