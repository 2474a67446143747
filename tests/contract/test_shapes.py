"""Records as real platforms have them, declared in a gameday.toml as their users would: read from real servers, a
healthy window differs in nothing, and what is lost, doubled or changed in the sink is told with its key.

Each shape is that of a public platform: only its form is taken, all values are made up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from pyiceberg.catalog import load_catalog

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
START_S = int(time.time()) - 3600
"""Of today, for a broker forgets what is older than a week."""
EVERY_S = 0.25
"""Between two records."""

Record = dict[str, Any]
Message = tuple[str, str | None, str | bytes]
"""Topic (its last word), key, value."""


@dataclass(frozen=True)
class Shape:
    """declared: the gameday.toml. topics, columns: what it needs. records: what happened. messages: the same as it
    travels; None: it went with the one before. row: a record as the sink has it. change: one field of a record,
    otherwise. key: as a difference names the record. others: what travels beside it, and belongs to no stream. schema:
    of a log in Protobuf."""

    declared: str
    topics: Sequence[str]
    columns: str
    records: Callable[[], Sequence[Record]]
    messages: Callable[[Record, int], Message | None]
    row: Callable[[Record], Sequence[Any]]
    change: Callable[[Record], Record]
    key: Callable[[Record], str]
    group: Callable[[Record], Group]
    others: Callable[[int], Sequence[Record]] = lambda n: []
    schema: bytes = b""
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
table = "{table}"
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

# ---- many flows in one packet, in Protobuf; none has an id -----------------------------------------------------------

FLOWS_EACH = 3


def _flow(n: int) -> Record:
    packet = n // FLOWS_EACH
    return {
        "exporter": f"10.0.0.{packet % 2}",
        "at": START_S + packet * EVERY_S * FLOWS_EACH,
        "source": f"192.0.2.{n % 200}",
        "port": 1024 + n,
        "bytes": 1500 * n,
    }


def _described() -> FileDescriptorProto:
    """message Packet { string exporter = 1; repeated Flow flows = 2; } message Flow { source, port, bytes }"""
    field = FieldDescriptorProto
    file = FileDescriptorProto(name="flow.proto", syntax="proto3")
    flow, packet = file.message_type.add(name="Flow"), file.message_type.add(name="Packet")
    for number, (name, kind) in enumerate(
        (("source", field.TYPE_STRING), ("port", field.TYPE_UINT32), ("bytes", field.TYPE_UINT64)), 1
    ):
        flow.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    packet.field.add(name="exporter", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    packet.field.add(name="flows", number=2, type=field.TYPE_MESSAGE, type_name=".Flow", label=field.LABEL_REPEATED)
    return file


def _packet(flow: Record, n: int) -> Message | None:
    """With the first of its flows all of them go; as a collector does, the message's time says when they were seen."""
    if n % FLOWS_EACH:
        return None
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_described())
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("Packet"))
    flows = [{name: one[name] for name in ("source", "port", "bytes")} for one in map(_flow, range(n, n + FLOWS_EACH))]
    return "flows", None, kind(exporter=flow["exporter"], flows=flows).SerializeToString()


FLOWS = Shape(
    declared="""
[streams.flows]
key = ["exporter", "at", "source", "port", "bytes"]
group = ["exporter"]
time = "at"
fields = { at = "time(ms)", port = "int", bytes = "int" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}flows"]
format = "protobuf"
schema = "{schema}"
message = "Packet"
each = "flows"
fields = { exporter = "$message.exporter", at = "$time" }

[hops.sink]
driver = "clickhouse"
url = "{warehouse}"
kind = "once"
table = "{table}"
fields = { at = "TimeReceived", exporter = "ExporterAddress", source = "SrcAddr", port = "SrcPort", bytes = "Bytes" }
""",
    topics=["flows"],
    columns="TimeReceived DateTime64(3, 'UTC'), ExporterAddress String, SrcAddr String, SrcPort UInt16, Bytes UInt64",
    records=lambda: [_flow(n) for n in range(NUMBER)],
    messages=_packet,
    row=lambda f: [moment(f["at"]), f["exporter"], f["source"], f["port"], f["bytes"]],
    change=lambda f: {**f, "bytes": f["bytes"] + 1},
    key=lambda f: (
        f"{moment(f['at']).isoformat(timespec='microseconds').replace('+00:00', 'Z')}/{f['source']}/"
        f"{f['port']}/{f['bytes']}"
    ),
    group=lambda f: (f["exporter"],),
    schema=FileDescriptorSet(file=[_described()]).SerializeToString(),
)

# ---- a job that filters and flattens: a UUID, and no time ------------------------------------------------------------


def _purchase(n: int) -> Record:
    return {
        "event_id": str(UUID(int=n + 1)),
        "event_type": "purchase",
        "device": ("ios", "android")[n % 2],
        "geo_location": {"lat": 48.1 + n / 1000, "lon": 11.5},
        "purchase_amount": n + 0.99 if n % 7 else None,
    }


PURCHASES = Shape(
    declared="""
[streams.purchases]
key = ["event_id"]
group = ["device"]
fields = { event_id = "uuid", lat = "float(15)", lon = "float(15)", amount = "float(15)" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}events"]
where = { event_type = "purchase", device = "*" }
fields = { lat = "geo_location.lat", lon = "geo_location.lon", amount = "purchase_amount" }

[hops.sink]
driver = "iceberg"
catalog = { name = "lake", type = "sql", uri = "sqlite:///{folder}/catalog.db", warehouse = "file://{folder}" }
table = "{table}"
kind = "once"
fields = { amount = "purchase_amount" }
""",
    topics=["events"],
    columns="event_id string, device string, lat double, lon double, purchase_amount double",
    records=lambda: [_purchase(n) for n in range(NUMBER)],
    messages=lambda p, n: ("events", None, json.dumps(p)),
    others=lambda n: [
        {**_purchase(1000 + n), "event_type": "view"},
        {**_purchase(2000 + n), "device": None},
    ],
    row=lambda p: [p["event_id"], p["device"], *p["geo_location"].values(), p["purchase_amount"]],
    change=lambda p: {**p, "geo_location": {"lat": round(p["geo_location"]["lat"], 1), "lon": 11.5}},
    key=lambda p: p["event_id"],
    group=lambda p: (p["device"],),
    engine="iceberg",
)

# ---- requests through a router: no order, no number, no time; what comes out is a log again --------------------------


def _request(n: int) -> Record:
    return {"request_id": str(UUID(int=n + 1)), "tenant": f"t{n % 3}", "payload": {"n": n, "tags": ["a", None]}}


REQUESTS = Shape(
    declared="""
[streams.requests]
key = ["request_id"]
group = ["tenant"]
fields = { request_id = "uuid", payload = "json" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}decide"]

[hops.sink]
driver = "kafka"
brokers = "{brokers}"
topics = ["{table}"]
kind = "once"
fields = { request_id = "$headers.Nats-Msg-Id" }
""",
    topics=["decide"],
    columns="header text, value text",
    records=lambda: [_request(n) for n in range(NUMBER)],
    messages=lambda r, n: ("decide", None, json.dumps(r)),
    row=lambda r: [r["request_id"], json.dumps({"tenant": r["tenant"], "payload": r["payload"]})],
    change=lambda r: {**r, "payload": {**r["payload"], "tags": ["a"]}},
    key=lambda r: r["request_id"],
    group=lambda r: (r["tenant"],),
    engine="kafka",
)

SHAPES = {
    "three venues": TRADES,
    "usage events": USAGE,
    "JSON in a string": DOCUMENTS,
    "many flows in a packet": FLOWS,
    "filtered and flattened": PURCHASES,
    "requests": REQUESTS,
}
"""Those whose rows don't change. Rows that change and go: test_states.py."""


# ---- the platform ----------------------------------------------------------------------------------------------------


@dataclass
class Platform:
    """What a shape runs on: its log is filled, its sink is the test's to fill."""

    shape: Shape
    servers: Mapping[str, str]
    folder: Path
    client: Client
    stack: Stack = field(init=False)

    def send(self, messages: Iterable[tuple[int, Message | None]]) -> None:
        """To the log: of each when it was produced, as the number of its record."""
        producer = Producer({"bootstrap.servers": self.servers["brokers"], "acks": "all", "log_level": 0})
        for number, message in messages:
            if message is not None:
                topic, key, value = message
                producer.produce(f"{self.servers['topic']}{topic}", value, key, timestamp=int(at(number) * 1000))
        assert producer.flush(30) == 0

    def put(self, records: Sequence[Record]) -> None:
        """A new sink, with these records."""
        table, rows = f"shape_{uuid4().hex}", [self.shape.row(record) for record in records]
        names = [column.split()[0] for column in self.shape.columns.split(", ") if column[0].isalpha()]
        table = SINKS[self.shape.engine](self, table, names, rows)
        text = CONSUMER + self.shape.declared
        for name, value in {**self.servers, "table": table}.items():
            text = text.replace(f"{{{name}}}", value)
        (self.folder / "gameday.toml").write_text(text)
        self.stack = open_stack(self.folder / "gameday.toml", State(self.folder))

    def damage(self) -> dict[str, tuple[int, int, int]]:
        """Hop -> how many are lost, doubled (or there besides) and changed, where any are."""
        stream, first, last = self.stream, self.stack.hop("log"), self.stack.hop("sink")
        heads = first.heads()
        assert last.heads().keys() <= heads.keys()
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


def _in_clickhouse(of: Platform, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    of.client.command(f"CREATE TABLE {table} ({of.shape.columns}) ENGINE = MergeTree ORDER BY tuple()")
    of.client.insert(table, rows, column_names=names)
    return table


def _in_postgres(of: Platform, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    with psycopg.connect(of.servers["dsn"]) as own, own.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} ({of.shape.columns})")
        cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(names))})", rows)
    return table


def _in_iceberg(of: Platform, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Two commits, as a job makes them at its checkpoints."""
    catalog = load_catalog("lake", type="sql", uri=f"sqlite:///{of.folder}/catalog.db", warehouse=f"file://{of.folder}")
    catalog.create_namespace_if_not_exists("shapes")
    kinds = {"string": pa.string(), "double": pa.float64()}
    columns = [column.split() for column in of.shape.columns.split(", ")]
    schema = pa.schema([pa.field(name, kinds[kind]) for name, kind in columns])
    made = catalog.create_table(f"shapes.{table}", schema=schema)
    held = [dict(zip(names, row, strict=True)) for row in rows]
    for part in (held[: len(held) // 2], held[len(held) // 2 :]):
        made.append(pa.Table.from_pylist(part, schema=schema))
    return f"shapes.{table}"


def _in_kafka(of: Platform, topic: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    server.create_topics(of.servers["brokers"], {topic: 2})
    producer = Producer({"bootstrap.servers": of.servers["brokers"], "acks": "all", "log_level": 0})
    for number, (name, value) in enumerate(rows):
        stamp = int(at(number) * 1000) + 5  # it takes so long
        producer.produce(topic, value, headers=[("Nats-Msg-Id", name)], timestamp=stamp)
    assert producer.flush(30) == 0
    return topic


SINKS = {"clickhouse": _in_clickhouse, "postgres": _in_postgres, "iceberg": _in_iceberg, "kafka": _in_kafka}
"""Makes a sink of a name, or one like it, which is returned, with these rows."""


@pytest.fixture(params=list(SHAPES.values()), ids=list(SHAPES))
def platform(
    request: pytest.FixtureRequest, broker: str, warehouse: str, dsn: str, client: Client, tmp_path: Path
) -> Platform:
    shape: Shape = request.param
    topic = f"shape-{uuid4()}-"
    server.create_topics(broker, {f"{topic}{name}": 3 for name in shape.topics})
    (tmp_path / "schema").write_bytes(shape.schema)
    places = {"brokers": broker, "topic": topic, "warehouse": warehouse, "dsn": dsn, "folder": str(tmp_path)}
    made = Platform(shape, {**places, "schema": str(tmp_path / "schema")}, tmp_path, client)
    sent = [shape.messages(record, number) for number, record in enumerate(shape.records())]
    beside = [(n, shape.messages(record, n)) for n in range(0, NUMBER, 10) for record in shape.others(n)]
    made.send([*enumerate(sent), *beside])
    return made


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
    if set(platform.stream.key) == set(platform.stream.fields):  # what is changed is another record
        assert platform.damage() == {"sink": (1, 1, 0)}
        assert platform.differs(shape.group(one))["missing"] == [named]
    else:
        assert platform.damage() == {"sink": (0, 0, 1)}
        assert platform.differs(shape.group(one)) == {"changed": [named]}


def test_a_message_that_cant_be_read_is_told_with_its_place(platform: Platform) -> None:
    """It hides no other."""
    shape, records = platform.shape, list(platform.shape.records())
    platform.send([(NUMBER, (shape.topics[0], "any key", b"\xffbroken"))])
    platform.put(records)
    assert platform.damage() == {}
    told = platform.stack.hop("log").symptoms(Window({}, {}), START_S * 1_000_000, {})  # type: ignore[attr-defined]
    assert told["malformed"] == 1
    (reason,) = told["malformed_first"]
    assert reason.startswith(f"{platform.servers['topic']}{shape.topics[0]}/")
    assert " offset " in reason


@pytest.mark.parametrize("platform", [PURCHASES, REQUESTS], ids=["a table", "a log"], indirect=True)
def test_what_has_nothing_but_a_key_stands_where_the_log_has_it(platform: Platform) -> None:
    """A hop is where the newest record stands that it has; a record that the log never had is told."""
    shape, records = platform.shape, list(platform.shape.records())
    newest = {shape.group(record): number for number, record in enumerate(records)}
    (first, *_), (last, *_) = list(newest), list(newest)[::-1]
    platform.put(
        [
            record
            for record in records
            if shape.group(record) == last or shape.key(record) != shape.key(records[newest[first]])
        ]
    )
    heads = {name: platform.stack.hop(name).heads() for name in ("log", "sink")}
    assert heads["log"] == {group: int(at(number) * 1000) * 1000 for group, number in newest.items()}
    before = max(n for n, record in enumerate(records) if shape.group(record) == first and n < newest[first])
    assert heads["sink"] == {**heads["log"], first: int(at(before) * 1000) * 1000}
    foreign = {**records[-1], "event_id": str(UUID(int=77_777)), "request_id": str(UUID(int=77_777))}
    platform.put([*records, foreign])
    assert platform.damage() == {"sink": (0, 1, 0)}
    assert platform.differs(shape.group(foreign)) == {"extra": [str(UUID(int=77_777))]}


def test_without_a_time_a_table_that_cant_ask_the_log_is_refused(tmp_path: Path) -> None:
    """With what would help; and so is a first hop that is no log."""
    tables = {"log": 'driver = "kafka"\nbrokers = "127.0.0.1:1"\ntopics = ["a"]'}
    tables["table"] = 'driver = "postgres"\ndsn = "postgresql://127.0.0.1:1/a"\ntable = "a"\nkind = "once"'
    for hops, told in (
        (["log", "table"], "so that nothing tells the newest records of table, nor those of a window: its driver 'pos"),
        (
            ["table", "log"],
            "so its first hop must be a log, which tells when each record came; table is none. Remedy: streams",
        ),
    ):
        text = CONSUMER + f"[streams.a]\nkey = ['id']\nhops = {hops}\nvisible = 'table'\npath = ['consumer']\n"
        text += "".join(f"[hops.{name}]\n{tables[name]}\n" for name in hops)
        (tmp_path / "gameday.toml").write_text(text)
        stack = open_stack(tmp_path / "gameday.toml", State(tmp_path))
        assert any(told in mistake for mistake in stack.mistakes()), stack.mistakes()
