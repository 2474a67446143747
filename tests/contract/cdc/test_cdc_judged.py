"""gameday's ledger of rows that change and go: what a sink did wrong is found at its hop, with its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from gameday.errors import DriverError
from gameday.model import Verdict
from pipelines.cdc.tape import SHARDS, transaction
from tests.contract.cdc.debezium import Log
from tests.contract.cdc.judging import Judge, judge, taped
from tests.contract.cdc.rig import sinking, until_applied

pytestmark = pytest.mark.suite("cdc")

START_US = 1_790_000_000_000_000
J = 214
"""Transactions after which the first orders are gone."""


def tape(begun: int, **more: Any) -> dict[str, Any]:
    shards = {shard: {"begun": begun, "segments": [[1, START_US, 100_000]]} for shard in SHARDS}
    return {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": [], **more}


@pytest.fixture
def right(target: str, log: Log, tmp_path: Path) -> Iterator[Judge]:
    """A target that a healthy sink has made."""
    told = tape(J)
    log.transactions(told, 0, J)
    with sinking(log, target):
        until_applied(log, target)
    with taped(told) as url:
        yield judge(tmp_path, log, target, url)


def spoil(target: str, *sql: str) -> None:
    with psycopg.connect(target) as connection:
        for one in sql:
            assert connection.execute(one.encode()).rowcount > 0


def test_of_a_healthy_target_nothing_differs(right: Judge) -> None:
    """Neither its rows as of the place that they show, nor its history; nor the topic."""
    assert right.damage() == {}
    assert set(right.verdicts().values()) == {Verdict.PASS}


def test_each_kind_of_damage_has_its_key(right: Judge, target: str) -> None:
    """Though as many rows are there as should be: one is lost, and a deleted one is there."""
    spoil(
        target,
        "DELETE FROM orders WHERE id = 300",
        "INSERT INTO orders SELECT 4, shard, change, customer_id, status, amount, note, note_md5, facts, at, _lsn "
        "FROM orders WHERE id = 302",
        "UPDATE items SET amount = amount + 0.0001 WHERE id = (SELECT min(id) FROM items WHERE shard = 1)",
        "DELETE FROM history WHERE tbl = 'customers' AND shard = 0 AND change = 7",
    )
    found = right.damage()
    assert found.pop(("target", "lost")) == ["orders/300"]
    assert found.pop(("target", "ghost")) == ["orders/4"]
    assert len(found.pop(("target", "changed"))) == 1
    assert found == {("history", "lost"): [["customers/0", 1]]}
    assert set(right.verdicts().values()) == {Verdict.FAIL}


def test_a_target_is_judged_as_of_the_place_that_it_shows(right: Judge, target: str, log: Log) -> None:
    """Traffic goes on: what is still in the log is not missing."""
    later = tape(J + 30)
    with taped(later) as url:
        right.stack.streams["rows"].hops["tape"].url = url  # type: ignore[attr-defined]
        ahead = dict(right.stack.hops["target"].state().position)  # type: ignore[attr-defined]
        state = right.stack.hops["tape"].state(ahead)  # type: ignore[attr-defined]
    assert state.position == ahead
    assert len(state) == len(right.stack.hops["target"].state())  # type: ignore[attr-defined]


def test_a_place_that_the_tape_never_had_is_said(right: Judge) -> None:
    """A number above its newest change, and a group that it has not."""
    hop: Any = right.stack.hops["tape"]
    with pytest.raises(DriverError, match=r"nothing is known of change 999999 of 'orders/0': the tape has had only"):
        hop.state({"orders/0": 999_999})
    with pytest.raises(DriverError, match=r"change 1 of 'orders/7': the tape has customers/0"):
        hop.state({"orders/7": 1})


def test_a_topic_that_was_not_told_of_a_deletion_differs_at_the_topic(target: str, log: Log, tmp_path: Path) -> None:
    """The row stays alive there, and so it does behind it."""
    told = tape(J)
    last = next(c for c in transaction(told, "0", J - 1, "orders") if c.op == "d")
    log.transactions(told, 0, J - 2)
    for shard in SHARDS:
        for change in [*transaction(told, shard, J - 1), *transaction(told, shard, J)]:
            if change != last:
                log.change(change)
    with sinking(log, target):
        until_applied(log, target)
    with taped(told) as url:
        found = judge(tmp_path, log, target, url).damage()
    assert found[("topic", "ghost")] == [f"orders/{last.row['id']}"]
