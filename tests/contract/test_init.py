"""`gameday init` against real servers with data: the file that it writes loads, and what it declares is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from compose.servers import kafka as server
from compose.servers import postgres
from gameday.state import ROOT, State
from gameday.system.polling import until
from pipelines.trades.schema import query
from tasks.init import Asked, look_again, looked, text_of
from tests.contract.conftest import new_broker, serving
from tests.contract.sockets import silent

NUMBER = 300
CHANGED = 40
START_S = 1_795_000_000
SHOPS = ("north", "south", "west")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka of this file's own: of many topics init looks into some."""
    service = new_broker(tmp_path_factory.mktemp("kafka"))
    with serving(service):
        yield str(service.ready).removeprefix("kafka://")


@pytest.fixture
def producer(broker: str) -> Producer:
    return Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return State(tmp_path)


def send(producer: Producer, topic: str, bodies: list[dict[str, Any]], key: str) -> None:
    for body in bodies:
        producer.produce(topic, json.dumps(body).encode(), key=str(body[key]))
    assert producer.flush(30) == 0


def commit(broker: str, group: str, topic: str, offset: int) -> None:
    """A consumer's place, without a consumer."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def written(asked: Asked, path: Path) -> tuple[str, dict[str, Any], list[Any]]:
    """The file's text, what it says, and what a look at it says."""
    page = text_of(looked(asked, "shop", lambda line: None))
    path.write_text(page.text)
    return page.text, tomllib.loads(page.text), list(look_again(page, path))


def mine(raw: dict[str, Any], rows: list[Any], table: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The stream that ends in this table, and its log: other tests' may be there too. The look says yes of both hops,
    and of the two beside each other."""
    (stream,) = [stream for stream in raw["streams"].values() if stream["visible"] == table]
    log, _ = stream["hops"]
    whats = (f"look at {log}", f"look at {table}", f"look from {log} to {table}")
    told = {row["what"]: row["ok"] for row in rows if row["what"] in whats}
    assert told == dict.fromkeys(whats, True), rows
    return stream, raw["hops"][log]


def test_a_queue_and_its_view_become_a_file_whose_look_says_yes(
    broker: str, warehouse: str, producer: Producer, tmp_path: Path
) -> None:
    """Kafka, a Kafka table of ClickHouse's own, a view and a table: no line has to be touched for the records."""
    name = f"orders{uuid4().hex[:8]}"
    server.create_topics(broker, {name: 2, f"{name}.other": 1})
    query(warehouse, f"CREATE DATABASE {name}")
    query(
        warehouse,
        f"CREATE TABLE {name}.placed (shop LowCardinality(String), id UInt64, total Decimal(18, 8), paid Bool, "
        "at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY (shop, id)",
    )
    query(
        warehouse,
        f"CREATE TABLE {name}.queue (shop String, nr UInt64, sum String, paid Bool, ms Int64) ENGINE = Kafka SETTINGS "
        f"kafka_broker_list = '{broker}', kafka_topic_list = '{name}', kafka_group_name = '{name}-group', "
        "kafka_format = 'JSONEachRow', kafka_flush_interval_ms = 500",
    )
    query(
        warehouse,
        f"CREATE MATERIALIZED VIEW {name}.into TO {name}.placed AS SELECT shop, nr AS id, "
        f"toDecimal64(sum, 8) AS total, paid, fromUnixTimestamp64Milli(ms, 'UTC') AS at FROM {name}.queue",
    )
    orders = [
        {
            "shop": SHOPS[n % 3],
            "nr": n // 3 + 7,
            "sum": f"{n}.{n % 90 + 10}",
            "paid": n % 4 == 0,
            "ms": START_S * 1000 + n * 10,
        }
        for n in range(NUMBER)
    ]
    send(producer, name, orders, "shop")
    send(producer, f"{name}.other", [{"a": uuid4().hex} for _ in range(5)], "a")  # no table of any test has them
    commit(broker, f"{name}-dead", f"{name}.other", 1)

    def arrived() -> bool:
        return query(warehouse, f"SELECT count() FROM {name}.placed").strip() == str(NUMBER)

    until(arrived, within_s=60, every_s=0.5, what="the view to have filled the table")
    path = tmp_path / "gameday.toml"
    text, raw, rows = written(Asked(kafka=broker, clickhouse=warehouse), path)
    stream, log = mine(raw, rows, "placed")
    assert (stream["key"], stream["sequence"], stream["gapless"]) == (["shop", "id"], "id", True)
    assert stream["fields"] == {"shop": "text", "id": "int", "total": "decimal(8)", "paid": "bool", "at": "time"}
    assert log["fields"] == {"id": "nr", "total": "sum", "at": "ms as time(ms)"}
    assert raw["cursors"][f"{name}-group"]["topics"] == [name]
    assert log["topics"] == [name]
    assert f"{name}.queue reads {name} as JSONEachRow, group {name}-group, and flushes every 0.5 s" in text
    assert "id = nr; total = toDecimal64(sum, 8)" in text.replace("\n# ", " ")
    assert f"topic {name}.other: none of its newest 5 messages is in a table" in text
    assert "kept for 168 h, cleanup delete" in text


def test_a_table_in_postgres_is_found_by_its_values(broker: str, dsn: str, producer: Producer, tmp_path: Path) -> None:
    """Whoever carries them: nested paths under other names, floats, a NULL, a primary key; a publication is no hop."""
    topic = f"web-{uuid4()}"
    server.create_topics(broker, {topic: 1})
    events: list[dict[str, Any]] = [
        {
            "event_id": str(uuid4()),
            "kind": ("view", "purchase")[n % 2],
            "happened": datetime.fromtimestamp(START_S + n / 10, UTC).isoformat(),
            "where": {"lat": 48.1 + n / 1000},
            "amount": f"{n}.5" if n % 3 else None,
        }
        for n in range(NUMBER)
    ]
    send(producer, topic, events, "event_id")
    commit(broker, f"{topic}-sink", topic, 1)  # so that it is looked into, however many other tests have made
    with psycopg.connect(dsn) as own:
        own.execute(
            "CREATE TABLE visits (id uuid PRIMARY KEY, what text, at timestamptz, latitude double precision, "
            "paid numeric(12, 2), created timestamptz DEFAULT now())"
        )
        own.execute('CREATE TABLE "Other Things" (id int PRIMARY KEY, at timestamptz)')
        own.execute('INSERT INTO "Other Things" SELECT n, now() FROM generate_series(1, 50) AS n')
        own.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
        with own.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO visits VALUES (%s, %s, %s, %s, %s)",
                [(e["event_id"], e["kind"], e["happened"], e["where"]["lat"], e["amount"]) for e in events],
            )
    text, raw, rows = written(Asked(kafka=broker, postgres=(dsn,)), tmp_path / "gameday.toml")
    stream, _ = mine(raw, rows, "visits")
    assert (stream["key"], stream["time"]) == (["id"], "at")
    assert stream["fields"] == {
        "id": "uuid", "what": "text", "at": "time", "latitude": "float(15)", "paid": "decimal(2)",
    }  # fmt: skip
    assert raw["hops"]["visits"]["kind"] == "once"
    assert "sure: its primary key is id" in text
    assert "tester:${POSTGRES_PASSWORD}@" in text


def test_a_table_that_is_copied_is_declared_as_it_is(
    broker: str, database: str, dsn: str, producer: Producer, tmp_path: Path
) -> None:
    """Change events, the table that they are of, and its copy in another database of the same server: whose log is read
    is told by the slot, which is the first database's alone. The look says yes of each pair."""
    schema = f"shop{uuid4().hex[:8]}"
    name, topic = f"{schema}.orders", f"app.{schema}.orders"
    server.create_topics(broker, {topic: 1})
    postgres.create_database(database, schema)
    copy = f"{database.rpartition('/')[0]}/{schema}"
    source = {"db": "any", "schema": schema, "table": "orders", "lsn": 1}
    for change in range(3):
        for n in range(CHANGED):
            row = {
                "id": n,
                "status": ("placed", "paid", "sent")[change],
                "total": f"{n}.{change}5",
                "version": change + 1,
            }
            row["at"] = datetime.fromtimestamp(START_S + 100 * change + n, UTC).isoformat()
            gone = change == 2 and n < 5
            held = {"before": {**row, "version": 0}, "after": None} if gone else {"before": None, "after": row}
            key = json.dumps({"payload": {"id": n}})
            producer.produce(
                topic, json.dumps({"payload": {"op": "d" if gone else "u", **held, "source": source}}), key
            )
            if gone:
                producer.produce(topic, None, key)
    assert producer.flush(30) == 0
    for where in (dsn, copy):
        with psycopg.connect(where) as own:
            own.execute(f"CREATE SCHEMA {schema}")
            own.execute(
                f"CREATE TABLE {name} (id bigint PRIMARY KEY, status text, total numeric(12, 2), version int, "
                "at timestamptz)"
            )
            own.execute(
                f"INSERT INTO {name} SELECT n, 'sent', n + 0.25, 3, to_timestamp({START_S} + 200 + n) "
                f"FROM generate_series(5, {CHANGED - 1}) AS n"
            )
    with psycopg.connect(dsn, autocommit=True) as own:
        own.execute(f"SELECT pg_create_logical_replication_slot('{schema}', 'pgoutput')")
    try:
        page = text_of(looked(Asked(kafka=broker, postgres=(copy, dsn)), "shop", lambda line: None))
        (tmp_path / "gameday.toml").write_text(page.text)
        told = {row["what"]: row["ok"] for row in look_again(page, tmp_path / "gameday.toml")}
    finally:
        with psycopg.connect(dsn, autocommit=True) as own:
            own.execute(f"SELECT pg_drop_replication_slot('{schema}')")
    raw = tomllib.loads(page.text)
    (stream,) = [one for one in raw["streams"].values() if one.get("version")]
    before, log, after = stream["hops"]
    assert (stream["key"], stream["version"], stream["time"]) == (["id"], "version", "at")
    assert (raw["hops"][log]["format"], raw["hops"][log]["fields"]) == ("debezium", {"id": "$key.id"})
    assert raw["hops"][before]["dsn"].endswith(dsn.rpartition("/")[2])
    assert (raw["hops"][before]["kind"], raw["hops"][after]["kind"]) == ("state", "state")
    assert raw["hops"][after]["dsn"].endswith(f"/{schema}")
    assert raw["cursors"][schema]["slot"] == schema
    assert told[f"look from {before} to {log}"] is told[f"look from {log} to {after}"] is True, told


# ---- servers that don't help -----------------------------------------------------------------------------------------


def test_servers_that_hang_or_refuse_are_said_and_the_rest_goes_on(warehouse: str, tmp_path: Path) -> None:
    """Each within its bound, by its name."""
    query(warehouse, "CREATE TABLE IF NOT EXISTS alone (id UInt64) ENGINE = MergeTree ORDER BY id")
    began = time.monotonic()
    with silent() as port:
        hanging = f"127.0.0.1:{port}"
        asked = Asked(
            kafka=hanging,
            clickhouse=warehouse,
            postgres=("postgresql://127.0.0.1:1/none",),
            prometheus=f"http://{hanging}",
        )
        seen = looked(asked, "shop", lambda line: None)
    assert time.monotonic() - began < 60
    assert seen.broker is None
    assert [store.driver for store in seen.stores] == ["clickhouse"]
    told = " ".join(seen.troubles)
    for place in (f"brokers {hanging}", "Postgres at 127.0.0.1:1", f"Prometheus at http://{hanging}"):
        assert place in told
    page = text_of(seen)
    assert tomllib.loads(page.text)["name"] == "shop"
    assert f"# Not looked at: brokers {hanging}" in page.text


def test_a_user_without_rights_is_told_which_tables_are_not_his(dsn: str) -> None:
    """The others are read."""
    who = f"poor_{uuid4().hex}"
    with psycopg.connect(dsn) as own:
        own.execute("CREATE TABLE secret (id int)")
        own.execute("CREATE TABLE open (id int)")
        own.execute("INSERT INTO open VALUES (1)")
        own.execute(f"CREATE ROLE {who} LOGIN PASSWORD 'x'")
        own.execute(f"GRANT SELECT ON open TO {who}")
    poor = f"postgresql://{who}:x@{dsn.rpartition('@')[2]}"
    seen = looked(Asked(postgres=(poor,)), "shop", lambda line: None)
    assert seen.troubles == ["Postgres: no right to SELECT from public.secret"]
    assert [table.name for table in seen.stores[0].tables] == ["public.open"]


def test_the_command_overwrites_nothing_unasked(tmp_path: Path) -> None:
    """Without a terminal it refuses, whatever else is wrong; and where nothing is found nothing is written."""
    path = tmp_path / "gameday.toml"
    path.write_text("mine = 1\n")

    def init(*more: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / "gameday"), "--config", str(path), "init", *more]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    done = init("--kafka", "127.0.0.1:1")
    assert (done.returncode, path.read_text()) == (2, "mine = 1\n")
    assert "is there already" in done.stderr
    path.unlink()
    done = init("--kafka", "127.0.0.1:1")
    assert done.returncode == 3
    assert "nothing was found to write about" in done.stderr
    assert not path.exists()
