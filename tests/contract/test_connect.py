"""Kafka Connect with Debezium, for real: its probe tells a task that has failed, and init what its connectors do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from compose.ports import free_ports
from compose.servers import connect as server
from compose.servers import postgres
from gameday.drivers.connect import Probe
from gameday.errors import DriverError, GamedayError
from gameday.system.polling import until
from tasks.init import Asked, looked, text_of
from tasks.inventory import connect as inventory
from tests.contract.conftest import serving

NAME = "orders-source"
ROLE, PASSWORD = "copier", "p4ss-of-the-copier"
RUNS_WITHIN_S = 60.0
READ_S = 5.0


@dataclass(frozen=True)
class Copied:
    """url: Connect's. dsn: of the database that it copies. topic: where to."""

    url: str
    dsn: str
    broker: str
    topic: str

    def copied(self) -> int:
        """How many changes are in the topic."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": "none", "log_level": 0})
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=READ_S)
        except KafkaException:
            return 0  # there is no topic yet
        finally:
            consumer.close()
        return int(end)

    def runs(self) -> bool:
        try:
            return Probe(self.url, NAME, READ_S).read() == {"": 1.0, ".tasks": 1.0}
        except DriverError:
            return False


@pytest.fixture(scope="module")
def copied(broker: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copied]:
    """A table of three rows, and a connector that copies it."""
    server.get(lambda _: None)
    postgres.create_database(database, "copied")
    dsn = f"{database.rpartition('/')[0]}/copied"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text)")
        connection.execute("INSERT INTO orders SELECT n, 'first' FROM generate_series(1, 3) AS n")
        connection.execute(f"CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{PASSWORD}'".encode())
    (port,) = free_ports(1)
    with serving(server.process(tmp_path_factory.mktemp("connect"), port, broker, "copying")):
        made = Copied(f"http://127.0.0.1:{port}", dsn, broker, "shop.public.orders")
        server.deploy(made.url, NAME, settings(dsn))
        until(made.runs, RUNS_WITHIN_S, 0.2, "the connector to run")
        yield made
    with psycopg.connect(database, autocommit=True) as connection:
        until(lambda: _dropped(connection), RUNS_WITHIN_S, 0.2, "the slot to be dropped")


def _dropped(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
    return connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'orders'").fetchone() is None


def settings(dsn: str, password: str = PASSWORD) -> dict[str, str]:
    where = urlsplit(dsn)
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": str(where.port),
        "database.user": ROLE,
        "database.password": password,
        "database.dbname": unquote(where.path.lstrip("/")),
        "topic.prefix": "shop",
        "plugin.name": "pgoutput",
        "slot.name": "orders",
        "publication.autocreate.mode": "filtered",
        "table.include.list": "public.orders",
        "poll.interval.ms": "20",
        "retriable.restart.connector.wait.ms": "500",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    }


def test_changes_come_through(copied: Copied) -> None:
    """The snapshot's rows, then each change; exactly-once tasks leave markers between them."""
    until(lambda: copied.copied() >= 3, RUNS_WITHIN_S, 0.2, "the snapshot")
    before = copied.copied()
    with psycopg.connect(copied.dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO orders VALUES (4, 'next')")
    until(lambda: copied.copied() > before, RUNS_WITHIN_S, 0.2, "the change")


def test_init_tells_what_a_connector_does_and_no_password(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class, what it copies to where, and a probe for it."""
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    text = text_of(looked(Asked(kafka=copied.broker, connect=copied.url), "shop", lambda line: None)).text
    told = " ".join(line.removeprefix("# ") for line in text.splitlines())
    copies = "table.include.list = public.orders; slot.name = orders"
    where = "topic.prefix = shop; database.hostname = 127.0.0.1; database.dbname = copied"
    assert f"{NAME}: a source, PostgresConnector: {where}; {copies}" in told
    probe = f'{{ driver = "connect", url = "{copied.url}", connector = "{NAME}", rate_hz = 2 }}'
    assert f"probes.{NAME} = {probe}" in text
    assert PASSWORD not in text


def test_a_connector_that_connect_takes_not_is_said_in_its_words(copied: Copied) -> None:
    """Such as a login that is refused; the one that runs goes on."""
    with pytest.raises(GamedayError, match=r"connector other: .* answered 400: .*password authentication failed"):
        server.deploy(copied.url, "other", settings(copied.dsn, "wrong"))
    assert copied.runs()


def test_who_is_not_there_is_said(copied: Copied) -> None:
    """A name that it doesn't know; a port where nobody is."""
    with pytest.raises(DriverError, match="has no connector elsewhere"):
        Probe(copied.url, "elsewhere", READ_S).read()
    with pytest.raises(DriverError, match="refused"):
        Probe("http://127.0.0.1:1", NAME, READ_S).read()


def test_a_failed_task_is_told_though_the_server_answers(copied: Copied) -> None:
    """Its password is another one now: Debezium gives up, Connect answers 200 and restarts nothing. The last test of
    this file: the task stays as it is."""
    with psycopg.connect(copied.dsn, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {ROLE} PASSWORD 'another'".encode())
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ROLE])
    until(lambda: not copied.runs(), RUNS_WITHIN_S, 0.2, "the task to fail")
    with pytest.raises(DriverError, match=r"task 0 is FAILED: .*Connect does not restart it\. Remedy: POST "):
        Probe(copied.url, NAME, READ_S).read()
    _, troubles = inventory.connect(copied.url)
    assert troubles == [f"connector {NAME} is RUNNING, its tasks FAILED: gameday begins no test on it"]
