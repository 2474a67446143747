"""What a team has done once: topics, tables, the watermark's row, the Iceberg table, the deployment. `python -m
tests.docker.theirs.prepare`, run where the published ports are."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from compose.servers import kafka, postgres
from compose.service import answers
from gameday.system.polling import until
from pipelines.trades.schema import query
from tests.docker.theirs import flow, lake

VENUES = ("binance", "kraken", "coinbase")
SERVE_WITHIN_S = 180.0

WATERMARKS = """
CREATE TABLE IF NOT EXISTS offload_watermarks
    (table_name text PRIMARY KEY, last_offload_timestamp timestamptz NOT NULL, status text DEFAULT 'initialized');
INSERT INTO offload_watermarks (table_name, last_offload_timestamp) VALUES ('silver_trades', 'epoch')
    ON CONFLICT DO NOTHING"""


def serving(url: str) -> None:
    """Wait until the server answers its own protocol."""
    until(lambda: answers(url, 2.0), SERVE_WITHIN_S, 0.5, url.rpartition("@")[2])


def main() -> None:
    """Each thing once its server serves."""
    env = os.environ
    first = f"{env['K2_POSTGRES'].rpartition('/')[0]}/postgres"
    serving(first)
    for name in ("prefect", "gameday", "lake"):
        postgres.create_database(first, name)
    with psycopg.connect(env["K2_POSTGRES"], autocommit=True) as connection:
        for statement in WATERMARKS.split(";"):
            connection.execute(statement.encode())
    serving(f"kafka://{env['K2_BROKER']}")
    kafka.create_topics(env["K2_BROKER"], {f"market.crypto.trades.{venue}": 1 for venue in VENUES})
    serving(f"http://{env['K2_CLICKHOUSE']}/ping")
    text = "".join(
        line
        for line in Path(__file__).with_name("schema.sql").read_text().splitlines(keepends=True)
        if not line.startswith("--")
    )
    for statement in filter(str.strip, text.split(";")):
        for venue in VENUES:
            query(env["K2_CLICKHOUSE_URL"], statement.strip().replace("{venue}", venue))
    serving(f"s3://{env['K2_MINIO_USER']}:{env['K2_MINIO_PASSWORD']}@{env['K2_MINIO']}")
    lake.create()
    serving(f"http://{env['K2_PREFECT']}/api/health")
    flow.deploy()


if __name__ == "__main__":
    main()
