"""Reads and checks the offload's environment. No text made from it has passwords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pipelines.trades.addresses import BROKERS, DSN, HTTP

__all__ = ["ConfigError", "OffloadError", "Settings"]


class OffloadError(Exception):
    """A run can't go on. The message names the server, its endpoint and the remedy; no password is in it."""


class ConfigError(OffloadError):
    """A variable is missing or wrong."""


@dataclass(frozen=True)
class Settings:
    """Each field is the variable OFFLOAD_<NAME>."""

    clickhouse_url: str = field(repr=False)
    """http://USER:PASSWORD@HOST:PORT"""
    brokers: str
    """HOST:PORT,... where the offsets of `group` are committed"""
    topics: str
    """of silver's trades, separated by commas"""
    s3_endpoint: str
    """http://HOST:PORT"""
    s3_access_key: str
    s3_secret_key: str = field(repr=False)
    warehouse: str
    """s3://BUCKET/PREFIX"""
    catalog_dsn: str = field(repr=False)
    """postgresql://USER:PASSWORD@HOST:PORT/DATABASE of the Iceberg catalog"""
    mirror_dsn: str = field(repr=False)
    """the same of the table offload_watermarks"""
    group: str = "clickhouse"
    """ClickHouse's consumer group"""
    table: str = "trades.silver"
    """<namespace>.<name> in the catalog"""
    s3_region: str = "us-east-1"
    commit_rows: int = 160_000
    """of one commit at most; memory grows with it"""
    keep_snapshots: int = 40
    """newest ones that maintenance keeps, for those who compare them; every commit reads and writes all there are"""
    orphan_age_s: int = 86_400
    """what nothing refers to is swept when it is older than this"""
    interval_s: int = 900
    """between two scheduled runs"""
    maintenance_interval_s: int = 3_600
    answer_s: int = 30
    """how long ClickHouse may be silent in the middle of an answer; what others may take is a share of it"""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ConfigError naming the first variable that is missing or wrong, and what it must be."""
        given = {name: environment.get(f"OFFLOAD_{name.upper()}", "") for name in cls.__dataclass_fields__}
        for name, pattern in SHAPES.items():
            if (given[name] or name not in cls.__dict__) and not re.fullmatch(pattern, given[name]):
                state = "missing" if not given[name] else "not as it must be"
                raise ConfigError(
                    f"OFFLOAD_{name.upper()} is {state}. Remedy: set it to something like {EXAMPLES[name]}"
                )
        return cls(**{k: int(v) if SHAPES[k] == NUMBER else v for k, v in given.items() if v})  # type: ignore[arg-type]

    @property
    def request_s(self) -> float:
        """The time-out of a request to S3, a statement in Postgres, and a question to the brokers."""
        return self.answer_s / 3

    @property
    def connect_s(self) -> int:
        """The time-out of a connection. Postgres's client counts whole seconds, at least two."""
        return max(2, self.answer_s // 6)

    @property
    def clickhouse(self) -> str:
        """ClickHouse's address, to be shown."""
        return urlsplit(self.clickhouse_url).netloc.rpartition("@")[2]

    @property
    def postgres(self) -> str:
        """The catalog's address, to be shown."""
        return urlsplit(self.catalog_dsn).netloc.rpartition("@")[2]

    @property
    def postgres_of_mirror(self) -> str:
        """The mirror's address, to be shown."""
        return urlsplit(self.mirror_dsn).netloc.rpartition("@")[2]


NUMBER = r"[1-9][0-9]*"
SHAPES: Mapping[str, str] = {
    "clickhouse_url": HTTP,
    "brokers": BROKERS,
    "topics": r"[\w.-]+(,[\w.-]+)*",
    "s3_endpoint": HTTP,
    "s3_access_key": r".+",
    "s3_secret_key": r".+",
    "warehouse": r"s3://[^/]+/.+",
    "catalog_dsn": DSN,
    "mirror_dsn": DSN,
    "group": r".+",
    "table": r"\w+\.\w+",
    "s3_region": r"[\w-]+",
    "commit_rows": NUMBER,
    "keep_snapshots": NUMBER,
    "orphan_age_s": NUMBER,
    "interval_s": NUMBER,
    "maintenance_interval_s": NUMBER,
    "answer_s": NUMBER,
}
EXAMPLES: Mapping[str, str] = {
    "clickhouse_url": "http://USER:PASSWORD@HOST:8123",
    "brokers": "HOST:9092,HOST:9092",
    "topics": "market.crypto.trades.binance,market.crypto.trades.kraken",
    "s3_endpoint": "http://HOST:9000",
    "s3_access_key": "the key's name",
    "s3_secret_key": "the key's secret",
    "warehouse": "s3://BUCKET/PREFIX",
    "catalog_dsn": "postgresql://USER:PASSWORD@HOST:5432/DATABASE",
    "mirror_dsn": "postgresql://USER:PASSWORD@HOST:5432/DATABASE",
    "group": "clickhouse",
    "table": "NAMESPACE.NAME",
    "s3_region": "us-east-1",
    "commit_rows": "160000",
    "keep_snapshots": "40",
    "orphan_age_s": "86400",
    "interval_s": "900",
    "maintenance_interval_s": "3600",
    "answer_s": "30",
}
