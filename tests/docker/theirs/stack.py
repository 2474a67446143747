"""A team's platform as containers, with the names, the network and the addresses that its compose file has: servers of
the embedded stack in place of Redpanda, MinIO and Spark, in images of nothing but the machine's own programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compose.engine import Engine, host_image
from compose.servers import clickhouse, kafka, postgres, prefect, seaweedfs
from compose.service import Service
from gameday.state import ROOT, State
from tests.docker.containers import in_container, service_in_container

__all__ = ["PASSWORD", "Theirs"]

PROJECT = "k2-market-data-platform"
PASSWORD = "only-for-tests-of-theirs"
IMAGE = "theirs:test"
EVERYWHERE = "0.0.0.0"
USER = "nobody"
SYMBOLS = {
    "binance": ("BTCUSDT", "ETHUSDT"),
    "kraken": ("BTC/USD", "ETH/USD"),
    "coinbase": ("BTC-USD", "ETH-USD"),
}
PREPARE_WITHIN_S = 300.0
POOL_WORKER = ("-m", "prefect", "worker", "start", "--pool", "iceberg-offload", "--type", "process", "--name", "theirs")
"""It waits for its pool."""


@dataclass(frozen=True)
class Theirs:
    """engine: one that is up. folder: of this stack, which its containers see under the same name."""

    engine: Engine
    folder: Path

    @property
    def env(self) -> Mapping[str, str]:
        """What the team exports for gameday.toml, beside this file."""
        database = f"prefect:{PASSWORD}@127.0.0.1:5432"
        return {
            **self.engine.env,
            "GAMEDAY_CONFIG": str(ROOT / "tests" / "docker" / "theirs" / "gameday.toml"),
            "GAMEDAY_STATE": str(self.folder / "gameday"),
            "GAMEDAY_HISTORY": f"postgresql://{database}/gameday",
            "GAMEDAY_PREFECT": "http://127.0.0.1:4200/api",
            "GAMEDAY_PREFECT_PASSWORD": "none, for the team's own server asks nobody",
            "PREFECT_API_URL": "http://127.0.0.1:4200/api",
            "PREFECT_HOME": str(self.folder / "prefect-client"),
            "K2_BROKER": "127.0.0.1:19092",
            "K2_CLICKHOUSE": "127.0.0.1:8123",
            "K2_CLICKHOUSE_URL": f"http://gameday:{PASSWORD}@127.0.0.1:8123",
            "K2_MINIO": "127.0.0.1:9000",
            "K2_MINIO_HEALTH": "http://127.0.0.1:9000/healthz",
            "K2_MINIO_USER": "admin",
            "K2_MINIO_PASSWORD": PASSWORD,
            "K2_PREFECT": "127.0.0.1:4200",
            "K2_POSTGRES": f"postgresql://{database}/prefect",
            "K2_CATALOG_TYPE": "sql",
            "K2_CATALOG": f"postgresql+psycopg://{database}/lake",
            "K2_WAREHOUSE": "s3://k2-data/warehouse",
        }

    def up(self) -> None:
        """Start everything, and return when the team's own preparations are done."""
        host_image(self.engine, IMAGE)
        kafka.get(print)
        self.write()
        self.compose("up", "--detach", "--no-build", "--pull", "never")
        self.run("-m", "tests.docker.theirs.prepare", within_s=PREPARE_WITHIN_S)

    def down(self) -> None:
        """Remove containers and network, and what root's Postgres keeps elsewhere."""
        try:
            self.compose("down", "--timeout", "2")
        finally:
            postgres.remove(State(self.folder))

    def write(self, **engine: str) -> None:
        """The compose file. engine: more in the environment of the container that does the offload's work."""
        text = json.dumps(self._compose(engine), indent=1)
        (self.folder / "docker-compose.json").write_text(text)

    def compose(self, *arguments: str) -> None:
        file = str(self.folder / "docker-compose.json")
        self.engine.docker("compose", "--file", file, *arguments)

    def run(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        """The checkout's Python where the published ports are, with the team's environment. Raises when it fails."""
        return self.gameday(sys.executable, *arguments, within_s=within_s, check=True)

    def gameday(self, *command: str, within_s: float, check: bool = False) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            self.engine.at(*command), cwd=ROOT, env=env, capture_output=True, text=True, timeout=within_s, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done

    # ---- the compose file --------------------------------------------------------------------------------------------

    def _compose(self, engine: Mapping[str, str]) -> dict[str, Any]:
        ports = {
            f"{part}{kind}": 9001 + 10 * n + len(kind)
            for n, part in enumerate(seaweedfs.PARTS)
            for kind in ("", ".grpc")
        }
        ports["s3"] = 9000
        state = State(self.folder).ensure()
        postgres.get(state, print)
        database = postgres.process(state, "prefect-db", 5432, "prefect", PASSWORD, listen=EVERYWHERE)
        listeners = (
            kafka.Listener("DIRECT", 9092, 9092, "redpanda"),
            kafka.Listener("EXTERNAL", 19092, 19092, "127.0.0.1"),
        )
        inside = f"postgresql://prefect:{PASSWORD}@prefect-db:5432"
        python: Mapping[str, str] = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        theirs = {
            "PREFECT_API_URL": "http://prefect-server:4200/api",
            "PREFECT_HOME": str(self.folder / "prefect-worker"),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        lake = {
            "K2_CATALOG": f"postgresql+psycopg://prefect:{PASSWORD}@prefect-db:5432/lake",
            "K2_WAREHOUSE": "s3://k2-data/warehouse",
            "K2_MINIO": "minio:9000",
            "K2_MINIO_USER": "admin",
            "K2_MINIO_PASSWORD": PASSWORD,
            "WATERMARK_DSN": f"{inside}/prefect",
            "CLICKHOUSE_PASSWORD": PASSWORD,
        }
        server = prefect.server(self.folder / "prefect-server", 4200, f"{inside}/prefect", PASSWORD, after=())
        open_to_all = {name: value for name, value in server.env.items() if not name.endswith("_AUTH_STRING")}
        server_argv = [EVERYWHERE if part == "127.0.0.1" else part for part in server.argv]
        store = seaweedfs.process(self.folder / "minio", ports, "k2-data", PASSWORD, PASSWORD, listen=EVERYWHERE)
        services = {
            "redpanda": self._service(
                kafka.process(self.folder / "redpanda", listeners, 9093, "theirs", listen=EVERYWHERE), 10, (9092, 19092)
            ),
            "clickhouse": self._service(
                clickhouse.process(self.folder / "clickhouse", 8123, PASSWORD, listen=EVERYWHERE), 20, (8123,)
            ),
            "minio": self._service(store, 21, (9000,)),
            "prefect-db": self._service(database, 30, (5432,)),
            "prefect-server": self._container(server_argv, open_to_all, 31, (4200,)),
            "prefect-worker": self._container([sys.executable, *POOL_WORKER], {**python, **theirs}, 32),
            "spark-iceberg": self._container(
                [sys.executable, "-m", "tests.docker.theirs.engine"], {**python, **lake, **engine}, 40
            ),
            **{
                f"feed-handler-{venue}": self._container(
                    [sys.executable, "-m", "tests.docker.theirs.feed_handler", venue, *symbols], python, 50 + n
                )
                for n, (venue, symbols) in enumerate(SYMBOLS.items())
            },
        }
        for name, service in services.items():
            service |= {"container_name": f"k2-{name}", "hostname": name}
        subnet = {"driver": "bridge", "ipam": {"config": [{"subnet": "172.28.0.0/16"}]}}
        return {"name": PROJECT, "services": services, "networks": {"k2-net": subnet}}

    def _service(self, service: Service, address: int, ports: Iterable[int]) -> dict[str, Any]:
        return self._placed(service_in_container(IMAGE, service, self._folders, ports), address)

    def _container(
        self, argv: Iterable[str], env: Mapping[str, str], address: int, ports: Iterable[int] = ()
    ) -> dict[str, Any]:
        return self._placed(in_container(IMAGE, argv, env, self._folders, ports), address)

    @property
    def _folders(self) -> tuple[Path, ...]:
        return self.folder, postgres.home(State(self.folder))

    def _placed(self, container: dict[str, Any], address: int) -> dict[str, Any]:
        return {**container, "networks": {"k2-net": {"ipv4_address": f"172.28.0.{address}"}}}
