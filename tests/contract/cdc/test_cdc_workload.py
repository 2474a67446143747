"""The workload on a real Postgres: the source holds what the tape says, however often either of them dies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gameday.system.polling import until
from pipelines.cdc import schema
from pipelines.cdc.tape import POISON_ID, TABLES
from tests.contract.cdc.rig import WAIT_S, Process, folded, held, until_done

pytestmark = pytest.mark.suite("cdc")

RATE = "40"


@pytest.fixture
def source(dsn: str) -> str:
    schema.apply(dsn, "source")
    return dsn


@pytest.fixture
def workload(source: str, tmp_path: Path) -> Iterator[Process]:
    process = Process(
        "workload", tmp_path / "workload", {"SOURCE_URL": source}, "--state", str(tmp_path / "tape"), "--rate", RATE
    )
    with process.running():
        yield process


def at_rest(workload: Process) -> tuple[dict[str, Any], dict[str, int]]:
    """The tape when what had begun is done, and no transaction begins."""
    workload.ask("/hold", {"s": 30})

    def rests() -> tuple[dict[str, Any], dict[str, int]] | None:
        tape = workload.ask("/tape")[1]
        begun = {shard: of["begun"] for shard, of in tape["shards"].items()}
        return (tape, begun) if all(tape["done"][shard] == j for shard, j in begun.items()) else None

    return until(rests, WAIT_S, 0.1, "what has begun to be done")


def assert_right(source: str, workload: Process) -> None:
    tape, done = at_rest(workload)
    assert min(done.values()) > 0
    for table in TABLES:
        assert held(source, table) == folded(tape, table, done)


def test_the_source_holds_what_the_tape_says(source: str, workload: Process) -> None:
    """Purged rows too are gone: 210 transactions are more than the life of most orders."""
    until_done(workload, "0", 210)
    assert_right(source, workload)


@pytest.mark.parametrize(
    ("point", "committed"),
    [("workload::before_commit", False), ("workload::after_commit", True)],
    ids=["killed before its commit", "killed behind its commit"],
)
def test_a_workload_that_dies_at_a_commit_goes_on_behind_it(
    source: str, workload: Process, point: str, committed: bool
) -> None:
    """It looks up whether the transaction happened: neither left out nor done twice."""
    until_done(workload, "1", 12)
    workload.stop()
    with psycopg.connect(source) as connection:
        before: dict[str, int] = dict(connection.execute("SELECT shard, j FROM workload").fetchall())
    workload.start(FAILPOINTS=f"{point}=20@kill")
    assert workload.process is not None
    workload.process.wait(WAIT_S)
    with psycopg.connect(source) as connection:
        after: dict[str, int] = dict(connection.execute("SELECT shard, j FROM workload").fetchall())
    assert sum(after.values()) - sum(before.values()) in ((19, 20) if not committed else (20, 21))
    workload.start()
    until_done(workload, "1", after["1"] + 5)
    assert_right(source, workload)


def test_an_answer_that_is_lost_is_looked_up_and_not_guessed(source: str, workload: Process) -> None:
    """The commits happened, and their answers never came; each is counted."""
    workload.stop()
    workload.start(FAILPOINTS="workload::after_commit=3,9,15@raise(OSError: the answer is lost)")
    until_done(workload, "0", 20)
    assert_right(source, workload)
    assert workload.log.read_text().count('"committed": true') >= 3


def test_a_source_that_is_away_is_waited_for(source: str, workload: Process) -> None:
    """Its sessions are ended again and again; what was cut off is done once."""
    until_done(workload, "0", 10)
    with psycopg.connect(source, autocommit=True) as connection:
        for place in range(20, 100, 20):
            until_done(workload, "0", place)
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'workload' "
                "AND datname = current_database()"
            )
    until_done(workload, "0", 100)
    assert_right(source, workload)


def test_a_source_that_lost_transactions_is_said(source: str, workload: Process, tmp_path: Path) -> None:
    """It has less than it had committed: nothing more is written, so that nobody takes it for right."""
    kept = tmp_path / "tape" / "tape.json"
    until(lambda: kept.exists() and json.loads(kept.read_text())["done"]["0"] > 3, WAIT_S, 0.1, "the tape to be saved")
    workload.kill()
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("UPDATE workload SET j = 3 WHERE shard = '0'")
    workload.start()
    until(lambda: workload.ask("/healthz")[0] == 503, WAIT_S, 0.1, "it to be said")
    told = workload.ask("/healthz")[1]
    assert "up to transaction 3, the tape says" in told["error"]
    assert workload.ask("/tape")[0] == 503


def test_a_burst_and_its_end_are_on_the_tape_before_they_happen(source: str, workload: Process) -> None:
    """One transaction of a thousand rows that are a day old."""
    status, burst = workload.ask("/burst", {"shard": "1", "rows": 1000, "age_s": 86_400})
    assert (status, burst["rows"]) == (200, 1000)
    until_done(workload, "1", burst["j"] + 1)
    assert_right(source, workload)
    assert len(held(source, "orders")) > 1000


def test_what_is_asked_for_under_a_key_is_done_once(workload: Process) -> None:
    """However often it is asked for; whether it is carried out is told, and that nothing was asked for."""
    until_done(workload, "1", 1)
    assert workload.ask("/asked/k1")[0] == 404
    first = workload.ask("/burst", {"shard": "1", "rows": 10, "key": "k1"})
    assert first[0] == 200
    assert workload.ask("/burst", {"shard": "1", "rows": 10, "key": "k1"}) == first
    until(lambda: workload.ask("/asked/k1")[1]["done"], WAIT_S, 0.1, "it to be carried out")
    assert workload.ask("/tape")[1]["bursts"] == [first[1]]


def test_the_shape_changes_for_both_shards_at_once(source: str, workload: Process) -> None:
    """Whatever was under way; each row has the column that its last change's shape had."""
    until_done(workload, "1", 15)
    for kind in ("mid_transaction", "rename", "drop", "add_default"):
        status, told = workload.ask("/schema", {"kind": kind})
        assert status == 200
        for shard, j in told["j"].items():
            until_done(workload, shard, j + 4)
    assert_right(source, workload)
    assert workload.ask("/healthz")[1]["ok"]
    status, told = workload.ask("/schema", {"kind": "add"})
    assert (status, told["error"]) == (400, "kind is 'add', but orders have a column tier. Remedy: drop first")


def test_poison_is_in_the_source_and_of_no_group(source: str, workload: Process) -> None:
    """Its number and id are told."""
    status, told = workload.ask("/poison", {"kind": "type"})
    assert (status, told["id"]) == (200, POISON_ID)
    until_done(workload, "9", 1)
    with psycopg.connect(source) as connection:
        rows = connection.execute("SELECT id, change, amount FROM orders WHERE shard = 9").fetchall()
    assert rows == [(POISON_ID, 1, 2 * 10**14)]
    assert_right(source, workload)


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("/burst", {"rows": 0}, "rows is 0. Remedy: a number from 1 to 50000"),
        ("/burst", {"shard": "7", "rows": 5}, "shard is '7'. Remedy: one of 0, 1"),
        ("/poison", {"kind": "x"}, "kind is 'x'. Remedy: one of check, unique, fk, not_null, type, malformed"),
        ("/schema", {"kind": "rename"}, "kind is 'rename', but orders have no column besides. Remedy: add first"),
        ("/hold", {"s": 3600}, "s is 3600. Remedy: a number from 0 to 60"),
    ],
)
def test_what_makes_no_sense_is_refused(workload: Process, path: str, body: dict[str, Any], why: str) -> None:
    """With the value and the remedy."""
    assert workload.ask(path, body) == (400, {"error": why})
