"""What was seen of a platform that copies a table's changes becomes a gameday.toml: Debezium's events, a source, a
connector and its slot, a sink. Shapes are those of public platforms, values made up."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gameday.errors import NotUp
from gameday.records.paths import Message
from gameday.stack.init.seen import Broker, Connector, Connectors, Container, Engine, Group, Seen, Store, Table, Topic
from tasks.init import text_of
from tests.unit.test_init import START_S, iso, made, of, us

KEYS, CHANGES = 20, 4
COLUMNS = {
    "id": "uuid", "customer": "text", "status": "text", "total": "numeric(12,2)", "note": "text", "version": "integer",
    "updated_at": "timestamp with time zone",
}  # fmt: skip
TOPIC = "shop.public.orders"
SOURCE, COPY = "postgresql://a:one@127.0.0.1:5432/shop", "postgresql://b:two@127.0.0.1:5433/shop"


def row(n: int, change: int, **more: Any) -> dict[str, Any]:
    """Order n after so many changes."""
    return {
        "id": str(UUID(int=n * 7919 + (1 << 100), version=4)), "customer": f"c-{n}",
        "status": ("placed", "paid")[change % 2],
        "total": f"{n}.{change}5", "note": None if n % 3 else "gift", "version": change + 1,
        "updated_at": iso(START_S + change * 100 + n), **more,
    }  # fmt: skip


def event(body: Mapping[str, Any] | None, offset: int, key: str, op: str = "u") -> Message:
    source = {"schema": "public", "table": "orders", "db": "shop", "lsn": 24_023_128 + offset}
    held = {"before": {"id": key}, "after": None} if body is None else {"before": None, "after": body}
    value = json.dumps({"payload": {"op": op if body is not None else "d", **held, "source": source}}).encode()
    told = json.dumps({"payload": {"id": key}}).encode()
    return Message(TOPIC, 0, offset, (START_S + offset) * 1_000_000, told, value)


def messages(**more: Any) -> list[Message]:
    """Each order changed some times; of the first one no row is left."""
    found = []
    for change in range(CHANGES):
        found += [event(row(n, change, **more), change * KEYS + n, row(n, 0)["id"]) for n in range(KEYS)]
    gone = row(0, 0)["id"]
    found.append(event(None, len(found), gone))
    found.append(Message(TOPIC, 0, len(found), START_S * 1_000_000, found[-1].key, None))
    return found


def table(name: str = "public.orders", last: int = CHANGES - 1, **renamed: str) -> Table:
    """The rows as they were after so many changes, but for the first, which is gone."""
    columns = {renamed.get(column, column): kind for column, kind in COLUMNS.items()}
    rows = []
    for n in range(1, KEYS):
        held = row(n, last if n % 5 else last - 1)  # of some a change came after the look
        held["updated_at"] = us(START_S + (int(held["version"]) - 1) * 100 + n)
        held["version"] = str(held["version"])
        rows.append({renamed.get(column, column): value for column, value in held.items()})
    key = (renamed.get("id", "id"),)
    return Table(name, "table", columns, key, len(rows), rows, "the primary key")


def container(service: str, image: str, ip: str, port: str = "", **more: Any) -> Container:
    published = {int(port.rpartition(":")[2]): f"127.0.0.1:{port.partition(':')[0]}"} if port else {}
    return Container(service, f"shop-{service}-1", image, True, "always", {"default": ip}, published, **more)


SINK = Connector("copy", False, "JdbcSinkConnector", "RUNNING", ["RUNNING"], {"topics": TOPIC})


def shop(sinks: Sequence[Connector] = (), groups: Sequence[Group] = (), **more: Any) -> Seen:
    engine = Engine(
        "unix:///run/docker.sock",
        "shop",
        [
            container("shop-db", "postgres:18", "172.18.0.2", "5432:5432"),
            container("kafka", "apache/kafka:4.4.0", "172.18.0.3", "9092:9092"),
            container("connect", "debezium/connect:3.7", "172.18.0.4", "8083:8083"),
            container("copier", "shop/copier:2", "172.18.0.5"),
            container("reports-db", "postgres:18", "172.18.0.6", "5433:5432"),
        ],
    )
    settings = {"topic.prefix": "shop", "table.include.list": "public.orders", "slot.name": "dbz"}
    source = Connector("orders", True, "PostgresConnector", "RUNNING", ["RUNNING"], settings)
    slots = {"a_replica": "physical, in use", "dbz": "pgoutput, in use"}
    stores = [
        Store("postgres", SOURCE, [table()], publications={"dbz_publication": ["public.orders"]}, slots=slots),
        Store("postgres", COPY, [table()]),
    ]
    topic = Topic(TOPIC, 1, 500, "delete", 604_800_000, messages())
    known = groups or [Group("orders-copy", {TOPIC: 3}, ["172.18.0.5"])]
    return replace(
        Seen(
            "shop",
            engine=engine,
            broker=Broker("127.0.0.1:9092", [topic], known),
            stores=stores,
            connect=Connectors("http://127.0.0.1:8083", [source, *sinks]),
        ),
        **more,
    )


def plain(text: str) -> str:
    return " ".join(text.replace("\n# ", " ").split())


def test_a_table_that_is_copied_is_a_stream_of_three_hops(tmp_path: Path) -> None:
    """Key, version and fields by values and keys; the source before the log, by whose log somebody reads; states."""
    text, config, raw = made(shop(), tmp_path)
    stream = raw["streams"]["orders"]
    assert (stream["key"], stream["version"], stream["time"]) == (["id"], "version", "updated_at")
    assert stream["hops"] == ["source", "log", "orders"]
    assert stream["path"] == ["shop-db", "connect", "broker", "copier", "reports-db"]
    assert stream["fields"] == {
        "id": "uuid", "customer": "text", "status": "text", "total": "decimal(2)", "note": "text", "version": "int",
        "updated_at": "time",
    }  # fmt: skip
    hops = raw["hops"]
    assert (hops["log"]["format"], hops["log"]["fields"]) == ("debezium", {"id": "$key.id"})
    assert (hops["source"]["kind"], hops["orders"]["kind"]) == ("state", "state")
    assert hops["source"]["position"] == "SELECT 'dbz', pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    assert "position" not in hops["orders"]
    assert of(config).version == "version"
    assert not [question for question in text.questions if "record" in question or "version" in question]
    for told in (
        "Its replica identity is the primary key", "likely: it grew in all 60 changes of a row",
        "connector orders copies public.orders to the log", "19 of the newest 80 messages are rows of it",
    ):  # fmt: skip
        assert told in plain(text.text), told


def test_who_reads_what_is_a_cursor_with_its_component_and_its_role(tmp_path: Path) -> None:
    """A connector by its slot, a consumer by where its members are; who is the source, the sink and the store."""
    _, config, raw = made(shop(), tmp_path)
    cursors = raw["cursors"]
    assert (cursors["dbz"]["driver"], cursors["dbz"]["slot"], cursors["dbz"]["component"]) == (
        "postgres",
        "dbz",
        "connect",
    )
    assert (cursors["orders-copy"]["group"], cursors["orders-copy"]["component"]) == ("orders-copy", "copier")
    assert "a_replica" not in cursors
    roles = {name: config.kind(name) for name in config.components}
    assert roles == {
        "shop-db": "source", "broker": "broker", "connect": "connector", "copier": "sink", "reports-db": "store",
    }  # fmt: skip


def test_each_database_has_a_password_and_a_probe_of_its_own(tmp_path: Path) -> None:
    """Named by its component; a probe asks the one that it is about."""
    text, config, raw = made(shop(), tmp_path)
    assert text.secrets == {"SHOP_DB_PASSWORD": "one", "REPORTS_DB_PASSWORD": "two"}
    for name, dsn in (("shop-db", SOURCE), ("reports-db", COPY)):
        assert config.components[name].probes["query"].settings["dsn"] == dsn
    assert (config.hops["source"].settings["dsn"], config.hops["orders"].settings["dsn"]) == (SOURCE, COPY)
    assert raw["hops"]["source"]["dsn"] == "postgresql://a:${SHOP_DB_PASSWORD}@127.0.0.1:5432/shop"


def test_what_a_label_lets_be_broken_is_said(tmp_path: Path) -> None:
    """Without an answer in the file a run may break it: so it is told with the questions, and isn't asked about."""
    seen = shop()
    assert seen.engine is not None
    containers = [replace(one, opted_in=one.service == "copier") for one in seen.engine.containers]
    text, config, _ = made(replace(seen, engine=replace(seen.engine, containers=containers)), tmp_path)
    (warning,) = text.warnings
    assert warning.startswith("shop-copier-1 may be broken by the next `gameday run`")
    assert not any("shop-copier-1" in question for question in text.questions)
    assert "opt_in = true" in text.text.partition("[components.copier]")[2].partition("label says so")[0]
    assert config.components["copier"].opt_in
    assert made(seen, tmp_path)[0].warnings == []


def test_columns_of_other_names_are_found(tmp_path: Path) -> None:
    """Fields are called as in the copy; the source and the log have their own names for them."""
    seen = shop()
    copy = Store("postgres", COPY, [table("reports.sales", id="sale", total="amount")])
    _, _, raw = made(replace(seen, stores=[seen.stores[0], copy]), tmp_path)
    stream = next(iter(raw["streams"].values()))
    assert (stream["key"], stream["hops"]) == (["sale"], ["source", "log", "sales"])
    assert raw["hops"]["log"]["fields"] == {"sale": "$key.id", "amount": "total"}
    assert raw["hops"]["source"]["fields"] == {"sale": "id", "amount": "total"}


def test_changes_that_are_in_no_table_are_a_stream_all_the_same(tmp_path: Path) -> None:
    """As the log has them; where users query them is asked. A change that was sent again has no version of its own."""
    seen = shop(stores=[])
    assert seen.broker is not None
    again = [
        *messages(),
        messages()[-3]._replace(offset=200, value=(messages()[-3].value or b"").replace(b"240", b"241")),
    ]
    topic = replace(seen.broker.topics[0], messages=again)
    text, config, raw = made(replace(seen, broker=replace(seen.broker, topics=[topic])), tmp_path)
    stream = raw["streams"]["orders"]
    assert (stream["key"], stream["version"], stream["hops"]) == (["id"], "version", ["log", "sink"])
    assert (raw["hops"]["log"]["format"], raw["hops"]["sink"]["kind"]) == ("debezium", "state")
    assert any("where do users query these records" in question for question in text.questions)
    assert of(config).version == "version"


def test_a_view_of_the_source_is_no_copy(tmp_path: Path) -> None:
    """It has the same rows, and nothing copied them."""
    seen = shop()
    view = replace(table("public.all_orders"), engine="view")
    stores = [replace(seen.stores[0], tables=[view, table()]), seen.stores[1]]
    text, _, raw = made(replace(seen, stores=stores), tmp_path)
    assert raw["streams"]["orders"]["hops"] == ["source", "log", "orders"]
    assert "public.all_orders: the same rows as in public.orders" in plain(text.text)


def test_a_column_that_may_say_deleted_is_asked_about(tmp_path: Path) -> None:
    """Of a copy that keeps what was deleted."""
    seen = shop()
    kept = table()
    copy = replace(kept, columns={**kept.columns, "_cdc_op": "text"})
    text, _, _ = made(replace(seen, stores=[seen.stores[0], replace(seen.stores[1], tables=[copy])]), tmp_path)
    assert any("does _cdc_op of public.orders say that a row is deleted?" in question for question in text.questions)


def test_a_copy_in_clickhouse_is_a_state_too(tmp_path: Path) -> None:
    """A table that replaces has one row of each key by itself."""
    seen = shop()
    held = table("shop.orders")
    kinds = {
        **dict.fromkeys(("customer", "status"), "String"), "id": "UUID", "total": "Decimal(12, 2)",
        "note": "Nullable(String)", "version": "Int32", "updated_at": "DateTime64(6)",
    }  # fmt: skip
    copy = replace(held, columns=kinds, engine="ReplacingMergeTree")
    stores = [seen.stores[0], Store("clickhouse", "http://127.0.0.1:8123", [copy])]
    _, _, raw = made(replace(seen, stores=stores), tmp_path)
    assert (raw["hops"]["orders"]["table"], raw["hops"]["orders"]["kind"]) == ("shop.orders", "state")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "has pk.mode none: a record that is delivered again is there again"),
        (
            {"pk.mode": "record_key", "insert.mode": "insert"},
            "insert.mode insert: a record that is delivered again ends",
        ),
        ({"pk.mode": "record_key", "insert.mode": "upsert", "delete.enabled": "true"}, "is there once"),
    ],
)
def test_a_sink_connector_s_group_is_connect_s(settings: Mapping[str, str], told: str, tmp_path: Path) -> None:
    """By its name, as Connect makes it; and what it does with what comes twice, or is deleted."""
    sink = replace(SINK, settings={**SINK.settings, **settings})
    text, _, raw = made(shop([sink], [Group("connect-copy", {TOPIC: 3}, ["172.18.0.4"])]), tmp_path)
    assert raw["cursors"]["connect-copy"]["component"] == "connect"
    assert raw["streams"]["orders"]["path"] == ["shop-db", "connect", "broker", "reports-db"]
    assert told in plain(text.text)
    assert ("delete.enabled false" in plain(text.text)) == ("delete.enabled" not in settings)


def test_a_version_that_does_not_grow_is_asked_about(tmp_path: Path) -> None:
    """Such as of a table that has nothing but the time when a row was made."""
    seen = shop()
    assert seen.broker is not None
    made_at = [
        one._replace(
            value=(one.value or b"").replace(iso(START_S + change * 100 + n).encode(), iso(START_S + n).encode())
        )
        for change in range(CHANGES)
        for n, one in enumerate(messages()[change * KEYS : (change + 1) * KEYS])
    ]
    topic = replace(seen.broker.topics[0], messages=made_at)
    old = table()
    rows = [{**one, "updated_at": us(START_S + n)} for n, one in enumerate(old.rows, 1)]
    columns = {name: kind for name, kind in COLUMNS.items() if name != "version"}
    stores = [replace(store, tables=[replace(old, rows=rows, columns=columns)]) for store in seen.stores]
    text, _, raw = made(replace(seen, broker=replace(seen.broker, topics=[topic]), stores=stores), tmp_path)
    assert any("grows with each change of a row?" in question for question in text.questions)
    assert raw["streams"]["orders"]["version"] == "updated_at"


def test_where_no_slot_tells_the_source_there_is_none(tmp_path: Path) -> None:
    """Two tables that have the same: without it both are copies, which is said by their hops."""
    seen = shop()
    stores = [replace(store, slots={}) for store in seen.stores]
    _, _, raw = made(replace(seen, stores=stores), tmp_path)
    stream = raw["streams"]["orders"]
    assert stream["hops"][0] == "log"
    assert "dbz" not in raw["cursors"]


def test_a_canary_of_a_table_is_an_insert(tmp_path: Path) -> None:
    """Like its newest row, with what tells rows apart made anew and a text that begins with gameday's prefix."""
    page = text_of(shop(), own=True)
    raw = tomllib.loads(page.text)
    own = raw["canary"]
    assert (own["driver"], own["dsn"]) == ("postgres", "postgresql://a:${SHOP_DB_PASSWORD}@127.0.0.1:5432/shop")
    assert own["text"].startswith("INSERT INTO public.orders (id, customer, status, total")
    assert "'{uuid}', '{key}'" in own["text"]
    assert "'{now}'" in own["text"]
    assert own["fields"]["customer"] == "{key}"
    stream = raw["streams"]["canary"]
    assert stream["hops"] == ["canary", "source", "log", "orders"]
    assert "version" not in stream
    assert raw["hops"]["log"]["where"] == {"customer": "gameday-*"}
    assert raw["hops"]["source"]["where"] == "customer LIKE 'gameday-%'"
    assert (raw["hops"]["source"]["kind"], raw["hops"]["orders"]["kind"]) == ("once", "once")
    assert "clean_up = " in page.text


def test_a_canary_of_changes_without_their_table_says_what_to_give(tmp_path: Path) -> None:
    """It can't be written into the log: nothing would come of it."""
    seen = shop()
    with pytest.raises(NotUp, match=r"the table was not found\. Remedy: --postgres"):
        text_of(replace(seen, stores=seen.stores[1:]), own=True)
