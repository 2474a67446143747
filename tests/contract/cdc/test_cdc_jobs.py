"""What failure tests ask of the CDC platform: on a real workload and a real source, without Connect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from compose.cdc.jobs import Order, Snapshot, TaskRestart
from gameday.errors import DriverError
from gameday.system.polling import until
from pipelines.cdc import schema
from tests.contract.cdc.rig import WAIT_S, Process, until_done

pytestmark = pytest.mark.suite("cdc")

NOWHERE = "http://127.0.0.1:1"
TABLES = ("public.customers", "public.orders", "public.items")


@pytest.fixture
def source(dsn: str) -> str:
    schema.apply(dsn, "source")
    return dsn


@pytest.fixture
def workload(source: str, tmp_path: Path) -> Iterator[Process]:
    process = Process("workload", tmp_path / "workload", {"SOURCE_URL": source}, "--state", str(tmp_path / "tape"))
    with process.running():
        until_done(process, "1", 1)
        yield process


def order(workload: Process, path: str, **more: object) -> Order:
    return Order(f"http://127.0.0.1:{workload.port}", path, **more)  # type: ignore[arg-type]


def carried_out(job: Order, key: str) -> bool:
    run = job.find(key)
    assert run is not None
    return not run.waits


def test_an_order_has_run_when_the_source_has_it(source: str, workload: Process) -> None:
    """Not before; a key that was never asked for has no run; a second time of the same key is the same run."""
    job = order(workload, "/burst", body={"rows": 500, "age_s": 60})
    assert job.find("k") is None
    job.trigger("k", {})
    job.trigger("k", {})
    until(lambda: carried_out(job, "k"), WAIT_S, 0.1, "the burst")
    assert len(workload.ask("/tape")[1]["bursts"]) == 1
    with psycopg.connect(source) as connection:
        rows = connection.execute("SELECT count(*) FROM orders WHERE id > 10^12").fetchone()
    assert rows == (500,)
    assert job.hindrances(None) == ()


def test_what_would_stay_is_taken_back_once(source: str, workload: Process) -> None:
    """A column is dropped again, and by nobody who did not ask for it; where it is dropped already nothing is
    refused."""
    job = order(workload, "/schema", body={"kind": "add"}, undo={"kind": "drop"})
    job.trigger("k", {})
    until(lambda: carried_out(job, "k"), WAIT_S, 0.1, "the column")
    job.withdraw("another")
    assert [one["kind"] for one in workload.ask("/tape")[1]["versions"]] == ["add"]
    job.withdraw("k")
    job.withdraw("k")
    until(lambda: carried_out(job, "k-undone"), WAIT_S, 0.1, "the column's end")
    job.withdraw("k")
    assert [one["kind"] for one in workload.ask("/tape")[1]["versions"]] == ["add", "drop"]
    with psycopg.connect(source) as connection:
        columns = connection.execute("SELECT * FROM orders LIMIT 0").description or []
    assert "tier" not in {column.name for column in columns}


def test_what_is_refused_is_told_in_the_workload_s_words(workload: Process) -> None:
    """And one that is not there: it can't have done anything."""
    with pytest.raises(DriverError, match=r"answered 400: .*kind is 'rename'.*add first") as refused:
        order(workload, "/schema", body={"kind": "rename"}).trigger("k", {})
    assert refused.value.definite
    with pytest.raises(DriverError, match="refused") as away:
        Order(NOWHERE, "/burst").trigger("k", {})
    assert away.value.definite
    (why,) = Order(NOWHERE, "/burst").hindrances(None)
    assert "refused" in why.why


def test_a_snapshot_has_run_when_each_table_has_been_read(source: str) -> None:
    """Debezium writes the end of each of its windows into the signal table; those of an earlier snapshot don't
    count."""
    job = Snapshot(source, TABLES)
    with psycopg.connect(source, autocommit=True) as connection:
        text = "INSERT INTO debezium_signal VALUES (%s, 'snapshot-window-close', '{}')"
        connection.execute(text, ["earlier"])
        assert job.find("k") is None
        job.trigger("k", {})
        job.trigger("k", {})
        for window in TABLES:
            run = job.find("k")
            assert run is not None
            assert run.waits
            connection.execute(text, [window])
        signals = connection.execute("SELECT id, type FROM debezium_signal WHERE type = 'execute-snapshot'").fetchall()
    run = job.find("k")
    assert run is not None
    assert not run.waits
    assert signals == [("k", "execute-snapshot")]


def test_a_task_that_does_not_run_is_not_restarted(source: str) -> None:
    """Nobody reads its slot: there is nothing whose end could be seen."""
    job = TaskRestart(source, NOWHERE, "cdc", "none")
    with pytest.raises(DriverError, match="nobody reads slot none") as told:
        job.trigger("k", {})
    assert told.value.definite
    assert job.find("k") is None
