"""Makes OHLCV bars a hop of the trades platform: over which ids they are judged, how trades become bars, their digest,
and the table in ClickHouse that holds them beside the trades.

The same functions make bars of the ledger's trades and of the table's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.drivers.clickhouse import (
    DIGEST_WITHIN_S,
    LOOK_WITHIN_S,
    Server,
    columns,
    either,
    literal,
    same,
)
from gameday.model import Columns, Digest, Group, Window
from gameday.ports import Hop, Ledger
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally
from gameday.stack.config import Http
from gameday.system.tls import PLAIN, Tls

__all__ = [
    "BAR_COLUMNS",
    "BAR_FIELDS",
    "INTERVALS_US",
    "Bars",
    "digest",
    "from_trades",
    "joined",
    "ledgers",
    "overlapping",
    "spans",
]

CHUNK_ROWS = 1 << 20
"""How many trades the ledger computes at once: 50 MB."""

INTERVALS_US: Mapping[str, int] = {"1m": 60_000_000, "5m": 300_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}

BAR_FIELDS = ("bucket_us", "n", "first_id", "last_id", "open", "high", "low", "close", "volume")
"""The columns of a bar in the order in which its row hash takes them: bucket_us is where the bar starts, prices and
volume are x 10^8."""

NO_BARS: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

BAR_COLUMNS = ("venue", "symbol", "interval", *BAR_FIELDS)


def spans(held: Columns, window: Window) -> Mapping[Group, tuple[int, int]]:
    """Return (venue, symbol, interval) -> the ids (lo, hi] whose bars are compared.

    held: BAR_COLUMNS, the bars that hold any id of the window; or those beside their source's (Bars.held).
    The first and last bar reach beyond the window, and the last one may still grow. So the span is from the first id to
    the last that any bar names. It always includes the window, because a missing bar names no id. Ids below the first
    possible one, or above the source's last one, don't count.
    """
    told, reach = (held["n"] > 0, held["source_last_id"]) if "source_n" in held else (True, None)
    found = {}
    for group, hi in window.hi.items():
        mine = (held["venue"] == group[0]) & (held["symbol"] == group[1])
        for interval in INTERVALS_US:
            here = mine & (held["interval"] == interval)
            first = held["first_id"].min(where=here & told, initial=window.lo.get(group, 0) + 1)
            last = held["last_id"].max(where=here & told, initial=hi)
            if reach is not None:
                last = min(last, reach.max(where=here, initial=hi))
            found[(*group, interval)] = (max(0, int(first) - 1), int(last))
    return found


def overlapping(made: Columns, window: Window) -> Columns:
    """Return the bars that hold any id of the window. made: BAR_COLUMNS, each bar whole, or cut at the window."""
    kept = np.zeros(len(made["n"]), dtype=bool)
    for (venue, symbol), hi in window.hi.items():
        mine = (made["venue"] == venue) & (made["symbol"] == symbol)
        kept |= mine & (made["last_id"] > window.lo.get((venue, symbol), 0)) & (made["first_id"] <= hi)
    return {name: column[kept] for name, column in made.items()}


def from_trades(trades: Columns, interval_us: int) -> Columns:
    """Return the bars, BAR_FIELDS, of these trades. trades: columns as in the ledger's records, with ascending ids."""
    bucket_us = trades["exchange_time"] // interval_us * interval_us
    order = np.argsort(bucket_us, kind="stable")  # stable: within a bar the ids stay ascending
    buckets, starts, counts = np.unique(bucket_us[order], return_index=True, return_counts=True)
    if not len(buckets):
        return {name: np.zeros(0, dtype=np.int64) for name in BAR_FIELDS}
    ids, prices, quantities = (trades[name][order] for name in ("trade_id", "price", "quantity"))
    ends = starts + counts - 1
    return {
        "bucket_us": buckets,
        "n": counts.astype(np.int64),
        "first_id": ids[starts],
        "last_id": ids[ends],
        "open": prices[starts],
        "high": np.maximum.reduceat(prices, starts),
        "low": np.minimum.reduceat(prices, starts),
        "close": prices[ends],
        "volume": np.add.reduceat(quantities, starts),
    }


def joined(parts: Sequence[Columns]) -> Columns:
    """Join the bars, BAR_FIELDS, of parts of the trades. Each part's ids are above those of the parts before."""
    every = {name: np.concatenate([part[name] for part in parts] or [NO_BARS]) for name in BAR_FIELDS}
    order = np.argsort(every["bucket_us"], kind="stable")  # stable: within a bar the ids stay ascending
    buckets, starts, counts = np.unique(every["bucket_us"][order], return_index=True, return_counts=True)
    if len(buckets) == len(order):
        return {name: column[order] for name, column in every.items()}
    one = {name: column[order] for name, column in every.items()}
    ends = starts + counts - 1
    return {
        "bucket_us": buckets,
        "n": np.add.reduceat(one["n"], starts),
        "first_id": one["first_id"][starts],
        "last_id": one["last_id"][ends],
        "open": one["open"][starts],
        "high": np.maximum.reduceat(one["high"], starts),
        "low": np.minimum.reduceat(one["low"], starts),
        "close": one["close"][ends],
        "volume": np.add.reduceat(one["volume"], starts),
    }


def digest(hop: str, bars: Columns) -> Digest:
    """Return this hop's digest of the stream "bars". bars: BAR_COLUMNS; groups (venue, symbol, interval), ids
    bucket_us."""
    hashes = row_hash([bars[name] for name in BAR_FIELDS])
    names = [bars[name] for name in ("venue", "symbol", "interval")]
    groups = {}
    for group in dict.fromkeys(zip(*(column.tolist() for column in names), strict=True)):
        mine: npt.NDArray[np.bool_] = np.logical_and.reduce([c == g for c, g in zip(names, group, strict=True)])
        groups[group] = tally(bars["bucket_us"][mine], hashes[mine])
    return Digest("bars", hop, "final", groups)


def ledgers(ledger: Hop, held: Columns, window: Window) -> Digest:
    """Return the digest of the bars that should exist: over exactly the ids that each held bar names, and missing bars.

    held: see Bars.held.
    """
    of = spans(held, window)
    had = ledger.heads()
    made: list[Columns] = []
    for venue, symbol in window.hi:
        mine = {interval: of[venue, symbol, interval] for interval in INTERVALS_US}
        lo, hi = min(lo for lo, _ in mine.values()), max(hi for _, hi in mine.values())
        parts: dict[str, list[Columns]] = {interval: [] for interval in mine}
        for start in range(max(0, lo), min(hi, had.get((venue, symbol), lo)), CHUNK_ROWS):
            chunk = ledger.rows((venue, symbol), start, min(start + CHUNK_ROWS, hi))
            for interval, (first, last) in mine.items():
                inside = (chunk["trade_id"] > first) & (chunk["trade_id"] <= last)
                trades = {name: column[inside] for name, column in chunk.items()}
                parts[interval].append(from_trades(trades, INTERVALS_US[interval]))
        for interval, found in parts.items():
            whole = joined(found)
            names = zip(BAR_COLUMNS, (venue, symbol, interval), strict=False)
            made.append({**{name: np.full(len(whole["n"]), text) for name, text in names}, **whole})
    every = {name: np.concatenate([part[name] for part in made]) for name in BAR_COLUMNS}
    return digest(ledger.name, overlapping(every, window))  # type: ignore[attr-defined]


BAR_SQL: Mapping[str, str] = {
    "venue": "venue",
    "symbol": "symbol",
    "interval": "`interval`",
    "bucket_us": "toInt64(toUnixTimestamp(bucket)) * 1000000",
    **{name: f"toInt64({name})" for name in ("n", "first_id", "last_id")},
    **{name: f"toInt64({name} * 100000000)" for name in ("open", "high", "low", "close", "volume")},
}


@dataclass
class Bars:
    """A table of OHLCV bars beside the trades it was made from. `source` has venue, symbol, trade_id, price, quantity
    and exchange_us; `table` has venue, symbol, interval (see INTERVALS_US), bucket (the start, as a DateTime), n,
    first_id, last_id, open, high, low, close, volume."""

    url: Http
    table: str
    source: str
    name: str = "gold"
    tls: Tls = PLAIN

    def __post_init__(self) -> None:
        self._server = Server(self.url, tls=self.tls)

    def heads(self) -> Mapping[Group, int]:
        """Return group -> the highest id that bars of every interval hold: all must have passed the window."""
        each = f"SELECT venue, symbol, max(last_id) AS last FROM {self.table} GROUP BY venue, symbol, `interval`"
        sql = f"SELECT venue, symbol, min(last) FROM ({each}) GROUP BY venue, symbol"
        return {(venue, symbol): int(head) for venue, symbol, head in self._server.rows(sql, LOOK_WITHIN_S)}

    def derived(self, window: Window, ledger: Hop) -> Sequence[Digest]:
        """Return the digests of the stream "bars": from the ledger's trades, from the source's, and as held."""
        held = self.held(window)
        right = [ledgers(ledger, held, window)] if isinstance(ledger, Ledger) else []
        return (*right, *self.digests(held))

    def held(self, window: Window) -> Columns:
        """Return BAR_COLUMNS of the bars that hold any id of the window, beside the source's bars over the same ids
        (see spans) with the prefix source_. n is 0 if only the source has the bar; source_n is 0 if the source doesn't
        have it, and in a bar that the table repeats."""
        held = self._held(window)
        made = overlapping(self._made(spans(held, window)), window)
        key = ("venue", "symbol", "interval", "bucket_us")
        left = {k: i for i, k in enumerate(zip(*(made[name].tolist() for name in key), strict=True))}
        beside = [left.pop(k, -1) for k in zip(*(held[name].tolist() for name in key), strict=True)]
        extra = list(left.values())
        numbers = BAR_FIELDS[1:]
        return {
            **{name: np.concatenate([held[name], made[name][extra]]) for name in key},
            **{name: np.concatenate([held[name], np.zeros(len(extra), dtype=np.int64)]) for name in numbers},
            **{f"source_{name}": np.append(made[name], 0)[[*beside, *extra]] for name in numbers},
        }

    def digests(self, held: Columns) -> Sequence[Digest]:
        """Return the digests of the stream "bars": from the source, and as held."""
        names, numbers = BAR_COLUMNS[:4], BAR_FIELDS[1:]
        given = {**{n: held[n] for n in names}, **{n: held[f"source_{n}"] for n in numbers}}
        return tuple(
            digest(hop, {name: columns[name][columns["n"] > 0] for name in BAR_COLUMNS})
            for hop, columns in ((self.source.rpartition(".")[2], given), (self.name, held))
        )

    def _held(self, window: Window) -> Columns:
        where = either(
            f"({same('venue', venue)} AND {same('symbol', symbol)}"
            f" AND last_id > {window.lo.get((venue, symbol), 0)} AND first_id <= {hi})"
            for (venue, symbol), hi in window.hi.items()
        )
        sql = f"SELECT {', '.join(BAR_SQL[name] for name in BAR_COLUMNS)} FROM {self.table} WHERE {where}"
        return columns(self._server.rows(sql, DIGEST_WITHIN_S), BAR_COLUMNS[:3], BAR_FIELDS)

    def _made(self, spans: Mapping[Group, tuple[int, int]]) -> Columns:
        """The bars that the source gives over these ids."""
        rows: list[Sequence[Any]] = []
        price, quantity = (f"toInt64(toDecimal128({name}, 8) * 100000000)" for name in ("price", "quantity"))
        for interval, length_us in INTERVALS_US.items():
            where = either(
                f"({same('venue', group[0])} AND {same('symbol', group[1])} AND trade_id > {lo} AND trade_id <= {hi})"
                for group, (lo, hi) in spans.items()
                if group[2] == interval
            )
            sql = f"""
                SELECT venue, symbol, {literal(interval)}, intDiv(exchange_us, {length_us}) * {length_us} AS b,
                    toInt64(count()), toInt64(min(trade_id)), toInt64(max(trade_id)), argMin({price}, trade_id),
                    max({price}), min({price}), argMax({price}, trade_id), sum({quantity})
                FROM {self.source} WHERE {where} GROUP BY 1, 2, b"""
            rows += self._server.rows(sql, DIGEST_WITHIN_S)
        return columns(rows, BAR_COLUMNS[:3], BAR_FIELDS)
