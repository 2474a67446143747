"""Defines the processes of the CDC platform: a source, Debezium, a broker, a sink and its target. It says in which
order they start, over which links they connect, and what is prepared once each serves.

compose/own.py has gameday's own servers, compose/servers the servers themselves, pipelines/cdc the workload and the
sink.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from compose.own import databases, run
from compose.servers import Report, byteman, connect, kafka, postgres, prometheus, toxiproxy
from compose.service import Service, python
from gameday.state import State
from gameday.system.polling import until

__all__ = [
    "CONFIG",
    "PORTS",
    "RULES",
    "SECRETS",
    "connector",
    "get",
    "links",
    "preparations",
    "processes",
    "targets",
]

CONFIG = Path(__file__).with_name("gameday.toml")
RULES = Path(__file__).with_name("alerts.yml")

TABLES = ("customers", "orders", "items")
TOPICS = {f"cdc.public.{table}": 1 for table in TABLES} | {"cdc.public.debezium_signal": 1, "cdc-notes": 1}
"""Topic -> partitions: one each, so that the log has a table's order, and the target's state is a prefix of the log."""

DATABASE = "shop"
CONNECTOR, SLOT, PUBLICATION, PREFIX = "cdc", "cdc", "cdc", "cdc"

PORTS = (
    *("WORKLOAD_PORT", "SOURCE_PG_PORT", "TARGET_PG_PORT", "SINK_PORT", "EXPORTER_PORT"),
    *("CONNECT_PORT", "CONNECT_BYTEMAN_PORT"),
    *("KAFKA_DIRECT_PORT", "KAFKA_CONTROLLER_PORT", "KAFKA_CONNECT_PORT", "KAFKA_SINK_PORT"),
    *("LINK_WORKLOAD_SOURCE_PORT", "LINK_SOURCE_CONNECTOR_PORT", "LINK_CONNECTOR_BROKER_PORT"),
    *("LINK_BROKER_SINK_PORT", "LINK_SINK_TARGET_PORT"),
)
SECRETS = ("SOURCE_PG_PASSWORD", "CONNECT_PASSWORD", "TARGET_PG_PASSWORD")

SLOT_KEPT_MB = 64
SOURCE_SETTINGS = (
    f"max_slot_wal_keep_size={SLOT_KEPT_MB}MB",
    "min_wal_size=32MB",
    "max_wal_size=64MB",
)
"""The WAL kept for a slot is so small that a test can overrun it. wal_level=logical is set for every server here."""

BROKER_SETTINGS = """\
# What a killed task leaves open holds up all who read committed messages, Connect itself first: ended a second after
# its time-out, not ten.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A log is folded from its start in each run, and no row of the workload lives for longer than a minute.
log.retention.ms=900000
log.roll.ms=60000
log.retention.check.interval.ms=60000
"""

CAPTURES_WITHIN_S = 90.0
"""From the connector's deployment until its task runs, with the snapshot of older rows."""


def get(state: State, report: Report) -> None:
    """Get every server. Idempotent; what an earlier, interrupted call got is kept."""
    kafka.get(report)
    connect.get(report)
    byteman.get(report)


def processes(state: State, env: Mapping[str, str], port: Mapping[str, int]) -> list[Service]:
    """Write their configuration, return the platform's processes in dependency order."""
    folder = state.servers
    listeners = [
        kafka.Listener("DIRECT", port["KAFKA_DIRECT"], port["KAFKA_DIRECT"]),
        kafka.Listener("CONNECT", port["KAFKA_CONNECT"], port["LINK_CONNECTOR_BROKER"]),
        kafka.Listener("SINK", port["KAFKA_SINK"], port["LINK_BROKER_SINK"]),
    ]
    return [
        postgres.process(
            *(state, "source", port["SOURCE_PG"], "source", env["SOURCE_PG_PASSWORD"]), settings=SOURCE_SETTINGS
        ),
        postgres.process(state, "target", port["TARGET_PG"], "target", env["TARGET_PG_PASSWORD"]),
        kafka.process(
            *(folder / "kafka", listeners, port["KAFKA_CONTROLLER"]),
            cluster=str(state.root),
            settings=BROKER_SETTINGS,
        ),
        byteman.armable(
            connect.process(
                *(folder / "connect", port["CONNECT"], f"127.0.0.1:{port['LINK_CONNECTOR_BROKER']}", "cdc"),
                after=("source", "kafka", "toxiproxy"),
            ),
            port["CONNECT_BYTEMAN"],
        ),
        _own(
            folder / "connect-watch",
            *("pipelines.cdc.connect_watch", "--connect", _connect(env), "--connector", CONNECTOR, "--slot", SLOT),
            env={"SOURCE_URL": _source(env, DATABASE)},
            after=("connect",),
        ),
        _own(
            folder / "sink",
            *("pipelines.cdc.sink", "--port", env["SINK_PORT"]),
            *("--brokers", f"127.0.0.1:{port['LINK_BROKER_SINK']}"),
            ready=env["SINK_PORT"],
            env={"TARGET_URL": _target(env, DATABASE, "LINK_SINK_TARGET_PORT")},
            after=("target", "kafka", "toxiproxy"),
        ),
        _own(
            folder / "workload",
            *("pipelines.cdc.workload", "--port", env["WORKLOAD_PORT"], "--state", str(folder / "workload")),
            ready=env["WORKLOAD_PORT"],
            env={"SOURCE_URL": _source(env, DATABASE, "LINK_WORKLOAD_SOURCE_PORT")},
            after=("source", "toxiproxy", "connect"),
        ),
        _own(
            folder / "exporter",
            *("pipelines.cdc.exporter", "--port", env["EXPORTER_PORT"], "--connect", _connect(env)),
            *("--connector", CONNECTOR, "--slot", SLOT, "--brokers", f"127.0.0.1:{port['KAFKA_DIRECT']}"),
            *("--topics", ",".join(f"{PREFIX}.public.{table}" for table in TABLES), "--textfiles", str(state.metrics)),
            ready=env["EXPORTER_PORT"],
            env={"SOURCE_URL": _source(env, DATABASE), "TARGET_URL": _target(env, DATABASE)},
            after=("source", "target", "kafka", "connect"),
        ),
    ]


def preparations(state: State, env: Mapping[str, str]) -> Mapping[str, Callable[[], None]]:
    """Return service -> what must be done once it serves, before those after it start. All idempotent."""
    return {
        "source": lambda: _database(
            _source(env, "postgres"),
            *("source", {"SOURCE_URL": _source(env, DATABASE), "CONNECT_PASSWORD": env["CONNECT_PASSWORD"]}),
        ),
        "target": lambda: _database(_target(env, "postgres"), "target", {"TARGET_URL": _target(env, DATABASE)}),
        "kafka": lambda: kafka.create_topics(f"127.0.0.1:{env['KAFKA_DIRECT_PORT']}", TOPICS),
        "connect": lambda: _capture(env),
    }


def links(port: Mapping[str, int]) -> list[toxiproxy.Link]:
    """Return a link for each pair of neighbours on the changes' path, named <from>-<to> as they flow."""
    return [
        toxiproxy.Link("workload-source", port["LINK_WORKLOAD_SOURCE"], port["SOURCE_PG"]),
        toxiproxy.Link("source-connector", port["LINK_SOURCE_CONNECTOR"], port["SOURCE_PG"]),
        toxiproxy.Link("connector-broker", port["LINK_CONNECTOR_BROKER"], port["KAFKA_CONNECT"]),
        toxiproxy.Link("broker-sink", port["LINK_BROKER_SINK"], port["KAFKA_SINK"]),
        toxiproxy.Link("sink-target", port["LINK_SINK_TARGET"], port["TARGET_PG"]),
    ]


def targets(port: Mapping[str, int]) -> list[prometheus.Target]:
    """What Prometheus scrapes."""
    return [
        prometheus.Target("platform", "exporter", port["EXPORTER"]),
        prometheus.Target("sink", "sink", port["SINK"]),
        prometheus.Target("workload", "workload", port["WORKLOAD"]),
    ]


# ---- the connector ---------------------------------------------------------------------------------------------------


def connector(env: Mapping[str, str]) -> dict[str, str]:
    """Return Debezium's settings. Where they differ from the defaults, experiments showed that the default is wrong."""
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": env["LINK_SOURCE_CONNECTOR_PORT"],
        "database.user": "connect",
        "database.password": env["CONNECT_PASSWORD"],
        "database.dbname": DATABASE,
        "topic.prefix": PREFIX,
        "plugin.name": "pgoutput",
        "slot.name": SLOT,
        "publication.name": PUBLICATION,
        "publication.autocreate.mode": "disabled",  # the tables' owner made it: the copying role owns nothing
        "table.include.list": ",".join(f"public.{table}" for table in (*TABLES, "debezium_signal")),
        "decimal.handling.mode": "string",  # the default sends bytes
        "time.precision.mode": "adaptive_time_microseconds",
        "skipped.operations": "none",  # the default hides TRUNCATE
        # Else the WAL grows while only tables that are not captured are written, with or without a heartbeat.
        "heartbeat.interval.ms": "1000",
        "lsn.flush.mode": "connector_and_driver",
        "signal.data.collection": "public.debezium_signal",
        "notification.enabled.channels": "sink",
        "notification.sink.topic.name": "cdc-notes",
        # A missing slot is a gap: a person is told and repairs it. `trust_slot` would lose changes in silence.
        "offset.mismatch.strategy": "no_validation",
        "snapshot.mode": "initial",
        "poll.interval.ms": "20",
        "retriable.restart.connector.wait.ms": "500",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    }


def _capture(env: Mapping[str, str]) -> None:
    """Deploy the connector, and wait for its task: from then on changes are in the log."""
    connect.deploy(_connect(env), CONNECTOR, connector(env))
    until(lambda: connect.runs(_connect(env), CONNECTOR), CAPTURES_WITHIN_S, 0.2, f"connector {CONNECTOR} to run")


# ---- small things ----------------------------------------------------------------------------------------------------


def _own(
    folder: Path,
    module: str,
    *arguments: str,
    ready: str | None = None,
    env: Mapping[str, str] | None = None,
    after: tuple[str, ...] = (),
) -> Service:
    """Return one of the pipeline's programs, named like its folder, with the failpoints in gameday.toml. ready: the
    port of its health."""
    folder.mkdir(parents=True, exist_ok=True)
    points = {
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS_SOCKET": str(folder / "points.sock"),
        "FAILPOINTS_EVIDENCE": str(folder / "points.jsonl"),
    }
    url = None if ready is None else f"http://127.0.0.1:{ready}/healthz"
    return python(folder.name, folder, "-m", module, *arguments, ready=url, env={**points, **(env or {})}, after=after)


def _database(server: str, which: str, env: Mapping[str, str]) -> None:
    databases(server, DATABASE)
    run("pipelines.cdc.schema", which, env=env)


def _connect(env: Mapping[str, str]) -> str:
    return f"http://127.0.0.1:{env['CONNECT_PORT']}"


def _source(env: Mapping[str, str], database: str, port: str = "SOURCE_PG_PORT") -> str:
    return postgres.url(int(env[port]), "source", env["SOURCE_PG_PASSWORD"], database)


def _target(env: Mapping[str, str], database: str, port: str = "TARGET_PG_PORT") -> str:
    return postgres.url(int(env[port]), "target", env["TARGET_PG_PASSWORD"], database)
