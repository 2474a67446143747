"""Bars as a derived stream: how trades make them, over which ids they are compared, and their digest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compose.trades import bars
from gameday.model import Columns, Window

MINUTE_US = bars.INTERVALS_US["1m"]
BTC = ("binance", "BTCUSDT")


def columns(rows: list[tuple[int, int, int]]) -> Columns:
    """(price, quantity, time_us) by ascending id, from 1."""
    table = np.array([(i + 1, *row) for i, row in enumerate(rows)], dtype=np.int64).reshape(-1, 4)
    return dict(zip(("trade_id", "price", "quantity", "exchange_time"), table.T, strict=True))


def held(*rows: tuple[str, int, int, int]) -> Columns:
    """(interval, bucket_us, first_id, last_id) of BTC."""
    numbers = {name: np.zeros(len(rows), dtype=np.int64) for name in bars.BAR_FIELDS}
    for i, name in enumerate(("bucket_us", "first_id", "last_id"), start=1):
        numbers[name] = np.array([row[i] for row in rows], dtype=np.int64)
    texts = {"venue": BTC[0], "symbol": BTC[1]}
    return {
        **{name: np.array([text] * len(rows), dtype=str) for name, text in texts.items()},
        "interval": np.array([row[0] for row in rows], dtype=str),
        **numbers,
    }


@given(st.lists(st.tuples(st.integers(1, 10**12), st.integers(1, 10**9), st.integers(0, 5 * MINUTE_US)), max_size=60))
def test_bars_are_what_one_computes_trade_by_trade(rows: list[tuple[int, int, int]]) -> None:
    """Open and close are those of the lowest and highest id in the bucket."""
    naive: dict[int, list[int]] = {}
    for key, (price, quantity, time_us) in enumerate(rows, start=1):
        bucket = time_us // MINUTE_US * MINUTE_US
        bar = naive.setdefault(bucket, [0, key, key, price, price, price, price, 0])
        bar[:] = [bar[0] + 1, bar[1], key, bar[3], max(bar[4], price), min(bar[5], price), price, bar[7] + quantity]
    made = bars.from_trades(columns(rows), MINUTE_US)
    assert list(made) == list(bars.BAR_FIELDS)
    assert list(zip(*(c.tolist() for c in made.values()), strict=True)) == [(b, *naive[b]) for b in sorted(naive)]


def test_bars_are_compared_from_the_first_id_to_the_last_that_any_of_them_names() -> None:
    """And over the whole window in any case: a bar that is missing names no ids."""
    window = Window({BTC: 100}, {BTC: 200})
    spans = bars.spans(held(("1m", 0, 80, 120), ("1m", MINUTE_US, 121, 230), ("5m", 0, 110, 150)), window)
    assert spans[*BTC, "1m"] == (79, 230)
    assert spans[*BTC, "5m"] == (100, 200)
    assert spans[*BTC, "1h"] == (100, 200)


@given(
    st.lists(st.tuples(st.integers(1, 10**12), st.integers(1, 10**9), st.integers(0, 5 * MINUTE_US)), max_size=60),
    st.integers(1, 20),
)
def test_bars_made_in_parts_are_those_made_at_once(rows: list[tuple[int, int, int]], size: int) -> None:
    """A whole history doesn't fit into memory; a bar may lie in several parts."""
    whole = columns(rows)
    parts = [{n: c[at : at + size] for n, c in whole.items()} for at in range(0, len(rows), size)]
    joined = bars.joined([bars.from_trades(part, MINUTE_US) for part in parts])
    for name, column in bars.from_trades(whole, MINUTE_US).items():
        assert joined[name].tolist() == column.tolist()


def test_a_bar_is_not_believed_below_the_first_id_nor_beyond_its_source() -> None:
    """Else the ledger would make a trade 0, or one that the source could not have yet, and the source were guilty."""
    window = Window({BTC: 100}, {BTC: 200})
    assert bars.spans(held(("1m", 0, 0, 120)), window)[*BTC, "1m"] == (0, 200)
    wrong = held(("1m", 0, 90, 120), ("1m", MINUTE_US, 121, 10**15))
    beside = {f"source_{name}": wrong[name] for name in bars.BAR_FIELDS[1:]}
    beside |= {"n": np.array([1, 1]), "source_last_id": np.array([120, 230])}
    assert bars.spans({**wrong, **beside}, window)[*BTC, "1m"] == (89, 230)


def test_only_bars_that_hold_an_id_of_the_window_are_compared() -> None:
    """By their own ids: what a damaged bar names brings no others in."""
    made = held(("1m", 0, 1, 100), ("1m", 1, 101, 120), ("1m", 2, 200, 230), ("1m", 3, 231, 240))
    kept = bars.overlapping(made, Window({BTC: 100}, {BTC: 200}))
    assert kept["first_id"].tolist() == [101, 200]


def test_the_digest_groups_by_interval_and_tells_bars_by_their_start() -> None:
    """Two groups, one bar told twice."""
    found = bars.digest("gold", held(("1m", MINUTE_US, 1, 2), ("1m", MINUTE_US, 1, 2), ("1d", 0, 1, 2)))
    assert (found.stream, found.hop, found.view) == ("bars", "gold", "final")
    minute, day = found.groups[*BTC, "1m"], found.groups[*BTC, "1d"]
    assert (minute.rows, minute.keys, minute.lo) == (2, 1, MINUTE_US)
    assert (day.rows, day.keys, day.lo) == (1, 1, 0)
    assert minute.sum != day.sum
