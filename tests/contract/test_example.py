"""examples/market-data on a real Kafka and ClickHouse with the topics, tables and conversions of the platform that it
describes: what can be judged there is intact in a healthy window, and each damage is found at its hop with its key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from compose.servers import kafka as server
from gameday.model import Digest, Evidence, Window
from gameday.stack import variables
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from gameday.verdict import diagnose
from gameday.verdict.checks._damage import compare
from tasks.verify import digest_of

EXAMPLE = ROOT / "examples" / "market-data" / "gameday.toml"
NUMBER = 120
"""Trades of each venue."""

EVERY_S = 0.25
ONE = NUMBER - 20
"""The trade that is harmed."""

BRONZE = """
CREATE TABLE k2.bronze_trades_{venue}
(
    exchange_timestamp DateTime64(3), sequence_number UInt64, symbol String, price Decimal(18, 8),
    quantity Decimal(18, 8), quote_volume Decimal(18, 8), event_time DateTime64(3), kafka_offset UInt64,
    kafka_partition UInt16, ingestion_timestamp DateTime DEFAULT now()
)
ENGINE = MergeTree ORDER BY (symbol, exchange_timestamp, sequence_number)"""

SILVER = """
CREATE TABLE k2.silver_trades
(
    trade_id String, exchange LowCardinality(String), symbol LowCardinality(String), price Decimal(38, 8),
    quantity Decimal(38, 8), timestamp DateTime64(6, 'UTC'), source_sequence Nullable(UInt64)
)
ENGINE = MergeTree ORDER BY (exchange, timestamp)"""

TO_SILVER = """
CREATE MATERIALIZED VIEW k2.bronze_{venue}_to_silver_mv TO k2.silver_trades AS
SELECT
    concat(upper('{venue}'), '-', toString(sequence_number)) AS trade_id, '{venue}' AS exchange, symbol,
    price, quantity,
    fromUnixTimestamp64Micro(toUnixTimestamp64Milli(exchange_timestamp) * 1000) AS timestamp,
    sequence_number AS source_sequence
FROM k2.bronze_trades_{venue}"""

QUEUE = "CREATE TABLE k2.trades_{venue}_queue (message String) ENGINE = Null"
"""In place of the engine Kafka: what is put there goes through the view alone."""

TO_BRONZE = """
CREATE MATERIALIZED VIEW k2.bronze_trades_{venue}_mv TO k2.bronze_trades_{venue} AS
SELECT
    {at} AS exchange_timestamp, {number} AS sequence_number, {symbol} AS symbol,
    toDecimal64(JSONExtractString(message, '{price}'), 8) AS price,
    toDecimal64(JSONExtractString(message, '{quantity}'), 8) AS quantity,
    toDecimal64(0, 8) AS quote_volume, exchange_timestamp AS event_time, 0 AS kafka_offset, 0 AS kafka_partition
FROM k2.trades_{venue}_queue"""

VIEWS: Mapping[str, Mapping[str, str]] = {
    "binance": {
        "at": "fromUnixTimestamp64Milli(JSONExtractInt(message, 'T'))",
        "number": "JSONExtractUInt(message, 't')",
        "symbol": "JSONExtractString(message, 's')",
        "price": "p",
        "quantity": "q",
    },
    "kraken": {
        "at": "fromUnixTimestamp64Milli(toInt64(toFloat64(JSONExtractString(message, 'timestamp')) * 1000))",
        "number": "cityHash64(message)",
        "symbol": "replaceAll(JSONExtractString(message, 'pair'), '/', '')",
        "price": "price",
        "quantity": "volume",
    },
    "coinbase": {
        "at": "parseDateTimeBestEffort(JSONExtractString(message, 'time'))",
        "number": "JSONExtractUInt(message, 'sequence_num')",
        "symbol": "replaceAll(JSONExtractString(message, 'product_id'), '-', '')",
        "price": "price",
        "quantity": "size",
    },
}

GROUPS = {"binance": ("BTCUSDT",), "kraken": ("XBTUSD",), "coinbase": ("BTCUSD",)}


def messages(venue: str, began_s: float) -> Sequence[str]:
    """As the venue sends them."""
    return [json.dumps(_message(venue, n, began_s + n * EVERY_S)) for n in range(1, NUMBER + 1)]


def _message(venue: str, n: int, at_s: float) -> Mapping[str, Any]:
    price, quantity = f"{64_000 + n}.{n % 100:02d}", f"0.{n % 9 + 1}"
    if venue == "binance":
        return {"s": "BTCUSDT", "t": n, "p": price, "q": quantity, "T": round(at_s * 1000), "m": n % 2 == 0}
    if venue == "kraken":
        told = {"pair": "XBT/USD", "price": price, "volume": quantity, "timestamp": f"{at_s:.6f}"}
        return {**told, "side": "b", "channel_id": 119}
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"trade_id": str(881 + n), "product_id": "BTC-USD", "price": price, "size": quantity, "time": at}
    return {**told, "sequence_num": n}


@pytest.fixture(scope="module")
def stack(broker: str, warehouse: str, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The example's, and half a minute of trades of each venue, in its topic and in its tables."""
    client.command("CREATE DATABASE k2")
    client.command(SILVER)
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    server.create_topics(broker, {f"market.crypto.trades.{venue}.raw": 3 for venue in VIEWS})
    began_s = time.time() - NUMBER * EVERY_S
    for venue, view in VIEWS.items():
        for statement in (BRONZE, TO_SILVER, QUEUE, TO_BRONZE):
            client.command(statement.format(venue=venue, **view))
        sent = messages(venue, began_s)
        for message in sent:
            producer.produce(f"market.crypto.trades.{venue}.raw", message, key=venue)
        client.insert(f"k2.trades_{venue}_queue", [[message] for message in sent], column_names=["message"])
    assert producer.flush(30) == 0
    folder: Path = tmp_path_factory.mktemp("k2")
    names = dict.fromkeys(variables.VARIABLE.findall(EXAMPLE.read_text()), "127.0.0.1:1")
    known = {"K2_BROKER": broker, "K2_CLICKHOUSE_URL": warehouse, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    known |= {"GAMEDAY_HISTORY": "postgresql://127.0.0.1:1/gameday", "GAMEDAY_PREFECT": "http://127.0.0.1:1/api"}
    known["GAMEDAY_PREFECT_PASSWORD"] = "p"
    (folder / "stack.env").write_text("".join(f"{name}={value}\n" for name, value in {**names, **known}.items()))
    yield open_stack(EXAMPLE, State(folder))
    client.command("DROP DATABASE k2")


def damage(stack: Stack, venue: str) -> Mapping[str, tuple[int, int, int]]:
    """Hop -> lost, doubled, changed of the venue's window, of those that are not right."""
    live = stack.streams[venue]
    heads = live.ledger.heads()
    reach = NUMBER // 2 if live.stream.counted else int(NUMBER * EVERY_S / 2 * 1e6)
    window = Window({group: head - reach for group, head in heads.items()}, heads)
    found: list[Digest] = []
    for name, hop in live.hops.items():
        assert GROUPS[venue] in dict(hop.heads()), name
        found += digest_of(live.ledger, hop, window, found)
    evidence = Evidence(
        "t",
        {},
        "k2",
        visible=live.stream.visible,
        ledger=live.stream.hops[0],
        stream=live.name,
        gapless=live.stream.gapless,
        window=window,
        digests=tuple(found),
    )
    return {one.hop: (one.lost, one.doubled, one.changed) for one in compare(evidence)}


def differs(stack: Stack, venue: str) -> Mapping[str, Sequence[str | int]]:
    """What silver lacks of what is before it, and the other way round: by key."""
    live = stack.streams[venue]
    first, last = (stack.hop(live.stream.hops[at]) for at in (0, -1))
    hi = live.ledger.heads()[GROUPS[venue]]
    lo = hi - (NUMBER // 2 if live.stream.counted else int(NUMBER * EVERY_S / 2 * 1e6))
    told = diagnose.difference(first.rows(GROUPS[venue], lo, hi), last.rows(GROUPS[venue], lo, hi), live.stream)
    return {kind: found["ids"] for kind, found in told.items() if found["count"]}


def test_a_healthy_window_differs_in_nothing(stack: Stack) -> None:
    """Binance's from the log on, the others' from bronze on; Kafka's columns are constants, and are not asked."""
    assert {venue: damage(stack, venue) for venue in VIEWS} == {venue: {} for venue in VIEWS}


@pytest.mark.parametrize("venue", VIEWS)
def test_a_trade_that_silver_lacks_or_has_otherwise_is_named(stack: Stack, client: Client, venue: str) -> None:
    """It is put back afterwards; of a stream whose price is a part of its key another price is another trade."""
    price = f"{64_000 + ONE}.{ONE % 100:02d}"
    one = f"exchange = '{venue}' AND price = toDecimal128('{price}', 8)"
    kept = client.query(f"SELECT * FROM k2.silver_trades WHERE {one}")
    assert len(kept.result_rows) == 1
    wait = {"mutations_sync": 1}
    client.command(f"ALTER TABLE k2.silver_trades DELETE WHERE {one}", settings=wait)
    assert damage(stack, venue) == {f"{venue}-silver": (1, 0, 0)}
    (key,) = differs(stack, venue)["missing"]
    assert key == ONE if venue == "binance" else f"{price}000000" in str(key)
    client.insert("k2.silver_trades", kept.result_rows, column_names=kept.column_names)
    client.command(f"ALTER TABLE k2.silver_trades UPDATE quantity = quantity + 1 WHERE {one}", settings=wait)
    expected = (0, 0, 1) if venue == "binance" else (1, 1, 0)
    assert damage(stack, venue) == {f"{venue}-silver": expected}
    client.command(f"ALTER TABLE k2.silver_trades UPDATE quantity = quantity - 1 WHERE {one}", settings=wait)
    assert damage(stack, venue) == {}


def test_what_clickhouse_reads_again_is_doubled_in_silver(stack: Stack, client: Client) -> None:
    """Its tables are plain MergeTrees: Binance's number shows it; equal trades of the others may be two."""
    (again,) = (m for m in messages("binance", time.time() - NUMBER * EVERY_S) if json.loads(m)["t"] == ONE)
    known = client.query(f"SELECT exchange_timestamp FROM k2.bronze_trades_binance WHERE sequence_number = {ONE}")
    at_ms = round(known.result_rows[0][0].replace(tzinfo=UTC).timestamp() * 1000)
    again = json.dumps({**json.loads(again), "T": at_ms})
    client.insert("k2.trades_binance_queue", [[again]], column_names=["message"])
    assert damage(stack, "binance") == {"binance-silver": (0, 1, 0)}
    assert differs(stack, "binance") == {"doubled": [ONE]}
