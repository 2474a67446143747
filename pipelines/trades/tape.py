"""The exchange's ledger: trade k of a symbol is a pure function of (seed, rate, venue, symbol, k, the tape's
segments), so what should exist is known without storage. `Tape` is its clock: it runs on CLOCK_MONOTONIC, only while
the simulator runs. exchange.py has the protocols.

Trades arrive in slots of one second. Each symbol repeats a pattern of SLOTS counts, some slots are bursts; within a
slot the trades are spread evenly with jitter. So counting trades, and finding a trade's time, doesn't need the history.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from failpoints import point
from pipelines.kept import File, TapeError

__all__ = ["SCALE", "SYMBOLS", "Instrument", "Tape", "count", "count_until", "records", "trades"]

Ints = npt.NDArray[np.int64]

SCALE = 10**8
"""Prices and quantities are integers in units of 1/SCALE."""

SIDES = np.array(["buy", "sell"])
"""The taker's side by its number."""

SLOTS = 600
"""Seconds after which a symbol's pattern of counts repeats."""

SLOT_US = 1_000_000
BURST_ONE_IN = 16
SLOT_TRADES_MAX = 100_000
"""Above this two trades of a symbol could share a microsecond."""

CHUNK_ROWS = 1 << 15
"""Rows computed at once: small enough for the cache, large enough for numpy."""

RESERVE_NS = 1_000_000_000
"""How far ahead of its head the tape is made durable. SIGKILL may skip so much, but undoes nothing."""

PRICE_OCTAVES = ((16, 4e-2), (12, 1e-2), (8, 2e-3), (3, 1e-4))
"""(log2 of the trades between two supports, share of the starting price): the sum of these pseudo-random polylines is
the price.
"""

CLOCK = point(
    "ledger::wall_clock",
    "a new segment asks what time it is; return(us): the clock was set, and no trade may get the time of another",
    returns=int,
)
RESERVE = point(
    "ledger::before_reserve",
    "the tape's promise goes to the disk; raise(OSError): it is full, and the tape stands still until it isn't",
)


@dataclass(frozen=True)
class Instrument:
    """One symbol. share: its share of all trades. tick, step: smallest change of price and quantity; price: the
    starting price; size: typical quantity (x 10^8).
    """

    share: float
    tick: int
    price: int
    step: int
    size: int


def _venue(share: float, names: tuple[str, str, str], ticks: tuple[int, int, int], steps: tuple[int, int, int]) -> Any:
    shares = (0.45, 0.35, 0.20)
    prices = (64_250 * SCALE, 3_120 * SCALE, 148 * SCALE)
    sizes = (SCALE // 500, SCALE // 20, SCALE)
    return {
        name: Instrument(share * shares[i], ticks[i], prices[i], steps[i], sizes[i]) for i, name in enumerate(names)
    }


CENT = SCALE // 100

SYMBOLS: Mapping[str, Mapping[str, Instrument]] = {
    "binance": _venue(0.5, ("BTCUSDT", "ETHUSDT", "SOLUSDT"), (CENT, CENT, CENT), (1_000, 10_000, 100_000)),
    "kraken": _venue(0.2, ("BTC/USD", "ETH/USD", "SOL/USD"), (10 * CENT, CENT, CENT), (1, 1, 1)),
    "coinbase": _venue(0.3, ("BTC-USD", "ETH-USD", "SOL-USD"), (CENT, CENT, CENT), (1, 1, 1)),
}


# ---- the pure part --------------------------------------------------------------------------------------------------


def trades(tape: Mapping[str, Any], venue: str, symbol: str, lo: int, hi: int) -> dict[str, Ints]:
    """Return the trades lo < id <= hi (0 <= lo): equally long int64 columns id, price and quantity (x 10^8), side (0
    buy, 1 sell: the taker's) and time_us.

    tape: the JSON of /tape; only its seed, rate and segments matter. KeyError for a venue or symbol that the exchange
    doesn't have.
    """
    pattern = _pattern(int(tape["seed"]), float(tape["rate"]), venue, symbol)
    starts, anchors = _segments(tape)
    columns = {
        name: np.empty(max(0, hi - lo), dtype=np.int64) for name in ("id", "price", "quantity", "side", "time_us")
    }
    for at in range(0, hi - lo, CHUNK_ROWS):
        k = np.arange(lo + at + 1, min(lo + at + CHUNK_ROWS, hi) + 1, dtype=np.int64)
        h = _mix(k.astype(np.uint64) + pattern.salt)
        tape_us = _tape_us(pattern, k, h)
        segment = np.searchsorted(starts, tape_us, side="right") - 1
        part = slice(at, at + len(k))
        columns["id"][part] = k
        columns["price"][part] = _price(pattern, k)
        columns["quantity"][part] = _quantity(pattern, h)
        columns["side"][part] = (h >> np.uint64(8)).astype(np.int64) & 1
        columns["time_us"][part] = anchors[segment] + (tape_us - starts[segment])
    return columns


def records(tape: Mapping[str, Any], group: tuple[str, str], lo: int, hi: int) -> dict[str, npt.NDArray[Any]]:
    """Return the same trades as the platform's records. group: venue and symbol."""
    venue, symbol = group
    made = trades(tape, venue, symbol, lo, hi)
    return {
        "venue": np.full(len(made["id"]), venue),
        "symbol": np.full(len(made["id"]), symbol),
        "trade_id": made["id"],
        "price": made["price"],
        "quantity": made["quantity"],
        "side": SIDES[made["side"]],
        "exchange_time": made["time_us"],
    }


def count(tape: Mapping[str, Any], venue: str, symbol: str, tape_ns: int) -> int:
    """Count the trades of a symbol that exist when the tape has reached tape_ns: also the highest id."""
    pattern = _pattern(int(tape["seed"]), float(tape["rate"]), venue, symbol)
    return _count(pattern, tape_ns // 1000)


def count_until(tape: Mapping[str, Any], venue: str, symbol: str, time_us: int) -> int:
    """Count the trades of a symbol with an exchange time of at most time_us."""
    pattern = _pattern(int(tape["seed"]), float(tape["rate"]), venue, symbol)
    starts, anchors = _segments(tape)
    segment = int(np.searchsorted(anchors, time_us, side="right")) - 1
    if segment < 0:
        return 0
    tape_us = int(starts[segment]) + time_us - int(anchors[segment])
    if segment + 1 < len(starts):
        tape_us = min(tape_us, int(starts[segment + 1]) - 1)
    return _count(pattern, tape_us)


@dataclass(frozen=True)
class _Pattern:
    """One symbol's arrivals: counts per slot, trades before each slot, trades per period, and the salt of its
    hashes.
    """

    instrument: Instrument
    counts: Ints
    before: Ints
    total: int
    salt: np.uint64


@lru_cache(maxsize=256)
def _pattern(seed: int, rate: float, venue: str, symbol: str) -> _Pattern:
    instrument = SYMBOLS[venue][symbol]
    slot = np.arange(SLOTS, dtype=np.uint64)
    market = _mix(slot + _salt(f"{seed}"))  # bursts hit every symbol of every venue at once
    own = _mix(slot + _salt(f"{seed}/{venue}/{symbol}/rate"))
    busy = np.where(market % np.uint64(BURST_ONE_IN) == 0, 3.0 + (market >> np.uint64(32)) % np.uint64(4), 1.0)
    weight = busy * (0.7 + 0.6 * (own >> np.uint64(11)) / 2**53)
    exact = rate * instrument.share * weight / weight.mean()
    counts = np.maximum(1, np.floor(exact + (own & np.uint64(1023)) / 1024)).astype(np.int64)
    if counts.max() > SLOT_TRADES_MAX:
        raise TapeError(
            f"rate {rate:g}/s gives {symbol} more than {SLOT_TRADES_MAX} trades in a second. Remedy: a lower --rate"
        )
    before = np.concatenate(([0], np.cumsum(counts)))
    return _Pattern(instrument, counts, before[:-1], int(before[-1]), _salt(f"{seed}/{venue}/{symbol}"))


def _salt(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser over the x-th step of its sequence (Steele, Lea, Flood 2014)."""
    z = x * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _segments(tape: Mapping[str, Any]) -> tuple[Ints, Ints]:
    """Return tape starts and wall anchors of the segments, in microseconds."""
    pairs = np.asarray(tape["segments"], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0] // 1000, pairs[:, 1]


def _tape_us(pattern: _Pattern, k: Ints, h: npt.NDArray[np.uint64]) -> Ints:
    """Return when on the tape trades k happen: the j-th of n in its slot between j/n and (j + 3/4)/n of the second, so
    no two share a microsecond.
    """
    period, rest = np.divmod(k - 1, pattern.total)
    slot = np.searchsorted(pattern.before, rest, side="right") - 1
    j, n = rest - pattern.before[slot], pattern.counts[slot]
    jitter = (h & np.uint64(255)).astype(np.int64) * 3
    return (period * SLOTS + slot) * SLOT_US + ((j << 10) + jitter) * SLOT_US // (n << 10)


def _count(pattern: _Pattern, tape_us: int) -> int:
    if tape_us < 0:
        return 0
    slots, within_us = divmod(tape_us, SLOT_US)
    period, slot = divmod(slots, SLOTS)
    n = int(pattern.counts[slot])
    first = period * pattern.total + int(pattern.before[slot]) + 1
    j = max(0, within_us * n // SLOT_US - 1)  # all before j happened; of the next three the exact time decides
    k = np.arange(first + j, first + min(n, j + 3), dtype=np.int64)
    happened = _tape_us(pattern, k, _mix(k.astype(np.uint64) + pattern.salt)) <= tape_us
    return first - 1 + j + int(happened.sum())


def _price(pattern: _Pattern, k: Ints) -> Ints:
    """Return a smooth pseudo-random walk: polylines of several wavelengths through hashed supports."""
    instrument = pattern.instrument
    start = instrument.price // instrument.tick
    ticks = np.full(len(k), start, dtype=np.int64)
    for shift, share in PRICE_OCTAVES:
        first = int(k[0]) >> shift
        supports = np.arange(first, (int(k[-1]) >> shift) + 2, dtype=np.uint64)
        heights = (_mix((supports << np.uint64(6)) + np.uint64(shift) + pattern.salt) >> np.uint64(40)).astype(np.int64)
        left, along = (k >> shift) - first, k & ((1 << shift) - 1)
        height = heights[left] + ((heights[left + 1] - heights[left]) * along >> shift)
        ticks += (height - (1 << 23)) * max(1, int(start * share)) >> 23
    return ticks * instrument.tick


def _quantity(pattern: _Pattern, h: npt.NDArray[np.uint64]) -> Ints:
    """Return quantities: mostly small, sometimes 100 times as large; at least one step."""
    instrument = pattern.instrument
    lots = np.uint64(max(1, instrument.size // instrument.step))
    spread = (h >> np.uint64(9)) & np.uint64(7)
    steps = ((h >> np.uint64(40)) * (lots << spread) >> np.uint64(28)) + np.uint64(1)
    return steps.astype(np.int64) * instrument.step


# ---- the clock ------------------------------------------------------------------------------------------------------


class Tape:
    """The running tape, durable in a folder (tape.json): it goes on where it stopped, however it stopped.

    Everything up to `reserved_ns` is promised on disk, and nothing beyond it ever exists; `reserve` extends the
    promise. After a crash the tape begins at the promise: trades in between were not sent live, and the venues' history
    has them.
    """

    def __init__(self, folder: Path, seed: int, rate: float) -> None:
        self._file = File(folder, "exchange")
        kept = self._file.read({"seed": seed, "rate": rate}, "every trade") or {"reserved_ns": 0, "segments": []}
        self.seed, self.rate = seed, rate
        self._start_ns = kept["reserved_ns"]
        self.segments: list[tuple[int, int]] = [(int(s), int(a)) for s, a in kept["segments"]]
        self.segments.append((self._start_ns, self._anchor(_wall_us())))
        self.reserved_ns = self._start_ns
        self._saving, self._closed = threading.Lock(), False
        self.reserve(self._start_ns + RESERVE_NS)
        self._mono_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        """Return how far the tape has run; it stands still at the promise if that can't be extended."""
        return self._at(time.monotonic_ns())

    def due(self) -> bool:
        """Whether `reserve` should be called now."""
        return self.now_ns() > self.reserved_ns - RESERVE_NS // 2

    def reserve(self, until_ns: int | None = None) -> None:
        """Promise the tape up to until_ns (default: a second from now) and return when that is on the disk. Raises
        OSError: nothing changed. Safe in threads; a closed tape promises nothing more.
        """
        with self._saving:
            if not self._closed:
                self._promise(until_ns)

    def close(self) -> None:
        """Stop the tape exactly here."""
        with self._saving:
            self._promise(self.now_ns() + 1000)
            self._closed = True
            self._file.close()

    def _promise(self, until_ns: int | None) -> None:
        if until_ns is None:
            until_ns = self._start_ns + (time.monotonic_ns() - self._mono_ns) + RESERVE_NS
        until_ns = max(self._start_ns, until_ns // 1000 * 1000)
        self._save(until_ns)
        self.reserved_ns = until_ns

    def json(self) -> dict[str, Any]:
        """Return what `trades` needs, and how far the tape is: tape_ns at monotonic clock mono_ns."""
        mono_ns = time.monotonic_ns()
        return {
            "tape_ns": self._at(mono_ns),
            "mono_ns": mono_ns,
            "seed": self.seed,
            "rate": self.rate,
            "segments": self.segments,
        }

    def _at(self, mono_ns: int) -> int:
        return min(self._start_ns + (mono_ns - self._mono_ns), self.reserved_ns)

    def _anchor(self, wall_us: int) -> int:
        """Return the wall clock of a segment that starts now. It is after the last segment's times, even if the wall
        clock was set back.
        """
        if not self.segments:
            return wall_us
        start_ns, anchor_us = self.segments[-1]
        return max(wall_us, anchor_us + (self._start_ns - start_ns) // 1000 + 1)

    def _save(self, reserved_ns: int) -> None:
        if RESERVE.on is not None:
            RESERVE()
        tape = {"seed": self.seed, "rate": self.rate, "segments": self.segments, "reserved_ns": reserved_ns}
        self._file.write(json.dumps(tape))


def _wall_us() -> int:
    if CLOCK.on is not None and (instead := CLOCK()) is not None:
        return int(instead.value)
    return time.time_ns() // 1000
