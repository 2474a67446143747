"""The CDC platform's target, and its log, for tests that bring a sink between them."""

from __future__ import annotations

import pytest

from pipelines.cdc import schema
from tests.contract.cdc.debezium import Log


@pytest.fixture
def target(dsn: str) -> str:
    schema.apply(dsn, "target")
    return dsn


@pytest.fixture
def log(broker: str) -> Log:
    return Log(broker)
