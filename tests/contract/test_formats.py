"""A real log of messages in each format: the same records have the same digest, and what can't be read is counted.

The registry is a small server that speaks Confluent's API over real HTTP and TLS (tests/registry.py): none of the real
ones can be had from a package registry.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import fastavro
import pytest
from confluent_kafka import Producer
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from compose.servers import kafka as server
from gameday.drivers.kafka import Hop
from gameday.errors import DriverError
from gameday.model import Group, Tally, Window
from gameday.records.declaration import Stream, stream
from tests.contract.certificates import Authority
from tests.registry import Registry, framed, registry

PARTITIONS = 2
RECORDS = 60
AT_US = 1_795_989_600_000_000
WINDOW = Window({("a",): 0, ("b",): 0}, {("a",): RECORDS, ("b",): RECORDS})

Order = dict[str, Any]


def declared() -> Stream:
    mistakes: list[str] = []
    given: dict[str, Any] = {"key": ["shop", "id"], "group": ["shop"], "sequence": "id", "gapless": True, "time": "at"}
    fields = {"total": "decimal(2)", "at": "time(us)", "note": "text"}
    places = {"hops": ["log", "sink"], "visible": "sink", "path": ["web"]}
    made = stream("orders", {**given, **places, "fields": fields}, ["log", "sink"], mistakes)
    assert made is not None, mistakes
    return made


ORDERS = declared()


def orders() -> list[Order]:
    return [
        {"shop": shop, "id": n, "total": f"{n}.50", "at": AT_US + n, "note": None if n % 3 else f"n{n}"}
        for n in range(1, RECORDS + 1)
        for shop in "ab"
    ]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "registry's")


@pytest.fixture
def schemas(authority: Authority) -> Iterator[Registry]:
    """One that wants to know user and password, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certificate("registry"))
    with registry(context) as running:
        running.login = f"Basic {base64.b64encode(b'gameday:p@ss').decode()}"
        yield running


def shape(name: str, schemas: Registry, authority: Authority) -> dict[str, Any]:
    """What a hop says of a format."""
    encoded = {"registry": {"url": schemas.url.replace("://", "://gameday:p%40ss@"), "ca": str(authority.ca)}}
    return {"format": name, **(encoded if name in ("avro", "protobuf") else {})}


SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "shop", "type": "string"},
        {"name": "id", "type": "long"},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "note", "type": ["null", "string"]},
    ],
}
BARE = json.loads(json.dumps(SCHEMA).replace("logicalType", "was"))


def proto() -> FileDescriptorProto:
    field = FieldDescriptorProto
    file = FileDescriptorProto(name="order.proto", syntax="proto3")
    made = file.message_type.add(name="Order")
    kinds = {"shop": field.TYPE_STRING, "id": field.TYPE_INT64, "total": field.TYPE_STRING, "at": field.TYPE_INT64}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        made.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    made.oneof_decl.add(name="_note")
    made.field.add(
        name="note", number=5, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL, oneof_index=0, proto3_optional=True
    )
    return file


def encoded(name: str, held: Sequence[Order], schemas: Registry) -> list[bytes]:
    """The records as messages of a format."""
    if name == "json":
        return [json.dumps(one).encode() for one in held]
    if name == "debezium":
        return [event("c", one) for one in held]
    if name == "avro":
        number, parsed = schemas.add(json.dumps(SCHEMA)), fastavro.parse_schema(BARE)
        return [framed(number, written(parsed, {**one, "total": unscaled(one)})) for one in held]
    number = schemas.add(base64.b64encode(proto().SerializeToString()).decode(), "PROTOBUF")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto())
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("Order"))
    return [framed(number, b"\0" + kind(**one).SerializeToString()) for one in held]


def unscaled(one: Order) -> bytes:
    return int(one["total"].replace(".", "")).to_bytes(8, "big", signed=True)


def written(schema: Any, record: Mapping[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def event(op: str, one: Order, **before: Any) -> bytes:
    """As Debezium writes it with its schema: decimals in two's complement, microseconds since 1970."""
    decimal = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}}
    stamp = {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}
    texts = [{"field": name, "type": "string"} for name in ("shop", "note")]
    columns = [*texts, {"field": "id", "type": "int64"}, {"field": "total", **decimal}, {"field": "at", **stamp}]
    row = {"type": "struct", "fields": columns}
    schema = {"type": "struct", "fields": [{**row, "field": "before"}, {**row, "field": "after"}]}
    after = {**one, "total": base64.b64encode(unscaled(one)).decode()}
    held = {"before": after, "after": None} if op == "d" else {"before": None, "after": after}
    return json.dumps({"schema": schema, "payload": {"op": op, "source": {"table": "orders"}, **held}}).encode()


def made(broker: str) -> str:
    topic = f"formats-{uuid4()}"
    server.create_topics(broker, {topic: PARTITIONS})
    return topic


def send(broker: str, topic: str, values: Sequence[bytes | None], at: int = 0) -> None:
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    for number, value in enumerate(values, at):
        producer.produce(topic, value, key=b"k", partition=number % PARTITIONS, timestamp=(AT_US // 1000) + number)
        producer.poll(0)
    assert producer.flush(30) == 0


def tallies(hop: Hop) -> dict[tuple[str, ...], Tally]:
    return dict(hop.digest(WINDOW)[0].groups)


@pytest.mark.parametrize("name", ["debezium", "avro", "protobuf"])
def test_the_same_records_have_the_same_digest_in_every_format(
    broker: str, schemas: Registry, authority: Authority, name: str
) -> None:
    """As in JSON; one that is lost, doubled or changed by its smallest unit is seen."""
    held = orders()
    reference = made(broker)
    send(broker, reference, encoded("json", held, schemas))
    right = tallies(Hop(broker, ORDERS, [reference], name="log"))
    assert right["a",].keys == right["b",].keys == RECORDS
    changed = [{**held[0], "total": "1.51"}, *held[1:]]
    null = [{**held[0], "note": ""}, *held[1:]]
    for wrong, sent in (
        ("", held),
        ("lost", held[1:]),
        ("doubled", [*held, held[0]]),
        ("changed", changed),
        ("", null),
    ):
        topic = made(broker)
        send(broker, topic, encoded(name, sent, schemas))
        hop = Hop(broker, ORDERS, [topic], name="log", **shape(name, schemas, authority))
        assert hop.heads() == {("a",): RECORDS, ("b",): RECORDS}
        mine = tallies(hop)
        assert mine["b",] == right["b",]
        figures = (mine["a",].rows - RECORDS, mine["a",].keys - RECORDS, mine["a",].sum == right["a",].sum)
        assert (
            figures
            == {
                "": (0, 0, sent is held),
                "lost": (-1, -1, False),
                "doubled": (1, 0, True),
                "changed": (0, 0, False),
            }[wrong]
        )


@pytest.mark.parametrize("name", ["debezium", "avro", "protobuf"])
def test_messages_that_cant_be_read_are_counted_with_place_and_reason(
    broker: str, schemas: Registry, authority: Authority, name: str
) -> None:
    """The others are records all the same; a message without a value is none."""
    topic = made(broker)
    values = encoded(name, orders(), schemas)
    send(broker, topic, [*values[:5], b"\x00broken", None, values[5][:-1], *values[5:]])
    hop = Hop(broker, ORDERS, [topic], name="log", **shape(name, schemas, authority))
    assert {group: tally.keys for group, tally in tallies(hop).items()} == {("a",): RECORDS, ("b",): RECORDS}
    told = hop.symptoms(WINDOW, AT_US, {})
    assert told["malformed"] == 2
    places = sorted(reason.partition(": ")[0] for reason in told["malformed_first"])
    assert places == [f"{topic}/1 offset 2", f"{topic}/1 offset 3"]
    excerpt = hop.newest(10 * RECORDS)
    assert (excerpt.malformed, len(excerpt.reasons)) == (2, 2)


def test_a_row_that_goes_is_no_record_and_not_malformed(broker: str) -> None:
    """Debezium tells it, and with a tombstone behind that Kafka."""
    topic = made(broker)
    held = orders()
    send(broker, topic, [*(event("c", one) for one in held), event("d", held[0]), None, event("u", held[1])])
    hop = Hop(broker, ORDERS, [topic], name="log", format="debezium")
    mine = tallies(hop)
    assert (mine["a",].rows, mine["b",].rows) == (RECORDS, RECORDS + 1)
    assert hop.symptoms(WINDOW, AT_US, {})["malformed"] == 0


def test_parts_have_formats_of_their_own(broker: str, schemas: Registry, authority: Authority) -> None:
    """What a part doesn't say is the hop's."""
    topics = [made(broker) for _ in range(3)]
    held = orders()
    names = ("avro", "json", "avro")
    for n, (topic, name) in enumerate(zip(topics, names, strict=True)):
        send(broker, topic, encoded(name, held[n::3], schemas))
    part: list[dict[str, Any]] = [{"topics": [topics[0], topics[2]]}, {"topics": [topics[1]], "format": "json"}]
    hop = Hop(broker, ORDERS, part=part, name="log", **shape("avro", schemas, authority))
    assert {group: (tally.rows, tally.keys) for group, tally in tallies(hop).items()} == {
        ("a",): (RECORDS, RECORDS),
        ("b",): (RECORDS, RECORDS),
    }
    assert hop.symptoms(WINDOW, AT_US, {})["malformed"] == 0


def test_a_registry_that_is_away_says_nothing_of_the_messages(
    broker: str, schemas: Registry, authority: Authority
) -> None:
    """What was read before goes on being read; else nothing is known, and nothing is lost."""
    topic = made(broker)
    send(broker, topic, encoded("avro", orders(), schemas))
    hop = Hop(broker, ORDERS, [topic], name="log", **shape("avro", schemas, authority))
    right = tallies(hop)
    schemas.login = "nobody's"
    assert tallies(hop) == right
    fresh = Hop(broker, ORDERS, [topic], name="log", **shape("avro", schemas, authority))
    with pytest.raises(DriverError, match=r"schema registry .* is answered with 401"):
        fresh.digest(WINDOW)
    with pytest.raises(DriverError, match=r"schema registry .* is answered with 401"):
        fresh.symptoms(WINDOW, AT_US, {})
    with pytest.raises(DriverError, match="certificate is not trusted"):
        Hop(broker, ORDERS, [topic], name="log", format="avro", registry={"url": schemas.url}).heads()


def test_raw_lines_are_told_by_their_place(broker: str) -> None:
    """Whatever they hold."""
    mistakes: list[str] = []
    given: dict[str, Any] = {"hops": ["log", "sink"], "visible": "sink", "path": ["web"], "fields": {"line": "bytes"}}
    of = stream("lines", given, ["log", "sink"], mistakes)
    assert of is not None
    topic = made(broker)
    lines = [b"", b"\xff\x00", b"{", "nö".encode()]
    send(broker, topic, [line for line in lines for _ in range(PARTITIONS)])
    hop = Hop(broker, of, [topic], name="log", format="raw")
    heads: dict[Group, int] = {(topic, str(partition)): len(lines) - 1 for partition in range(PARTITIONS)}
    assert hop.heads() == heads
    assert hop.rows((topic, "1"), -1, len(lines))["line"].tolist() == lines
    assert hop.symptoms(Window({}, heads), AT_US, {})["malformed"] == 0
