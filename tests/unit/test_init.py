"""What was seen of a platform becomes a gameday.toml: recorded shapes of real platforms, values made up."""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from gameday import cli
from gameday.drivers.kafka.wire import LATEST
from gameday.errors import ConfigError, DriverError, NotUp
from gameday.records.declaration import Stream
from gameday.records.paths import Message
from gameday.stack.config import StackConfig
from gameday.stack.init.seen import (
    Broker,
    Connector,
    Connectors,
    Container,
    Engine,
    Group,
    Queue,
    Rule,
    Rules,
    Runs,
    Seen,
    Store,
    Table,
    Topic,
    View,
)
from gameday.stack.init.streams import guessed
from gameday.stack.init.written import Written, written
from gameday.stack.reading import parse
from gameday.system.http import Answer
from tasks.init import Asked, client_of, found_at, looked, text_of
from tasks.inventory import engine as engines
from tasks.inventory import kafka as inventory
from tasks.inventory import prometheus as alerting
from tasks.inventory.clickhouse import queue, view
from tasks.inventory.processes import unit_of

START_S = 1_795_000_000
NUMBER = 120


def message(topic: str, n: int, body: Any, key: str | None = None, partition: int = 0) -> Message:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Message(topic, partition, n, (START_S + n) * 1_000_000 + 40_000, key.encode() if key else None, value)


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def us(seconds: float) -> str:
    return str(round(seconds * 1_000_000))


def made(seen: Seen, tmp_path: Path) -> tuple[Written, StackConfig, Mapping[str, Any]]:
    """The file, as it is loaded, and as TOML has it."""
    text = written(seen, *guessed(seen))
    raw = tomllib.loads(text.text)
    return text, parse(raw, text.secrets, tmp_path / "gameday.toml"), raw


def of(config: StackConfig) -> Stream:
    """The only stream."""
    (found,) = config.declared.values()
    return found


def broker(*topics: Topic, groups: Sequence[Group] = ()) -> Broker:
    return Broker("127.0.0.1:9092", topics, groups)


def clickhouse(*tables: Table, **more: Any) -> Store:
    return Store("clickhouse", "http://reader:s3cr%23t@127.0.0.1:8123", tables, **more)


# ---- three venues, three shapes -------------------------------------------------------------------------------------


def venues() -> Seen:
    topics: dict[str, list[Message]] = {"binance": [], "kraken": [], "coinbase": []}
    rows = []
    for n in range(NUMBER):
        symbol, at = ("BTC", "ETH")[n % 2], START_S + n + 0.123
        price, quantity = f"{64_000 + n}.{n % 90 + 10}", f"0.{n % 9 + 1}"
        bodies = {
            "binance": {"s": symbol, "t": 77 + n // 2, "p": price, "q": quantity, "T": round(at * 1000), "m": n > 3},
            "kraken": {
                "pair": symbol, "price": price, "volume": quantity, "timestamp": f"{at + 0.001:.6f}", "side": "b",
                "channel_id": 119,
            },
            "coinbase": {
                "trade_id": str(n), "product_id": symbol, "price": price, "size": quantity, "time": iso(at + 0.002),
                "sequence_num": 5,
            },
        }  # fmt: skip
        for number, (venue, body) in enumerate(bodies.items()):
            name = f"market.trades.{venue}.raw"
            topics[venue].append(message(name, n, body))
            rows.append(
                {
                    "venue": venue, "symbol": symbol, "exchange_timestamp": us(at + 0.001 * number),
                    "price": price, "quantity": quantity, "kafka_offset": "0", "kafka_partition": "0",
                }
            )  # fmt: skip
    columns = {
        "venue": "LowCardinality(String)", "symbol": "String", "exchange_timestamp": "DateTime64(3, 'UTC')",
        "price": "Decimal(18, 8)", "quantity": "Decimal(18, 8)", "kafka_offset": "UInt64", "kafka_partition": "UInt16",
    }  # fmt: skip
    sums = Table("k2.ohlcv", "SummingMergeTree", {"symbol": "String"}, rows=[{"symbol": "BTC"}])
    table = Table("k2.bronze", "MergeTree", columns, ("symbol", "exchange_timestamp"), 3 * NUMBER, rows)
    queue = Queue("k2.queue", "redpanda:9092", ("market.trades.binance.raw",), "bronze", "JSONEachRow", 7_500)
    view = View("k2.mv", "k2.queue", "k2.bronze", {"exchange_timestamp": "fromUnixTimestamp64Milli(T)", "symbol": "s"})
    log = broker(
        *(Topic(f"market.trades.{v}.raw", 1, NUMBER, "delete", 3_600_000, held) for v, held in topics.items()),
        Topic("market.trades.avro", messages=[message("market.trades.avro", 0, b"\0\0\0\0\1abcdef")]),
        groups=[Group("bronze", {"market.trades.binance.raw": 3}), Group("old", {"market.trades.binance.raw": 120})],
    )
    return Seen("k2", broker=log, stores=[clickhouse(table, sums, queues=[queue], views=[view])])


def test_three_venues_of_three_shapes_are_one_stream(tmp_path: Path) -> None:
    """Paths, units and the venue as a text for each topic; a number that one venue counts is no sequence for all, so
    the key is what tells records apart, and a person is asked."""
    text, config, raw = made(venues(), tmp_path)
    stream = raw["streams"]["trades"]
    assert set(stream["key"]) == {"venue", "symbol", "exchange_timestamp", "price", "quantity"}
    assert (stream["group"], stream["time"], stream["hops"]) == (["venue"], "exchange_timestamp", ["log", "bronze"])
    assert "sequence" not in stream
    assert stream["fields"]["price"] == "decimal(8)"
    parts = {part["topics"][0].split(".")[2]: part["fields"] for part in raw["hops"]["log"]["part"]}
    assert parts["binance"] == {
        "venue": "'binance'", "symbol": "s", "exchange_timestamp": "T as time(ms)", "price": "p", "quantity": "q",
    }  # fmt: skip
    assert parts["kraken"]["exchange_timestamp"] == "timestamp as time(s)"
    assert parts["coinbase"]["exchange_timestamp"] == "time"
    assert of(config).hops == ("log", "bronze")
    assert list(raw["cursors"]) == ["bronze"]
    assert any("what makes two records the same?" in question for question in text.questions)
    for told in (
        "flushes every 7.5 s", "exchange_timestamp = fromUnixTimestamp64Milli(T)", "kafka_offset, kafka_partition",
        "Avro or Protobuf with a registry", "its rows are sums (SummingMergeTree)", "probably ended: old",
    ):  # fmt: skip
        assert told in " ".join(text.text.replace("\n# ", " ").split()), told


def test_no_password_is_in_the_file(tmp_path: Path) -> None:
    """It is named, said to be exported, and fits when it is."""
    text, config, _ = made(venues(), tmp_path)
    assert "s3cr" not in text.text
    assert text.secrets == {"CLICKHOUSE_PASSWORD": "s3cr#t"}
    assert "export CLICKHOUSE_PASSWORD=" in text.text
    assert config.hops["bronze"].settings["url"] == "http://reader:s3cr%23t@127.0.0.1:8123"


SIGNED_IN = {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}


def test_how_the_brokers_are_reached_is_in_every_table_that_asks_them(tmp_path: Path) -> None:
    """Without the password, which is exported."""
    seen = venues()
    assert seen.broker is not None
    client = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "s3cr"}
    text, config, raw = made(replace(seen, broker=replace(seen.broker, client=client)), tmp_path)
    hidden = client | {"sasl.password": "${KAFKA_PASSWORD}"}
    for place in (
        raw["hops"]["log"], raw["cursors"]["bronze"], raw["watches"]["serving"],
        raw["components"]["broker"]["probes"]["protocol"],
    ):  # fmt: skip
        assert place["client"] == hidden
    assert "s3cr" not in text.text
    assert config.hops["log"].settings["client"] == client


@pytest.mark.parametrize(
    ("mechanisms", "client", "refused", "told"),
    [
        (["OAUTHBEARER"], {}, "timed out", "They take OAUTHBEARER. Remedy: a listener with one of PLAIN, "),
        (["PLAIN"], SIGNED_IN, "it has not this SASL mechanism", "Remedy: --kafka-client sasl.mechanism=PLAIN"),
        (["SCRAM-SHA-512"], SIGNED_IN, "not valid for '172.28.0.11'", "--kafka with a name that their certificate has"),
        (["SCRAM-SHA-512"], SIGNED_IN, "verify failed: certificate has expired", "Remedy: a new certificate for"),
        (None, SIGNED_IN, "closed", "They speak SSL, and were asked by SASL_SSL. Remedy: --kafka-client FILE, with "
         "security.protocol=SSL, ssl.ca.location"),
        (["SCRAM-SHA-512"], SIGNED_IN, "timed out", ""),
    ],
)  # fmt: skip
def test_what_a_broker_demands_is_told_with_its_remedy(
    mechanisms: Sequence[str] | None, client: Mapping[str, str], refused: str, told: str
) -> None:
    """Nothing where what was given is what it takes."""
    said = inventory._remedy("SSL", mechanisms, client, refused)
    assert told in said
    assert bool(told) is bool(said)


def test_settings_of_librdkafka_come_from_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kcat reads it. Files get their whole path: gameday.toml is read from elsewhere."""
    (tmp_path / "kcat.conf").write_text(
        "# of kcat\n\nbootstrap.servers = b:9092\nsasl.password=a=b \nssl.ca.location=ca.pem\n"
    )
    monkeypatch.chdir(tmp_path)
    assert client_of(["kcat.conf", "sasl.mechanism=PLAIN"]) == {
        "bootstrap.servers": "b:9092", "sasl.password": "a=b", "ssl.ca.location": str(tmp_path / "ca.pem"),
        "sasl.mechanism": "PLAIN",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("none.conf", "--kafka-client 'none.conf' is not NAME=VALUE, and no file that can be read: "),
        (
            "java.conf",
            "--kafka-client java.conf: sasl.jaas.config is for Java's clients. Remedy: librdkafka's sasl.user",
        ),
        ("odd.conf", "--kafka-client odd.conf: 'security.protocol' is not NAME=VALUE"),
        ("no.such=1", '--kafka-client: No such configuration property: "no.such". Remedy: '),
        ("security.protocol=SASL_SSL", "--kafka-client.'sasl.mechanism' is ''. Remedy: one of PLAIN, "),
    ],
)
def test_a_wrong_setting_of_librdkafka_is_told_before_anything_is_asked(
    given: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is meant."""
    (tmp_path / "java.conf").write_text("sasl.jaas.config=org.apache.kafka… password=s3cr;\n")
    (tmp_path / "odd.conf").write_text("security.protocol\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        Asked(client=client_of([given])).check()
    assert told in str(raised.value)
    assert "s3cr" not in str(raised.value)


# ---- usage events: four texts, a time in seconds as text, a value that is sometimes missing -------------------------


def usage() -> Seen:
    messages, rows = [], list[Any]()
    for n in range(NUMBER):
        body = {
            "organization_id": "7f000000-0000-4000-8000-000000000001",
            "external_subscription_id": f"sub-{n % 4}",
            "code": "api_calls",
            "transaction_id": f"any text, {n} ü",
            "timestamp": f"{START_S + n}.{n % 900 + 100}",
            "properties": {"region": "eu" if n % 3 else None},
            "value": str(n % 5),
        }
        messages.append(message("events_raw", n, body, str(body["external_subscription_id"])))
        rows.append(
            {name: body[name] for name in ("organization_id", "external_subscription_id", "code", "transaction_id")}
            | {"timestamp": us(float(str(body["timestamp"]))), "value": f"{n % 5}.00", "region": "eu" if n % 3 else ""}
        )
    columns = dict.fromkeys(
        ("organization_id", "external_subscription_id", "code", "transaction_id", "region"), "String"
    )
    columns |= {"timestamp": "DateTime64(3)", "value": "Nullable(Decimal(38, 26))"}
    key = ("organization_id", "code", "external_subscription_id", "transaction_id")
    table = Table("default.events", "ReplacingMergeTree", columns, key, NUMBER, rows)
    return Seen(
        "lago", broker=broker(Topic("events_raw", 1, NUMBER, "delete", -1, messages)), stores=[clickhouse(table)]
    )


def test_usage_events_are_known_by_the_table_s_key(tmp_path: Path) -> None:
    """A nested path, a NULL that the table has as '', and an engine that replaces, which is read with FINAL."""
    text, config, raw = made(usage(), tmp_path)
    (stream,) = raw["streams"].values()
    assert stream["key"] == ["organization_id", "code", "external_subscription_id", "transaction_id"]
    assert stream["time"] == "timestamp"
    assert (stream["fields"]["value"], stream["fields"]["timestamp"]) == ("decimal(8)", "time")
    assert raw["hops"]["log"]["fields"] == {"timestamp": "timestamp as time(s)", "region": "properties.region"}
    assert raw["hops"]["events"]["table"] == "default.events FINAL"
    assert raw["hops"]["events"]["kind"] == "once"
    assert raw["hops"]["events"]["fields"] == {"region": "nullIf(region, '')"}
    assert len(text.questions) == 3  # history, Prefect, what runs: none of the records
    assert of(config).types["region"].name == "text"


# ---- web events -----------------------------------------------------------------------------------------------------


def web() -> Seen:
    messages, rows = [], list[Any]()
    for n in range(NUMBER):
        who = str(UUID(int=n * 7919 + (1 << 100)))
        body = {
            "event_id": who, "event_type": ("purchase", "view")[n % 2], "happened": iso(START_S + n),
            "geo_location": {"lat": 48.1 + n / 1000, "lon": 11.5}, "purchase_amount": 19.99 + n if n % 2 else None,
        }  # fmt: skip
        messages.append(message("web-events", n // 3, body, partition=n % 3))
        rows.append(
            {"event_id": who, "kind": body["event_type"], "happened": us(START_S + n), "lat": repr(48.1 + n / 1000),
             "amount": repr(19.99 + n) if n % 2 else None}
        )  # fmt: skip
    columns = {"event_id": "uuid", "kind": "text", "happened": "timestamp with time zone", "lat": "double precision",
               "amount": "double precision"}  # fmt: skip
    table = Table("public.events", "table", columns, ("event_id",), NUMBER, rows, identity="the primary key")
    store = Store("postgres", "postgresql://reader:pw@127.0.0.1:5432/web", [table])
    return Seen("web", broker=broker(Topic("web-events", 3, NUMBER, "delete", 604_800_000, messages)), stores=[store])


def test_web_events_go_by_their_uuid(tmp_path: Path) -> None:
    """Floats as floats; the primary key says that each is there once."""
    _, config, raw = made(web(), tmp_path)
    (stream,) = raw["streams"].values()
    assert (stream["key"], stream["time"]) == (["event_id"], "happened")
    assert stream["fields"] == {
        "event_id": "uuid", "kind": "text", "happened": "time", "lat": "float(15)", "amount": "float(15)",
    }  # fmt: skip
    assert raw["hops"]["log"]["fields"] == {
        "kind": "event_type",
        "lat": "geo_location.lat",
        "amount": "purchase_amount",
    }
    assert raw["hops"]["events"]["kind"] == "once"
    assert raw["hops"]["events"]["dsn"] == "postgresql://reader:${POSTGRES_PASSWORD}@127.0.0.1:5432/web"
    assert not of(config).counted


# ---- a number without gaps in each group ----------------------------------------------------------------------------


def counted(gap: int | None = None) -> Seen:
    messages, rows = [], list[Any]()
    for n in range(NUMBER):
        shop, number = ("north", "south", "west")[n % 3], n // 3 + 1
        if number == gap:
            continue
        body = {"shop": shop, "nr": number, "sum": {"net": f"{n}.12345678", "gross": f"{n}.5"}, "at": us(START_S + n)}
        messages.append(message("orders", n, body | {"at": (START_S + n) * 1_000_000}))
        rows.append({"store": shop, "id": str(number), "total": f"{n}.12345678", "placed": us(START_S + n)})
    columns = {"store": "String", "id": "Int64", "total": "Decimal(18, 8)", "placed": "DateTime64(6)"}
    table = Table("shop.orders", "MergeTree", columns, ("store", "id"), NUMBER, rows)
    return Seen(
        "shop", broker=broker(Topic("orders", 1, NUMBER, "compact", 60_000, messages)), stores=[clickhouse(table)]
    )


def test_a_number_that_counts_without_a_gap_in_each_group_is_the_sequence(tmp_path: Path) -> None:
    """Found with the field that makes it so; short retention and compaction are asked about."""
    text, config, raw = made(counted(), tmp_path)
    (stream,) = raw["streams"].values()
    assert (stream["key"], stream["group"]) == (["store", "id"], ["store"])
    assert (stream["sequence"], stream["gapless"]) == ("id", True)
    assert of(config).counted
    assert any("is compacted" in question for question in text.questions)
    assert any("keeps messages for 60 s" in question for question in text.questions)


def test_a_number_with_a_gap_is_no_sequence(tmp_path: Path) -> None:
    """Of one that leaves out ids nobody could say what is lost."""
    _, _, raw = made(counted(gap=30), tmp_path)
    (stream,) = raw["streams"].values()
    assert "gapless" not in stream
    assert stream["time"] == "placed"


def test_tables_behind_each_other_are_hops_in_that_order(tmp_path: Path) -> None:
    """By their views, whatever their names; fields are called as in the last one, and the first has its own names. A
    field that the first lacks is compared nowhere, which is said; so is a path that no column has."""
    seen = counted()
    (last,) = seen.stores[0].tables
    rows = [{"nr": r["id"], "sum": r["total"], "shop": r["store"], "raw": r["placed"], "more": "x"} for r in last.rows]
    columns = {"nr": "UInt64", "sum": "String", "shop": "String", "more": "String"}
    first = Table("shop.raw_orders", "MergeTree", columns, ("nr",), NUMBER, rows)
    sums = Table("shop.a", "AggregatingMergeTree", last.columns, (), NUMBER, last.rows)
    views = [View("shop.v", "shop.q", first.name, {}), View("shop.w", first.name, last.name, {"id": "nr"})]
    page, config, raw = made(replace(seen, stores=[clickhouse(last, first, sums, views=views)]), tmp_path)
    (stream,) = raw["streams"].values()
    assert stream["hops"] == ["log", "raw_orders", "orders"]
    assert (stream["visible"], stream["sequence"]) == ("orders", "id")
    assert raw["hops"]["raw_orders"]["fields"] == {"store": "shop", "id": "nr", "total": "sum"}
    assert raw["hops"]["raw_orders"]["kind"] == "append"
    assert "fields" not in raw["hops"]["orders"]
    assert set(stream["fields"]) == {"store", "id", "total"}
    assert of(config).hops == ("log", "raw_orders", "orders")
    assert "orders has, and no column: sum.gross" in page.text
    assert "placed: not in shop.raw_orders, so not compared" in page.text


def test_a_table_that_lacks_the_time_is_no_hop_where_records_go_by_it(tmp_path: Path) -> None:
    """Its stream would be none."""
    seen = usage()
    (last,) = seen.stores[0].tables
    columns = {name: kind for name, kind in last.columns.items() if name != "timestamp"}
    first = replace(last, name="default.a", engine="MergeTree", columns=columns)
    views = [View("default.v", "default.a", last.name, {})]
    _, _, raw = made(replace(seen, stores=[clickhouse(last, first, views=views)]), tmp_path)
    (stream,) = raw["streams"].values()
    assert (stream["hops"], stream["time"]) == (["log", "events"], "timestamp")


def test_topics_of_different_records_are_several_streams(tmp_path: Path) -> None:
    """Each with hops of its own names; a consumer of both is one cursor."""
    one, other = counted(), usage()
    assert one.broker is not None
    assert other.broker is not None
    topics = [*one.broker.topics, *other.broker.topics]
    group = Group("both", {"orders": 1, "events_raw": 2})
    (first,) = one.stores[0].tables
    rows: list[Any] = [
        {
            **row,
            "id": str(int(row["id"]) + 500),
            "total": f"9{row['total']}",
            "placed": str(int(row["placed"]) + 10**12),
        }
        for row in list[Any](first.rows)
    ]
    copy = replace(first, name="other.orders", rows=rows)
    bodies = [{"shop": r["store"], "nr": int(r["id"]), "sum": r["total"], "at": int(r["placed"])} for r in rows]
    twin = Topic("orders.v2", 1, NUMBER, messages=[message("orders.v2", n, body) for n, body in enumerate(bodies)])
    tables = [first, other.stores[0].tables[0], copy]
    seen = Seen("x", broker=broker(*topics, twin, groups=[group]), stores=[clickhouse(*tables)])
    _, config, raw = made(seen, tmp_path)
    assert {name: stream["hops"] for name, stream in raw["streams"].items()} == {
        "orders": ["orders-log", "orders"],
        "orders-2": ["orders-2-log", "other-orders"],
        "events": ["events-log", "events"],
    }
    assert raw["hops"]["events-log"]["topics"] == ["events_raw"]
    assert set(raw["cursors"]["both"]["topics"]) == {"orders", "events_raw"}
    assert set(raw["watches"]["serving"]["topics"]) == {"orders", "orders.v2", "events_raw"}
    assert len(config.declared) == 3


def test_rows_that_change_are_asked_about(tmp_path: Path) -> None:
    """Orders in versions: the primary key repeats in the log. It is taken, and a person is asked, with how many do."""
    messages, last = [], dict[int, Any]()
    for n in range(NUMBER):
        order, version = n % 40, n // 40 + 1
        body = {"id": str(UUID(int=(order << 64) + 1)), "version": version, "total": f"{order}.{n % 90 + 10}"}
        messages.append(message("orders", n, body | {"updated_at": (START_S + n) * 1_000_000}))
        last[order] = {**body, "version": str(version), "updated_at": us(START_S + n)}
    columns = {"id": "uuid", "version": "integer", "total": "numeric(12,2)", "updated_at": "timestamp with time zone"}
    table = Table("public.orders", "table", columns, ("id",), 40, list(last.values()), identity="full")
    store = Store("postgres", "postgresql://127.0.0.1:5432/shop", [table])
    seen = Seen("shop", broker=broker(Topic("orders", 1, NUMBER, messages=messages)), stores=[store])
    text, config, raw = made(seen, tmp_path)
    (stream,) = raw["streams"].values()
    assert (stream["key"], stream["time"]) == (["id"], "updated_at")
    (asked,) = [question for question in text.questions if "what makes two records the same?" in question]
    assert "80 of 120 messages repeat one: are they sent again, or rows that change?" in asked
    assert of(config).types["total"].places == 2
    assert "# Its replica identity is full" in text.text


# ---- what there may be besides --------------------------------------------------------------------------------------


def test_a_log_whose_records_are_in_no_table_asks_where_they_are_queried(tmp_path: Path) -> None:
    """The file still loads, and says what it doesn't know."""
    seen = Seen("shop", broker=counted().broker)
    text, config, raw = made(seen, tmp_path)
    assert any("where do users query these records" in question for question in text.questions)
    assert of(config).sequence == "nr"
    assert raw["hops"]["log"]["fields"] == {"net": "sum.net", "gross": "sum.gross", "at": "at as time(us)"}


def test_nothing_at_all_is_a_file_of_questions(tmp_path: Path) -> None:
    """Servers that refused are named in it."""
    text, config, _ = made(Seen("empty", troubles=["Kafka at a:1: timed out\n[x] = 1"]), tmp_path)
    assert config.name == "empty"
    assert "# Not looked at: Kafka at a:1: timed out [x] = 1" in text.text
    assert len(text.questions) >= 4


def test_containers_become_components_and_none_may_be_broken_yet(tmp_path: Path) -> None:
    """The broker and ClickHouse by the names that the failure tests know; what has ended is none; alerts by role."""
    containers = [
        Container("redpanda", "k2-redpanda", "vendor/redpanda:v24", True, "unless-stopped", {"k2_net": "172.28.0.10"},
                  {9092: "0.0.0.0:9092"}, (9092,)),
        Container("redpanda-console", "k2-console", "vendor/console:v2"),
        Container("clickhouse", "k2-clickhouse", "vendor/clickhouse-server:25", True, "no", {"k2_net": "172.28.0.11"},
                  {8123: "127.0.0.1:8123"}),
        Container("init-topics", "k2-init", "vendor/redpanda:v24", False, "no"),
        Container("feed", "k2-feed-1", "k2/feed:latest", opted_in=True),
        Container("feed", "k2-feed-2", "k2/feed:latest"),
    ]  # fmt: skip
    rules = Rules("http://127.0.0.1:9090", [Rule("BrokerDown", {"severity": "page", "service": "redpanda"}, "up == 0")])
    seen = Seen(
        "k2", Engine("unix:///var/run/docker.sock", "k2", containers), venues().broker, venues().stores,
        alerts=rules, prefect_url="http://127.0.0.1:4200/api", prefect_given=True, prefect_answers=True,
    )  # fmt: skip
    text, config, raw = made(seen, tmp_path)
    assert set(raw["components"]) == {"broker", "redpanda-console", "clickhouse", "feed", "k2-feed-1", "k2-feed-2"}
    assert raw["components"]["feed"] == {"members": ["k2-feed-1", "k2-feed-2"]}
    assert raw["components"]["broker"]["name"] == "redpanda"
    assert raw["components"]["broker"]["probes"] == {"protocol": {"driver": "kafka", "address": "127.0.0.1:9092"}}
    assert raw["components"]["clickhouse"]["probes"]["ping"]["url"] == "http://127.0.0.1:8123/ping"
    assert raw["components"]["k2-feed-1"]["probes"]["runs"]["container"] == "k2-feed-1"
    assert raw["hosts"]["docker"]["allow"] == []
    (asked,) = [question for question in text.questions if "may be broken?" in question]
    assert '"k2-redpanda"' in asked
    assert "k2-feed-1" not in asked  # its label says yes already
    assert raw["alerts"]["labels"] == {"broker": {"service": "redpanda"}}
    assert of(config).path == ("broker", "clickhouse")
    assert len(text.questions) == 4  # history, the key, twice or damage, which may be broken
    assert "created anew" not in text.text
    assert seen.broker is not None
    inside = replace(seen, broker=replace(seen.broker, address="172.28.0.10:9092"))
    assert "created anew" in made(inside, tmp_path)[0].text  # no port is published
    guess, *_ = made(replace(seen, prefect_given=False), tmp_path)  # the platform's own may answer there
    assert any("is this Prefect server gameday's own?" in question for question in guess.questions)


KAFKA_LINE = "cd /opt && exec java -cp x kafka.Kafka one.properties"


def test_units_and_processes_become_components_and_none_may_be_broken_yet(tmp_path: Path) -> None:
    """A unit by its manager, a process by the words of its command line; what would start one is only a guess."""
    runs = [
        Runs("broker", "127.0.0.1:9092", 7, "kafka.Kafka one.properties", KAFKA_LINE),
        Runs("clickhouse", "127.0.0.1:8123", 8, "clickhouse-server", unit="clickhouse-server.service"),
    ]
    text, config, raw = made(replace(usage(), processes=runs), tmp_path)
    assert raw["hosts"] == {"systemd": {"manager": "system"}, "processes": {"commands": {}}}
    assert f'# broker = "{KAFKA_LINE}"' in text.text
    assert [(one.host, one.name, one.opt_in) for one in config.components.values()] == [
        ("processes", "kafka.Kafka one.properties", False),
        ("systemd", "clickhouse-server.service", False),
    ]
    assert "components.broker, components.clickhouse" in next(q for q in text.questions if "may be broken" in q)


def test_units_of_both_managers_are_two_hosts_and_brokers_one_role(tmp_path: Path) -> None:
    """Each broker is asked itself."""
    places = ["127.0.0.1:9092", "127.0.0.1:9093"]
    log = Broker(",".join(places), [Topic("web-events", 3)])
    runs = [
        Runs("broker", place, n, "x", unit=f"kafka{n}.service", manager=manager)
        for n, (place, manager) in enumerate(zip(places, ("system", "user"), strict=True))
    ]
    _, config, raw = made(Seen("x", broker=log, processes=runs), tmp_path)
    assert raw["hosts"] == {"systemd": {"manager": "system"}, "systemd-user": {"driver": "systemd", "manager": "user"}}
    assert config.roles["broker"].members == ("broker-1", "broker-2")
    assert [one.probes["protocol"].settings["address"] for one in config.components.values()] == places


def test_who_is_not_known_is_only_looked_at_beside_those_that_are(tmp_path: Path) -> None:
    """Its process is elsewhere, or another user's."""
    _, config, raw = made(
        replace(usage(), engine=None, processes=[Runs("broker", "127.0.0.1:9092", 7, "kafka.Kafka")]), tmp_path
    )
    assert set(raw["hosts"]) == {"processes", "local"}
    assert {name: one.host for name, one in config.components.items()} == {"broker": "processes", "clickhouse": "local"}


@pytest.mark.parametrize(
    ("cgroup", "found"),
    [
        ("0::/system.slice/kafka.service\n", ("kafka.service", "system")),
        ("0::/system.slice/system-kafka.slice/kafka@1.service/worker\n", ("kafka@1.service", "system")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/kafka.service\n", ("kafka.service", "user")),
        ("12:pids:/a\n1:name=systemd:/system.slice/kafka.service\n0::/\n", ("kafka.service", "system")),
        (
            "12:pids:/system.slice/ssh.service\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n",
            ("", "system"),
        ),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u3.scope\n", ("", "system")),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", ("", "system")),
        ("0::/\n", ("", "system")),
        ("", ("", "system")),
    ],
)
def test_the_cgroup_tells_whose_unit_a_process_is(cgroup: str, found: tuple[str, str]) -> None:
    """Of the system's manager, or of one user's; a login's or a manager's own scope is no unit that can be started."""
    assert unit_of(cgroup) == found


def test_what_may_be_broken_can_be_copied(tmp_path: Path) -> None:
    """No name is in two halves at the end of a line."""
    engine = replicas().engine
    assert engine is not None
    many = [replace(engine.containers[0], service=f"own-{n}", name=f"bank-ledger-of-payments-{n}") for n in range(20)]
    text, _, _ = made(replace(replicas(), engine=replace(engine, containers=many)), tmp_path)
    comments = [line for line in text.text.splitlines() if line.startswith("# ")]
    assert all(any(f'"{one.name}"' in line for line in comments) for one in many)


def test_gamedays_own_servers_of_the_state_folder_are_no_question(tmp_path: Path) -> None:
    """`gameday up --own` has drawn their ports and passwords, which stay in stack.env."""
    names = ("GAMEDAY_PG_PASSWORD", "GAMEDAY_PG_PORT", "PREFECT_PASSWORD", "PREFECT_PORT")
    page = written(replace(counted(), own=True), (), ())
    for name in names:
        assert f"${{{name}}}" in page.text
    assert not [question for question in page.questions if "gameday's own" in question]
    asked = written(counted(), (), ())
    assert len([question for question in asked.questions if "gameday's own" in question]) == 2


def test_a_connector_is_a_probe_of_connect_with_what_it_does(tmp_path: Path) -> None:
    """A sink that keeps no key doubles what is delivered again; without connectors the server itself is asked."""
    own = {"topics": "orders", "pk.mode": "none"}
    sink = Connector("orders.sink", False, "JdbcSinkConnector", "RUNNING", ["RUNNING"], own)
    containers = [Container("connect", "shop-connect-1", "debezium/connect:3", published={8083: "127.0.0.1:8083"})]
    engine = Engine("unix:///var/run/docker.sock", "shop", containers)
    seen = replace(counted(), engine=engine, connect=Connectors("http://127.0.0.1:8083", [sink], 7))
    text, _, raw = made(seen, tmp_path)
    probe = {"driver": "connect", "url": "http://127.0.0.1:8083", "connector": "orders.sink", "rate_hz": 2}
    assert list(raw["components"]["connect"]["probes"].values()) == [probe]
    told = " ".join(line.removeprefix("# ") for line in text.text.splitlines())
    assert "orders.sink: a sink, JdbcSinkConnector: topics = orders; pk.mode = none" in told
    assert "has pk.mode none: a record that is delivered again is there again" in told
    assert "7 more connectors were not looked into" in told
    bare = replace(seen, engine=None, connect=Connectors("http://127.0.0.1:8083", []))
    assert made(bare, tmp_path)[2]["components"]["connect"]["probes"]["rest"]["driver"] == "http"


# ---- the canary ------------------------------------------------------------------------------------------------------


def people() -> Seen:
    """The same events with who they are about."""
    seen = web()
    assert seen.broker is not None
    (topic,), (store,) = seen.broker.topics, seen.stores
    (table,) = store.tables
    who = [f"anna.{n % 40}@example.org" for n in range(NUMBER)]
    messages = [
        one._replace(
            key=mail.encode(),
            value=json.dumps({**json.loads(one.value or b""), "mail": mail, "note": f"for {mail}"}).encode(),
        )
        for one, mail in zip(topic.messages, who, strict=True)
    ]
    rows = [{**row, "visitor": mail} for row, mail in zip(table.rows, who, strict=True)]
    table = replace(table, rows=rows, columns={**table.columns, "visitor": "text"})
    return replace(seen, broker=broker(replace(topic, messages=messages)), stores=[replace(store, tables=[table])])


def flying(seen: Seen, tmp_path: Path) -> tuple[StackConfig, Mapping[str, Any]]:
    """The file with a canary alone."""
    text = text_of(seen, own=True)
    raw = tomllib.loads(text.text)
    assert any("may gameday write such records into" in question for question in text.questions)
    return parse(raw, text.secrets, tmp_path / "gameday.toml"), raw


def test_a_canary_is_like_a_message_and_tells_of_nobody(tmp_path: Path) -> None:
    """Key, time and the field with the most texts are its own; every hop tells its records by that; free text isn't
    copied; what is left is as a message has it."""
    config, raw = flying(people(), tmp_path)
    body = json.loads(raw["canary"]["text"])
    assert body == {
        "event_id": "{uuid}", "event_type": "view", "happened": "{now}", "geo_location": body["geo_location"],
        "purchase_amount": body["purchase_amount"], "mail": "{key}", "note": "gameday",
    }  # fmt: skip
    assert "anna" not in str(raw)
    assert raw["canary"]["fields"] == {
        "event_id": "{uuid}", "kind": "view", "visitor": "{key}", "lat": str(body["geo_location"]["lat"]),
        "amount": str(body["purchase_amount"]),
    }  # fmt: skip
    assert raw["canary"]["key"] == "{key}"
    assert raw["streams"]["canary"]["hops"] == ["canary", "log", "events"]
    assert raw["hops"]["log"]["where"] == {"mail": "gameday-*"}
    assert raw["hops"]["events"]["where"] == "visitor LIKE 'gameday-%'"
    assert (of(config).key, of(config).time, of(config).counted) == (("event_id",), "happened", False)


def test_a_canary_of_counted_records_has_numbers_of_its_own(tmp_path: Path) -> None:
    """A number stays a number, and no group is a real one's."""
    config, raw = flying(counted(), tmp_path)
    assert '"nr": {n}' in raw["canary"]["text"]
    assert '"at": {now_ms}000' in raw["canary"]["text"]
    assert raw["streams"]["canary"]["key"] == ["store", "id"]
    assert "group" not in raw["streams"]["canary"]
    assert "gapless" not in raw["streams"]["canary"]
    assert raw["hops"]["log"]["where"] == {"shop": "gameday-*"}
    assert of(config).counted


def test_a_canary_of_one_of_several_shapes(tmp_path: Path) -> None:
    """The first topic's; what only its name tells is a text."""
    _, raw = flying(venues(), tmp_path)
    assert raw["canary"]["topic"] == "market.trades.binance.raw"
    assert raw["canary"]["fields"]["venue"] == "binance"
    assert json.loads(raw["canary"]["text"].replace("{now_ms}", "0"))["s"] == "{key}"


def wrapped() -> Seen:
    """The same with JSON in a text."""
    seen = counted()
    assert seen.broker is not None
    (topic,) = seen.broker.topics
    bodies = [{"payload": (one.value or b"").decode()} for one in topic.messages]
    return replace(
        seen, broker=broker(replace(topic, messages=[message("orders", n, body) for n, body in enumerate(bodies)]))
    )


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Seen("s", broker=broker()), "no message of a topic was found in a table"),
        (usage(), "its records tell no time that gameday could write"),
        (wrapped(), "no template can be written where store, id is"),
    ],
)
def test_where_no_canary_can_be_made_up_the_reason_is_told(seen: Seen, why: str) -> None:
    """And that one can be declared by hand."""
    with pytest.raises(NotUp, match=f"{why}.*docs/canary.md"):
        text_of(seen, own=True)


# ---- what runs ------------------------------------------------------------------------------------------------------


def brokers() -> Engine:
    """Three, whose inner listener isn't published."""
    containers = [
        Container(f"kafka-{n}", f"shop-kafka-{n}", "apache/kafka:4.1.0", True, "always", {"shop": f"172.28.0.1{n}"},
                  {9093 + n: f"127.0.0.1:{39090 + n}"}, (9092,))
        for n in (1, 2, 3)
    ]  # fmt: skip
    return Engine("unix:///var/run/docker.sock", "shop", containers)


def test_several_brokers_are_one_role_and_each_is_asked_itself(tmp_path: Path) -> None:
    """So that one that is struck is known to concern the stream, and to be away."""
    seen = venues()
    assert seen.broker is not None
    at = found_at(brokers())["broker"]
    assert at == "127.0.0.1:39091,127.0.0.1:39092,127.0.0.1:39093"
    _, config, raw = made(replace(seen, engine=brokers(), broker=replace(seen.broker, address=at)), tmp_path)
    assert of(config).path == ("broker", "clickhouse")
    assert config.members("broker") == ("kafka-1", "kafka-2", "kafka-3")
    assert {config.kind(f"kafka-{n}") for n in (1, 2, 3)} == {"broker"}
    probes = {name: one["probes"].get("protocol", {}) for name, one in raw["components"].items() if "probes" in one}
    assert {name: one.get("address") for name, one in probes.items()} == {"clickhouse": None} | {
        f"kafka-{n}": f"127.0.0.1:3909{n}" for n in (1, 2, 3)
    }
    assert raw["hops"]["log"]["brokers"] == at


@pytest.mark.parametrize(
    ("changes", "role", "members"),
    [
        ({"kafka-1": {"service": "broker"}}, "broker-all", ("broker", "kafka-2", "kafka-3")),
        ({"kafka-1": {"image": "redpandadata/redpanda:v25"}}, None, ()),  # two clusters
        ({"kafka-1": {"runs": False, "restart": "no"}}, "broker", ("kafka-2", "kafka-3")),
    ],
)
def test_which_brokers_are_of_one_role(
    changes: Mapping[str, Mapping[str, Any]], role: str | None, members: tuple[str, ...], tmp_path: Path
) -> None:
    """Those of one image that run; under a name that no component has."""
    seen, engine = venues(), brokers()
    assert seen.broker is not None
    containers = [replace(one, **changes.get(one.service, {})) for one in engine.containers]
    seen = replace(seen, engine=replace(engine, containers=containers))
    _, config, _ = made(seen, tmp_path)
    assert {name: one.members for name, one in config.roles.items()} == ({role: members} if role else {})
    assert {config.kind(name) for name in config.components if name != "clickhouse"} == {"broker"}


def replicas(*readers: str) -> Seen:
    """Events that two replicas of a service carry from the log to a table; readers: where the group's members are."""
    containers = [
        Container("ledger", f"bank-ledger-{n}", "bank/ledger:4.2", True, "always", {"bank": f"172.28.0.2{n}"})
        for n in (1, 2)
    ]
    containers.append(Container("db", "bank-db-1", "postgres:18", True, "always", {"bank": "172.28.0.30"}))
    seen = web()
    assert seen.broker is not None
    groups = [Group("ledger", {"web-events": 2}, readers), Group("other", {"elsewhere": 1}, ["172.28.0.30"])]
    engine = Engine("unix:///var/run/docker.sock", "bank", containers)
    return replace(seen, engine=engine, broker=replace(seen.broker, groups=groups))


def test_replicas_whose_addresses_a_group_has_are_its_consumer(tmp_path: Path) -> None:
    """One role with its members, in the stream's path, and whose place in the log it is."""
    _, config, raw = made(replicas("172.28.0.21", "172.28.0.22"), tmp_path)
    assert raw["components"]["ledger"] == {"role": "consumer", "members": ["bank-ledger-1", "bank-ledger-2"]}
    assert config.kind("bank-ledger-2") == "consumer"
    assert of(config).path == ("broker", "ledger", "postgres")
    assert config.cursors["ledger"].component == "ledger"


def test_a_member_that_is_no_container_any_more_is_only_said(tmp_path: Path) -> None:
    """After a deployment the old ones are in the group for a while."""
    text, config, _ = made(replicas("172.28.0.21", "172.28.0.22", "172.28.0.99"), tmp_path)
    assert config.cursors["ledger"].component == "ledger"
    assert "none of the containers is at 172.28.0.99" in text.text


@pytest.mark.parametrize("readers", [(), ("10.0.0.1",), ("172.28.0.21", "172.28.0.30")])
def test_a_group_whose_members_are_elsewhere_has_no_component(readers: tuple[str, ...], tmp_path: Path) -> None:
    """Or some of them, or who is known to be something else."""
    _, config, raw = made(replicas(*readers), tmp_path)
    assert config.cursors["ledger"].component is None
    assert "role" not in raw["components"]["ledger"]
    assert of(config).path == ("broker", "postgres")


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, "127.0.0.1:39091"),
        ({"published": {9092: "127.0.0.1:9092", 9101: "127.0.0.1:9101"}}, "127.0.0.1:9092"),
        ({"published": {9101: "127.0.0.1:9101", 8080: "127.0.0.1:8080"}}, "172.28.0.11:9092"),
        ({"published": {}}, "172.28.0.11:9092"),
        ({"published": {}, "exposed": ()}, None),
    ],
)
def test_a_server_is_asked_where_its_port_is_published(changes: dict[str, Any], place: str | None) -> None:
    """Whatever its number; its own address is the last resort, for Kafka sends who comes there to a name that nobody
    here knows."""
    engine = brokers()
    one = replace(engine.containers[0], **changes)
    assert found_at(replace(engine, containers=[one])).get("broker") == place


@pytest.mark.parametrize(
    ("published", "place"), [({}, "db (at 172.28.0.30:5432)"), ({5432: "127.0.0.1:5433"}, "db (at 127.0.0.1:5433)")]
)
def test_a_database_that_nobody_named_is_said_with_its_address(
    published: Mapping[int, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its port isn't published: what is lacking is who one is, and which database."""
    engine = replicas().engine
    assert engine is not None
    containers = [
        replace(one, published=published, exposed=(5432,)) for one in engine.containers if one.service == "db"
    ]
    monkeypatch.setattr("tasks.inventory.engine.engine", lambda url, project: replace(engine, containers=containers))
    said: list[str] = []
    seen = looked(Asked(project="bank", prefect="http://127.0.0.1:1"), "bank", said.append)
    told = f"Postgres in {place}. Remedy: --postgres postgresql://user:password@host:5432/database"
    assert seen.troubles == [told]
    assert f"not looking at {told}" in said


@pytest.mark.parametrize(
    "seen", [venues(), usage(), web(), counted(), Seen("x")], ids=["venues", "usage", "web", "counted", "none"]
)
def test_every_line_can_be_read_by_a_person(seen: Seen) -> None:
    """No longer than a screen is wide, and each table once."""
    text = written(seen, *guessed(seen)).text
    assert not [line for line in text.splitlines() if len(line) > 150]
    headers = [line for line in text.splitlines() if line.startswith("[") and not line.startswith("[[")]
    assert len(headers) == len(set(headers))


# ---- a great deal of it ---------------------------------------------------------------------------------------------


class Crowded:
    """A broker of 1,000 topics and 10,000 groups, each of which takes its time to be asked about."""

    def __init__(self, address: str, within_s: float, client: Mapping[str, str]) -> None:
        self.now = iter(range(10**6))

    def __enter__(self) -> Crowded:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def leaders(self, topics: Sequence[str] | None) -> dict[tuple[str, int], int]:
        return {(name, 0): 1 for name in ("orders", "_schemas", *(f"noise-{n}" for n in range(1_000)))}

    def offsets(self, leaders: Mapping[tuple[str, int], int], at: int) -> dict[tuple[str, int], int]:
        return dict.fromkeys(leaders, 5 if at == LATEST else 0)

    def groups(self) -> list[str]:
        return [f"group-{n}" for n in range(10_000)] + ["orders-sink"]

    def committed_anywhere(self, group: str) -> dict[tuple[str, int], int]:
        if group == "group-1":
            raise DriverError("not yours", definite=True)
        return {("orders", 0): 4} if group == "orders-sink" else {}

    def readers(self, group: str) -> list[str]:
        return ["172.28.0.9"]

    def configs(self, topics: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        raise DriverError("cluster authorization failed", definite=True)


def test_a_thousand_topics_and_ten_thousand_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others name, and what a group reads, is looked into first; how much was left out is in the file."""
    read: list[tuple[str, int]] = []
    clock = itertools.count(0.0, 0.01)  # a hundredth of a second for each group
    monkeypatch.setattr(inventory, "Cluster", Crowded)
    monkeypatch.setattr("tasks.inventory.kafka.time", SimpleNamespace(monotonic=lambda: next(clock)))

    def newest(address: str, client: Mapping[str, str], bounds: Mapping[tuple[str, int], Any]) -> Any:
        read.extend(bounds)
        return {}, []

    monkeypatch.setattr(inventory, "_newest", newest)
    seen, troubles = inventory.broker("b:9092", {}, ["noise-7"])
    assert [topic.name for topic in seen.topics[:2]] == ["noise-7", "orders"]
    assert len(seen.topics) == len(read) == inventory.TOPICS_READ_MAX
    assert seen.unread == 1_001 - inventory.TOPICS_READ_MAX
    assert (seen.groups_asked, seen.groups_known) == (1_000, 10_001)
    assert seen.groups == [Group("orders-sink", {"orders": 1}, ["172.28.0.9"])]
    assert troubles == ["cluster authorization failed"]
    text = written(Seen("x", broker=seen), *guessed(Seen("x", broker=seen))).text
    assert f"{seen.unread} more topics hold messages, and were not looked into" in text


def test_many_topics_and_tables_are_held_against_each_other_in_seconds() -> None:
    """As many as are ever read, with other records in each."""
    topics = [
        Topic(f"t{t}", messages=[message(f"t{t}", n, {f"f{i}": f"{t}-{i}-{n}" for i in range(20)}) for n in range(200)])
        for t in range(24)
    ]
    tables = [
        Table(f"d.t{t}", "MergeTree", {f"c{i}": "String" for i in range(20)}, (), 2_000,
              [{f"c{i}": f"{t}-{i}-{n}" for i in range(20)} for n in range(0, 2_000)])
        for t in range(4)
    ]  # fmt: skip
    began = time.process_time()
    _, aside = guessed(Seen("x", broker=broker(*topics), stores=[clickhouse(*tables)]))
    assert time.process_time() - began < 20
    assert len(aside) == 24  # no time and no number in any


# ---- what an engine and a Prometheus tell ---------------------------------------------------------------------------


def container(project: str, service: str, **changes: Any) -> dict[str, Any]:
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": service, **changes.pop("labels", {})}
    ports = {"9092/tcp": [{"HostIp": "0.0.0.0", "HostPort": "19092"}], "8080/tcp": None}
    return {
        "Id": f"{project}-{service}", "Labels": labels, "Name": f"/{service}-1", "State": {"Running": True},
        "Config": {"Labels": labels, "Image": "vendor/redpanda:v1", "ExposedPorts": {"9092/tcp": {}}},
        "HostConfig": {"RestartPolicy": {"Name": ""}},
        "NetworkSettings": {"Ports": ports, "Networks": {"n": {"IPAddress": "172.28.0.3"}}},
        **changes,
    }  # fmt: skip


def test_the_engine_s_containers_are_those_of_one_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is bound to every address is reached here; jobs that were run once are none; of several projects one
    has to be named."""
    known = [
        container("shop", "broker", labels={"gameday.opt-in": "true"}),
        container("shop", "job", labels={"com.docker.compose.oneoff": "True"}),
    ]
    each = {f"/containers/{one['Id']}/json": one for one in known}
    monkeypatch.setattr(engines, "_ask", lambda kept, url, path: each.get(path, known))
    found = engines.engine("unix:///none.sock", "")
    (only,) = found.containers
    assert (found.project, only.service, only.name, only.opted_in) == ("shop", "broker", "broker-1", True)
    assert (only.published, only.exposed, only.restart) == ({9092: "127.0.0.1:19092"}, [9092], "no")
    known.append(container("bank", "db"))
    with pytest.raises(ConfigError, match=r"these Compose projects: bank, shop\. Remedy: --project NAME"):
        engines.engine("unix:///none.sock", "")
    with pytest.raises(ConfigError, match="is no unix socket"):
        engines.engine("tcp://elsewhere:2375", "")


def test_what_a_prometheus_says_is_its_rules_and_where_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of another kind is a trouble that names it."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///none.sock")
    answers = {
        "/api/v1/rules?type=alert": {"groups": [{"rules": [{"name": "Down", "labels": {"a": 1}, "query": "up == 0"}]}]},
        "/api/v1/alertmanagers": {"activeAlertmanagers": [{"url": "http://am:9093/api/v2/alerts"}]},
    }

    def ask(method: str, url: str, within_s: float) -> Answer:
        body = {"status": "success", "data": answers[url.removeprefix("http://p:9090")]}
        return Answer(200, json.dumps(body).encode())

    monkeypatch.setattr(alerting, "ask", ask)
    found = alerting.prometheus("http://p:9090/")
    assert found == Rules("http://p:9090", [Rule("Down", {"a": "1"}, "up == 0")], "http://am:9093")
    monkeypatch.setattr(alerting, "ask", lambda *_: Answer(200, b"<html>"))
    (told,) = looked(Asked(prometheus="http://p:9090"), "shop", lambda line: None).troubles
    assert told.startswith("Prometheus at http://p:9090: what answers there is something else (JSONDecodeError")


# ---- ClickHouse's own words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "full",
    [
        "Kafka('a:9092,b:9092', 't1, t2', 'g', 'JSONEachRow') SETTINGS kafka_flush_interval_ms = 500",
        "Kafka SETTINGS kafka_broker_list = 'a:9092,b:9092', kafka_topic_list = 't1, t2', kafka_group_name = 'g', "
        "kafka_format = 'JSONEachRow', kafka_flush_interval_ms = 500",
        "Kafka() SETTINGS kafka_broker_list = 'a:9092,b:9092', kafka_topic_list = 't1, t2', kafka_group_name = 'g', "
        "kafka_format = 'JSONEachRow', kafka_flush_interval_ms = 500, kafka_num_consumers = 2",
    ],
)
def test_a_queue_is_read_from_either_form_of_its_engine(full: str) -> None:
    """Lists hold commas themselves."""
    assert queue("d.q", full) == Queue("d.q", "a:9092,b:9092", ["t1", "t2"], "g", "JSONEachRow", 500)


def test_a_queue_without_a_rhythm_has_clickhouse_s() -> None:
    """7.5 s; and what is no queue is none."""
    found = queue("d.q", "Kafka('a:9092', 't', 'g', 'Avro')")
    assert found is not None
    assert found.flush_ms == 7_500
    assert queue("d.q", "Kafka(collection)") is None


def test_a_view_tells_each_column_s_expression() -> None:
    """Commas and FROM in functions and texts end nothing; one that keeps its rows itself is none."""
    created = "CREATE MATERIALIZED VIEW d.v TO d.target (`a` String) AS SELECT …"
    select = (
        "SELECT\n    concat(s, ', FROM x', trim(BOTH ' ' FROM t)) AS a,\n    toDateTime64(T / 1000, 3) AS `at`,\n    "
        "plain\nFROM d.queue WHERE x IN (1, 2)"
    )
    assert view("d.v", "d", created, select) == View(
        "d.v", "d.queue", "d.target",
        {"a": "concat(s, ', FROM x', trim(BOTH ' ' FROM t))", "at": "toDateTime64(T / 1000, 3)", "plain": "plain"},
    )  # fmt: skip
    assert view("d.v", "d", "CREATE MATERIALIZED VIEW d.v ENGINE = Memory AS SELECT 1", select) is None


# ---- the command -----------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, path: Path, *more: str) -> int:
    """Its exit code. The state folder is the file's."""
    for name in ("GAMEDAY_CONFIG", "GAMEDAY_STATE"):
        monkeypatch.setenv(name, "")  # so that what the command sets is undone
    argv = ["gameday", "--config", str(path), "--state", str(path.parent), "init", *more]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code))


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 3)])
def test_the_command_writes_tells_and_looks(
    well: bool, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The questions and what to export are on the terminal too; a look that says no is an exit code."""
    rows = [{"what": "look at log", "ok": well, "note": "total is always [NULL]"}]
    monkeypatch.setattr("tasks.init.looked", lambda asked, name, say: say("looking [around]") or venues())
    monkeypatch.setattr("tasks.init.look_again", lambda page, path: rows)
    assert command(monkeypatch, tmp_path / "my.toml", "--kafka", "a:1") == code
    told = capsys.readouterr().out
    assert tomllib.loads((tmp_path / "my.toml").read_text())["name"] == "k2"
    for line in ("looking [around]", "- what makes two records the same?", "export CLICKHOUSE_PASSWORD=…", "[NULL]"):
        assert line in told
    assert "s3cr" not in told


def test_a_file_that_is_there_is_overwritten_only_by_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is asked anything before; without a terminal it refuses."""
    path = tmp_path / "my.toml"
    path.write_text("mine = 1\n")
    monkeypatch.setattr("tasks.init.looked", lambda *_: venues())
    monkeypatch.setattr("tasks.init.look_again", lambda *_: [])
    assert command(monkeypatch, path, "--kafka", "a:1") == 2
    assert "is there already" in capsys.readouterr().err
    for answer, code in (("n\n", 130), ("y\n", 0)):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert path.read_text() == "mine = 1\n"
        assert command(monkeypatch, path, "--kafka", "a:1") == code
    assert tomllib.loads(path.read_text())["name"] == "k2"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--kafka", "nowhere"),
        ("--clickhouse", "postgresql://a"),
        ("--postgres", "http://user:hidden@a"),
        ("--prefect", "a"),
    ],
)
def test_an_address_that_is_none_is_bad_usage(
    option: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told with the option, before anything is looked at, and without a password."""
    assert command(monkeypatch, tmp_path / "my.toml", option, value) == 2
    told = capsys.readouterr().err
    assert option in told
    assert "hidden" not in told


def test_deletes_and_numbers_that_are_no_times_are_told_apart(tmp_path: Path) -> None:
    """A message without a value is no record; an id of ten digits is a time only near to when it was produced."""
    messages = [message("t", n, {"id": 1_000_000_007 + n, "at": (START_S + n) * 1000}) for n in range(NUMBER)]
    messages += [message("t", NUMBER, b"")]
    text, _, raw = made(Seen("x", broker=broker(Topic("t", 1, NUMBER, messages=messages))), tmp_path)
    (stream,) = raw["streams"].values()
    assert stream["fields"] == {"id": "int", "at": "time"}
    assert "topic t: 1 of its newest 121 messages are without a value: deletes" in text.text


def test_few_values_that_both_have_make_no_stream() -> None:
    """A table of levels and states has those of a topic too, and none of its records."""
    messages = [message("t", n, {"level": n % 5, "state": "abc"[n % 3], "at": iso(START_S + n)}) for n in range(NUMBER)]
    rows = [{"rank": str(n % 5), "name": "abc"[n % 3], "changed": us(n)} for n in range(NUMBER)]
    table = Table("d.levels", "MergeTree", {"rank": "Int64", "name": "String", "changed": "DateTime"}, (), 120, rows)
    other = Topic("u", messages=[message("u", n, {"key": f"k{n}", "at": iso(START_S + n)}) for n in range(NUMBER)])
    mirror = Table(
        "d.copy", "MergeTree", {"key": "String", "at": "DateTime"}, (), 120,
        [{"key": f"k{n}", "at": us(START_S + n)} for n in range(NUMBER)],
    )  # fmt: skip
    streams, aside = guessed(
        Seen("x", broker=broker(Topic("t", messages=messages), other), stores=[clickhouse(table, mirror)])
    )
    assert [list(stream.parts) for stream in streams] == [["u"]]
    assert "topic t: none of its newest 120 messages is in a table" in aside
