"""A market data platform with an archive: its SQL over tables as that platform has them, in a real ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gameday.drivers.clickhouse import Hop
from gameday.model import Group, Window
from gameday.stack import reading, variables
from gameday.stack.live import Stack
from gameday.state import ROOT, State
from pipelines.trades.schema import query
from tests.trades import FIELDS

THEIRS = ROOT / "tests" / "docker" / "theirs" / "gameday.toml"
SCHEMA = ROOT / "tests" / "docker" / "theirs" / "schema.sql"
BTC: Group = ("kraken", "BTC/USD")
ETH: Group = ("binance", "ETHUSDT")
ROWS = """
INSERT INTO k2.bronze_trades_{venue} (exchange_timestamp, sequence_number, symbol, price, quantity, side,
    kafka_partition, kafka_offset)
SELECT
    now64(3) - INTERVAL 1 MINUTE, {first} + number, '{symbol}', toDecimal64(number % 100, 8) / 8, 1.5,
    1 + number % 2, 0, {first} + number
FROM numbers({count})"""


@pytest.fixture(scope="module")
def tables(warehouse: str) -> Iterator[str]:
    """The team's tables, without the queues that fill bronze."""
    lines = [line for line in SCHEMA.read_text().splitlines(keepends=True) if not line.startswith("--")]
    for statement in filter(str.strip, "".join(lines).split(";")):
        if "_queue" not in statement:
            for venue in ("binance", "kraken", "coinbase"):
                query(warehouse, statement.strip().replace("{venue}", venue))
    yield warehouse
    query(warehouse, "DROP DATABASE k2")


@pytest.fixture
def stack(tables: str, tmp_path: Path) -> Stack:
    """The example's, with this ClickHouse."""
    names = set(variables.VARIABLE.findall(THEIRS.read_text()))
    values: dict[str, Any] = dict.fromkeys(names, "127.0.0.1:1") | {"K2_CLICKHOUSE_URL": tables}
    values |= {"GAMEDAY_HISTORY": "postgresql://127.0.0.1:1/gameday", "GAMEDAY_PREFECT": "http://127.0.0.1:1/api"}
    (tmp_path / "stack.env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    state = State(tmp_path)
    return Stack(reading.load(THEIRS, state), state, THEIRS)


def test_bronze_of_three_tables_and_silver_hold_the_same_records(stack: Stack, tables: str) -> None:
    """Heads, rows and hashes by venue and symbol; of bronze also the places in the log; a repeat in silver shows."""
    bronze, silver = stack.hops["bronze"], stack.hops["silver"]
    assert isinstance(bronze, Hop)
    query(tables, ROWS.format(venue="kraken", symbol="BTC/USD", first=1, count=100))
    query(tables, ROWS.format(venue="binance", symbol="ETHUSDT", first=501, count=40))
    assert dict(bronze.heads()) == dict(silver.heads()) == {BTC: 100, ETH: 540}
    window = Window({BTC: 10, ETH: 500}, {BTC: 100, ETH: 540})
    trades, offsets = bronze.digest(window)
    (held,) = silver.digest(window)
    assert trades.groups == held.groups
    assert (held.groups[BTC].rows, held.groups[ETH].lo, held.unique) == (90, 501, True)
    assert offsets.groups["market.crypto.trades.kraken", "0"].hi == 100
    one, other = bronze.rows(BTC, 20, 30), silver.rows(BTC, 20, 30)
    assert [one[name].tolist() for name in FIELDS] == [other[name].tolist() for name in FIELDS]
    query(tables, ROWS.format(venue="binance", symbol="ETHUSDT", first=541, count=1))
    query(tables, ROWS.format(venue="binance", symbol="ETHUSDT", first=541, count=1))
    (again,) = silver.digest(Window({ETH: 540}, {ETH: 541}))
    assert (again.groups[ETH].rows, again.groups[ETH].keys) == (2, 1)


def test_what_happened_long_ago_is_not_read_for_the_heads_and_not_forgotten(stack: Stack, tables: str) -> None:
    """Silver is asked for its newest rows alone; a head that was seen stays when these are over."""
    silver = stack.hops["silver"]
    old = ROWS.format(venue="coinbase", symbol="BTC-USD", first=7, count=1).replace("1 MINUTE", "1 HOUR")
    query(tables, old)
    assert ("coinbase", "BTC-USD") not in silver.heads()
    query(tables, ROWS.format(venue="coinbase", symbol="BTC-USD", first=8, count=1))
    assert silver.heads()["coinbase", "BTC-USD"] == 8
    query(tables, "ALTER TABLE k2.silver_trades DELETE WHERE exchange = 'coinbase' SETTINGS mutations_sync = 1")
    assert silver.heads()["coinbase", "BTC-USD"] == 8
