"""The offload's rate and memory, and what a commit costs after many: python -m benchmarks.offload [--rows N …]
[--commits N] [--spark JARS]

Each backlog is moved by the plain process, in a table of its own. --spark: the same rows are then appended by PySpark
local[2], in a warm session and one commit; its session's start is told apart. That needs `pip install -e
.[bench-spark]`, a JRE (17 or 21) in JAVA_HOME or the path, and a folder with the jars
iceberg-spark-runtime-4.1_2.13-1.12.0, iceberg-aws-bundle-1.12.0 and postgresql-42.7.14 from Maven.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from benchmarks._measured import ended, nothing
from gameday.system.process import descendants
from pipelines.trades.offload import maintenance
from pipelines.trades.offload.lake import Lake, place
from pipelines.trades.offload.silver import COLUMNS, Silver
from tests.offloadrig import BUCKET, PASSWORD, Offload, Servers, names, servers

SYMBOLS = [(venue, f"{venue[:3]}{n}") for venue in ("binance", "kraken", "coinbase") for n in range(3)]
CHUNK_ROWS = 1_000_000
"""Inserted at a time."""

TASK_IDS = 250_000
"""Of one symbol in one of Spark's tasks."""

MAINTAIN_EVERY = 20
COMPARED = 25
"""Commits at the beginning and at the end whose medians are compared."""

LOOK_EVERY_S = 0.1


def main() -> int:
    """Measure and print. Exit code 3 when nothing is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--spark", type=Path, metavar="JARS")
    options = parser.parse_args()
    if options.commits <= 0 and not any(rows > 0 for rows in options.rows):
        return nothing("--rows and --commits ask for none")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    with tempfile.TemporaryDirectory(prefix="offload-") as folder, servers(Path(folder)) as running:
        with contextlib.ExitStack() as stack:
            spark = stack.enter_context(session(running, options.spark)) if options.spark and options.rows else None
            for rows in filter(None, options.rows):
                measure(running, rows, spark)
        if options.commits:
            commits(running, options.commits)
    return 0


def measure(running: Servers, rows: int, spark: Any) -> None:
    """Move one backlog, by the offload and by Spark."""
    offload = Offload(running, next(names))
    for first in range(0, rows // len(SYMBOLS), CHUNK_ROWS // len(SYMBOLS)):
        for venue, symbol in SYMBOLS:
            offload.write(min(CHUNK_ROWS // len(SYMBOLS), rows // len(SYMBOLS) - first), first + 1, venue, symbol)
    offload.commit()
    process = offload.start()
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, output
    done = json.loads(output.splitlines()[-1])
    assert offload.whole()
    rate = done["rows"] / done["seconds"]
    told = f"offload, {done['rows']:,} rows: {rate:,.0f} rows/s in {done['commits']} commits"
    print(f"{told}, peak {usage.ru_maxrss / 1024:.0f} MiB", flush=True)
    if spark is not None:
        copy = Offload.__new__(Offload)  # a second empty table over the same stream
        copy.servers, copy.name, copy.changes, copy.ends = running, next(names), {}, offload.ends
        with contextlib.closing(Lake(copy.settings())) as lake:
            lake.prepare()
        with peak_mib() as peak:
            began = time.monotonic()
            append_by_spark(spark, running, copy)
            seconds = time.monotonic() - began
        assert not {group for group, (a, b) in both_digests(offload, copy).items() if a != b}
        print(
            f"Spark,   {done['rows']:,} rows: {done['rows'] / seconds:,.0f} rows/s, peak {max(peak):.0f} MiB",
            flush=True,
        )
        print(f"         the offload is {rate * seconds / done['rows']:.1f} times as fast", flush=True)


def both_digests(a: Offload, b: Offload) -> dict[str, tuple[Any, Any]]:
    """Group -> both tables' digests."""
    ours, theirs = a.digests(a.in_iceberg()), a.digests(b.in_iceberg())
    return {group: (ours.get(group), theirs.get(group)) for group in {*ours, *theirs}}


def commits(running: Servers, count: int) -> None:
    """One small commit after the other, with maintenance now and then, as in a day of runs."""
    offload = Offload(running, next(names))
    offload.write(count * 10)
    settings = offload.settings()
    took_s = []
    with contextlib.closing(Lake(settings)) as lake, contextlib.closing(Silver(settings)) as silver:
        (key,) = offload.ends
        for n in range(count):
            rows = silver.rows({key: 10 * n}, {key: 10 * n + 10})
            assert rows is not None
            began = time.monotonic()
            table = lake.load()
            assert lake.append(table, rows, place(table), {key: 10 * n + 10}, "benchmark") is not None
            took_s.append(time.monotonic() - began)
            if n % MAINTAIN_EVERY == MAINTAIN_EVERY - 1:
                maintenance.run(settings)
    first, last = (1000 * statistics.median(part) for part in (took_s[:COMPARED], took_s[-COMPARED:]))
    print(f"a commit: {first:.0f} ms at first, {last:.0f} ms after {count}: {last / first:.2f} times", flush=True)


# ---- Spark -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def session(running: Servers, jars: Path) -> Iterator[Any]:
    """A warm session on two cores, over the same catalog."""
    from pyspark.sql import SparkSession

    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    began = time.monotonic()
    parts = urlsplit(running.postgres)
    catalog = {
        "": "org.apache.iceberg.spark.SparkCatalog",
        ".type": "jdbc",
        ".uri": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
        ".jdbc.user": parts.username,
        ".jdbc.password": unquote(parts.password or ""),
        ".jdbc.schema-version": "V1",
        ".warehouse": f"s3://{BUCKET}/warehouse",
        ".io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        ".s3.endpoint": f"http://127.0.0.1:{running.s3_port}",
        ".s3.path-style-access": "true",
        ".s3.access-key-id": "offload",
        ".s3.secret-access-key": PASSWORD,
        ".client.region": "us-east-1",
        ".cache-enabled": "false",
    }
    builder = SparkSession.builder.master("local[2]")
    for key, value in {
        "spark.driver.extraClassPath": f"{jars.resolve()}/*",
        "spark.driver.memory": "2g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        **{f"spark.sql.catalog.lake{key}": value for key, value in catalog.items()},
    }.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.range(1000).selectExpr("sum(id)").collect()
    print(f"Spark's session: {time.monotonic() - began:.1f} s", flush=True)
    try:
        yield spark
    finally:
        spark.stop()


def append_by_spark(spark: Any, running: Servers, offload: Offload) -> None:
    """The same rows, read from ClickHouse by the executors' Python, in one commit that carries the position."""
    client = urlsplit(running.clickhouse)
    login: dict[str, Any] = {
        "host": client.hostname,
        "port": client.port,
        "username": client.username,
        "password": unquote(client.password or ""),
    }
    found = running.sql("SELECT venue, symbol, min(trade_id), max(trade_id) FROM trades.silver_raw GROUP BY 1, 2")
    ranges = [
        (venue, symbol, first, min(first + TASK_IDS - 1, int(hi)))
        for venue, symbol, lo, hi in (line.split("\t") for line in found.splitlines())
        for first in range(int(lo), int(hi) + 1, TASK_IDS)
    ]

    def read(batches: Any) -> Iterator[Any]:
        import clickhouse_connect
        import pyarrow as pa

        reader = clickhouse_connect.get_client(**login, compress=False, autogenerate_session_id=False)
        asked = {"output_format_arrow_string_as_string": 1, "output_format_arrow_low_cardinality_as_dictionary": 0}
        for batch in batches:
            for row in batch.to_pylist():
                where = "venue = '{venue}' AND symbol = '{symbol}' AND trade_id BETWEEN {lo} AND {hi}".format(**row)
                with reader.query_arrow_stream(
                    f"SELECT {COLUMNS} FROM trades.silver WHERE {where}", settings=asked
                ) as stream:
                    for part in stream:
                        yield from pa.Table.from_batches([part]).to_batches(max_chunksize=20_000)

    source = spark.createDataFrame(ranges, "venue string, symbol string, lo long, hi long").repartition(len(ranges))
    table = f"lake.tests.{offload.name}"
    (
        source.mapInArrow(read, spark.table(table).schema)
        .writeTo(table)
        .option("snapshot-property.offload.position", json.dumps(offload.ends))
        .option("distribution-mode", "none")
        .option("fanout-enabled", "true")
        .append()
    )


@contextlib.contextmanager
def peak_mib() -> Iterator[list[float]]:
    """The memory of this process's descendants, together, at every look: a JVM and its Python workers."""
    seen, ended = [0.0], threading.Event()
    names = ("java", "python")

    def look() -> None:
        while not ended.wait(LOOK_EVERY_S):
            total = 0
            for process in descendants(os.getpid()):
                with contextlib.suppress(OSError, ValueError):
                    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                    if b"pyspark" in command and any(name.encode() in command for name in names):
                        total += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            seen.append(total * os.sysconf("SC_PAGE_SIZE") / 2**20)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    ended(main)
