"""Messages of every format as records: real bytes of Avro and Protobuf, Debezium's events with and without a schema."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import orjson
import pytest
from google.protobuf import descriptor_pool, message_factory, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from gameday.errors import DriverError
from gameday.records.avro import Avro
from gameday.records.debezium import REMEMBERED_MAX, Envelopes
from gameday.records.declaration import Stream, stream
from gameday.records.paths import Message, Reader, Record, reader
from gameday.records.protobuf import Protobuf
from gameday.records.registry import Schema
from gameday.records.types import Malformed
from tests.registry import Registry, framed, registry

AT = datetime(2026, 11, 29, 22, 0, 0, 123456, tzinfo=UTC)
AT_US = 1_795_989_600_123_456
DAY_US = 1_795_910_400_000_000
FLAG = "__debezium_unavailable_value"


def declared(**fields: str) -> Stream:
    """A stream whose key is `id`, with these fields."""
    mistakes: list[str] = []
    places: dict[str, Any] = {"hops": ["a", "b"], "visible": "b", "path": ["web"]}
    made = stream("s", {**places, "key": ["id"], "sequence": "id", "fields": fields}, ["a", "b"], mistakes)
    assert made is not None, mistakes
    return made


def opened(of: Stream, shape: Mapping[str, Any]) -> Reader:
    mistakes: list[str] = []
    made = reader(of, shape, "hops.log", mistakes)
    assert mistakes == []
    return made


def mistakes_of(shape: Mapping[str, Any], of: Stream | None = None) -> str:
    mistakes: list[str] = []
    reader(of or declared(), shape, "hops.log", mistakes)
    return "; ".join(mistakes)


def message(value: bytes, key: bytes | None = None) -> Message:
    return Message("topic.a", 3, 42, 1_790_000_000_000_000, key, value)


def records(made: Reader, values: Sequence[bytes], key: bytes | None = None) -> list[Record]:
    """One by one; and it is seen that all at once gives the same."""
    messages = [message(value, key) for value in values]
    found = [(n, record) for n, one in enumerate(messages) for record in made.records(one)]
    table = made.columns(messages, values)
    assert table is not None
    of, columns = table
    rows = list(zip(*(columns[name].tolist() for name in made.stream.types), strict=True))
    assert (list(of), rows) == ([n for n, _ in found], [row for _, (_, row) in found])
    return [record for _, record in found]


def read(made: Reader, value: bytes, key: bytes | None = None) -> dict[str, Any]:
    ((_, values),) = records(made, [value], key)
    return dict(zip(made.stream.types, values, strict=True))


def refused(made: Reader, value: bytes, why: str, key: bytes | None = None) -> None:
    """It is malformed, for that reason; and all at once says that one of them is."""
    with pytest.raises(Malformed, match=why):
        list(made.records(message(value, key)))
    assert made.columns([message(value, key)], [value]) is None


# ---- Debezium --------------------------------------------------------------------------------------------------


def event(op: str, before: Any = None, after: Any = None, **more: Any) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": {"table": "orders", "lsn": 7}, "ts_ms": 5, **more}


def plain(op: str, before: Any = None, after: Any = None) -> bytes:
    return orjson.dumps({"payload": event(op, before, after)})


@pytest.mark.parametrize("wrapped", [True, False], ids=["payload", "bare"])
def test_a_change_event_is_the_row_that_it_leaves(wrapped: bool) -> None:
    """Its fields lie under their own names, whatever stands around it; one that deletes is no record."""
    of = declared(status="text", total="decimal(2)", table="text")
    made = opened(of, {"format": "debezium", "fields": {"table": "$message.source.table"}})
    old, new = {"id": 1, "status": "new", "total": "1.50"}, {"id": 1, "status": "paid", "total": "2.50"}
    events = [event("c", None, old), event("u", old, new), event("r", None, new), event("d", new), event("d")]
    found = records(made, [orjson.dumps({"payload": one} if wrapped else one) for one in events])
    assert [values for _, values in found] == [
        (1, "new", 150, "orders"),
        (1, "paid", 250, "orders"),
        (1, "paid", 250, "orders"),
    ]


def test_which_event_deletes_and_what_it_deletes_is_told() -> None:
    """Its row as it was has at least the key."""
    made = opened(declared(), {"format": "debezium"})
    assert made.format.deletes is not None
    assert made.format.row is not None
    body = made.format.decode(plain("d", {"id": 9}))
    assert (made.format.deletes(body), made.format.row(body)) == (True, {"id": 9})
    assert not made.format.deletes(made.format.decode(plain("u", {"id": 9}, {"id": 9})))


def test_a_deletion_is_told_however_it_is_written() -> None:
    """With spaces, and with letters written as numbers."""
    made, gone = opened(declared(), {"format": "debezium"}), plain("d", {"id": 9})
    for raw in (gone, gone.replace(b'"d"', b' "d" '), gone.replace(b'"d"', b'"\\u0064"')):
        assert list(made.deletions(message(raw))) == [((9,), None)]
    assert list(made.deletions(message(plain("u", {"id": 9}, {"id": 9})))) == []


@pytest.mark.parametrize(
    ("path", "version"), [("version", None), ("$message.source.lsn", 7)], ids=["in the row", "beside it"]
)
def test_a_deletion_s_row_is_believed_in_its_key_alone(path: str, version: int | None) -> None:
    """Of a table whose replica identity is its primary key, the others are 0 there: a version would go back."""
    of = replace(declared(version="int"), key=("id",), version="version")
    made = opened(of, {"format": "debezium", "fields": {"version": path}})
    assert list(made.deletions(message(plain("d", {"id": 9, "version": 0})))) == [((9,), version)]


def test_a_deletion_is_told_though_its_row_can_t_say_whose_it_was() -> None:
    """By what stands beside the row it is another stream's all the same."""
    of = replace(declared(shop="text", version="int"), key=("id",), version="version")
    where = {"shop": "north", "$message.source.table": "orders"}
    made = opened(of, {"format": "debezium", "where": where, "fields": {"version": "version"}})
    gone = plain("d", {"id": 9, "shop": "", "version": 0})
    assert list(made.deletions(message(gone))) == [((9,), None)]
    assert list(made.deletions(message(gone.replace(b'"orders"', b'"clicks"')))) == []
    assert list(made.records(message(plain("c", None, {"id": 9, "shop": "", "version": 1})))) == []


def test_an_event_may_be_left_out_by_what_stands_around_the_row() -> None:
    """Also one that has no row."""
    where = {"$message.source.table": ["orders"], "$message.op": ["c"]}
    made = opened(declared(), {"format": "debezium", "where": where})
    assert [values for _, values in records(made, [plain("t"), plain("c", None, {"id": 1}), plain("r", None, {})])] == [
        (1,)
    ]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (plain("t"), "no change event of Debezium's with a row .op 't'."),
        (plain("m"), "op 'm'"),
        (plain("u", {"id": 1}), "op 'u'"),
        (plain("c", None, "{"), "op 'c'"),
        (orjson.dumps({"id": 1}), "op None"),
        (orjson.dumps([1]), "op None"),
        (b"{", "no JSON"),
        (orjson.dumps({"schema": {"type": "struct", "fields": 7}, "payload": event("c")}), "its schema is none"),
    ],
)
def test_what_is_no_change_event_is_malformed(value: bytes, why: str) -> None:
    """A truncated table too: it is a loss that no row tells."""
    refused(opened(declared(), {"format": "debezium"}), value, why)


def test_a_document_of_mongodb_is_gone_into() -> None:
    """Debezium has it as JSON in a string."""
    made = opened(declared(a="text"), {"format": "debezium", "fields": {"a": "deep.a"}})
    assert read(made, plain("c", None, '{"id": 5, "deep": {"a": "x"}}')) == {"id": 5, "a": "x"}


def test_a_key_is_read_as_the_event_is() -> None:
    """With or without its schema."""
    made = opened(declared(), {"format": "debezium", "fields": {"id": "$key.id"}})
    value = plain("c", None, {"x": 1})
    for key in ({"id": 4}, {"payload": {"id": 4}}, {"schema": {"type": "struct"}, "payload": {"id": 4}}):
        assert read(made, value, orjson.dumps(key)) == {"id": 4}
    refused(made, value, "id: is missing", b"4")
    refused(made, value, "id: is missing", b"no JSON")
    refused(made, value, "id: is missing")


COLUMNS: Mapping[str, tuple[dict[str, Any], Any, str, int | str | bytes]] = {
    # column -> its schema in Kafka Connect, the value there, how it is declared, what comes out
    "ms": ({"type": "int64", "name": "io.debezium.time.Timestamp"}, AT_US // 1000, "time", AT_US // 1000 * 1000),
    "us": ({"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, AT_US, "time", AT_US),
    "ns": ({"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, AT_US * 1000, "time(ms)", AT_US),
    "day": ({"type": "int32", "name": "io.debezium.time.Date"}, DAY_US // 86_400_000_000, "time(us)", DAY_US),
    "zoned": (
        {"type": "string", "name": "io.debezium.time.ZonedTimestamp"},
        "2026-11-29T23:00:00.123456+01:00",
        "time(us)",
        AT_US,
    ),
    "connect": (
        {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp"},
        AT_US // 1000,
        "time(us)",
        AT_US // 1000 * 1000,
    ),
    "clock": ({"type": "int64", "name": "io.debezium.time.MicroTime"}, 86_399_000_000, "int", 86_399_000_000),
    "total": (
        {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
        base64.b64encode((-1250).to_bytes(2, "big", signed=True)).decode(),
        "decimal(4)",
        -125_000,
    ),
    "free": (
        {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"},
        {"scale": 3, "value": base64.b64encode(b"\x01\x00").decode()},
        "decimal(3)",
        256,
    ),
    "raw": ({"type": "bytes"}, base64.b64encode(b"\xff\x00").decode(), "bytes", b"\xff\x00"),
    "days": (
        {"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}},
        [0, 1],
        "json",
        b'["1970-01-01T00:00:00Z","1970-01-02T00:00:00Z"]',
    ),
}


def described(changes: Mapping[str, Any] = {}, **more: Any) -> bytes:
    """An event that brings its schema."""
    fields = [{"field": "id", "type": "int64"}, *({"field": n, **schema} for n, (schema, *_) in COLUMNS.items())]
    inner = {"type": "struct", "fields": fields, "name": "s.public.orders.Value", "optional": True}
    schema = {
        "type": "struct",
        "name": "s.public.orders.Envelope",
        "fields": [{**inner, "field": "before"}, {**inner, "field": "after"}, {"field": "op", "type": "string"}],
    }
    after = {"id": 1, **{name: value for name, (_, value, *_) in COLUMNS.items()}, **changes}
    return orjson.dumps({"schema": schema, "payload": event("c", None, after)})


def test_what_a_value_stands_for_is_in_the_schema() -> None:
    """Days, milli-, micro- and nanoseconds, decimals in two's complement; however the field's own unit is declared."""
    of = declared(**{name: kind for name, (_, _, kind, _) in COLUMNS.items()})
    found = read(opened(of, {"format": "debezium"}), described())
    assert found == {"id": 1, **{name: right for name, (*_, right) in COLUMNS.items()}}


def test_null_stays_null_beside_a_schema() -> None:
    """Whatever the schema says of the column."""
    of = declared(**{name: kind for name, (_, _, kind, _) in COLUMNS.items()})
    found = read(opened(of, {"format": "debezium"}), described(dict.fromkeys(COLUMNS)))
    assert found == {"id": 1, **dict.fromkeys(COLUMNS)}


def test_a_schema_that_changes_is_read_anew() -> None:
    """A column that was milliseconds and is microseconds now."""
    made = opened(declared(ms="time"), {"format": "debezium"})
    before = described()
    after = before.replace(b"io.debezium.time.Timestamp", b"io.debezium.time.MicroTimestamp")
    found = records(made, [before, after, before])
    ms = AT_US // 1000
    assert [values[1] for _, values in found] == [ms * 1000, ms, ms * 1000]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"us": 9_223_372_036_825_200_000}, "us: '9223372036825200000 of 1/1000000 s behind 1970' is no ISO time"),
        ({"ns": AT_US * 1000 + 1}, "ns: .* of 1/1000000000 s"),
        ({"zoned": "2026-11-29T23:00:00.1234567Z"}, "zoned: '2026-11-29T23:00:00.1234567Z'"),
        ({"total": base64.b64encode(b"\x01").decode() + "!"}, "total"),
        ({"free": {"scale": 1_000_000_000, "value": "AQ=="}}, "free"),
        ({"us": FLAG}, "us: an unchanged large value, which Debezium didn't send, is no"),
        ({"raw": base64.b64encode(FLAG.encode()).decode()}, "raw: an unchanged large value"),
        ({"days": FLAG}, "days: an unchanged large value"),
    ],
    ids=["infinity", "nanoseconds", "seven digits", "no base64", "huge scale", "not sent", "no bytes", "no json"],
)
def test_what_cant_be_told_exactly_is_malformed(change: dict[str, Any], why: str) -> None:
    """Never rounded, and never a placeholder for the value that Debezium had not; where the field isn't declared, it is
    nobody's business."""
    of = declared(**{name: kind for name, (_, _, kind, _) in COLUMNS.items()})
    refused(opened(of, {"format": "debezium"}), described(change), why)
    left = declared(**{name: kind for name, (_, _, kind, _) in COLUMNS.items() if name not in change})
    read(opened(left, {"format": "debezium"}), described(change))


def named(kind: str, **more: Any) -> bytes:
    """A schema of one column, which stays the same schema by its name alone."""
    fields = [{"field": "at", "type": "int64", "name": f"io.debezium.time.{kind}", **more}]
    row = {"type": "struct", "fields": fields}
    inner = [{**row, "field": "before"}, {**row, "field": "after"}]
    return orjson.dumps({"type": "struct", "name": "s.orders.Envelope", "fields": inner})


SCHEMAS = (
    named("Timestamp"),
    named("MicroTimestamp"),
    named("Timestamp", doc='},"payload":{"op":"d"}'),
    named("Timestamp", payload={"op": "d"}),
    named("Timestamp", doc=FLAG),
    named("Timestamp").replace(b",", b" ,\n"),
    b'{"name":"s.orders.Envelope","fields":7}',
    b"null",
    b'{"type":"struct"',
)
PAYLOADS = (
    *(orjson.dumps(event("u", {"id": 1, "at": 3}, {"id": 1, "at": at})) for at in (5, None, FLAG)),
    orjson.dumps(event("d", {"id": 1, "at": 3})),
    orjson.dumps(event("c", None, {"id": 1, "note": '"}\\",payload":{}', "at": 0})),
    orjson.dumps(event("c", None, {"id": 1, "at": 4, "note": FLAG})).replace(b"__d", b"_\\u005fd"),
    orjson.dumps({"id": 1, "at": 5}),
    *(b"null", b"7", b"[]", b'"{}"', b"{", b'{"op":"c"}}', b'{"op":"c"},"payload":{"op":"d"}'),
)


@st.composite
def wrapped(draw: st.DrawFn) -> bytes:
    """A message as Kafka Connect writes it, or nearly so."""
    parts = [(b"schema", draw(st.sampled_from(SCHEMAS))), (b"payload", draw(st.sampled_from(PAYLOADS)))]
    more = st.sampled_from([*parts, (b"payload", PAYLOADS[0]), (b"schema", SCHEMAS[1]), (b"op", b'"c"')])
    parts += draw(st.lists(more, max_size=1))
    space = draw(st.sampled_from([b"", b"", b"", b" ", b"\n"]))
    body = (b"," + space).join(b'"%b":%b%b' % (key, space, value) for key, value in draw(st.permutations(parts)))
    if draw(st.booleans()):
        body = b",".join(b'"%b":%b' % part for part in parts)
    raw = b"{%b" % body + draw(st.sampled_from([b"}", b"}", b"}", b"", b",", b"]", b"} ", b"}}", b"}{}"]))
    return raw[: draw(st.sampled_from([len(raw)] * 4 + [len(raw) - 1, len(raw) // 2]))]


def told(decode: Any, raw: bytes) -> Any:
    """What a message is decoded to, as text, for what was not sent equals nothing; or that it can't be."""
    try:
        return repr(decode(raw))
    except (orjson.JSONDecodeError, Malformed) as e:
        return type(e)


@given(st.lists(wrapped(), min_size=1, max_size=40))
def test_a_schema_that_is_remembered_changes_no_message(messages: Sequence[bytes]) -> None:
    """Whatever came before, a message is decoded as if it were the first and all of it were parsed."""
    remembers = Envelopes()
    assert [told(remembers, raw) for raw in messages] == [told(Envelopes()._whole, raw) for raw in messages]


@pytest.mark.parametrize("end", [b"]", b",", b" "])
def test_a_message_without_its_end_is_malformed_also_behind_a_sound_one(end: bytes) -> None:
    """What is remembered says nothing of how a message ends."""
    remembers, sound = Envelopes(), b'{"schema":%b,"payload":%b}' % (SCHEMAS[0], PAYLOADS[0])
    remembers(sound)
    with pytest.raises(orjson.JSONDecodeError):
        remembers(sound[:-1] + end)


def test_only_so_many_schemas_are_remembered() -> None:
    """A log in which each message has another one fills no memory."""
    remembers = Envelopes()
    for number in range(100):
        remembers(b'{"schema":%b,"payload":%b}' % (named("Timestamp", doc=str(number)), PAYLOADS[0]))
    assert len(remembers._before_payload) == REMEMBERED_MAX


def test_a_placeholder_is_known_however_it_is_written() -> None:
    """Letters may be written as numbers."""
    made = opened(declared(note="text"), {"format": "debezium"})
    value = plain("u", None, {"id": 1, "note": FLAG})
    refused(made, value, "note: an unchanged large value")
    refused(made, value.replace(b"__d", b"_\\u005fd"), "note: an unchanged large value")


# ---- Avro ------------------------------------------------------------------------------------------------------

ORDER: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "status", "type": {"type": "enum", "name": "Status", "symbols": ["NEW", "PAID"]}},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "us", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "ns", "type": {"type": "long", "logicalType": "timestamp-nanos"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "ratio", "type": "double"},
        {"name": "blob", "type": "bytes"},
        {"name": "lines", "type": {"type": "array", "items": {"type": "map", "values": "int"}}},
    ],
}
BARE = json.loads(json.dumps(ORDER).replace("logicalType", "was"))
"""The same bytes, given as they lie there: what fastavro makes of a Decimal or datetime is not what is tested."""

UUID = "7f3e1a52-0000-4000-8000-0123456789ab"
HELD = {
    "id": 5,
    "price": (1250).to_bytes(2, "big", signed=True),
    "status": "PAID",
    "note": None,
    "ms": AT_US // 1000,
    "us": AT_US,
    "local": AT_US,
    "ns": AT_US * 1000,
    "day": DAY_US // 86_400_000_000,
    "clock": 86_399_000,
    "ref": UUID,
    "ratio": 0.1,
    "blob": b"\xff\x00",
    "lines": [{"n": 1}, {"n": 2}],
}
TYPES = {
    "price": "decimal(2)",
    "status": "text",
    "note": "text",
    "ms": "time(us)",
    "us": "time",
    "local": "time",
    "ns": "time(s)",
    "day": "time",
    "clock": "int",
    "ref": "uuid",
    "ratio": "float(15)",
    "blob": "bytes",
    "lines": "json",
}
RIGHT = {
    "id": 5,
    "price": 1250,
    "status": "PAID",
    "note": None,
    "ms": AT_US // 1000 * 1000,
    "us": AT_US,
    "local": AT_US,
    "ns": AT_US,
    "day": DAY_US,
    "clock": 86_399_000,
    "ref": bytes.fromhex(UUID.replace("-", "")),
    "ratio": "1.00000000000000e-01",
    "blob": b"\xff\x00",
    "lines": b'[{"n":1},{"n":2}]',
}


def avro(schema: Any, held: Any, number: int | None = None) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), held)
    return out.getvalue() if number is None else framed(number, out.getvalue())


@pytest.fixture
def schemas() -> Iterator[Registry]:
    with registry() as running:
        yield running


def test_a_message_of_avro_is_read_by_its_schema(schemas: Registry) -> None:
    """Every type is exact; the registry is asked once for each schema."""
    made = opened(declared(**TYPES), {"format": "avro", "registry": {"url": schemas.url}})
    number = schemas.add(json.dumps(ORDER))
    value = avro(BARE, HELD, number)
    assert [read(made, value), read(made, value)] == [RIGHT, RIGHT]
    assert len(schemas.asked) == 1
    wider = {**ORDER, "fields": [{"name": "more", "type": "long"}, *ORDER["fields"]]}
    other = schemas.add(json.dumps(wider))
    assert (
        read(made, avro({**BARE, "fields": [wider["fields"][0], *BARE["fields"]]}, {**HELD, "more": 1}, other)) == RIGHT
    )


def test_avro_without_a_registry_has_its_schema_in_a_file(tmp_path: Path) -> None:
    """Then a message is its record alone."""
    (tmp_path / "order.avsc").write_text(json.dumps(ORDER))
    made = opened(declared(**TYPES), {"format": "avro", "schema": str(tmp_path / "order.avsc")})
    assert read(made, avro(BARE, HELD)) == RIGHT


def test_paths_lead_into_a_message_of_avro_and_into_its_key(schemas: Registry) -> None:
    """Also into what is JSON, which a key without a schema's number is."""
    of = declared(n="int", who="text")
    paths = {"id": "id", "n": "lines.1.n", "who": "$key.who"}
    made = opened(of, {"format": "avro", "registry": {"url": schemas.url}, "fields": paths})
    key = {"type": "record", "name": "K", "fields": [{"name": "who", "type": "string"}]}
    value = avro(BARE, HELD, schemas.add(json.dumps(ORDER)))
    for one in (avro(key, {"who": "me"}, schemas.add(json.dumps(key))), b'{"who": "me"}'):
        assert read(made, value, one) == {"id": 5, "n": 2, "who": "me"}
    refused(made, value, "schema 99 is not in the registry", framed(99, b"x"))


def test_each_item_of_a_message_of_avro_is_a_record(schemas: Registry) -> None:
    """With what stands around it."""
    of = declared(order="int")
    shape = {"each": "lines", "fields": {"id": "n", "order": "$message.id"}, "where": {"n": [1, 2]}}
    made = opened(of, {"format": "avro", "registry": {"url": schemas.url}, **shape})
    value = avro(BARE, {**HELD, "lines": [{"n": 1}, {"n": 3}, {"n": 2}]}, schemas.add(json.dumps(ORDER)))
    assert [values for _, values in records(made, [value])] == [(1, 5), (2, 5)]


def test_a_schema_may_refer_to_others(schemas: Registry) -> None:
    """Which refer to others, and several to the same."""
    schemas.subject("a", 1, json.dumps({"type": "record", "name": "x.A", "fields": [{"name": "n", "type": "long"}]}))
    b = {"type": "record", "name": "x.B", "fields": [{"name": "a", "type": "x.A"}]}
    schemas.subject("b", 3, json.dumps(b), references=[("x.A", "a", 1)])
    top = {"type": "record", "name": "T", "fields": [{"name": "b", "type": "x.B"}, {"name": "a", "type": "x.A"}]}
    number = schemas.add(json.dumps(top), references=[("x.B", "b", 3), ("x.A", "a", 1)])
    made = opened(
        declared(n="int"), {"format": "avro", "registry": {"url": schemas.url}, "fields": {"id": "b.a.n", "n": "a.n"}}
    )
    assert read(made, framed(number, b"\x02\x04")) == {"id": 1, "n": 2}


def test_a_message_of_avro_that_cant_be_read_is_malformed(schemas: Registry) -> None:
    """Cut, too long, of another schema's kind, without a schema, or JSON. What is no schema of the registry's is asked
    for once in a while."""
    made = opened(declared(**TYPES), {"format": "avro", "registry": {"url": schemas.url}})
    number, other = schemas.add(json.dumps(ORDER)), schemas.add("{}", "JSON")
    value = avro(BARE, HELD, number)
    for cut in (6, 9, len(value) - 1):
        refused(made, value[:cut], "no record of its schema")
    refused(made, value + b"xy", "2 bytes are left behind the record")
    refused(made, framed(other, b"{}"), f"its schema {other} is of JSON, not of Avro")
    refused(made, b"\0\0\0", "doesn't begin as a message with the number of its schema")
    refused(made, b'{"id": 5}', "doesn't begin as a message with the number of its schema")
    asked = len(schemas.asked)
    refused(made, framed(77, value[5:]), "schema 77 is not in the registry")
    assert len(schemas.asked) == asked + 1
    assert read(made, value) == RIGHT


def test_a_registry_that_cant_be_asked_makes_no_message_malformed(schemas: Registry) -> None:
    """Nobody can tell then what it is: away, locked, or not what its address says."""
    value = avro(BARE, HELD, schemas.add(json.dumps(ORDER)))
    schemas.login = "Basic dTpwQHNz"
    of = declared(**TYPES)
    locked = opened(of, {"format": "avro", "registry": {"url": schemas.url}})
    with pytest.raises(DriverError, match="is answered with 401"):
        list(locked.records(message(value)))
    let_in = opened(of, {"format": "avro", "registry": {"url": schemas.url.replace("://", "://u:p%40ss@")}})
    assert read(let_in, value) == RIGHT
    elsewhere = opened(of, {"format": "avro", "registry": {"url": "http://127.0.0.1:1"}})
    with pytest.raises(DriverError, match=r"schema registry http://127.0.0.1:1: .*refused"):
        elsewhere.columns([None], [value])
    number = schemas.add('{"type": "no type"}')
    with pytest.raises(DriverError, match=f"schema {number} of the registry can't be read"):
        list(let_in.records(message(framed(number, b"x"))))


def test_change_events_in_avro_are_change_events(schemas: Registry) -> None:
    """Debezium names its own types there too."""
    row = {
        "type": "record",
        "name": "Value",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "us", "type": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"}},
            {"name": "day", "type": ["null", {"type": "int", "connect.name": "io.debezium.time.Date"}]},
            {
                "name": "free",
                "type": {
                    "type": "record",
                    "name": "VariableScaleDecimal",
                    "connect.name": "io.debezium.data.VariableScaleDecimal",
                    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
                },
            },
            {"name": "free2", "type": "VariableScaleDecimal"},
            {"name": "note", "type": "string"},
        ],
    }
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
        ],
    }
    of = declared(us="time(ms)", day="time", free="decimal(1)", free2="decimal(1)", note="text")
    made = opened(of, {"format": "debezium", "registry": {"url": schemas.url}})
    number = schemas.add(json.dumps(envelope))
    free = {"scale": 1, "value": b"\x0f"}
    held = {"id": 1, "us": AT_US, "day": DAY_US // 86_400_000_000, "free": free, "free2": free, "note": "x"}
    value = avro(envelope, {"op": "u", "before": None, "after": held}, number)
    right = {"id": 1, "us": AT_US, "day": DAY_US, "free": 15, "free2": 15, "note": "x"}
    assert read(made, value) == right
    assert records(made, [avro(envelope, {"op": "d", "before": held, "after": None}, number)]) == []
    unsent = avro(envelope, {"op": "u", "before": None, "after": {**held, "note": FLAG}}, number)
    refused(made, unsent, "note: an unchanged large value")


# ---- Protobuf --------------------------------------------------------------------------------------------------

F = FieldDescriptorProto
LABELS = {"": F.LABEL_OPTIONAL, "*": F.LABEL_REPEATED}


def proto_file(name: str = "shop.proto", typed: bool = True) -> FileDescriptorProto:
    """shop.Order, first of its file, and shop.Other.Inner. typed: whether what is a message says so, as protoc does."""
    file = FileDescriptorProto(name=name, package="shop", syntax="proto3")
    file.dependency.extend(
        ["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto", "google/protobuf/struct.proto"]
    )
    order = file.message_type.add(name="Order")
    other = file.message_type.add(name="Other")
    other.nested_type.add(name="Inner").field.add(name="n", number=1, label=LABELS[""], type=F.TYPE_INT64)
    status = file.enum_type.add(name="Status")
    status.value.add(name="NEW", number=0)
    status.value.add(name="PAID", number=1)
    plain = {"id": F.TYPE_UINT64, "note": F.TYPE_STRING, "ratio": F.TYPE_DOUBLE, "blob": F.TYPE_BYTES}
    plain |= {"signed": F.TYPE_SINT64, "fixed": F.TYPE_FIXED64, "yes": F.TYPE_BOOL}
    number = 0
    for number, (field, kind) in enumerate(plain.items(), 1):
        order.field.add(name=field, number=number, label=LABELS[""], type=kind)
    for field, kind, label in (
        ("status", ".shop.Status", ""),
        ("at", ".google.protobuf.Timestamp", ""),
        ("boxed", ".google.protobuf.Int64Value", ""),
        ("free", ".google.protobuf.Struct", ""),
        ("inner", ".shop.Other.Inner", ""),
        ("lines", ".shop.Other.Inner", "*"),
        ("more", ".shop.Order", ""),
    ):
        number += 1
        made = order.field.add(name=field, number=number, label=LABELS[label], type_name=kind)
        if typed:
            made.type = F.TYPE_ENUM if kind == ".shop.Status" else F.TYPE_MESSAGE
    entry = order.nested_type.add(name="TagsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=LABELS[""], type=F.TYPE_STRING)
    entry.field.add(name="value", number=2, label=LABELS[""], type=F.TYPE_INT32)
    order.field.add(name="tags", number=20, label=LABELS["*"], type=F.TYPE_MESSAGE, type_name=".shop.Order.TagsEntry")
    order.oneof_decl.add(name="_perhaps")
    order.field.add(name="perhaps", number=21, label=LABELS[""], type=F.TYPE_INT32, oneof_index=0, proto3_optional=True)
    return file


def proto_kind(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, wrappers_pb2, struct_pb2):
        needed = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(needed)
        pool.Add(needed)
    pool.Add(proto_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


PROTO_TYPES = {
    "note": "text",
    "ratio": "float(15)",
    "blob": "bytes",
    "signed": "int",
    "fixed": "int",
    "yes": "bool",
    "status": "text",
    "at": "time(ms)",
    "boxed": "int",
    "free": "json",
    "inner": "int",
    "lines": "json",
    "tag": "int",
    "perhaps": "int",
    "deep": "text",
}
PROTO_PATHS = {"inner": "inner.n", "tag": "tags.a", "deep": "more.more.note"}
PROTO_RIGHT = {
    "id": 5,
    "note": "näh",
    "ratio": "1.00000000000000e-01",
    "blob": b"\xff\x00",
    "signed": -(1 << 63),
    "fixed": (1 << 63) - 1,
    "yes": 1,
    "status": "PAID",
    "at": AT_US,
    "boxed": 0,
    "free": b'{"a":[1,null]}',
    "inner": 7,
    "lines": b'[{"n":1},{"n":0}]',
    "tag": 3,
    "perhaps": 0,
    "deep": "x",
}


def order() -> Any:
    made = proto_kind("shop.Order")(
        id=5, note="näh", ratio=0.1, blob=b"\xff\x00", signed=-(1 << 63), fixed=(1 << 63) - 1, yes=True, status=1
    )
    made.at.FromDatetime(AT)
    made.boxed.SetInParent()
    made.free.update({"a": [1, None]})
    made.inner.n = 7
    made.lines.add(n=1)
    made.lines.add()
    made.tags["a"] = 3
    made.perhaps = 0
    made.more.more.note = "x"
    return made


def compiled(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


ORDER_AT = b"\x00"
"""Short for the first message of the file."""


@pytest.mark.parametrize("typed", [True, False], ids=["as protoc has it", "as Redpanda has it"])
def test_a_message_of_protobuf_is_read_by_its_schema(schemas: Registry, typed: bool) -> None:
    """Numbers of 64 bits, times, enums by name, what is optional, maps, and messages in messages."""
    shape = {"format": "protobuf", "registry": {"url": schemas.url}, "fields": PROTO_PATHS}
    made = opened(declared(**PROTO_TYPES), shape)
    number = schemas.add(compiled(proto_file(typed=typed)), "PROTOBUF")
    value = framed(number, ORDER_AT + order().SerializeToString())
    assert [read(made, value), read(made, value)] == [PROTO_RIGHT, PROTO_RIGHT]
    assert schemas.asked == [f"/schemas/ids/{number}?format=serialized"]


def test_what_protobuf_leaves_out_is_its_zero_or_null(schemas: Registry) -> None:
    """A field without presence has no other way to say 0; one with it is absent."""
    shape = {"format": "protobuf", "registry": {"url": schemas.url}, "fields": PROTO_PATHS}
    made = opened(declared(**PROTO_TYPES), shape)
    number = schemas.add(compiled(proto_file()), "PROTOBUF")
    empty = read(made, framed(number, ORDER_AT))
    zeros = {"id": 0, "note": "", "ratio": "0.00000000000000e+00", "blob": b"", "signed": 0, "fixed": 0, "yes": 0}
    absent = dict.fromkeys(["at", "boxed", "free", "inner", "tag", "perhaps", "deep"])
    assert empty == {**zeros, "status": "NEW", "lines": b"[]", **absent}


def test_protobuf_without_a_registry_has_its_schema_in_a_file(tmp_path: Path) -> None:
    """As protoc writes it, with all that is imported; then a message is its record alone."""
    own = FileDescriptorSet(file=[proto_file()])
    (tmp_path / "shop.desc").write_bytes(own.SerializeToString())
    shape = {"format": "protobuf", "schema": str(tmp_path / "shop.desc"), "fields": PROTO_PATHS}
    made = opened(declared(**PROTO_TYPES), {**shape, "message": "shop.Order"})
    assert read(made, order().SerializeToString()) == PROTO_RIGHT
    assert "shop.Nothing" in mistakes_of({**shape, "message": "shop.Nothing"}, declared(**PROTO_TYPES))


def test_which_message_of_its_schema_it_is_stands_before_it(schemas: Registry) -> None:
    """The place of each in the one around it, in zigzag; one zero for the first."""
    number = schemas.add(compiled(proto_file()), "PROTOBUF")
    made = opened(declared(n="int"), {"format": "protobuf", "registry": {"url": schemas.url}})
    assert read(made, framed(number, b"\x00\x08\x09")) == {"id": 9, "n": None}
    assert read(made, framed(number, b"\x02\x00\x08\x09")) == {"id": 9, "n": None}
    inner = opened(
        declared(n="int"),
        {"format": "protobuf", "registry": {"url": schemas.url}, "fields": {"id": "$offset"}},
    )
    assert read(inner, framed(number, b"\x04\x02\x00\x08\x09")) == {"id": 42, "n": 9}


def test_a_schema_of_protobuf_may_import_others(schemas: Registry) -> None:
    """By the name under which it imports them, whatever the registry calls them."""
    inner = FileDescriptorProto(name="whatever.proto", package="x", syntax="proto3")
    inner.message_type.add(name="In").field.add(name="n", number=1, label=LABELS[""], type=F.TYPE_INT64)
    outer = FileDescriptorProto(name="", package="y", syntax="proto3", dependency=["x/in.proto"])
    made = outer.message_type.add(name="Out")
    made.field.add(name="x", number=1, label=LABELS[""], type=F.TYPE_MESSAGE, type_name=".x.In")
    schemas.subject("x/in", 2, compiled(inner), "PROTOBUF")
    number = schemas.add(compiled(outer), "PROTOBUF", [("x/in.proto", "x/in", 2)])
    found = opened(declared(), {"format": "protobuf", "registry": {"url": schemas.url}, "fields": {"id": "x.n"}})
    assert read(found, framed(number, b"\x00\x0a\x02\x08\x09")) == {"id": 9}


def test_a_message_of_protobuf_that_cant_be_read_is_malformed(schemas: Registry) -> None:
    """Cut, of a message that the schema hasn't, without a schema, or of another kind."""
    shape = {"format": "protobuf", "registry": {"url": schemas.url}, "fields": PROTO_PATHS}
    made = opened(declared(**PROTO_TYPES), shape)
    number, other = schemas.add(compiled(proto_file()), "PROTOBUF"), schemas.add('"int"')
    body = order().SerializeToString()
    refused(made, framed(number, ORDER_AT + body[:-1]), "is no shop.Order")
    refused(made, framed(number, b"\x02\x06" + body), r"has no message at \[3\]")
    refused(made, framed(number, b"\x02\x01" + body), r"has no message at \[-1\]")
    refused(made, framed(number, b"\xff" * 12), "doesn't say which message of its schema it is")
    refused(made, framed(number, b""), "doesn't say which message of its schema it is")
    refused(made, framed(other, ORDER_AT + body), f"its schema {other} is of AVRO, not of Protobuf")
    refused(made, framed(99, ORDER_AT + body), "schema 99 is not in the registry")
    refused(made, body, "doesn't begin as a message")
    huge = proto_kind("shop.Order")(id=1 << 63)
    refused(made, framed(number, ORDER_AT + huge.SerializeToString()), "id: .* doesn't fit 64 bits")
    late = order()
    late.at.nanos += 1
    refused(made, framed(number, ORDER_AT + late.SerializeToString()), "at: .* of 1/1000000000 s")


def test_a_schema_that_lacks_what_it_imports_makes_no_message_malformed(schemas: Registry) -> None:
    """Protobuf's own files come with its library, all others from the registry."""
    lacking = FileDescriptorProto(name="", syntax="proto3", dependency=["google/type/money.proto"])
    number = schemas.add(compiled(lacking), "PROTOBUF")
    made = opened(declared(), {"format": "protobuf", "registry": {"url": schemas.url}})
    with pytest.raises(DriverError, match=r"google/type/money\.proto is imported and not there"):
        list(made.records(message(framed(number, b"\x00"))))


def test_a_registry_that_has_no_compiled_schema_makes_no_message_malformed(schemas: Registry) -> None:
    """Its text can't be read here, which is no fault of the message."""
    number = schemas.add('syntax = "proto3"; message A { int64 id = 1; }', "PROTOBUF")
    made = opened(declared(), {"format": "protobuf", "registry": {"url": schemas.url}})
    with pytest.raises(DriverError, match=r"is no compiled schema.*Remedy: a registry that gives compiled schemas"):
        list(made.records(message(framed(number, b"\x00"))))


# ---- raw, and what all have in common ----------------------------------------------------------------------------


def test_of_raw_messages_the_bytes_are_the_record() -> None:
    """The one field that isn't told is the whole message, and nothing is parsed."""
    shape = {"format": "raw", "fields": {"id": "$offset"}}
    assert read(opened(declared(line="text"), shape), "nö".encode()) == {"id": 42, "line": "nö"}
    assert read(opened(declared(line="bytes"), shape), b"\xff") == {"id": 42, "line": b"\xff"}
    refused(opened(declared(line="text"), shape), b"\xff", "line: .* is no UTF-8")


def test_a_field_by_its_place_needs_no_format() -> None:
    """A stream without a key has its place in the log, whatever the bytes are."""
    mistakes: list[str] = []
    given: dict[str, Any] = {"hops": ["a", "b"], "visible": "b", "path": ["web"], "fields": {"line": "bytes"}}
    of = stream("s", given, ["a", "b"], mistakes)
    assert of is not None
    ((group, values),) = records(opened(of, {"format": "raw"}), [b"\x00\x01"])
    assert (group, values) == (("topic.a", "3"), ("topic.a", 3, 42, b"\x00\x01"))


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ({"format": "xml"}, "hops.log.format is 'xml'. Remedy: one of json, debezium, avro, protobuf, raw"),
        ({"format": "avro"}, "hops.log.format is 'avro'. Remedy: either hops.log.registry"),
        ({"format": "avro", "registry": {"url": "http://a:1"}, "schema": "/x"}, "Remedy: either hops.log.registry"),
        ({"format": "json", "registry": {"url": "http://a:1"}}, "hops.log has registry, for which format 'json' has"),
        ({"format": "avro", "registry": {"url": "nowhere"}}, "hops.log.registry.url: value error, must be an address"),
        ({"format": "avro", "registry": {"uri": "http://a:1"}}, "hops.log.registry.uri: extra inputs"),
        ({"format": "avro", "registry": {"ca": "/x"}}, "hops.log.registry.url: field required"),
        ({"format": "avro", "schema": "order.avsc"}, "hops.log.schema is 'order.avsc'. Remedy: an absolute path"),
        ({"format": "avro", "schema": "/nowhere"}, "hops.log.schema is /nowhere: "),
        ({"format": "protobuf", "schema": "/nowhere"}, "hops.log.schema is /nowhere: no message: "),
        ({"format": "avro", "schema": "/x", "message": "M"}, "hops.log.message is for format 'protobuf', not 'avro'"),
        ({"format": "raw", "fields": {"id": "a.b"}}, "format is 'raw', but a.b would lie inside the message"),
        ({"format": "raw", "each": "rows"}, "format is 'raw', but rows would lie inside the message"),
    ],
)
def test_a_mistake_names_key_value_and_remedy(shape: dict[str, Any], told: str) -> None:
    """Before anything is read."""
    assert told in mistakes_of(shape)


def test_a_secret_in_an_address_is_not_shown() -> None:
    """Neither where it is none, nor where nobody answers."""
    assert "hunter2" not in mistakes_of({"format": "avro", "registry": {"url": "htp://u:hunter2@h:1"}})
    made = opened(declared(), {"format": "avro", "registry": {"url": "http://u:hunter2@127.0.0.1:1"}})
    with pytest.raises(DriverError) as raised:
        list(made.records(message(framed(1, struct.pack("b", 2)))))
    assert "hunter2" not in str(raised.value)


@given(st.integers(0, 400), st.binary(max_size=8), st.integers(0, 400))
def test_whatever_bytes_come_are_a_record_or_malformed(at: int, damage: bytes, cut: int) -> None:
    """Real messages, damaged anywhere: no other error ends the reading of a log."""
    for made, value in DAMAGED:
        whole = value[:at] + damage + value[at + len(damage) :]
        for one in (whole, whole[: max(0, len(whole) - cut)]):
            with suppress(Malformed):
                list(made.records(message(one)))
            made.columns([message(one)], [one])


class Known:
    """Schemas without a registry around them."""

    def __init__(self, kind: str, text: str) -> None:
        self._schema = Schema(kind, text, ())

    def of(self, number: int) -> Schema:
        if number != 1:
            raise Malformed("schema is not in the registry")
        return self._schema

    def referred(self, schema: Schema) -> dict[str, Schema]:
        return {}


def decoding(decode: Any, of: Stream, **paths: str) -> Reader:
    made = opened(of, {"fields": paths})
    return replace(made, format=replace(made.format, decode=decode))


TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "id", "type": "long"}, {"name": "inner", "type": {"type": "array", "items": "Tree"}}],
}
DAMAGED = [
    (opened(declared(**{n: kind for n, (_, _, kind, _) in COLUMNS.items()}), {"format": "debezium"}), described()),
    (decoding(Avro(Known("AVRO", json.dumps(ORDER))), declared(**TYPES)), avro(BARE, HELD, 1)),  # type: ignore[arg-type]
    (
        decoding(Avro(Known("AVRO", json.dumps(TREE))), declared()),  # type: ignore[arg-type]
        avro(TREE, {"id": 1, "inner": [{"id": 2, "inner": []}]}, 1),
    ),
    (
        decoding(Protobuf(Known("PROTOBUF", compiled(proto_file()))), declared(**PROTO_TYPES), **PROTO_PATHS),  # type: ignore[arg-type]
        framed(1, ORDER_AT + order().SerializeToString()),
    ),
]
