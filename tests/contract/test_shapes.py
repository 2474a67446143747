"""Records as real platforms have them, declared in a gameday.toml as their users would: read from real servers, a
healthy window differs in nothing, and what is lost, doubled or changed in the sink is told with its key.

Each shape is that of a public platform: only its form is taken, all values are made up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from compose.servers import kafka as server
from gameday.model import Evidence, Group, Window
from gameday.records.declaration import Stream
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.verdict import diagnose
from gameday.verdict.checks._damage import compare
from tasks.verify import digest_of
from tests.fakes import CONSUMER

NUMBER = 240
START_S = 1_795_000_000
EVERY_S = 0.25
"""Between two records."""

Record = dict[str, Any]
Message = tuple[str, str | None, str]
"""Topic (its last word), key, value."""


@dataclass(frozen=True)
class Shape:
    """declared: the gameday.toml. topics, tables: what it needs; a column a line. records: what happened. messages:
    the same as it travels. row: a record as the sink has it. change: one field of a record, otherwise. key: as a
    difference names the record."""

    declared: str
    topics: Sequence[str]
    columns: str
    records: Callable[[], Sequence[Record]]
    messages: Callable[[Record, int], Message]
    row: Callable[[Record], Sequence[Any]]
    change: Callable[[Record], Record]
    key: Callable[[Record], str]
    group: Callable[[Record], Group]
    engine: str = "clickhouse"


def at(number: int) -> float:
    """When a record happened, in seconds."""
    return START_S + number * EVERY_S


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def iso(seconds: float) -> str:
    """With milliseconds and a Z."""
    return moment(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---- three venues, three shapes; two of them count nothing -----------------------------------------------------------

VENUES = ("binance", "kraken", "coinbase")


def _trade(n: int) -> Record:
    return {
        "venue": VENUES[n % 3],
        "symbol": ("BTC", "ETH")[n // 3 % 2],
        "at": at(n) + 0.001 * (n % 7),
        "price": f"{64_000 + n}.{n % 100:02d}",
        "quantity": f"0.{n % 9 + 1}",
    }


def _quoted(trade: Record, n: int) -> Message:
    venue, seconds = trade["venue"], trade["at"]
    if venue == "binance":
        value = {"s": trade["symbol"], "t": n, "p": trade["price"], "q": trade["quantity"], "T": round(seconds * 1000)}
        return venue, None, json.dumps({**value, "m": n % 2 == 0})
    if venue == "kraken":
        shown = {"price": trade["price"], "volume": trade["quantity"], "timestamp": f"{seconds:.6f}"}
        return venue, None, json.dumps({"pair": trade["symbol"], **shown, "side": "b", "channel_id": 119})
    sold = {"product_id": trade["symbol"], "price": trade["price"], "size": trade["quantity"], "time": iso(seconds)}
    return venue, None, json.dumps({"trade_id": str(n), **sold, "sequence_num": n})


TRADES = Shape(
    declared="""
[streams.trades]
key = ["venue", "symbol", "at", "price", "quantity"]
group = ["venue", "symbol"]
time = "at"
fields = { at = "time", price = "decimal(8)", quantity = "decimal(8)" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
[[hops.log.part]]
topics = ["{topic}binance"]
fields = { venue = "'binance'", symbol = "s", at = "T as time(ms)", price = "p", quantity = "q" }
[[hops.log.part]]
topics = ["{topic}kraken"]
fields = { venue = "'kraken'", symbol = "pair", at = "timestamp as time(s)", quantity = "volume" }
[[hops.log.part]]
topics = ["{topic}coinbase"]
fields = { venue = "'coinbase'", symbol = "product_id", at = "time", quantity = "size" }

[hops.sink]
driver = "clickhouse"
url = "{warehouse}"
kind = "once"
table = "{table}"
fields = { at = "exchange_timestamp" }
""",
    topics=VENUES,
    columns="venue String, symbol String, exchange_timestamp DateTime64(3, 'UTC'), price Decimal(18, 8), "
    "quantity Decimal(18, 8), kafka_offset UInt64, kafka_partition UInt16",
    records=lambda: [_trade(n) for n in range(NUMBER)],
    messages=_quoted,
    row=lambda t: [t["venue"], t["symbol"], moment(round(t["at"], 3)), t["price"], t["quantity"], 0, 0],
    change=lambda t: {**t, "quantity": "0.30000001"},
    key=lambda t: "/".join(  # all of its key beside the group
        [iso(t["at"]).replace("Z", "000Z"), f"{t['price']}000000", f"{t['quantity']}0000000"]
    ),
    group=lambda t: (t["venue"], t["symbol"]),
)


# ---- usage events, known by four texts -------------------------------------------------------------------------------


def _usage(n: int) -> Record:
    return {
        "organization_id": "7f000000-0000-4000-8000-000000000001",
        "external_subscription_id": f"sub-{n % 4}",
        "code": "api_calls",
        "transaction_id": f"any text, {n} ü",
        "timestamp": f"{at(n):.3f}",
        "properties": {"region": "eu" if n % 3 else None},
        "value": str(n % 5),
    }


USAGE = Shape(
    declared="""
[streams.usage]
key = ["organization_id", "external_subscription_id", "code", "transaction_id"]
group = ["organization_id"]
time = "timestamp"
fields = { timestamp = "time(s)", region = "text", value = "decimal(6)" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}events"]
fields = { region = "properties.region" }

[hops.sink]
driver = "clickhouse"
url = "{warehouse}"
kind = "once"
table = "{table}"
fields = { region = "nullIf(region, '')" }
""",
    topics=["events"],
    columns="organization_id String, external_subscription_id String, code String, transaction_id String, "
    "timestamp DateTime64(3, 'UTC'), region String, value Decimal(38, 26)",
    records=lambda: [_usage(n) for n in range(NUMBER)],
    messages=lambda u, n: ("events", u["external_subscription_id"], json.dumps(u)),
    row=lambda u: [
        *(u[name] for name in ("organization_id", "external_subscription_id", "code", "transaction_id")),
        moment(float(u["timestamp"])),
        u["properties"]["region"] or "",
        u["value"],
    ],
    change=lambda u: {**u, "properties": {"region": "us"}},
    key=lambda u: "/".join([u["external_subscription_id"], u["code"], u["transaction_id"]]),
    group=lambda u: (u["organization_id"],),
)


# ---- JSON in a string ------------------------------------------------------------------------------------------------

DOCUMENTS = Shape(
    declared="""
[streams.documents]
key = ["i"]
sequence = "i"
gapless = true
fields = { name = "text" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}documents"]
where = { "payload.operationType" = ["insert"] }
fields = { i = "payload.fullDocument.i", name = "payload.fullDocument.name" }

[hops.sink]
driver = "postgres"
dsn = "{dsn}"
table = "documents"
kind = "once"
""",
    topics=["documents"],
    columns="i bigint, name text",
    records=lambda: [{"i": n, "name": None if n % 5 == 0 else f"n{n}"} for n in range(1, NUMBER + 1)],
    messages=lambda d, n: (
        "documents",
        None,
        json.dumps(
            {
                "schema": {"type": "string", "optional": False},
                "payload": json.dumps({"_id": {"_data": f"82{n:x}"}, "operationType": "insert", "fullDocument": d}),
            }
        ),
    ),
    row=lambda d: [d["i"], d["name"]],
    change=lambda d: {**d, "name": ""},
    key=lambda d: d["i"],
    group=lambda d: (),
    engine="postgres",
)

SHAPES = {"three venues": TRADES, "usage events": USAGE, "JSON in a string": DOCUMENTS}


# ---- the platform ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Platform:
    """What a shape runs on: its log is filled, its sink is the test's to fill."""

    shape: Shape
    stack: Stack
    put: Callable[[Sequence[Record]], None]

    def damage(self) -> dict[str, tuple[int, int, int]]:
        """Hop -> how many are lost, doubled (or there besides) and changed, where any are."""
        stream, first, last = self.stream, self.stack.hop("log"), self.stack.hop("sink")
        heads = first.heads()
        window = Window({group: head - self.reach for group, head in heads.items()}, heads)
        found = list(first.digest(window))
        found += digest_of(first, last, window, found)
        known: Mapping[str, Any] = {"stream": stream.name, "gapless": stream.gapless, "ledger": "log", "knows": False}
        told = compare(Evidence("t", {}, "s", visible="sink", window=window, digests=tuple(found), **known))
        return {one.hop: (one.lost, one.doubled, one.changed) for one in told}

    def differs(self, group: Group) -> Mapping[str, Sequence[str]]:
        """What of a group is missing, there besides, doubled, changed: their keys."""
        head = self.stack.hop("log").heads()[group]
        right, mine = (self.stack.hop(name).rows(group, head - self.reach, head) for name in ("log", "sink"))
        told = diagnose.difference(right, mine, self.stream)
        return {kind: found["ids"] for kind, found in told.items() if found["count"]}

    @property
    def stream(self) -> Stream:
        """The only one."""
        (live,) = self.stack.streams.values()
        return live.stream

    @property
    def reach(self) -> int:
        """Half of what there is, in ids or µs."""
        return NUMBER // 2 if self.stream.counted else int(NUMBER * EVERY_S / 2 * 1e6)


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def platform(
    request: pytest.FixtureRequest, broker: str, warehouse: str, dsn: str, client: Client, tmp_path: Path
) -> Platform:
    shape: Shape = request.param
    topic, table = f"shape-{uuid4()}-", f"shape_{uuid4().hex}"
    server.create_topics(broker, {f"{topic}{name}": 3 for name in shape.topics})
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    for number, record in enumerate(shape.records()):
        name, key, value = shape.messages(record, number)
        producer.produce(f"{topic}{name}", value, key)
    assert producer.flush(30) == 0
    text = CONSUMER + shape.declared
    places = {"brokers": broker, "topic": topic, "warehouse": warehouse, "table": table, "dsn": dsn}
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", value)
    (tmp_path / "gameday.toml").write_text(text)
    stack = open_stack(tmp_path / "gameday.toml", State(tmp_path))
    names = [column.split()[0] for column in shape.columns.split(", ") if column[0].isalpha()]

    def put(records: Sequence[Record]) -> None:
        rows = [shape.row(record) for record in records]
        if shape.engine == "clickhouse":
            client.command(f"CREATE OR REPLACE TABLE {table} ({shape.columns}) ENGINE = MergeTree ORDER BY tuple()")
            client.insert(table, rows, column_names=names)
            return
        with psycopg.connect(dsn) as own, own.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS documents")
            cursor.execute(f"CREATE TABLE documents ({shape.columns})")
            cursor.executemany(f"INSERT INTO documents VALUES ({', '.join(['%s'] * len(names))})", rows)

    return Platform(shape, stack, put)


def test_each_damage_is_found_in_the_sink_and_told_by_its_key(platform: Platform) -> None:
    """A healthy sink differs in nothing."""
    shape, records = platform.shape, list(platform.shape.records())
    one = records[-30]
    others = [record for record in records if record is not one]
    named = shape.key(one)
    platform.put(records)
    assert platform.damage() == {}
    assert platform.differs(shape.group(one)) == {}
    for planted, figures, told in (
        (others, (1, 0, 0), {"missing": [named]}),
        ([*records, one], (0, 1, 0), {"doubled": [named]}),
    ):
        platform.put(planted)
        assert platform.damage() == {"sink": figures}
        assert platform.differs(shape.group(one)) == told
    platform.put([*others, shape.change(one)])
    if platform.shape is TRADES:  # all that it has is its key: another quantity is another trade
        assert platform.damage() == {"sink": (1, 1, 0)}
        assert platform.differs(shape.group(one))["missing"] == [named]
    else:
        assert platform.damage() == {"sink": (0, 0, 1)}
        assert platform.differs(shape.group(one)) == {"changed": [named]}
