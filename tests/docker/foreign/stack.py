"""A shop's platform as its people have it, in containers: Kafka, ClickHouse with a queue and a view, a web tier that
knows of neither gameday nor this checkout's pipelines. Beside it, in a project of its own, what gameday needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compose.engine import Engine, host_image
from compose.servers import clickhouse, kafka, postgres, prefect
from compose.service import answers
from gameday.state import ROOT, State
from gameday.system.polling import until
from pipelines.trades.schema import query
from tests.docker.containers import in_container, service_in_container

__all__ = ["PASSWORD", "Foreign"]

PROJECT = "shop"
PASSWORD = "only-for-tests-of-a-shop"
KAFKA, CLICKHOUSE, WEB = "apache/kafka:4.4.0", "clickhouse/clickhouse-server:26.9", "shop/web:1.7"
"""The names that a user's images have: what is in them are the machine's own programs."""

SCHEMA = Path(__file__).with_name("schema.sql")
EVERYWHERE = "0.0.0.0"
BROKERS = "127.0.0.1:9094"
PARTITIONS = 3
SERVES_WITHIN_S = 120.0
GAMEDAY = str(Path(sys.executable).with_name("gameday"))

CONFIG = """\
<clickhouse>
  <kafka><broker_address_family>v4</broker_address_family></kafka>
  <listen_host>0.0.0.0</listen_host>
  <http_port>8123</http_port>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
</clickhouse>
"""
"""ClickHouse's defaults: nobody told it that a test is waiting."""


@dataclass(frozen=True)
class Foreign:
    """engine: one that is up. folder: of this platform, which its containers see under the same name."""

    engine: Engine
    folder: Path

    @property
    def warehouse(self) -> str:
        return clickhouse.url(8123, PASSWORD)

    @property
    def env(self) -> Mapping[str, str]:
        """What the user exports, by what `gameday init` says; and where the engine is."""
        return {
            **self.engine.env,
            "GAMEDAY_STATE": str(self.folder / "gameday"),
            "CLICKHOUSE_PASSWORD": PASSWORD,
            "GAMEDAY_PG_PASSWORD": PASSWORD,
            "COLUMNS": "120",
        }

    def up(self) -> None:
        """Start everything, and return when the shop's table fills."""
        for name in (KAFKA, CLICKHOUSE, WEB, "gameday-own"):
            host_image(self.engine, name)
        kafka.get(print)
        self._write("own", self._own())
        self._write(PROJECT, self._shop())
        self._compose("own", "up", "--detach", "--no-build", "--pull", "never")
        self._compose(PROJECT, "up", "--detach", "--no-build", "--pull", "never")
        done = self.run(sys.executable, "-m", "tests.docker.foreign.stack", str(self.folder), within_s=240)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def down(self) -> None:
        """Remove containers and networks, and what root's Postgres keeps elsewhere."""
        try:
            for name in (PROJECT, "own"):
                self._compose(name, "down", "--timeout", "2")
        finally:
            postgres.remove(State(self.folder))

    def gameday(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        return self.run(GAMEDAY, *arguments, within_s=within_s)

    def run(self, *command: str, within_s: float) -> subprocess.CompletedProcess[str]:
        """Where the published ports are."""
        return subprocess.run(
            self.engine.at(*command),
            cwd=self.folder,
            env={**os.environ, **self.env, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def run_sql(self, statement: str) -> None:
        """What the shop's people tell their warehouse."""
        command = ("-c", "import sys; from pipelines.trades.schema import query; query(*sys.argv[1:])")
        done = self.run(sys.executable, *command, self.warehouse, statement, within_s=60)
        assert done.returncode == 0, done.stderr

    @property
    def view(self) -> str:
        """The query of the view that fills the table."""
        return "SELECT" + SCHEMA.read_text().rpartition(" AS\nSELECT")[2].rstrip(";\n")

    def prepare(self) -> None:
        """What the shop's people have done once, and gameday's; run where the published ports are."""
        server = postgres.url(5432, "gameday", PASSWORD, "postgres")
        for url in (server, f"kafka://{BROKERS}", "http://127.0.0.1:8123/ping"):
            until(partial(answers, url, 2.0), SERVES_WITHIN_S, 0.5, url.rpartition("@")[2])
        for name in ("gameday", "prefect"):
            postgres.create_database(server, name)
        kafka.create_topics(BROKERS, {"user_activity": PARTITIONS})
        for statement in filter(str.strip, SCHEMA.read_text().partition("\n")[2].split(";")):
            query(self.warehouse, statement)

        def fills() -> bool:
            return int(query(self.warehouse, "SELECT count() FROM analytics.activity")) > 0

        until(fills, SERVES_WITHIN_S, 0.5, "the first row of the shop's table")
        until(lambda: answers("http://127.0.0.1:4200/api/health", 2.0), SERVES_WITHIN_S, 0.5, "gameday's Prefect")

    # ---- the compose files -------------------------------------------------------------------------------------------

    def _write(self, name: str, services: Mapping[str, Any]) -> None:
        text = json.dumps({"name": name, "services": services}, indent=1)
        (self.folder / f"{name}.json").write_text(text)

    def _compose(self, name: str, *arguments: str) -> None:
        self.engine.docker("compose", "--file", str(self.folder / f"{name}.json"), *arguments)

    def _shop(self) -> Mapping[str, Any]:
        listeners = (
            kafka.Listener("DIRECT", 9092, 9092, "kafka"),
            kafka.Listener("EXTERNAL", 9094, 9094, "127.0.0.1"),
        )
        broker = kafka.process(self.folder / "kafka", listeners, 9093, PROJECT, listen=EVERYWHERE)
        store = clickhouse.process(self.folder / "clickhouse", 8123, PASSWORD, listen=EVERYWHERE)
        (self.folder / "clickhouse" / "config.xml").write_text(CONFIG)
        web = [sys.executable, "-m", "tests.docker.foreign.producer"]
        return {
            "kafka": service_in_container(KAFKA, broker, (self.folder,), (9094,)),
            "clickhouse": service_in_container(CLICKHOUSE, store, (self.folder,), (8123,)),
            "web": in_container(WEB, web, {"PYTHONPATH": str(ROOT)}),
        }

    def _own(self) -> Mapping[str, Any]:
        state = State(self.folder).ensure()
        postgres.get(state, print)
        database = postgres.process(state, "gameday-postgres", 5432, "gameday", PASSWORD)
        url = postgres.url(5432, "gameday", PASSWORD, "prefect")
        server = prefect.server(self.folder / "prefect-server", 4200, url, PASSWORD, after=())
        asks_nobody = {name: value for name, value in server.env.items() if "AUTH_STRING" not in name}
        server = replace(server, env=asks_nobody)
        folders = (self.folder, postgres.home(state))
        services = {
            service.name: service_in_container("gameday-own", service, folders) for service in (database, server)
        }
        return {name: {**one, "network_mode": "host"} for name, one in services.items()}


if __name__ == "__main__":
    Foreign(Engine(Path(sys.argv[1]).parent / "engine"), Path(sys.argv[1])).prepare()
