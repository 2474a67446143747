"""What failure tests break of the CDC platform by jobs: on a real log and a real database, without Connect."""

from __future__ import annotations

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from compose.cdc.harms import LogCut, SlotDropped
from gameday.errors import DriverError
from gameday.ports import Harms
from pipelines.cdc.tape import TABLES
from tests.contract.cdc.debezium import Log

pytestmark = pytest.mark.suite("cdc")

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def target(target: str) -> str:
    """With the source's table of what was asked for."""
    with psycopg.connect(target) as connection:
        connection.execute(
            "CREATE TABLE asked (key text PRIMARY KEY, told jsonb NOT NULL, at timestamptz DEFAULT now())"
        )
    return target


def cut(log: Log, target: str) -> LogCut:
    topics = tuple(log.topic(table) for table in TABLES)
    return LogCut(target, NOWHERE, "cdc", "cdc", target, log.broker, topics, NOWHERE)


def starts(log: Log) -> list[int]:
    consumer = Consumer({"bootstrap.servers": log.broker, "group.id": log.prefix})
    try:
        return [consumer.get_watermark_offsets(TopicPartition(log.topic(t), 0), 10)[0] for t in TABLES]
    finally:
        consumer.close()


def test_a_log_is_cut_only_where_that_takes_something_from_the_sink(target: str, log: Log) -> None:
    """It is broken until the sink's place is behind the cut, by whomever; and of an act that never was, nothing is."""
    job = cut(log, target)
    assert isinstance(job, Harms)
    with pytest.raises(DriverError, match="would take nothing from it") as told:
        job.met()
    assert told.value.definite
    for table in TABLES:
        for _ in range(5):
            log.put(table, None, b"{}")
    log.flush()
    assert job.met() == {log.topic(table): [0, 5, 0] for table in TABLES}
    assert job.broken("k") is None
    job.trigger("k", {})
    assert starts(log) == [5, 5, 5]
    lacking = job.broken("k")
    assert lacking is not None
    assert f"it lacks 5 of {log.topic('customers')}" in lacking
    assert job.broken("another") is None
    with psycopg.connect(target) as connection:
        for table in TABLES:
            connection.execute("INSERT INTO cdc_position VALUES (%s, 0, 5)", [log.topic(table)])
    assert job.broken("k") is None
    job.withdraw("k")  # nobody has to be asked: nothing is broken


def test_a_slot_that_is_lost_already_is_not_lost_again(target: str, log: Log) -> None:
    """That would prove the fault by what was there before."""
    topics = tuple(log.topic(table) for table in TABLES)
    job = SlotDropped(target, NOWHERE, "cdc", "none", target, log.broker, topics, NOWHERE)
    assert isinstance(job, Harms)
    with pytest.raises(DriverError, match="slot none is lost already") as told:
        job.met()
    assert told.value.definite
    assert job.broken("k") is None
