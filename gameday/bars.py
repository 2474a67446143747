"""OHLCV bars as a stream that is derived from trades: which ids they are judged over, how trades make them, their
digest.

Pure, so that the ledger and a table's driver mean the same by a bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gameday.model import Columns, Digest, Group, Window
from gameday.records.hashing import row_hash
from gameday.records.tallies import tally

__all__ = ["BAR_COLUMNS", "BAR_FIELDS", "INTERVALS_US", "digest", "from_trades", "joined", "overlapping", "spans"]

INTERVALS_US: Mapping[str, int] = {"1m": 60_000_000, "5m": 300_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}

BAR_FIELDS = ("bucket_us", "n", "first_id", "last_id", "open", "high", "low", "close", "volume")
"""The columns of a bar in the order in which its row hash takes them: bucket_us is where the bar starts, prices and
volume are x 10^8."""

NO_BARS: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)

BAR_COLUMNS = ("venue", "symbol", "interval", *BAR_FIELDS)


def spans(held: Columns, window: Window) -> Mapping[Group, tuple[int, int]]:
    """(venue, symbol, interval) -> the ids (lo, hi] whose bars are compared.

    held: BAR_COLUMNS, the bars that hold any id of the window; or those beside their source's (ports.BarsHop.held).
    Their first and last bar reach beyond it, and the last one may still grow: so it is from the first id to the last
    that any of them names, and the whole window in any case, for a bar that is missing altogether names none. A bar is
    believed no further than the first id there can be, and the last one that the source had.
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
    """Those of these bars that hold any id of the window. made: BAR_COLUMNS, each bar whole, or cut at the window."""
    kept = np.zeros(len(made["n"]), dtype=bool)
    for (venue, symbol), hi in window.hi.items():
        mine = (made["venue"] == venue) & (made["symbol"] == symbol)
        kept |= mine & (made["last_id"] > window.lo.get((venue, symbol), 0)) & (made["first_id"] <= hi)
    return {name: column[kept] for name, column in made.items()}


def from_trades(trades: Columns, interval_us: int) -> Columns:
    """The bars, BAR_FIELDS, that these trades make. trades: model.Columns with ascending ids."""
    bucket_us = trades["time_us"] // interval_us * interval_us
    order = np.argsort(bucket_us, kind="stable")  # stable: within a bar the ids stay ascending
    buckets, starts, counts = np.unique(bucket_us[order], return_index=True, return_counts=True)
    if not len(buckets):
        return {name: np.zeros(0, dtype=np.int64) for name in BAR_FIELDS}
    ids, prices, quantities = (trades[name][order] for name in ("id", "price", "quantity"))
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
    """The bars of all trades, from those, BAR_FIELDS, of their parts: each part's ids are above the ones before."""
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
    """The stream "bars" as this hop holds it. bars: BAR_COLUMNS; groups (venue, symbol, interval), ids bucket_us."""
    hashes = row_hash([bars[name] for name in BAR_FIELDS])
    names = [bars[name] for name in ("venue", "symbol", "interval")]
    groups = {}
    for group in dict.fromkeys(zip(*(column.tolist() for column in names), strict=True)):
        mine: npt.NDArray[np.bool_] = np.logical_and.reduce([c == g for c, g in zip(names, group, strict=True)])
        groups[group] = tally(bars["bucket_us"][mine], hashes[mine])
    return Digest("bars", hop, "final", groups)
