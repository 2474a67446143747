"""Rows that change and go, on real servers, while they go on changing: a table in Postgres, a log of its changes in
Kafka, and tables in Postgres, ClickHouse and Iceberg that consumers make of that log. What is wrong is found at the
right hop, with the right key."""

from __future__ import annotations

import json
import queue
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Producer, TopicPartition
from psycopg.sql import SQL
from pyiceberg.catalog import load_catalog

from compose.servers import kafka as broker_server
from compose.servers import postgres as server
from gameday.drivers import clickhouse, iceberg, kafka, postgres
from gameday.errors import DriverError
from gameday.model import Evidence, Json, Position, Verdict, Window
from gameday.records.declaration import Stream, stream
from gameday.system.polling import until
from gameday.verdict import checks
from gameday.verdict.checks._damage import compare
from tasks import states
from tests.contract.conftest import connect
from tests.suites import only_in

PARTITIONS = 2
QUIET = range(1, 21)
"""Rows that the traffic leaves alone: what is planted in them stays."""
HOT = range(100, 140)
DELETED = 15
"""A quiet row that was deleted before anything is planted."""
START_US = 1_795_000_000_000_000
ROW = "(id int8 PRIMARY KEY, shop text, note text, total numeric(12, 2), version int8, updated_at timestamptz)"
COLUMNS = ("id", "shop", "note", "total", "version", "updated_at")

Row = dict[str, Any]


def orders() -> Stream:
    mistakes: list[str] = []
    made = stream(
        "orders",
        {
            "key": ["id"],
            "group": ["shop"],
            "version": "version",
            "time": "updated_at",
            "fields": {"id": "int", "note": "text", "total": "decimal(2)", "updated_at": "time(us)"},
            "hops": ["source", "log", "sink", "lake", "files"],
            "visible": "sink",
            "path": ["web"],
        },
        ["source", "log", "sink", "lake", "files"],
        mistakes,
    )
    assert made is not None, mistakes
    return made


ORDERS = orders()


class Platform:
    """Writes the source, and tells every change to the log; a second thread makes the tables of it, a batch a
    transaction. Rows by id, so that what was planted can be mended."""

    def __init__(self, dsn: str, broker: str, warehouse: str) -> None:
        self.topic, self.lake = f"orders-{uuid4()}", f"orders_{uuid4().hex}"
        broker_server.create_topics(broker, {self.topic: PARTITIONS})
        self.source, self._target = (psycopg.connect(dsn, autocommit=True) for _ in range(2))
        for name in ("orders", "copies"):
            self.source.execute(SQL(f"CREATE TABLE {name} {ROW}"))
            self.source.execute(SQL(f"CREATE INDEX ON {name} (shop, updated_at)"))
        self.source.execute("CREATE TABLE heads (topic text, part int, next int8, PRIMARY KEY (topic, part))")
        self._client = connect(warehouse)
        self._client.command(
            f"CREATE TABLE {self.lake} (id Int64, shop String, note Nullable(String), total Decimal(12, 2), version "
            "Int64, updated_at DateTime64(6, 'UTC'), gone UInt8, topic String, part UInt16, off UInt64) "
            "ENGINE = ReplacingMergeTree(version, gone) ORDER BY id"
        )
        self._producer = Producer({"bootstrap.servers": broker, "acks": "all", "linger.ms": 1, "log_level": 0})
        self._random = random.Random(7)
        self.rows: dict[int, Row] = {}
        self.versions: dict[int, int] = {}
        self.acked = self.applied = 0
        self.told: queue.Queue[tuple[int, int, Row, bool] | None] = queue.Queue()
        self._busy = threading.Event()
        self._lock = threading.RLock()
        self._threads = [threading.Thread(target=self._work), threading.Thread(target=self._consume)]

    # ---- the source, and its changes -----------------------------------------------------------------------

    def write(self, key: int, row: Row | None, tell: bool = True) -> None:
        """One change in the source, and in the log; None: it deletes."""
        with self._lock:
            self.versions[key] = version = self.versions.get(key, 0) + 1
            at_us = START_US + version * 1_000_000 + key
            kept = self.rows.get(key) or {"shop": "ab"[key % 2], "note": None, "total": "0.00"}
            full = {**kept, **(row or {}), "id": key, "version": version, "updated_at": at_us}
            if row is None:
                self.source.execute("DELETE FROM orders WHERE id = %s", [key])
                self.rows.pop(key, None)
            else:
                upsert(self.source, "orders", full)
                self.rows[key] = full
            if tell:
                self.tell(full, gone=row is None)
            asked = self.source.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
            assert asked is not None
            self.acked = int(asked[0])

    def tell(self, row: Row, gone: bool = False) -> None:
        """One message of the log; one that deletes is followed by one without a value."""
        key, part = json.dumps({"id": row["id"]}), row["id"] % PARTITIONS
        after = {name: row[name] for name in COLUMNS}
        value = {"op": "d", "after": {"version": row["version"]}} if gone else {"op": "u", "after": after}

        def noted(error: object, message: Any) -> None:
            assert error is None
            self.told.put((part, message.offset(), row, gone))

        with self._lock:  # so that they are noted in the order of the log
            self._producer.produce(self.topic, json.dumps(value), key, partition=part, callback=noted)
            if gone:
                self._producer.produce(self.topic, None, key, partition=part, callback=noted)
            assert self._producer.flush(30) == 0

    def _work(self) -> None:
        while not self._busy.wait(0.005):
            key = self._random.choice(HOT)
            gone = key in self.rows and self._random.random() < 0.2
            note = self._random.choice([None, "", "fragile"])
            self.write(key, None if gone else {"note": note, "total": f"{self._random.randrange(10_000)}.5"})

    # ---- what is made of the log ---------------------------------------------------------------------------

    def _consume(self) -> None:
        while True:
            batch = [self.told.get()]
            with suppress(queue.Empty):
                while len(batch) < 50:
                    batch.append(self.told.get_nowait())
            known = [one for one in batch if one is not None]
            if known:
                self._apply(known)
            if len(known) < len(batch):
                return

    def _apply(self, batch: list[tuple[int, int, Row, bool]]) -> None:
        with self._target.transaction():
            for part, offset, row, gone in batch:
                if gone:
                    self._target.execute("DELETE FROM copies WHERE id = %s", [row["id"]])
                else:
                    upsert(self._target, "copies", row)
                self._target.execute(
                    "INSERT INTO heads VALUES (%s, %s, %s) ON CONFLICT (topic, part) DO UPDATE "
                    "SET next = EXCLUDED.next",
                    [self.topic, part, offset + 1],
                )
        listed = [
            f"({row['id']}, '{row['shop']}', {'NULL' if row['note'] is None else repr(row['note'])}, "
            f"'{row['total']}', {row['version']}, fromUnixTimestamp64Micro({row['updated_at']}), {int(gone)}, "
            f"'{self.topic}', {part}, {offset})"
            for part, offset, row, gone in batch
        ]
        self._client.command(f"INSERT INTO {self.lake} VALUES {', '.join(listed)}")
        self.applied += len(batch)

    def sink(self, sql: str) -> None:
        self.source.execute(SQL(sql))

    def __enter__(self) -> Platform:
        for key in [*QUIET, *HOT]:
            self.write(key, {"note": None if key % 3 else f"n{key}", "total": f"{key}.50"})
        for key in QUIET:
            self.write(key, {"total": f"{key}.75"})
        self.write(DELETED, None)
        for thread in self._threads:
            thread.start()
        # else what is planted would be overwritten by what was written before
        until(lambda: self.applied >= 2 * len(QUIET) + len(HOT) + 2, 60, 0.05, "the first changes to be applied")
        return self

    def __exit__(self, *_: object) -> None:
        self._busy.set()
        self._threads[0].join()
        self.told.put(None)
        self._threads[1].join()
        for one in (self.source, self._target, self._client):
            one.close()


class Files:
    """Makes a table in Iceberg of the log from its beginning on: each commit takes the rows away that change or go,
    puts the new ones in, and tells in its summary up to where it has the log."""

    def __init__(self, broker: str, topic: str, folder: Path) -> None:
        self.catalog = {"name": "files", "type": "sql", "uri": f"sqlite:///{folder}/catalog.db"}
        self.catalog["warehouse"] = f"file://{folder}"
        catalog = load_catalog(**self.catalog)
        catalog.create_namespace("shop")
        self.table = catalog.create_table("shop.orders", schema=FILES)
        self._lock = threading.Lock()
        self._keys: set[int] = set()
        self._next = {f"{topic}/{part}": 0 for part in range(PARTITIONS)}
        self._consumer = Consumer({"bootstrap.servers": broker, "group.id": topic, "log_level": 0})
        self._consumer.assign([TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.is_set():
            if messages := self._consumer.consume(500, 0.2):
                self._commit(messages)

    def _commit(self, messages: list[Any]) -> None:
        rows: dict[int, Row | None] = {}
        for message in messages:
            assert message.error() is None
            value, key = message.value(), json.loads(message.key())["id"]
            told: dict[str, Any] = json.loads(value) if value is not None else {"op": "d"}
            rows[key] = None if told["op"] == "d" else told["after"]
            self._next[f"{message.topic()}/{message.partition()}"] = message.offset() + 1
        self._put(rows, rows.keys(), {"offsets": json.dumps(self._next)})

    def plant(self, key: int, row: Row | None, beside: bool = False) -> None:
        """A row in place of what is there, or beside it; None: it goes. Such a commit tells no place."""
        self._put({key: row}, () if beside else {key}, {})

    def _put(self, rows: Mapping[int, Row | None], gone: Collection[int], told: dict[str, str]) -> None:
        with self._lock, self.table.transaction() as change:
            if old := self._keys & set(gone):
                change.delete(f"id IN ({', '.join(map(str, old))})", snapshot_properties=told)
            fresh = {key: row for key, row in rows.items() if row is not None}
            if fresh:
                change.append(in_files(list(fresh.values())), snapshot_properties=told)
            self._keys = self._keys - old | fresh.keys()

    def __enter__(self) -> Files:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._consumer.close()


FILES = pa.schema(
    [
        pa.field("id", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("shop", "note")),
        pa.field("total", pa.decimal128(12, 2)),
        pa.field("version", pa.int64()),
        pa.field("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)


def in_files(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist([{**row, "total": Decimal(row["total"])} for row in rows], schema=FILES)


def upsert(connection: psycopg.Connection, table: str, row: Row) -> None:
    names = ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS)
    connection.execute(
        SQL(
            f"INSERT INTO {table} VALUES (%s, %s, %s, %s, %s, to_timestamp(%s::numeric / 1000000)) "
            f"ON CONFLICT (id) DO UPDATE SET {names}"
        ),
        [row[name] for name in COLUMNS],
    )


class Acked:
    """The place of the connector that tells the changes."""

    def __init__(self, of: Platform) -> None:
        self._of = of

    def position(self) -> Position:
        return {"capture": self._of.acked}

    def end(self) -> Position:
        return self.position()


@pytest.fixture(scope="module")
def at(database: str) -> str:
    server.create_database(database, "states")
    return f"{database.rpartition('/')[0]}/states"


@pytest.fixture(scope="module")
def platform(at: str, broker: str, warehouse: str) -> Iterator[Platform]:
    with Platform(at, broker, warehouse) as running:
        yield running


LSN = "SELECT 'capture', pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
HEADS = "SELECT topic || '/' || part, next FROM heads"
FIELDS = {"id": "$key.id", **{name: f"after.{name}" for name in COLUMNS if name != "id"}}


def hops(platform: Platform, at: str, broker: str, warehouse: str, sink: str = "sink") -> dict[str, Any]:
    """sink: which of the two tables is held against the log."""
    log = {"topic": "topic", "partition": "part", "offset": "off", "ingested": "updated_at"}
    last = (
        postgres.Hop(at, "state", ORDERS, "copies", position=HEADS, name="sink")
        if sink == "sink"
        else clickhouse.Hop(warehouse, "state", platform.lake, ORDERS, deleted="gone", log=log, name="lake")
    )
    return {
        "source": postgres.Hop(at, "state", ORDERS, "orders", position=LSN, name="source"),
        "log": kafka.Hop(broker, ORDERS, [platform.topic], FIELDS, deleted={"op": "d"}, name="log"),
        last.name: last,
    }


def judged(of: dict[str, Any], platform: Platform, since_us: int = 0) -> tuple[Evidence, dict[str, Verdict]]:
    """What the checks say; of versions that go back only since then."""
    trouble: dict[str, str] = {}
    found, listed = states.compared(ORDERS, of, {"connector": Acked(platform)}, lambda _, ask: ask(), trouble)
    assert trouble == {}
    log = of["log"]
    told = {f"log.{name}": value for name, value in log.symptoms(Window({}, {}), since_us, {}).items()}
    evidence = Evidence(
        "t", {}, "s", ledger="source", stream="orders", states=found, symptoms={"differences": listed, **told}
    )
    wanted = (checks.no_loss, checks.no_duplicates, checks.unchanged, checks.order)
    return evidence, {check.__name__: check(evidence).verdict for check in wanted}


WELL = dict.fromkeys(("no_loss", "no_duplicates", "unchanged", "order"), Verdict.PASS)


def named(evidence: Evidence) -> dict[tuple[str, str], list[Json]]:
    """(hop, kind) -> the keys that are named, as a report lists them."""
    found: dict[tuple[str, str], list[Json]] = {}
    for place, kinds in evidence.symptoms["differences"].items():
        for kind, told in kinds.items():
            if told["count"]:
                found.setdefault((place.split(" ")[0], kind), []).extend(told["ids"])
    return found


SINK: dict[str, tuple[str, str, str]] = {
    "a row lost": ("DELETE FROM copies WHERE id = 3", "missing", "no_loss"),
    "a deleted row alive": (
        f"INSERT INTO copies VALUES ({DELETED}, 'b', NULL, {DELETED}.75, 2, to_timestamp(1795000002.000015))",
        "extra",
        "no_duplicates",
    ),
    "a version gone back": ("UPDATE copies SET version = 1, total = 3.50 WHERE id = 3", "changed", "unchanged"),
    "an older content": ("UPDATE copies SET total = 3.50 WHERE id = 3", "changed", "unchanged"),
    "a NULL that became ''": ("UPDATE copies SET note = '' WHERE id = 4", "changed", "unchanged"),
    "a decimal cut": ("UPDATE copies SET total = trunc(total) WHERE id = 3", "changed", "unchanged"),
    "a time shifted by a zone": (
        "UPDATE copies SET updated_at = updated_at + interval '2 hours' WHERE id = 3",
        "changed",
        "unchanged",
    ),
}


@pytest.mark.parametrize("sink", ["sink", "lake"])
def test_a_healthy_platform_passes_while_it_works(
    platform: Platform, at: str, broker: str, warehouse: str, sink: str
) -> None:
    """Rows come, change and go meanwhile: 0 lost, 0 doubled, 0 changed at each hop."""
    before = sum(platform.versions.values())
    evidence, verdicts = judged(hops(platform, at, broker, warehouse, sink), platform)
    assert verdicts == WELL
    assert [(one.hop, one.against, one.late, one.untold) for one in evidence.states] == [
        ("log", "source", False, 0),
        (sink, "log", False, 0),
    ]
    assert compare(evidence) == []
    assert sum(delta.keys for delta in evidence.states[1].groups.values()) >= len(QUIET) - 1
    assert sum(platform.versions.values()) > before


@pytest.mark.parametrize("what", [*list(SINK)[:3], *only_in("trades", *list(SINK)[3:])])
def test_what_is_wrong_in_the_table_is_found_there(
    platform: Platform, at: str, broker: str, warehouse: str, what: str
) -> None:
    """With its key, and nothing else is; the log before it is right."""
    sql, kind, check = SINK[what]
    key = DELETED if kind == "extra" else 4 if "NULL" in what else 3
    platform.sink(sql)
    try:
        evidence, verdicts = judged(hops(platform, at, broker, warehouse), platform)
    finally:
        platform.sink(f"DELETE FROM copies WHERE id = {key}")
        if key != DELETED:
            platform.sink(f"INSERT INTO copies SELECT * FROM orders WHERE id = {key}")
    assert verdicts == {**WELL, check: Verdict.FAIL}
    assert named(evidence) == {("sink", kind): [str(key)]}
    assert [damage.hop for damage in compare(evidence)] == ["sink"]
    assert evidence.states[1].position.keys() <= {f"{platform.topic}/{n}" for n in range(PARTITIONS)}


@pytest.fixture(scope="module")
def files(platform: Platform, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    with Files(broker, platform.topic, tmp_path_factory.mktemp("files")) as running:
        yield running


def in_iceberg(files: Files, platform: Platform, at: str, broker: str, warehouse: str) -> dict[str, Any]:
    """The table is judged as of the place that its newest commit tells."""
    hop = iceberg.Hop("state", files.catalog, "shop.orders", ORDERS, position="offsets", name="files")
    return {"log": hops(platform, at, broker, warehouse)["log"], "files": hop}


def test_a_healthy_table_in_iceberg_passes_while_it_is_written(
    files: Files, platform: Platform, at: str, broker: str, warehouse: str
) -> None:
    """0 lost, 0 doubled, 0 changed, as of the place in the log that its commit tells."""
    evidence, verdicts = judged(in_iceberg(files, platform, at, broker, warehouse), platform)
    assert verdicts == WELL
    (one,) = evidence.states
    assert (one.hop, one.against, one.late, one.untold) == ("files", "log", False, 0)
    assert one.position.keys() == {f"{platform.topic}/{part}" for part in range(PARTITIONS)}
    assert sum(delta.keys for delta in one.groups.values()) >= len(QUIET) - 1


GHOST = {"id": DELETED, "shop": "b", "note": None, "total": "0.75", "version": 2, "updated_at": START_US}

FILED: dict[str, tuple[Callable[[Files, Row], object], str, str]] = {
    "a row lost": (lambda files, row: files.plant(3, None), "missing", "no_loss"),
    "a deleted row alive": (lambda files, row: files.plant(DELETED, GHOST), "extra", "no_duplicates"),
    "a row doubled": (lambda files, row: files.plant(3, row, beside=True), "doubled", "no_duplicates"),
    "a version gone back": (
        lambda files, row: files.plant(3, {**row, "version": 1, "total": "3.50"}),
        "changed",
        "unchanged",
    ),
    "a NULL that became ''": (lambda files, row: files.plant(4, {**row, "note": ""}), "changed", "unchanged"),
}


@pytest.mark.parametrize("what", [*list(FILED)[:2], *only_in("trades", *list(FILED)[2:])])
def test_what_is_wrong_in_iceberg_is_found_there(
    files: Files, platform: Platform, at: str, broker: str, warehouse: str, what: str
) -> None:
    """With its key; a commit that tells no place is as of the one before it."""
    plant, kind, check = FILED[what]
    key = DELETED if kind == "extra" else 4 if "NULL" in what else 3
    of = in_iceberg(files, platform, at, broker, warehouse)
    until(lambda: len(of["files"].state()) >= len(QUIET) - 1, 60, 0.2, "the first changes to be there")
    right = platform.rows.get(key)
    plant(files, right or {})
    try:
        evidence, verdicts = judged(of, platform)
    finally:
        files.plant(key, right)
    assert verdicts == {**WELL, check: Verdict.FAIL}
    assert named(evidence) == {("files", kind): [str(key)]}


LAKE: dict[str, tuple[str, str, str]] = {
    "a row lost": ("ALTER TABLE {t} DELETE WHERE id = 3", "missing", "no_loss"),
    "a deleted row alive": (
        f"INSERT INTO {{t}} VALUES ({DELETED}, 'b', NULL, '{DELETED}.75', 9, now64(6), 0, '', 0, 0)",
        "extra",
        "no_duplicates",
    ),
    "an older content": ("ALTER TABLE {t} UPDATE total = toDecimal64('3.50', 2) WHERE id = 3", "changed", "unchanged"),
    "a NULL that became ''": ("ALTER TABLE {t} UPDATE note = '' WHERE id = 4", "changed", "unchanged"),
    "a decimal cut": ("ALTER TABLE {t} UPDATE total = truncate(total) WHERE id = 3", "changed", "unchanged"),
    "a time shifted by a zone": (
        "ALTER TABLE {t} UPDATE updated_at = addHours(updated_at, 2) WHERE id = 3",
        "changed",
        "unchanged",
    ),
    "a version gone back": ("", "changed", "unchanged"),
}


@pytest.mark.parametrize("what", [*list(LAKE)[:2], *only_in("trades", *list(LAKE)[2:])])
def test_what_is_wrong_in_a_replacing_merge_tree_is_found_there(
    platform: Platform, at: str, broker: str, warehouse: str, client: Client, what: str
) -> None:
    """It is read as its merges will leave it, and tells no position: what differs is looked at again."""
    sql, kind, check = LAKE[what]
    key = DELETED if kind == "extra" else 4 if "NULL" in what else 3
    sync = {"mutations_sync": 2}

    def put(version: int, total: str) -> None:
        client.command(f"ALTER TABLE {platform.lake} DELETE WHERE id = {key}", settings=sync)
        row = platform.rows.get(key)
        if row is not None:
            note = "NULL" if row["note"] is None else repr(row["note"])
            at_us = row["updated_at"] - (row["version"] - version) * 1_000_000
            client.command(
                f"INSERT INTO {platform.lake} VALUES ({key}, '{row['shop']}', {note}, '{total}', {version}, "
                f"fromUnixTimestamp64Micro({at_us}), 0, '', 0, 0)"
            )

    if sql:
        client.command(sql.format(t=platform.lake), settings=sync)
    else:
        put(1, "3.50")
    try:
        evidence, verdicts = judged(hops(platform, at, broker, warehouse, "lake"), platform)
    finally:
        row = platform.rows.get(key)
        put(*((row["version"], row["total"]) if row else (0, "")))
    assert verdicts == {**WELL, check: Verdict.FAIL}
    assert named(evidence) == {("lake", kind): [str(key)]}


@pytest.mark.parametrize(
    ("row", "kind", "check"),
    [
        (None, "extra", "no_duplicates"),
        ({"total": "1.00"}, "changed", "unchanged"),
    ],
    ids=["a deletion", "a change"],
)
def test_what_the_log_was_not_told_is_found_at_the_log(
    platform: Platform, at: str, broker: str, warehouse: str, row: Row | None, kind: str, check: str
) -> None:
    """And not at the table that was made of it, which is right as the log has it."""
    key = 8 if row is None else 9
    platform.write(key, row, tell=False)
    try:
        evidence, verdicts = judged(hops(platform, at, broker, warehouse), platform)
    finally:
        platform.write(key, row)
    assert verdicts == {**WELL, check: Verdict.FAIL}
    assert named(evidence) == {("log", kind): [str(key)]}
    platform.write(key, {"total": "2.00"})


def test_a_row_that_the_log_was_not_told_is_lost_at_the_log(
    platform: Platform, at: str, broker: str, warehouse: str
) -> None:
    """A key that it has never had."""
    platform.write(30, {"total": "1.00"}, tell=False)
    try:
        evidence, verdicts = judged(hops(platform, at, broker, warehouse), platform)
    finally:
        platform.write(30, {"total": "2.00"})
    assert verdicts == {**WELL, "no_loss": Verdict.FAIL}
    assert named(evidence) == {("log", "missing"): ["30"]}


def test_a_version_that_goes_back_in_the_log_is_found_there(
    platform: Platform, at: str, broker: str, warehouse: str
) -> None:
    """With its place. The table that was made of it without looking at versions has the older row."""
    since_us = time.time_ns() // 1000
    platform.write(5, {"total": "3.00"}, tell=False)
    older = platform.rows[5]
    platform.write(5, {"total": "4.00"})
    platform.tell(older)
    try:
        evidence, verdicts = judged(hops(platform, at, broker, warehouse), platform, since_us)
    finally:
        platform.write(5, {"total": "5.00"})
    assert verdicts == {**WELL, "order": Verdict.FAIL, "unchanged": Verdict.FAIL}
    told = checks.order(evidence).why
    assert f"log has 1 versions that go back: 5 has version {older['version']} after {older['version'] + 1}" in told
    assert named(evidence) == {("sink", "changed"): ["5"]}


def test_a_place_that_the_log_has_not_is_no_verdict(platform: Platform, at: str, broker: str, warehouse: str) -> None:
    """And a key that a deletion doesn't tell is none: each says what to do."""
    of = hops(platform, at, broker, warehouse)
    foreign = postgres.Hop(at, "state", ORDERS, "copies", position="SELECT 'orders/0', 5", name="sink")
    trouble: dict[str, str] = {}
    found, _ = states.compared(ORDERS, {"log": of["log"], "sink": foreign}, {}, lambda _, ask: ask(), trouble)
    assert found == ()
    assert f"hops.log: nothing is known of place 5 of orders/0: the log has {platform.topic}/0" in trouble["sink"]
    blind = kafka.Hop(broker, ORDERS, [platform.topic], {**FIELDS, "id": "after.id"}, deleted={"op": "d"}, name="log")
    with pytest.raises(
        DriverError, match=r"hops.log: .* messages that delete can't be read: .* offset .*: id: is missi"
    ):
        blind.state()
