"""What the alerts of the CDC platform are judged by, from a real broker and a real Postgres: source and target are two
databases of it, and Connect is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka import Producer

from compose.cdc.processes import RULES
from compose.ports import free_ports
from compose.servers import kafka, postgres
from compose.service import python
from gameday.system.polling import until
from pipelines.cdc import schema
from tests.contract.conftest import serving
from tests.contract.test_alert_rules import NAME, OURS, kinds, told

pytestmark = pytest.mark.suite("cdc")

WITHIN_S = 30.0
TOPIC, SLOT = "exported.public.orders", "exported"
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def source(database: str) -> Iterator[str]:
    """The DSN of a source with a slot, for which it keeps 64 MB of its log."""
    dsn = made(database, "source")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        connection.execute("SELECT pg_reload_conf(), pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
        yield dsn
        dropped(connection)
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def target(database: str) -> str:
    """The DSN of a target."""
    return made(database, "target")


def made(database: str, which: str) -> str:
    postgres.create_database(database, f"exported_{which}")
    dsn = f"{database.rpartition('/')[0]}/exported_{which}"
    schema.apply(dsn, which)
    return dsn


def dropped(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [SLOT]
    )


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory, broker: str, source: str, target: str) -> Iterator[str]:
    """URL of the exporter's metrics; five messages are in the log, of which the target has three."""
    kafka.create_topics(broker, {TOPIC: 1})
    producer = Producer({"bootstrap.servers": broker, "broker.address.family": "v4"})
    for _ in range(5):
        producer.produce(TOPIC, b"x", partition=0)
    assert producer.flush(WITHIN_S) == 0
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("INSERT INTO cdc_position VALUES (%s, 0, 3)", [TOPIC])
    folder = tmp_path_factory.mktemp("exporter")
    (folder / "gameday.prom").write_text("gameday_night_completed_timestamp_seconds 1\n")
    (port,) = free_ports(1)
    arguments = (
        *("-m", "pipelines.cdc.exporter", "--port", str(port), "--connect", f"http://{NOWHERE}", "--connector", "cdc"),
        *("--slot", SLOT, "--brokers", broker, "--topics", TOPIC, "--textfiles", str(folder)),
    )
    env = {"SOURCE_URL": source, "TARGET_URL": target}
    ready = f"http://127.0.0.1:{port}/healthz"
    with serving(python("exporter", folder, *arguments, ready=ready, env=env)):
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: "broker_up" in told(url) and behind(url) is not None, WITHIN_S, what="a look at each part")
        yield url


def behind(url: str, what: str = "records") -> float | None:
    return told(url).get(f'target_behind_{what}{{topic="{TOPIC}"}}')


def test_it_tells_source_log_and_target(exporter: str) -> None:
    """The slot's state; how far the target's place is behind the log, in records and in seconds; what others left."""
    first = told(exporter)
    assert [first[f"{name}_up"] for name in ("source", "broker", "target", "connector")] == [1.0, 1.0, 1.0, 0.0]
    assert first["source_slot_lost"] == 0.0
    assert first["source_slot_retained_bytes"] > 0
    assert first["target_dead_letters"] == 0.0
    assert first["gameday_night_completed_timestamp_seconds"] == 1.0
    assert behind(exporter) == 2.0
    until(lambda: (behind(exporter, "seconds") or 0.0) > 2.0, WITHIN_S, what="the target to be behind")


def test_a_source_that_is_written_is_not_silent_and_a_log_that_is_not_is(exporter: str, source: str) -> None:
    """That is what tells a stalled capture from a source at rest, whatever Connect says."""
    until(lambda: told(exporter)["source_silent_seconds"] > 2.0, WITHIN_S, what="a source at rest")
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("INSERT INTO orders VALUES (1, 0, 1, NULL, 'new', 1, NULL, NULL, '{}', now())")
        until(lambda: told(exporter)["source_silent_seconds"] < 2.0, WITHIN_S, what="the write to be seen")
    assert told(exporter)["broker_silent_seconds"] > 2.0


def test_a_row_that_was_put_aside_is_told(exporter: str, target: str) -> None:
    """As a number that grows."""
    with psycopg.connect(target, autocommit=True) as connection:
        columns = "topic, partition, place, tbl, op, kind, message"
        connection.execute(
            f"INSERT INTO dead_letters ({columns}) VALUES ('t', 0, 1, 'orders', 'c', 'check', 'no')".encode()
        )
    until(lambda: told(exporter)["target_dead_letters"] == 1.0, WITHIN_S, what="the dead letter to be seen")


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a sink's metrics; neither its broker nor its target is there."""
    (port,) = free_ports(1)
    folder = tmp_path_factory.mktemp("sink")
    arguments = ("-m", "pipelines.cdc.sink", "--port", str(port), "--brokers", NOWHERE)
    env = {"TARGET_URL": f"postgresql://u:p@{NOWHERE}/d"}
    url = f"http://127.0.0.1:{port}/metrics"
    with serving(python("sink", folder, *arguments, ready=url, env=env)):
        yield url


def test_every_metric_that_the_rules_ask_for_is_told(exporter: str, sink: str) -> None:
    """A rule over a name that nobody tells is silent for ever. Of a connector that is not there no task is told."""
    strings = re.compile(r"\{[^}]*\}|by \([^)]*\)|\[[^\]]*\]")
    lines = [line.split("expr:", 1)[1] for line in RULES.read_text().splitlines() if "expr:" in line]
    wanted = {name for line in lines for name in NAME.findall(strings.sub("", line))}
    assert {"source_silent_seconds", "sink_running", "target_behind_seconds"} <= wanted
    tasks = {"connector_tasks_failed", "connector_tasks_running"}
    missing = {n for n in wanted - {"up", *kinds(exporter), *kinds(sink), *tasks} if not n.startswith(OURS)}
    assert not missing, f"nobody tells {sorted(missing)}"


def test_a_slot_that_is_gone_is_lost(exporter: str, source: str) -> None:
    """The last test of this file: it stays so."""
    with psycopg.connect(source, autocommit=True) as connection:
        dropped(connection)
    until(lambda: told(exporter)["source_slot_lost"] == 1.0, WITHIN_S, what="the slot's end to be seen")
