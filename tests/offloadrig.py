"""What the offload needs, as real servers: ClickHouse with bronze and silver, the offsets in Kafka, S3, Postgres.

Rows are put where ClickHouse's consumer would put them, and what it has committed is said by hand: so a test knows
exactly what there is to move. Used by contract tests and by benchmarks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from compose.ports import free_ports
from compose.servers import clickhouse, kafka, postgres, seaweedfs
from compose.service import Service
from gameday.drivers.clickhouse import literal
from gameday.drivers.s3 import Rights
from gameday.state import ROOT, State
from gameday.system.polling import until
from pipelines.trades import schema
from pipelines.trades.offload import engine
from pipelines.trades.offload.engine import Done
from pipelines.trades.offload.lake import Lake, Place, place
from pipelines.trades.offload.settings import Settings
from tests.contract.conftest import serving

__all__ = ["BUCKET", "DAY_US", "FIRST_US", "PASSWORD", "TOPIC", "Offload", "Servers", "fired", "names", "servers"]

PASSWORD = "only for tests: p@ss'w/rd?#[%41]"
"""Whatever is special in an address is in it."""
BUCKET = "lake"
TOPIC = "market.crypto.trades."
VENUES = ("binance", "kraken", "coinbase")
PARTITIONS = 4
DAY_US = 86_400_000_000
FIRST_US = 1_790_000_000_000_000
RUN_S = 120.0
COMMITTED_WITHIN_S = 20.0

ROWS = """
INSERT INTO trades.bronze
    (topic, partition, offset, venue, symbol, trade_id, price, quantity, side, exchange_us, received_us)
SELECT
    '{topic}', {partition}, {offset} + number, '{venue}', '{symbol}', {first} + number AS id,
    toDecimal128(id % 100000, 8) / 100, toDecimal128(id % 777 + 1, 8) / 1000, id % 2,
    {time_us} + id * {step_us}, {time_us} + id * {step_us} + 500
FROM numbers({count})"""

DIGEST = """
SELECT
    concat(venue, '/', symbol), count(), uniqExact(trade_id),
    sum(cityHash64(
        toInt64(trade_id), price, quantity, toUInt8(side), exchange_us, received_us, topic, toUInt32(partition),
        toUInt64(offset), toUnixTimestamp64Micro(exchange_time), toUnixTimestamp64Micro(ingested_at)))
FROM {table} GROUP BY venue, symbol"""
"""Every column takes part, so equal digests are equal rows."""


@dataclass(frozen=True)
class Servers:
    """Where they listen."""

    clickhouse: str
    brokers: str
    s3_port: int
    s3: Service
    s3_process: subprocess.Popen[bytes]
    postgres: str

    def sql(self, text: str) -> str:
        return schema.query(self.clickhouse, text)

    def rights(self) -> Rights:
        """What the offload may do in its bucket."""
        endpoint = f"http://127.0.0.1:{self.s3_port}"
        offload = "arn:aws:iam::000000000000:user/offload"
        return Rights(endpoint, BUCKET, "admin", PASSWORD, offload, "offload", PASSWORD)

    def admin(self) -> Any:
        """S3, with all rights."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.s3_port}",
            aws_access_key_id="admin",
            aws_secret_access_key=PASSWORD,
            region_name="us-east-1",
        )


@contextlib.contextmanager
def servers(folder: Path, brokers: str = "", database: str = "") -> Iterator[Servers]:
    """All four, as long as the block lasts. brokers, database: of a Kafka and a Postgres that run already."""
    names = [f"{part}{kind}" for part in seaweedfs.PARTS for kind in ("", ".grpc")]
    (web, *drawn) = free_ports(len(names) + 1)
    s3_ports = dict(zip(names, drawn, strict=True))
    s3 = seaweedfs.process(folder / "s3", s3_ports, BUCKET, PASSWORD, PASSWORD)
    with contextlib.ExitStack() as running:
        s3_process = running.enter_context(serving(s3))
        running.enter_context(serving(clickhouse.process(folder / "clickhouse", web, PASSWORD)))
        brokers = brokers or running.enter_context(_broker(folder))
        database = database or running.enter_context(_database(folder))
        kafka.create_topics(brokers, {f"{TOPIC}{venue}": PARTITIONS for venue in VENUES})
        url = clickhouse.url(web, PASSWORD)
        schema.query(url, f"CREATE DATABASE {schema.DATABASE}")
        for statement in schema.statements("", files=("bronze.sql", "silver.sql")):
            schema.query(url, statement)
        yield Servers(url, brokers, s3_ports["s3"], s3, s3_process, database)


@contextlib.contextmanager
def _broker(folder: Path) -> Iterator[str]:
    direct, controller = free_ports(2)
    kafka.get(lambda _: None)
    listeners = (kafka.Listener("DIRECT", direct, direct),)
    with serving(kafka.process(folder / "kafka", listeners, controller, cluster=str(folder))):
        yield f"127.0.0.1:{direct}"


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[str]:
    (port,) = free_ports(1)
    state = State(folder / "state").ensure()
    postgres.get(state, lambda _: None)
    try:
        with serving(postgres.process(state, "postgres", port, "app", PASSWORD)):
            yield postgres.url(port, "app", PASSWORD, "postgres")
    finally:
        postgres.remove(state)


@dataclass
class Offload:
    """An empty silver, an empty table, and what a test does with them. Nothing is shared with another test's."""

    servers: Servers
    name: str
    changes: Mapping[str, str] = field(default_factory=dict)
    """Settings other than the usual, by their environment's name without OFFLOAD_."""

    def __post_init__(self) -> None:
        self.ends: dict[str, int] = {}
        for table in ("bronze", "silver_raw", "silver_heads"):
            self.servers.sql(f"TRUNCATE TABLE trades.{table}")
        engine.prepare(self.settings())

    # ---- what the stream does ---------------------------------------------------------------------------------------

    def write(
        self,
        count: int,
        first: int = 1,
        venue: str = "binance",
        symbol: str = "BTCUSDT",
        *,
        days: int = 1,
        since_us: int = FIRST_US,
    ) -> None:
        """Trades first, first + 1, … arrive, at the next offsets; they happened over so many days from then on."""
        partition = sum(map(ord, symbol)) % PARTITIONS
        key = f"{TOPIC}{venue}/{partition}"
        offset = self.ends.get(key, 0)
        values = {"topic": f"{TOPIC}{venue}", "partition": partition, "offset": offset, "venue": venue}
        times = {"time_us": since_us, "step_us": days * DAY_US // max(1, count + first)}
        self.servers.sql(ROWS.format(**values, **times, symbol=symbol, first=first, count=count))
        self.ends[key] = offset + count

    def commit(self, ends: Mapping[str, int] | None = None) -> None:
        """ClickHouse's consumer commits where it is, or at these offsets.

        Like any consumer it tries again where the broker doesn't know the topic at that moment: Kafka's protocol calls
        that error retriable.
        """
        consumer = Consumer(
            {"bootstrap.servers": self.servers.brokers, "group.id": self.name, "enable.auto.commit": False}
        )
        places = [(k.rpartition("/"), offset) for k, offset in (ends or self.ends).items()]
        wanted = [TopicPartition(t, int(p), o) for (t, _, p), o in places]

        def committed() -> bool:
            try:
                consumer.commit(offsets=wanted, asynchronous=False)
            except KafkaException as e:
                if e.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                return False
            return True

        until(committed, COMMITTED_WITHIN_S, 0.1, "the commit")
        consumer.close()

    # ---- what the offload does --------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        usual = {
            "CLICKHOUSE_URL": self.servers.clickhouse,
            "BROKERS": self.servers.brokers,
            "TOPICS": ",".join(f"{TOPIC}{venue}" for venue in VENUES),
            "GROUP": self.name,
            "S3_ENDPOINT": f"http://127.0.0.1:{self.servers.s3_port}",
            "S3_ACCESS_KEY": "offload",
            "S3_SECRET_KEY": PASSWORD,
            "WAREHOUSE": f"s3://{BUCKET}/warehouse",
            "CATALOG_DSN": self.servers.postgres,
            "MIRROR_DSN": self.servers.postgres,
            "TABLE": f"tests.{self.name}",
        }
        return {f"OFFLOAD_{name}": value for name, value in {**usual, **self.changes}.items()}

    def settings(self) -> Settings:
        return Settings.of(self.environment)

    def run(self) -> Done:
        """One run, in this process."""
        return engine.run(self.settings())

    def start(self, module: str = "pipelines.trades.offload", **environment: str) -> subprocess.Popen[str]:
        """One run as a process of its own, with more in its environment."""
        return subprocess.Popen(
            [sys.executable, "-m", module, "--once"],
            cwd=ROOT,
            env={**os.environ, **self.environment, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """(exit code, output) of a started run."""
        output, _ = process.communicate(timeout=RUN_S)
        return process.returncode, output

    # ---- what is true afterwards ------------------------------------------------------------------------------------

    def place(self) -> Place:
        with contextlib.closing(Lake(self.settings())) as lake:
            return place(lake.load())

    def table(self) -> Any:
        """The Iceberg table, as it is now."""
        return Lake(self.settings()).load()

    def in_iceberg(self) -> str:
        """A table function that reads exactly the snapshot which is current now: no uncommitted file can be seen."""
        table = self.table()
        path = table.location().removeprefix("s3://")
        metadata = table.metadata_location.removeprefix(f"{table.location()}/")
        return (
            f"icebergS3('http://127.0.0.1:{self.servers.s3_port}/{path}/', 'offload', {literal(PASSWORD)}, "
            f"SETTINGS iceberg_metadata_file_path = '{metadata}')"
        )

    def differing(self) -> dict[str, Sequence[list[str]]]:
        """Groups whose rows in Iceberg are not those of silver up to the position: [silver's, Iceberg's] digests."""
        now = self.place()
        if now.snapshot_id is None:
            return {}
        below = " OR ".join(
            f"(topic = '{k.rpartition('/')[0]}' AND partition = {k.rpartition('/')[2]} AND offset < {offset})"
            for k, offset in now.position.items()
        )
        wanted = self.digests(f"(SELECT * FROM trades.silver WHERE {below or 'false'})")
        found = self.digests(self.in_iceberg())
        return {
            group: (wanted.get(group, []), found.get(group, []))
            for group in sorted({*wanted, *found})
            if wanted.get(group) != found.get(group)
        }

    def whole(self) -> bool:
        """Whether the table has every trade of silver that ClickHouse has committed, once and unchanged."""
        return self.differing() == {} and self.place().position == {k: v for k, v in sorted(self.ends.items())}

    def mirror(self) -> dict[str, Any]:
        """The row in Postgres."""
        with psycopg.connect(self.servers.postgres, row_factory=psycopg.rows.dict_row) as connection:
            found = connection.execute(
                "SELECT * FROM offload_watermarks WHERE table_name = %s", (self.settings().table,)
            ).fetchone()
        assert found is not None
        return found

    def objects(self) -> list[str]:
        """Every key under the table's location."""
        pages = self.servers.admin().get_paginator("list_objects_v2")
        prefix = f"warehouse/tests/{self.name}/"
        return [o["Key"] for page in pages.paginate(Bucket=BUCKET, Prefix=prefix) for o in page.get("Contents", ())]

    def digests(self, table: str) -> dict[str, list[str]]:
        lines = self.servers.sql(DIGEST.format(table=table)).splitlines()
        return {group: rest for group, *rest in (line.split("\t") for line in lines)}


names = (f"t{n}" for n in itertools.count(1))
"""Of tables and groups, new for each test."""


def fired(evidence: Path, within_s: float = RUN_S) -> None:
    """Wait until an armed point has fired."""
    until(lambda: evidence.exists() and evidence.read_text(), within_s, 0.02, "the point to fire")
