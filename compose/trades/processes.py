"""The reference platform as processes: who runs, after whom, over which links, and what is prepared once each serves.

The servers themselves are compose/servers'; what the exchange and the handlers do is pipelines/trades'.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path

from compose.servers import (
    Report,
    alertmanager,
    clickhouse,
    kafka,
    postgres,
    prefect,
    prometheus,
    seaweedfs,
    toxiproxy,
)
from compose.service import Service, python
from gameday.errors import ConfigError, GamedayError
from gameday.state import ROOT, State

__all__ = ["PORTS", "SECRETS", "VENUES", "get", "places", "preparations", "processes"]

VENUES = ("binance", "kraken", "coinbase")
TOPICS = {f"market.crypto.trades.{venue}": 4 for venue in VENUES}
"""Topic -> partitions."""

CONSUMERS = (*(f"HANDLER_{venue.upper()}" for venue in VENUES), "CLICKHOUSE")
"""Who reaches the broker over a link, and so has a listener of its own."""

PORTS = (
    "EXCHANGE_PORT",
    *(f"HANDLER_{venue.upper()}_PORT" for venue in VENUES),
    "KAFKA_DIRECT_PORT",
    "KAFKA_CONTROLLER_PORT",
    *(f"KAFKA_{name}_PORT" for name in CONSUMERS),
    "CLICKHOUSE_PORT",
    "TOXIPROXY_PORT",
    *(f"LINK_EXCHANGE_HANDLER_{venue.upper()}_PORT" for venue in VENUES),
    *(f"LINK_HANDLER_{venue.upper()}_BROKER_PORT" for venue in VENUES),
    "LINK_BROKER_CLICKHOUSE_PORT",
    "GAMEDAY_PG_PORT",
    "PLATFORM_PG_PORT",
    "PREFECT_PORT",
    "PREFECT_WORKER_PORT",
    *(f"{part.upper()}{kind}_PORT" for part in seaweedfs.PARTS for kind in ("", "_GRPC")),
    "LINK_CLICKHOUSE_OFFLOAD_PORT",
    "LINK_OFFLOAD_S3_PORT",
    "OFFLOAD_WORKER_PORT",
    "PAGER_PORT",
    "EXPORTER_PORT",
    "PROMETHEUS_PORT",
    "ALERTMANAGER_PORT",
)
SECRETS = (
    *("CLICKHOUSE_PASSWORD", "GAMEDAY_PG_PASSWORD", "PLATFORM_PG_PASSWORD", "PREFECT_PASSWORD"),
    *("S3_ADMIN_PASSWORD", "S3_OFFLOAD_PASSWORD", "PAGER_TOKEN"),
)
"""What stack.env holds; SUPERVISOR_SOCKET, STACK_FOLDER and what `places` says besides."""

BUCKET = "lake"
OFFLOAD_INTERVAL_S = 30
"""Every 15 minutes would be an hour of nothing in a test of it. Users' deployments are never edited; this is ours."""

MAINTENANCE_INTERVAL_S = 600
ORPHAN_AGE_S = 3_600

RULES = ROOT / "compose" / "trades" / "alerts.yml"
ALERTS_QUICKENED = 8.0
"""Two minutes of `for` are 15 s here: longer than a restart, and short enough for a test to hold an outage so long."""

CLICKHOUSE_KEPT = "ClickHouse(Metrics|ProfileEvents)_(Query|FailedQuery|InsertedRows|MemoryTracking)"
"""Of a thousand metrics those that the dashboard shows."""

NICENESS = {"prefect-server": 5, "prefect-worker": 5, "seaweedfs": 5, "offload-worker": 5}
"""What may be late, so that ingestion on the same cores is not."""

TRADES_PER_S = 200
"""All symbols together; the rarest has seven of them."""

PREPARE_TIMEOUT_S = 180.0


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    kafka.get(report)
    toxiproxy.get(report)
    postgres.get(state, report)
    if prometheus.get(report):
        alertmanager.get(report)


def places(env: Mapping[str, str]) -> Mapping[str, str]:
    """What of the environment follows from the rest: addresses that are empty where the server isn't to be had."""
    local = "http://127.0.0.1"
    return {
        "PROMETHEUS_URL": f"{local}:{env['PROMETHEUS_PORT']}" if prometheus.found() else "",
        "ALERTMANAGER_URL": f"{local}:{env['ALERTMANAGER_PORT']}" if _pages() else "",
    }


def _pages() -> bool:
    """Whether the platform's alerts reach the pager here; without, they are judged all the same."""
    return prometheus.found() and alertmanager.found()


def processes(state: State, env: Mapping[str, str], replace: Mapping[str, Sequence[str]]) -> list[Service]:
    """All processes, in dependency order, their configuration written. replace: name -> other command line."""
    port = {name.removesuffix("_PORT"): int(env[name]) for name in PORTS}
    folder = state.servers
    home = folder / "prefect-server"
    found = [
        postgres.process(state, "gameday-postgres", port["GAMEDAY_PG"], "gameday", env["GAMEDAY_PG_PASSWORD"]),
        postgres.process(state, "platform-postgres", port["PLATFORM_PG"], "platform", env["PLATFORM_PG_PASSWORD"]),
        prefect.server(
            home, port["PREFECT"], _history(env, "prefect"), env["PREFECT_PASSWORD"], after=("gameday-postgres",)
        ),
        toxiproxy.process(folder / "toxiproxy", port["TOXIPROXY"], _links(port)),
        kafka.process(folder / "kafka", _listeners(port), port["KAFKA_CONTROLLER"], cluster=str(state.root)),
        clickhouse.process(
            folder / "clickhouse", port["CLICKHOUSE"], env["CLICKHOUSE_PASSWORD"], after=("kafka", "toxiproxy")
        ),
        _exchange(folder / "exchange", port),
        *(_handler(folder / f"handler-{venue}", venue, port) for venue in VENUES),
        _consumer_watch(folder / "consumer-watch", env),
        _pager(folder / "pager", port["PAGER"]),
        _reconciler(folder / "reconciler", state),
        prefect.worker(
            *("prefect-worker", folder / "prefect-worker", home),
            *(port["PREFECT"], env["PREFECT_PASSWORD"], port["PREFECT_WORKER"]),
            {**_flows_env(state), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
        ),
        _seaweedfs(folder / "seaweedfs", port, env),
        prefect.worker(
            *("offload-worker", folder / "offload-worker", home),
            *(port["PREFECT"], env["PREFECT_PASSWORD"], port["OFFLOAD_WORKER"]),
            _offload_env(env),
            ("-m", "pipelines.trades.offload.worker"),
            after=("prefect-server", "seaweedfs", "clickhouse"),
        ),
        _exporter(folder / "exporter", state, env),
        *((_alertmanager(folder, port),) if _pages() else ()),
        *((_prometheus(folder, port),) if prometheus.found() else ()),
    ]
    if unknown := set(replace) - {p.name for p in found}:
        raise ConfigError(f"no process {', '.join(sorted(unknown))}. Known: {', '.join(p.name for p in found)}")
    found = [changed(p, niceness=NICENESS.get(p.name, 0)) for p in found]
    return [changed(p, argv=tuple(replace[p.name])) if p.name in replace else p for p in found]


def preparations(state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
    """Service -> what must be done once it serves, before those after it start. All idempotent."""
    broker = f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}"
    api = prefect.environment(state.servers / "prefect-server", int(env["PREFECT_PORT"]), env["PREFECT_PASSWORD"])
    return {
        "gameday-postgres": lambda: _databases(_history(env, "postgres"), "gameday", "prefect"),
        "platform-postgres": lambda: _databases(_platform(env, "postgres"), "platform", "lake"),
        "kafka": lambda: kafka.create_topics(broker, TOPICS),
        "clickhouse": lambda: _run("pipelines.trades.schema", *_feed(env), env=_reader(env)),
        "seaweedfs": lambda: _run("pipelines.trades.offload", "--prepare", env=_offload_env(env)),
        "prefect-worker": lambda: _run("deployments.register", env={**api, **_flows_env(state)}),
        "offload-worker": lambda: _run("pipelines.trades.offload.flow", env={**api, **_offload_env(env)}),
    }


# ---- links -----------------------------------------------------------------------------------------------------------


def _links(port: Mapping[str, int]) -> list[toxiproxy.Link]:
    """One for each pair of neighbours on the stream's path, named <from>-<to> as the data flows."""
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
    """Each link's listener sends its clients back through the link: a cut is real, whatever a client learnt."""
    direct = kafka.Listener("DIRECT", port["KAFKA_DIRECT"], port["KAFKA_DIRECT"])
    behind = {link.upstream: link.listen for link in _links(port)}
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
    """Where the process's failpoints are armed, and where their evidence lies: gameday.toml names the same."""
    return {
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS_SOCKET": str(folder / "points.sock"),
        "FAILPOINTS_EVIDENCE": str(folder / "points.jsonl"),
    }


def _consumer_watch(folder: Path, env: Mapping[str, str]) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("-m", "pipelines.trades.consumer_watch", *_feed(env))
    return python("consumer-watch", folder, *arguments, env=_reader(env), after=("clickhouse",))


def _pager(folder: Path, port: int) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ("-m", "pipelines.trades.pager", "--port", str(port), "--file", str(folder / "alerts.jsonl"))
    return python("pager", folder, *arguments, ready=f"http://127.0.0.1:{port}/healthz")


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


def _prometheus(folder: Path, port: Mapping[str, int]) -> Service:
    targets = [
        prometheus.Target("platform", "exporter", port["EXPORTER"]),
        prometheus.Target("clickhouse", "clickhouse", port["CLICKHOUSE"], keep=CLICKHOUSE_KEPT),
        *(prometheus.Target("handler", f"handler-{v}", port[f"HANDLER_{v.upper()}"]) for v in VENUES),
    ]
    rules = prometheus.quickened(RULES.read_text(), ALERTS_QUICKENED)
    manager = port["ALERTMANAGER"] if _pages() else None
    return prometheus.process(folder / "prometheus", port["PROMETHEUS"], targets, rules, manager)


def _alertmanager(folder: Path, port: Mapping[str, int]) -> Service:
    pager = f"http://127.0.0.1:{port['PAGER']}/alerts"
    return alertmanager.process(folder / "alertmanager", port["ALERTMANAGER"], pager)


def _reconciler(folder: Path, state: State) -> Service:
    folder.mkdir(parents=True, exist_ok=True)
    config = str(ROOT / "compose" / "trades" / "gameday.toml")
    arguments = ("-m", "gameday.undo.reconciler", "--config", config, "--state", str(state.root))
    return python("reconciler", folder, *arguments)


def _seaweedfs(folder: Path, port: Mapping[str, int], env: Mapping[str, str]) -> Service:
    ports = {part: port[part.upper()] for part in seaweedfs.PARTS}
    ports |= {f"{part}.grpc": port[f"{part.upper()}_GRPC"] for part in seaweedfs.PARTS}
    server = seaweedfs.process(folder, ports, BUCKET, env["S3_ADMIN_PASSWORD"], env["S3_OFFLOAD_PASSWORD"])
    return changed(server, after=("platform-postgres", "toxiproxy"))


def _offload_env(env: Mapping[str, str]) -> dict[str, str]:
    """What the offload is told; it reaches ClickHouse and S3 over its links."""
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


def _flows_env(state: State) -> dict[str, str]:
    return {"GAMEDAY_STATE": str(state.root), "GAMEDAY_CONFIG": str(ROOT / "compose" / "trades" / "gameday.toml")}


# ---- preparing -------------------------------------------------------------------------------------------------------


def _history(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["GAMEDAY_PG_PORT"]), "gameday", env["GAMEDAY_PG_PASSWORD"], database)


def _platform(env: Mapping[str, str], database: str) -> str:
    return postgres.url(int(env["PLATFORM_PG_PORT"]), "platform", env["PLATFORM_PG_PASSWORD"], database)


def _databases(server: str, *names: str) -> None:
    for name in names:
        postgres.create_database(server, name)


def _clickhouse(env: Mapping[str, str], port: str = "CLICKHOUSE_PORT") -> str:
    return clickhouse.url(int(env[port]), env["CLICKHOUSE_PASSWORD"])


def _feed(env: Mapping[str, str]) -> tuple[str, ...]:
    """The broker as ClickHouse reaches it."""
    return ("--brokers", f"127.0.0.1:{env['LINK_BROKER_CLICKHOUSE_PORT']}")


def _reader(env: Mapping[str, str]) -> dict[str, str]:
    """Where ClickHouse is. No argument: those are for all to see."""
    return {"CLICKHOUSE_URL": _clickhouse(env)}


def _run(module: str, *arguments: str, env: Mapping[str, str]) -> None:
    """Run one of the checkout's modules to its end."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PREPARE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as e:
        raise GamedayError(f"python -m {module} did not end within {PREPARE_TIMEOUT_S:g} s") from e
    if done.returncode:
        text = (done.stdout + done.stderr).strip()[-2000:]
        raise GamedayError(f"python -m {module} ended with {done.returncode}:\n{text}")
