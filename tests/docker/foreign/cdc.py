"""A bookshop's platform: what its till changes in one Postgres, Debezium in Kafka Connect puts on a topic, and a copier
carries out in another Postgres. Nothing of it is made for gameday."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from compose.servers import connect, kafka, postgres
from compose.service import answers
from gameday.state import ROOT, State
from gameday.system.polling import until
from tests.docker.containers import in_container, service_in_container
from tests.docker.foreign.platform import EVERYWHERE, PASSWORD, SERVES_WITHIN_S, Platform

__all__ = ["Bookshop"]

KAFKA, CONNECT, POSTGRES = "apache/kafka:4.4.0", "debezium/connect:3.7", "postgres:18"
TILL, COPIER = "bookshop/till:1.0", "bookshop/copier:2.3"
SCHEMA = Path(__file__).with_name("orders.sql")
BROKERS, REST = "127.0.0.1:9094", "http://127.0.0.1:8083"
PORTS = {"shop-db": 5432, "reports-db": 5433}
"""Of the two databases, as they are published; each listens at 5432."""

CONNECTOR = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "tasks.max": "1",
    "database.hostname": "shop-db",
    "database.port": "5432",
    "database.user": "bookshop",
    "database.password": PASSWORD,
    "database.dbname": "bookshop",
    "topic.prefix": "shop",
    "plugin.name": "pgoutput",
    "publication.autocreate.mode": "filtered",
    "table.include.list": "public.orders",
    "topic.creation.default.replication.factor": "1",
    "topic.creation.default.partitions": "1",
}


@dataclass(frozen=True)
class Bookshop(Platform):
    """Postgres -> Debezium -> Kafka -> Postgres; rows are changed and deleted."""

    project: ClassVar[str] = "bookshop"
    images: ClassVar[Sequence[str]] = (KAFKA, CONNECT, POSTGRES, TILL, COPIER)
    exported: ClassVar[Mapping[str, str]] = {"SHOP_DB_PASSWORD": PASSWORD, "REPORTS_DB_PASSWORD": PASSWORD}

    def database(self, service: str) -> str:
        """Where it is reached from here."""
        return postgres.url(PORTS[service], "bookshop", PASSWORD, "bookshop")

    def run_sql(self, statement: str) -> None:
        """What the shop's people do to the copy."""
        code = "import psycopg, sys; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2])"
        self.python(code, self.database("reports-db"), statement)

    def prepare(self) -> None:
        for service, port in PORTS.items():
            server = postgres.url(port, "bookshop", PASSWORD, "postgres")
            until(partial(answers, server, 2.0), SERVES_WITHIN_S, 0.5, service)
            postgres.create_database(server, "bookshop")
            with psycopg.connect(self.database(service), autocommit=True) as connection:
                connection.execute(SCHEMA.read_bytes())
        for url in (f"kafka://{BROKERS}", f"{REST}/connectors"):
            until(partial(answers, url, 2.0), SERVES_WITHIN_S, 0.5, url)
        connect.deploy(REST, "orders", CONNECTOR)
        with psycopg.connect(self.database("reports-db"), autocommit=True) as copy:
            until(
                lambda: copy.execute("SELECT count(*) FROM orders").fetchone() != (0,),
                SERVES_WITHIN_S,
                0.5,
                "the first row of the copy",
            )

    def services(self) -> Mapping[str, Any]:
        kafka.get(print)
        connect.get(print)
        state = State(self.folder).ensure()
        postgres.get(state, print)
        listeners = (
            kafka.Listener("DIRECT", 9092, 9092, "kafka"),
            kafka.Listener("EXTERNAL", 9094, 9094, "127.0.0.1"),
        )
        broker = kafka.process(self.folder / "kafka", listeners, 9093, self.project, listen=EVERYWHERE)
        worker = connect.process(self.folder / "connect", 8083, "kafka:9092", "bookshop-connect", listen=EVERYWHERE)
        mine = (self.folder,)
        inside = {service: f"postgresql://bookshop:{PASSWORD}@{service}:5432/bookshop" for service in PORTS}
        return {
            **{service: self._database(state, service, port) for service, port in PORTS.items()},
            "kafka": service_in_container(KAFKA, broker, mine, (9094,)),
            "connect": service_in_container(CONNECT, worker, mine, (8083,)),
            "till": self._program(TILL, "till", inside["shop-db"]),
            "copier": {**self._program(COPIER, "copier", inside["reports-db"]), "labels": {"gameday.opt-in": "true"}},
        }

    def _database(self, state: State, service: str, port: int) -> Mapping[str, Any]:
        server = postgres.process(state, service, 5432, "bookshop", PASSWORD, listen=EVERYWHERE)
        made = service_in_container(POSTGRES, server, (self.folder, postgres.home(state)))
        return {**made, "ports": [f"127.0.0.1:{port}:5432"]}

    def _program(self, image: str, name: str, database: str) -> Mapping[str, Any]:
        return in_container(
            image, [sys.executable, "-m", f"tests.docker.foreign.{name}", database], {"PYTHONPATH": str(ROOT)}
        )


if __name__ == "__main__":
    Bookshop.main(sys.argv[1])
