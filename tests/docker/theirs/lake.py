"""A team's Iceberg table in its catalog, seen from wherever the addresses lead."""

from __future__ import annotations

import os
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, LongType, NestedField, StringType, TimestamptzType

TABLE = "cold.silver_trades"


def catalog() -> Any:
    """From the environment."""
    return load_catalog(
        "k2",
        **{
            "type": "sql",
            "uri": os.environ["K2_CATALOG"],
            "warehouse": os.environ["K2_WAREHOUSE"],
            "s3.endpoint": f"http://{os.environ['K2_MINIO']}",
            "s3.access-key-id": os.environ["K2_MINIO_USER"],
            "s3.secret-access-key": os.environ["K2_MINIO_PASSWORD"],
            "s3.region": "us-east-1",
        },
    )


def create() -> None:
    """The table, with columns that may be null, as Spark makes them."""
    columns = {
        "exchange": StringType(),
        "symbol": StringType(),
        "source_sequence": LongType(),
        "price": DecimalType(38, 8),
        "quantity": DecimalType(38, 8),
        "side": StringType(),
        "timestamp": TimestamptzType(),
    }
    fields = [NestedField(n, name, kind, required=False) for n, (name, kind) in enumerate(columns.items(), start=1)]
    here = catalog()
    here.create_namespace_if_not_exists("cold")
    here.create_table_if_not_exists(TABLE, Schema(*fields))
