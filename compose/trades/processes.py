"""Defines the processes of the trades platform: in which order they start, over which links they connect, and what is
prepared once each serves.

compose/own.py has gameday's own servers, compose/servers the servers themselves, pipelines/trades the exchange and the
handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as changed
from pathlib import Path

from compose.own import databases, run
from compose.servers import Report, clickhouse, kafka, postgres, prefect, prometheus, seaweedfs, toxiproxy
from compose.service import Service, python
from gameday.state import State

__all__ = [
    "CONFIG",
    "PORTS",
    "RULES",
    "SECRETS",
    "TOPICS",
    "VENUES",
    "get",
    "links",
    "preparations",
    "processes",
    "targets",
]

CONFIG = Path(__file__).with_name("gameday.toml")
RULES = Path(__file__).with_name("alerts.yml")

VENUES = ("binance", "kraken", "coinbase")
TOPICS = {f"market.crypto.trades.{venue}": 4 for venue in VENUES}
"""Topic -> partitions."""

CONSUMERS = (*(f"HANDLER_{venue.upper()}" for venue in VENUES), "CLICKHOUSE")
"""The processes that reach the broker over a link, and so have a listener of their own."""

PORTS = (
    "EXCHANGE_PORT",
    *(f"HANDLER_{venue.upper()}_PORT" for venue in VENUES),
    "KAFKA_DIRECT_PORT",
    "KAFKA_CONTROLLER_PORT",
    *(f"KAFKA_{name}_PORT" for name in CONSUMERS),
    "CLICKHOUSE_PORT",
    *(f"LINK_EXCHANGE_HANDLER_{venue.upper()}_PORT" for venue in VENUES),
    *(f"LINK_HANDLER_{venue.upper()}_BROKER_PORT" for venue in VENUES),
    "LINK_BROKER_CLICKHOUSE_PORT",
    "PLATFORM_PG_PORT",
    *(f"{part.upper()}{kind}_PORT" for part in seaweedfs.PARTS for kind in ("", "_GRPC")),
    "LINK_CLICKHOUSE_OFFLOAD_PORT",
    "LINK_OFFLOAD_S3_PORT",
    "OFFLOAD_WORKER_PORT",
    "EXPORTER_PORT",
)
SECRETS = ("CLICKHOUSE_PASSWORD", "PLATFORM_PG_PASSWORD", "S3_ADMIN_PASSWORD", "S3_OFFLOAD_PASSWORD")

BUCKET = "lake"
OFFLOAD_INTERVAL_S = 30
"""With 15 minutes a test of it would wait for an hour. This is our own deployment: users' are never edited."""

MAINTENANCE_INTERVAL_S = 600
ORPHAN_AGE_S = 3_600

CLICKHOUSE_KEPT = "ClickHouse(Metrics|ProfileEvents)_(Query|FailedQuery|InsertedRows|MemoryTracking)"
"""A regex of the metrics that the dashboard shows, out of a thousand."""

LATE_NICENESS = 5
"""The niceness of processes that may be late, so that ingestion on the same cores is not."""

TRADES_PER_S = 200
"""All symbols together; the rarest has seven of them."""


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    kafka.get(report)


def processes(state: State, env: Mapping[str, str], port: Mapping[str, int]) -> list[Service]:
    """Write their configuration, return the platform's processes in dependency order."""
    folder = state.servers
    home = folder / "prefect-server"
    return [
        postgres.process(state, "platform-postgres", port["PLATFORM_PG"], "platform", env["PLATFORM_PG_PASSWORD"]),
        kafka.process(folder / "kafka", _listeners(port), port["KAFKA_CONTROLLER"], cluster=str(state.root)),
        clickhouse.process(
            folder / "clickhouse", port["CLICKHOUSE"], env["CLICKHOUSE_PASSWORD"], after=("kafka", "toxiproxy")
        ),
        _exchange(folder / "exchange", port),
        *(_handler(folder / f"handler-{venue}", venue, port) for venue in VENUES),
        _consumer_watch(folder / "consumer-watch", env),
        _seaweedfs(folder / "seaweedfs", port, env),
        changed(
            prefect.worker(
                *("offload-worker", folder / "offload-worker", home),
                *(port["PREFECT"], env["PREFECT_PASSWORD"], port["OFFLOAD_WORKER"]),
                _offload_env(env),
                ("-m", "pipelines.trades.offload.worker"),
                after=("prefect-server", "seaweedfs", "clickhouse"),
            ),
            niceness=LATE_NICENESS,
        ),
        _exporter(folder / "exporter", state, env),
    ]


def preparations(state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
    """Return service -> what must be done once it serves, before those after it start. All idempotent."""
    broker = f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}"
    api = prefect.environment(state.servers / "prefect-server", int(env["PREFECT_PORT"]), env["PREFECT_PASSWORD"])
    return {
        "platform-postgres": lambda: databases(_platform(env, "postgres"), "platform", "lake"),
        "kafka": lambda: kafka.create_topics(broker, TOPICS),
        "clickhouse": lambda: run("pipelines.trades.schema", *_feed(env), env=_reader(env)),
        "seaweedfs": lambda: run("pipelines.trades.offload", "--prepare", env=_offload_env(env)),
        "offload-worker": lambda: run("pipelines.trades.offload.flow", env={**api, **_offload_env(env)}),
    }


# ---- links -----------------------------------------------------------------------------------------------------------


def links(port: Mapping[str, int]) -> list[toxiproxy.Link]:
    """Return a link for each pair of neighbours on the stream's path, named <from>-<to> as the data flows."""
    found = []
    for venue in VENUES:
        name = f"HANDLER_{venue.upper()}"
        found.append(toxiproxy.Link(f"exchange-handler-{venue}", port[f"LINK_EXCHANGE_{name}"], port["EXCHANGE"]))
        found.append(toxiproxy.Link(f"handler-{venue}-broker", port[f"LINK_{name}_BROKER"], port[f"KAFKA_{name}"]))
    found.append(toxiproxy.Link("broker-clickhouse", port["LINK_BROKER_CLICKHOUSE"], port["KAFKA_CLICKHOUSE"]))
    found.append(toxiproxy.Link("clickhouse-offload", port["LINK_CLICKHOUSE_OFFLOAD"], port["CLICKHOUSE"]))
    found.append(toxiproxy.Link("offload-s3", port["LINK_OFFLOAD_S3"], port["S3"]))
    return found


def _listeners(port: Mapping[str, int]) -> list[kafka.Listener]:
    """Return a listener for each link. It advertises the link's address, so that no client bypasses a cut."""
    direct = kafka.Listener("DIRECT", port["KAFKA_DIRECT"], port["KAFKA_DIRECT"])
    behind = {link.upstream: link.listen for link in links(port)}
    return [
        direct,
        *(kafka.Listener(n, port[f"KAFKA_{n}"], behind[port[f"KAFKA_{n}"]]) for n in CONSUMERS),
    ]


# ---- the pipeline's processes ----------------------------------------------------------------------------------------


def _exchange(folder: Path, port: Mapping[str, int]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    return python(
        "exchange",
        folder,
        *("-m", "pipelines.trades.exchange", "--port", str(port["EXCHANGE"]), "--state", str(folder)),
        *("--rate", str(TRADES_PER_S)),
        ready=f"http://127.0.0.1:{port['EXCHANGE']}/healthz",
        env=_points(folder),
    )


def _handler(folder: Path, venue: str, port: Mapping[str, int]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"HANDLER_{venue.upper()}"
    exchange = f"127.0.0.1:{port[f'LINK_EXCHANGE_{name}']}/{venue}"
    return python(
        f"handler-{venue}",
        folder,
        *("-m", "pipelines.trades.handler", "--venue", venue),
        *("--ws", f"ws://{exchange}", "--rest", f"http://{exchange}"),
        *("--brokers", f"127.0.0.1:{port[f'LINK_{name}_BROKER']}", "--port", str(port[name])),
        ready=f"http://127.0.0.1:{port[name]}/healthz",
        after=("exchange", "kafka", "toxiproxy"),
        env=_points(folder),
    )


def _points(folder: Path) -> dict[str, str]:
    """Return the environment for the process's failpoints: socket and evidence, as gameday.toml names them."""
    return {
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS_SOCKET": str(folder / "points.sock"),
        "FAILPOINTS_EVIDENCE": str(folder / "points.jsonl"),
    }


def _consumer_watch(folder: Path, env: Mapping[str, str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("-m", "pipelines.trades.consumer_watch", *_feed(env))
    return python("consumer-watch", folder, *arguments, env=_reader(env), after=("clickhouse",))


def _exporter(folder: Path, state: State, env: Mapping[str, str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = (
        *("-m", "pipelines.trades.exporter", "--port", env["EXPORTER_PORT"]),
        *("--brokers", f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}", "--group", "clickhouse", "--topics", ",".join(TOPICS)),
        *("--offload-interval-s", str(OFFLOAD_INTERVAL_S), "--textfiles", str(state.metrics)),
    )
    secret = {"OFFLOAD_MIRROR_DSN": _platform(env, "platform")}
    ready = f"http://127.0.0.1:{env['EXPORTER_PORT']}/healthz"
    return python("exporter", folder, *arguments, ready=ready, env=secret, after=("kafka", "platform-postgres"))


def targets(port: Mapping[str, int]) -> list[prometheus.Target]:
    """What Prometheus scrapes."""
    return [
        prometheus.Target("platform", "exporter", port["EXPORTER"]),
        prometheus.Target("clickhouse", "clickhouse", port["CLICKHOUSE"], keep=CLICKHOUSE_KEPT),
        *(prometheus.Target("handler", f"handler-{v}", port[f"HANDLER_{v.upper()}"]) for v in VENUES),
    ]


def _seaweedfs(folder: Path, port: Mapping[str, int], env: Mapping[str, str]) -> Service:
    ports = {part: port[part.upper()] for part in seaweedfs.PARTS}
    ports |= {f"{part}.grpc": port[f"{part.upper()}_GRPC"] for part in seaweedfs.PARTS}
    server = seaweedfs.process(folder, ports, BUCKET, env["S3_ADMIN_PASSWORD"], env["S3_OFFLOAD_PASSWORD"])
    return changed(server, after=("platform-postgres", "toxiproxy"), niceness=LATE_NICENESS)


def _offload_env(env: Mapping[str, str]) -> dict[str, str]:
    """Return the offload's environment; it reaches ClickHouse and S3 over its links."""
    settings = {
        "CLICKHOUSE_URL": _clickhouse(env, "LINK_CLICKHOUSE_OFFLOAD_PORT"),
        "BROKERS": f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}",
        "TOPICS": ",".join(TOPICS),
        "S3_ENDPOINT": f"http://127.0.0.1:{env['LINK_OFFLOAD_S3_PORT']}",
        "S3_ACCESS_KEY": "offload",
        "S3_SECRET_KEY": env["S3_OFFLOAD_PASSWORD"],
        "WAREHOUSE": f"s3://{BUCKET}/warehouse",
        "CATALOG_DSN": _platform(env, "lake"),
        "MIRROR_DSN": _platform(env, "platform"),
        "INTERVAL_S": str(OFFLOAD_INTERVAL_S),
        "MAINTENANCE_INTERVAL_S": str(MAINTENANCE_INTERVAL_S),
        "ORPHAN_AGE_S": str(ORPHAN_AGE_S),
    }
    return {f"OFFLOAD_{name}": value for name, value in settings.items()}


# ---- preparing -------------------------------------------------------------------------------------------------------


def _platform(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["PLATFORM_PG_PORT"]), "platform", env["PLATFORM_PG_PASSWORD"], database)


def _clickhouse(env: Mapping[str, str], port: str = "CLICKHOUSE_PORT") -> str:
    return clickhouse.url(int(env[port]), env["CLICKHOUSE_PASSWORD"])


def _feed(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the arguments with the broker as ClickHouse reaches it."""
    return ("--brokers", f"127.0.0.1:{env['LINK_BROKER_CLICKHOUSE_PORT']}")


def _reader(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with ClickHouse's address: every user could read arguments."""
    return {"CLICKHOUSE_URL": _clickhouse(env)}
