"""Workload, Debezium and sink for real: what arrives is what the tape says, wherever Connect or the source is struck.

One Connect for all tests of this file: it takes ten seconds to start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from compose.ports import free_ports
from compose.servers import connect as server
from compose.servers import kafka, postgres
from compose.service import Service
from gameday.model import Verdict
from gameday.system.http import ask
from gameday.system.polling import until
from pipelines.cdc import schema
from pipelines.cdc.connect_watch import Watch
from pipelines.cdc.messages import decode
from pipelines.cdc.tape import TABLES
from tasks import states
from tests.contract.cdc.debezium import Log, envelope
from tests.contract.cdc.judging import Judge, judge
from tests.contract.cdc.rig import Process, until_done
from tests.contract.conftest import PASSWORD, serving

pytestmark = pytest.mark.suite("cdc")

PREFIX, SLOT, NAME = "captured", "captured", "source"
RUNS_WITHIN_S = 90.0


def settings(dsn: str) -> dict[str, str]:
    where = urlsplit(dsn)
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": str(where.port),
        "database.user": schema.ROLE,
        "database.password": PASSWORD,
        "database.dbname": unquote(where.path.lstrip("/")),
        "topic.prefix": PREFIX,
        "plugin.name": "pgoutput",
        "slot.name": SLOT,
        "publication.name": "cdc",
        "publication.autocreate.mode": "disabled",
        "table.include.list": "public.customers,public.orders,public.items,public.debezium_signal",
        "signal.data.collection": "public.debezium_signal",
        "decimal.handling.mode": "string",
        "time.precision.mode": "adaptive_time_microseconds",
        "skipped.operations": "none",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": f"{PREFIX}-notes",
        "heartbeat.interval.ms": "1000",
        "lsn.flush.mode": "connector_and_driver",
        "poll.interval.ms": "20",
        "retriable.restart.connector.wait.ms": "500",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    }


@dataclass
class Captured:
    """The platform without links. source, target: addresses."""

    source: str
    target: str
    log: Log
    url: str
    connect: Service
    workload: Process
    sink: Process
    judged: Judge
    running: subprocess.Popen[bytes] | None = None

    def failed(self) -> bool:
        """Whether a task has."""
        told = ask("GET", f"{self.url}/connectors/{NAME}/status", 30)
        return told.status == HTTPStatus.OK and '"FAILED"' in told.body.decode()

    def settled(self) -> None:
        """Until the target shows what the tape has now; nothing more begins for a minute."""
        self.workload.ask("/hold", {"s": 60})
        self.shows(self.workload.ask("/tape")[1]["heads"])

    def flows(self) -> None:
        """Until something new arrives."""
        self.workload.ask("/hold", {"s": 0})
        j = self.workload.ask("/tape")[1]["shards"]["0"]["begun"]
        until_done(self.workload, "0", j + 2)
        self.shows(self.workload.ask("/tape")[1]["heads"])

    def shows(self, heads: dict[str, dict[str, int]]) -> None:
        def passed() -> bool:
            with psycopg.connect(self.target) as connection:
                rows = connection.execute("SELECT tbl, shard::text, change FROM heads").fetchall()
            known = {(table, shard): number for table, shard, number in rows}
            return all(known.get((t, s), 0) >= n for t, of in heads.items() for s, n in of.items())

        until(passed, RUNS_WITHIN_S, 0.2, f"the target to show {heads} (sink: {self.sink.ask('/healthz')})")


@pytest.fixture(scope="module")
def captured(database: str, tmp_path_factory: pytest.TempPathFactory, broker: str) -> Iterator[Captured]:
    server.get(lambda _: None)
    folder: Path = tmp_path_factory.mktemp("cdc")
    base = database.rpartition("/")[0]
    for name in ("captured_source", "captured_target"):
        postgres.create_database(database, name)
    source, target = f"{base}/captured_source", f"{base}/captured_target"
    schema.apply(source, "source")
    schema.grant(source, PASSWORD)
    schema.apply(target, "target")
    log = Log.__new__(Log)
    log.prefix, log.broker = PREFIX, broker
    kafka.create_topics(broker, {**{f"{PREFIX}.public.{table}": 1 for table in TABLES}, f"{PREFIX}-notes": 1})
    (port,) = free_ports(1)
    service = server.process(folder / "connect", port, broker, "cdc")
    workload = Process("workload", folder, {"SOURCE_URL": source}, "--state", str(folder / "tape"), "--rate", "10")
    sink = Process("sink", folder, {"TARGET_URL": target}, "--brokers", broker, "--prefix", PREFIX)
    with serving(service) as running, workload.running(), sink.running():
        url = f"http://127.0.0.1:{port}"
        server.deploy(url, NAME, settings(source))
        judged = judge(folder, log, target, f"http://127.0.0.1:{workload.port}")
        made = Captured(source, target, log, url, service, workload, sink, judged, running)
        until(lambda: active(source), RUNS_WITHIN_S, 0.2, "the slot to be active")
        made.flows()
        yield made


def active(source: str) -> bool:
    with psycopg.connect(source) as connection:
        row = connection.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [SLOT]).fetchone()
    return bool(row and row[0])


def test_what_arrives_is_what_the_tape_says(captured: Captured) -> None:
    """Topic and target, with the traffic on, and after rows were deleted."""
    until_done(captured.workload, "0", 215)
    captured.flows()
    live = captured.judged.stack.streams["rows"]
    compared, listed = states.compared(live.stream, live.hops, {}, lambda _, ask: ask(), {})
    assert listed == {}
    assert [one.hop for one in compared] == ["topic", "target"]
    assert sum(delta.keys for delta in compared[1].groups.values()) > 500


def test_debezium_writes_what_the_tests_of_the_sink_are_fed(captured: Captured) -> None:
    """The same fields of envelope and source, the same types of columns, and large notes that were not sent."""
    consumer = Consumer({"bootstrap.servers": captured.log.broker, "group.id": "none", "log_level": 0})
    seen: dict[str, Any] = {}
    unsent = 0
    try:
        consumer.assign([TopicPartition(f"{PREFIX}.public.items", 0, 0)])
        for message in consumer.consume(3000, 10):
            value = message.value()
            if message.error() is None and value is not None:
                told = orjson.loads(value)
                seen[told["payload"]["op"]] = told
                event = decode(("cdc.public.items", 0, 0), message.key(), value)
                unsent += event is not None and "note" in event.unsent
    finally:
        consumer.close()
    assert unsent > 0
    mine = orjson.loads(envelope("items", "u", None, seen["u"]["payload"]["after"], 7))
    assert mine["payload"].keys() <= seen["u"]["payload"].keys()
    assert mine["payload"]["source"].keys() <= seen["u"]["payload"]["source"].keys()

    def types(whole: Any) -> dict[str, tuple[str, str | None]]:
        rows = next(one for one in whole["schema"]["fields"] if one["field"] == "after")
        return {one["field"]: (one["type"], one.get("name")) for one in rows["fields"]}

    assert types(mine) == types(seen["u"])
    assert {"id", "shard", "change"} <= seen["d"]["payload"]["before"].keys()


def test_a_shape_that_changes_loses_no_value(captured: Captured) -> None:
    """Added in the middle of a transaction, then renamed, with the traffic on."""
    for kind in ("mid_transaction", "rename", "drop"):
        captured.workload.ask("/hold", {"s": 0})
        told = captured.workload.ask("/schema", {"kind": kind})[1]
        until_done(captured.workload, "1", told["j"]["1"] + 12)
    captured.settled()
    assert set(captured.judged.verdicts().values()) == {Verdict.PASS}


def test_a_failed_task_is_restarted_unless_its_slot_is_lost(captured: Captured) -> None:
    """The last test of this file: the connector is left without its slot."""
    captured.flows()
    watch = Watch(captured.url, NAME, captured.source, SLOT)
    assert watch.look() == "well"
    with psycopg.connect(captured.source, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {schema.ROLE} PASSWORD 'another'".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'connect'")
        until(lambda: watch.look() == "restarted", RUNS_WITHIN_S, 0.5, "the task to fail, and to be restarted")
        schema.grant(captured.source, PASSWORD)
        until(lambda: watch.look() == "well" and active(captured.source), RUNS_WITHIN_S, 0.5, "the task to run again")
        captured.flows()
        assert ask("PUT", f"{captured.url}/connectors/{NAME}/stop", 30).status < HTTPStatus.BAD_REQUEST
        until(lambda: not active(captured.source), RUNS_WITHIN_S, 0.1, "the slot to be let go")
        connection.execute("SELECT pg_drop_replication_slot(%s)", [SLOT])
        assert ask("PUT", f"{captured.url}/connectors/{NAME}/resume", 30).status < HTTPStatus.BAD_REQUEST
        until(captured.failed, RUNS_WITHIN_S, 0.5, "the task to fail")
    assert watch.look() == "lost"
    assert captured.failed()
