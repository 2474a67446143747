"""The sink on a real Kafka and a real Postgres: what becomes of each kind of message, and of a batch that fails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.rows import dict_row

from gameday.system.polling import until
from pipelines.cdc.messages import NOT_SENT
from pipelines.cdc.tape import KINDS, POISON_ID, SHARDS, TABLES, Change, poison, transaction
from tests.contract.cdc.debezium import Log, envelope, key_of, row_of
from tests.contract.cdc.rig import WAIT_S, Process, folded, held, sinking, until_applied

pytestmark = pytest.mark.suite("cdc")

START_US = 1_790_000_000_000_000
J = 30
WHOLE = 230
"""Transactions after which most orders of the first ones are gone."""


def tape(begun: int = WHOLE, **more: Any) -> dict[str, Any]:
    shards = {shard: {"begun": begun, "segments": [[1, START_US, 100_000]]} for shard in SHARDS}
    return {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": [], **more}


def rows(dsn: str, sql: str, *values: Any) -> list[dict[str, Any]]:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return connection.execute(sql.encode(), values).fetchall()


def assert_right(target: str, told: Mapping[str, Any], upto: int) -> None:
    """Each row is as the tape says, and each change was applied once."""
    done = dict.fromkeys(SHARDS, upto)
    for table in TABLES:
        have, should = held(target, table), folded(told, table, done)
        assert {k: (v, should.get(k)) for k, v in have.items() if v != should.get(k)} == {}, table
        assert have.keys() == should.keys()
    numbers = rows(target, "SELECT tbl, shard, count(*) AS n, max(change) AS last FROM history GROUP BY tbl, shard")
    assert len(numbers) == 6
    assert all(one["n"] == one["last"] for one in numbers)


def order(log: Log, number: int, op: str = "c", **values: Any) -> Change:
    """A change of order 2 beside the tape's."""
    (first, *_) = transaction(tape(), "0", 1, "orders")
    return Change("orders", number, op, {**first.row, "change": number, **values})


def test_the_target_is_what_the_tape_says(target: str, log: Log) -> None:
    """Rows, deletions, large notes that updates did not send, amounts, times; and the history has each change once."""
    log.transactions(tape(), 0, WHOLE)
    with sinking(log, target):
        until_applied(log, target)
    assert_right(target, tape(), WHOLE)
    assert rows(target, "SELECT 1 FROM items WHERE md5(note) IS DISTINCT FROM note_md5") == []
    assert rows(target, "SELECT 1 FROM items WHERE note = %s", NOT_SENT) == []
    large = rows(target, "SELECT count(*) AS n FROM items WHERE status = 'shipped' AND length(note) > 8000")
    assert large[0]["n"] > 0


def test_what_comes_again_changes_nothing(target: str, log: Log) -> None:
    """Changes that are sent twice, also those of rows that are gone since."""
    log.transactions(tape(), 0, WHOLE)
    lsn = 1_000
    with sinking(log, target) as sink:
        until_applied(log, target)
        for j in range(1, WHOLE + 1):
            for shard in SHARDS:
                for change in transaction(tape(), shard, j):
                    lsn += 8
                    log.change(change, lsn)
        until_applied(log, target)
        assert_right(target, tape(), WHOLE)
        counted = sink.registry.get_sample_value("sink_repeats_total")
    assert counted == sum(len(transaction(tape(), shard, j)) for shard in SHARDS for j in range(1, WHOLE + 1))


POINTS = ("before_apply", "mid_batch", "before_position", "before_commit", "after_commit", "dead_letter")


@pytest.mark.parametrize("point", POINTS)
def test_a_sink_that_is_killed_leaves_all_of_a_batch_or_nothing(
    target: str, log: Log, tmp_path: Path, point: str
) -> None:
    """Killed at the fourth batch, wherever it is: rows, history, dead letters, heads and place say the same; and when
    it goes on, each change is applied once."""
    bad = tape(J, poison=[{"kind": "check", "at_us": START_US}])
    process = Process("sink", tmp_path, {"TARGET_URL": target}, "--brokers", log.broker, "--prefix", log.prefix)
    hits = {"mid_batch": "4@", "dead_letter": ""}.get(point, "3@")
    with process.running(FAILPOINTS=f"sink::{point}={hits}kill"):
        log.change(Change("orders", 1, "c", poison(bad, 0)))
        for j in range(J):
            if process.ended() is not None:
                break
            log.transactions(bad, j, j + 1)
            until(lambda: process.ended() is not None or applied(log, target), WAIT_S, 0.05, "a batch or its end")
        until(lambda: process.ended() is not None, WAIT_S, 0.05, "the failpoint to kill")
        sent = log.sent
        assert_of_one_moment(target, log)
        process.start()
        log.transactions(bad, sent, J)
        until_applied(log, target)
    assert_right_but_poison(target, bad)


def applied(log: Log, target: str) -> bool:
    places = {row["topic"]: row["next"] for row in rows(target, "SELECT topic, next FROM cdc_position")}
    return all(places.get(topic, 0) >= end for topic, end in log.ends.items())


def assert_of_one_moment(target: str, log: Log) -> None:
    """The history has what is below the place, and nothing else; the heads are its newest numbers."""
    found = rows(
        target,
        "SELECT p.topic, p.next, (SELECT max(log_offset) FROM history WHERE log_topic = p.topic) AS last "
        "FROM cdc_position AS p",
    )
    assert all(one["last"] is None or one["last"] < one["next"] for one in found)
    wrong = rows(
        target,
        "SELECT h.tbl, h.shard, h.change, max(x.change) AS had FROM heads AS h LEFT JOIN history AS x "
        "USING (tbl, shard) WHERE h.shard < 9 GROUP BY h.tbl, h.shard, h.change HAVING h.change <> max(x.change)",
    )
    assert wrong == []
    for table in TABLES:
        last = rows(target, f"SELECT max(change) AS n FROM {table} WHERE shard < 9")[0]["n"] or 0
        head = rows(target, "SELECT max(change) AS n FROM heads WHERE tbl = %s AND shard < 9", table)[0]["n"] or 0
        assert last <= head


def assert_right_but_poison(target: str, told: Mapping[str, Any]) -> None:
    for table in TABLES:
        assert held(target, table) == folded(told, table, dict.fromkeys(SHARDS, J)), table
    numbers = rows(target, "SELECT tbl, shard, count(*) AS n, max(change) AS last FROM history GROUP BY tbl, shard")
    assert all(one["n"] == one["last"] for one in numbers)
    assert [row["id"] for row in rows(target, "SELECT id FROM dead_letters")] == [POISON_ID]


CONSTRAINTS = {
    "check": ("23514", "orders_amount_check", None, "Failing row contains"),
    "unique": ("23505", "orders_serial_key", None, "already exists"),
    "fk": ("23503", "orders_status_fk", None, "is not present in table"),
    "not_null": ("23502", None, "amount", "Failing row contains"),
    "type": ("22003", None, None, "must round to an absolute value less than"),
    "malformed": (None, None, None, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_refused_for_good_is_a_dead_letter_and_its_neighbours_are_applied(
    target: str, log: Log, kind: str
) -> None:
    """In the middle of one batch. It names table, row, rule, kind and value; the history hasn't the change."""
    bad = tape(J, poison=[{"kind": kind, "at_us": START_US}])
    log.transactions(bad, 0, J // 2)
    log.change(Change("orders", 1, "c", poison(bad, 0)))
    log.transactions(bad, J // 2, J)
    with sinking(log, target) as sink:
        until_applied(log, target)
        assert sink.health()["ok"]
    assert_right(target, bad, J)
    (letter,) = rows(target, "SELECT * FROM dead_letters")
    state, constraint, column, detail = CONSTRAINTS[kind]
    assert (letter["tbl"], letter["id"], letter["change"], letter["kind"]) == ("orders", POISON_ID, 1, kind)
    assert (letter["sqlstate"], letter["constraint_name"], letter["column_name"]) == (state, constraint, column)
    if detail is None:
        assert f"poison: {kind}" in letter["value"]
    else:
        assert detail in letter["detail"]
        assert letter["value"]["note"] == f"poison: {kind}"
    assert rows(target, "SELECT 1 FROM history WHERE shard = 9") == []


@pytest.mark.parametrize("kind", ["check", "malformed"])
def test_a_snapshot_that_ends_with_a_row_that_is_refused_sweeps(target: str, log: Log, kind: str) -> None:
    """Poison has the highest key, so each snapshot ends with it; and it is put aside once, however often it is read."""
    bad = tape(J, poison=[{"kind": kind, "at_us": START_US}])
    change = Change("orders", 1, "c", poison(bad, 0))
    log.transactions(bad, 0, J)
    log.change(change)
    read = envelope("orders", "r", None, row_of(change), log.lsn + 100, snapshot="last_in_data_collection")
    log.put("orders", key_of(POISON_ID), read)
    with sinking(log, target):
        until_applied(log, target)
    assert rows(target, "SELECT 1 FROM orders WHERE shard < 9") == []
    assert [row["op"] for row in rows(target, "SELECT op FROM dead_letters")] == ["c"]


def test_a_message_that_cant_be_read_is_a_dead_letter_too(target: str, log: Log) -> None:
    """Its neighbours are applied."""
    log.transactions(tape(), 0, 5)
    log.put("orders", key_of(2), b"\xffbroken")
    log.transactions(tape(), 5, J)
    with sinking(log, target):
        until_applied(log, target)
    assert_right(target, tape(), J)
    (letter,) = rows(target, "SELECT tbl, kind, message, place FROM dead_letters")
    assert (letter["tbl"], letter["kind"]) == ("orders", "malformed")
    assert letter["message"].startswith("it is no change event of Debezium's")


@pytest.mark.parametrize("state", ["40001", "40P01", "57P01", "08006"])
def test_an_error_that_passes_is_retried_and_seen_by_nobody(target: str, log: Log, tmp_path: Path, state: str) -> None:
    """Every third time that it writes rows; no dead letter, and nothing twice."""
    process = Process("sink", tmp_path, {"TARGET_URL": target}, "--brokers", log.broker, "--prefix", log.prefix)
    with process.running(FAILPOINTS=f"sink::execute=2,5,8,11@return({state})"):
        for j in range(0, J, 5):
            log.transactions(tape(), j, j + 5)
            until_applied(log, target)
    assert_right(target, tape(), J)
    assert rows(target, "SELECT 1 FROM dead_letters") == []
    assert process.evidence.read_text().count("sink::execute") == 4


def test_sessions_that_the_target_ends_are_begun_anew(target: str, log: Log) -> None:
    """Ten times; a commit whose answer is lost is looked up."""
    with sinking(log, target), psycopg.connect(target, autocommit=True) as connection:
        for j in range(0, 50, 5):
            log.transactions(tape(), j, j + 5)
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sink'")
            until_applied(log, target)
    assert_right(target, tape(), 50)


def test_an_answer_to_a_commit_that_is_lost_is_looked_up(target: str, log: Log, tmp_path: Path) -> None:
    """The batch was committed, so it is not applied again, and the sink is not fenced by itself."""
    process = Process("sink", tmp_path, {"TARGET_URL": target}, "--brokers", log.broker, "--prefix", log.prefix)
    with process.running(FAILPOINTS="sink::after_commit=2,4@raise(OSError: lost)"):
        for j in range(0, J, 5):
            log.transactions(tape(), j, j + 5)
            until_applied(log, target)
        assert process.ask("/healthz")[0] == 200
    assert_right(target, tape(), J)


def test_a_column_that_is_added_is_added_with_its_type(target: str, log: Log) -> None:
    """And one that is gone is NULL from the row's next change on; rows that nobody changed keep what they had."""
    told = tape(J, versions=[{"kind": "mid_transaction", "j": dict.fromkeys(SHARDS, 11)}])
    log.transactions(told, 0, 20)
    with sinking(log, target):
        until_applied(log, target)
        (column,) = rows(
            target,
            "SELECT data_type FROM information_schema.columns WHERE table_name = 'orders' AND column_name = 'tier'",
        )
        assert column["data_type"] == "text"
        wrong = [
            (row["id"], row["tier"])
            for row in rows(target, "SELECT id, tier, change FROM orders WHERE shard < 9")
            if row["tier"] != last(told, 20, row["id"]).row.get("tier")
        ]
        assert wrong == []
        told["versions"].append({"kind": "rename", "j": dict.fromkeys(SHARDS, 21)})
        log.transactions(told, 20, J)
        until_applied(log, target)
    for row in rows(target, "SELECT id, tier, grade FROM orders WHERE shard < 9"):
        right = last(told, J, row["id"]).row
        assert (row["tier"], row["grade"]) == (right.get("tier"), right.get("grade"))


def last(told: Mapping[str, Any], upto: int, id_: int) -> Change:
    """The last change of an order."""
    shard = str(id_ % 2)
    return [
        change
        for j in range(1, upto + 1)
        for change in transaction(told, shard, j, "orders")
        if change.row["id"] == id_
    ][-1]


@pytest.mark.parametrize(("defect", "there"), [("", [77]), ("keep_old_key", [2, 77])])
def test_a_change_of_the_key_moves_the_row(target: str, log: Log, defect: str, there: list[int]) -> None:
    """A deletion that says that there is a new key, a tombstone, and a creation, all with one LSN and one number."""
    row = row_of(order(log, 2, id=77))
    before = {"id": 2, "shard": 0, "change": 1}
    log.change(order(log, 1))
    with sinking(log, target, defect):
        until_applied(log, target)
        log.put("orders", key_of(2), envelope("orders", "d", before, None, 5_000), ["__debezium.newkey"])
        log.put("orders", key_of(2), None)
        log.put("orders", key_of(77), envelope("orders", "c", None, row, 5_000))
        until_applied(log, target)
    assert sorted(held(target, "orders")) == there
    assert [row["change"] for row in rows(target, "SELECT change FROM history ORDER BY change")] == [1, 2]


@pytest.mark.parametrize(("defect", "there"), [("", [4]), ("ignore_truncate", [2, 4])])
def test_a_truncated_table_loses_what_is_older(target: str, log: Log, defect: str, there: list[int]) -> None:
    """And keeps what came behind it, in the same batch."""
    log.change(order(log, 1))
    log.lsn += 8
    log.put("orders", None, envelope("orders", "t", None, None, log.lsn))
    log.change(order(log, 2, id=4))
    with sinking(log, target, defect):
        until_applied(log, target)
    assert sorted(held(target, "orders")) == there


@pytest.mark.parametrize("empty", [False, True], ids=["some rows are left", "none is left"])
def test_a_new_snapshot_takes_away_what_it_has_not_read(target: str, log: Log, empty: bool) -> None:
    """Rows that were deleted while no slot was there. Of a table that became empty only a notification tells."""
    log.transactions(tape(), 0, 20)
    with sinking(log, target):
        until_applied(log, target)
        snapshot = log.lsn + 100
        for table in TABLES:
            there = [row for row in held(target, table) if not (empty and table == "items")][:-2]
            for place, id_ in enumerate(there):
                final = "last_in_data_collection" if place == len(there) - 1 else "true"
                change = next(
                    c
                    for j in range(20, 0, -1)
                    for c in reversed(transaction(tape(), str(id_ % 2), j, table))
                    if c.row["id"] == id_
                )
                log.put(table, key_of(id_), envelope(table, "r", None, row_of(change), snapshot, snapshot=final))
            until_applied(log, target)
        if empty:
            more = {"scanned_collection": "public.items", "total_rows_scanned": "0"}
            log.put(
                f"{log.prefix}-notes",
                None,
                orjson.dumps({"payload": {"type": "TABLE_SCAN_COMPLETED", "additional_data": more}}),
            )
            until_applied(log, target)
    right = folded(tape(), "orders", dict.fromkeys(SHARDS, 20))
    assert len(held(target, "orders")) == len(right) - 2
    assert len(held(target, "items")) == (0 if empty else len(folded(tape(), "items", dict.fromkeys(SHARDS, 20))) - 2)


def test_a_transaction_that_was_under_way_when_a_snapshot_began_is_applied_on_top_of_it(target: str, log: Log) -> None:
    """Its changes have older LSNs than the snapshot's rows, and come behind them in the log: one row is changed by it,
    and another one is gone."""
    first, second = order(log, 1), order(log, 2, id=4)
    snapshot = log.lsn + 100
    for change, final in ((first, "true"), (second, "last_in_data_collection")):
        row = envelope("orders", "r", None, row_of(change), snapshot, snapshot=final)
        log.put("orders", key_of(change.row["id"]), row)
    log.change(order(log, 3, id=2, status="paid", op="u"), snapshot - 16)
    log.change(Change("orders", 5, "d", {"id": 4, "shard": 0, "change": 4}), snapshot - 8)
    with sinking(log, target):
        until_applied(log, target)
    assert {id_: row[3] for id_, row in held(target, "orders").items()} == {2: "paid"}


def test_a_second_sink_is_fenced(target: str, log: Log) -> None:
    """Two apply the same log: one stops and says so, and every change is applied once."""
    log.transactions(tape(), 0, 3)
    with sinking(log, target) as one, sinking(log, target) as other:
        for j in range(3, J):
            log.transactions(tape(), j, j + 1)
            until_applied(log, target)
        states = until(
            lambda: {one.health()["state"], other.health()["state"]} == {"running", "fenced"},
            WAIT_S,
            0.1,
            "one to stop",
        )
        assert states
        fenced = one if one.health()["state"] == "fenced" else other
        assert "another sink runs on this target" in fenced.health()["why"]
    assert_right(target, tape(), J)


def test_a_log_that_was_cut_stops_the_sink(target: str, log: Log) -> None:
    """What it needs is not there any more: it says so, and goes on nowhere."""
    log.transactions(tape(), 0, 10)
    with sinking(log, target):
        until_applied(log, target)
    log.transactions(tape(), 10, 20)
    admin = AdminClient({"bootstrap.servers": log.broker})
    cut = TopicPartition(log.topic("orders"), 0, log.ends[log.topic("orders")] - 1)
    for done in admin.delete_records([cut]).values():
        done.result()
    with sinking(log, target) as sink:
        until(lambda: sink.health()["state"] == "stopped", WAIT_S, 0.1, "the sink to stop")
        assert "the log was cut" in sink.health()["why"]


def test_an_error_that_is_none_of_these_stops_the_sink(target: str, log: Log) -> None:
    """A table is gone: it says so, and nothing is passed over."""
    with psycopg.connect(target) as connection:
        connection.execute("DROP TABLE items")
    log.transactions(tape(), 0, 2)
    with sinking(log, target) as sink:
        until(lambda: sink.health()["state"] == "stopped", WAIT_S, 0.1, "the sink to stop")
        assert "SQLSTATE 42P01" in sink.health()["why"]
    assert rows(target, "SELECT 1 FROM history") == []
