"""The reference platform's stream, as its gameday.toml declares it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from gameday.records.declaration import Stream, stream
from gameday.stack.live import LiveStream
from gameday.state import ROOT

__all__ = ["FIELDS", "SIDE", "TAPED", "TRADES", "TRADE_SQL", "live", "stack_of"]


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


def live(hops: Mapping[str, Any], of: Stream = TRADES, visible: str | None = None) -> LiveStream:
    """A stream with these hops, the first its ledger and the last what users see, unless it is another one."""
    return LiveStream(replace(of, hops=tuple(hops), visible=visible or list(hops)[-1]), hops.__getitem__)


def stack_of(*streams: LiveStream, **more: Any) -> Any:
    """Just enough of a stack with these streams."""
    declared = {one.name: one.stream for one in streams}
    config = SimpleNamespace(declared=declared, components={}, cursors={}, archived=None)
    return SimpleNamespace(
        **{
            "name": "s",
            "config": config,
            "streams": {one.name: one for one in streams},
            "stream_of": lambda hop: next((s for s in streams if hop in s.stream.hops), streams[0]),
            "hops": {name: hop for one in streams for name, hop in one.hops.items()},
            "cursors": {},
            "archive": None,
            "mirror": None,
            **more,
        }
    )
