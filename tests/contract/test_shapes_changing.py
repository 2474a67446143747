"""Rows that change and go, as real platforms have them, declared in a gameday.toml as their users would: change events
of Debezium's, rows that were unwrapped for a sink, an outbox. A healthy platform differs in nothing, and all that is
wrong is told at its hop, with its key.

Each shape is that of a public platform: only its form is taken, all values are made up. What goes on while rows change
is test_states.py's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg.sql import SQL

from compose.servers import kafka as server
from gameday.model import Compared, Json, Position, Window
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks import states
from tests.fakes import CONSUMER
from tests.suites import only_in

PARTITIONS = 2
START_US = (int(time.time()) - 3600) * 1_000_000

LOST, ALIVE, BACK, CHANGED = 3, 5, 7, 9
"""The numbers of the rows that are spoiled. ALIVE was deleted."""

Row = dict[str, Any]
Told = tuple[str, Any]
"""A message's key and value; None: it has none."""


@dataclass(frozen=True)
class Shape:
    """declared: the gameday.toml. columns: of the table. change: a change of a row as it travels: from the row and
    whether it goes. alter: what is done to a row so that it differs without being older. held: the hop that is held
    against the first one."""

    declared: str
    columns: str
    change: Callable[[Row, bool], Sequence[Told]]
    alter: Callable[[Row], Row]
    held: str


def row(number: int, version: int) -> Row:
    return {
        "id": str(UUID(int=number)),
        "version": version,
        "org_id": str(number % 2),
        "total": f"{number}.{version}5",
        "note": None if number % 2 else f"n{number}",
        "facts": {"arch": "x86", "disks": [number, None]},
        "updated_at": START_US + 1_000_000 * version + number,
    }


def moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, UTC)


# ---- Debezium's envelope; the consumer keeps its place beside the rows -----------------------------------------------


def _envelope(row: Row, gone: bool) -> Sequence[Told]:
    key = json.dumps({"payload": {"id": row["id"]}})
    kept = {name: row[name] for name in ("id", "version", "total", "note", "updated_at")}
    source = {"table": "orders", "lsn": 24_023_128 + row["version"], "ts_ms": row["updated_at"] // 1000}
    op = "d" if gone else "c" if row["version"] == 1 else "u"
    held = {"before": kept, "after": None} if gone else {"before": None, "after": kept}
    event = key, json.dumps({"payload": {"op": op, **held, "source": source}})
    return [event, (key, None)] if gone else [event]


EVENTS = Shape(
    declared="""
[streams.orders]
key = ["id"]
version = "version"
time = "updated_at"
fields = { id = "uuid", total = "decimal(2)", note = "text", updated_at = "time(us)" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}"]
format = "debezium"
where = { "$message.source.table" = "orders" }
fields = { id = "$key.id" }

[hops.sink]
driver = "postgres"
dsn = "{dsn}"
table = "rows"
kind = "state"
deleted = "_cdc_op = 'd'"
position = "SELECT topic || '/' || partition, next FROM heads"
""",
    columns="id uuid PRIMARY KEY, version int8, total numeric(12, 2), note text, updated_at timestamptz, _cdc_op text",
    change=_envelope,
    alter=lambda row: {**row, "note": ""},
    held="sink",
)

# ---- unwrapped rows; the sink has no column of its own ---------------------------------------------------------------


def _unwrapped(row: Row, gone: bool) -> Sequence[Told]:
    kept = {name: row[name] for name in ("id", "total", "note")}
    value = {**kept, "updated_at": moment(row["updated_at"]).isoformat()}
    return [(json.dumps({"id": row["id"]}), None if gone else json.dumps(value))]


UNWRAPPED = Shape(
    declared="""
[streams.orders]
key = ["id"]
version = "updated_at"
time = "updated_at"
fields = { id = "uuid", total = "decimal(2)", note = "text", updated_at = "time" }
hops = ["log", "sink"]
visible = "sink"
path = ["consumer"]

[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}"]
fields = { id = "$key.id" }

[hops.sink]
driver = "postgres"
dsn = "{dsn}"
table = "rows"
kind = "state"
""",
    columns="id uuid PRIMARY KEY, total numeric(12, 2), note text, updated_at timestamptz",
    change=_unwrapped,
    alter=lambda row: {**row, "total": "0.01"},
    held="sink",
)

# ---- a table and its outbox: a row without event, or an event without row --------------------------------------------


def _event(row: Row, gone: bool) -> Sequence[Told]:
    if gone:
        return [(row["id"], json.dumps({"type": "delete", "id": row["id"], "org_id": row["org_id"]}))]
    host = {name: row[name] for name in ("id", "org_id", "facts")}
    host |= {"fqdn": row["note"], "modified_on": moment(row["updated_at"]).isoformat()}
    return [(row["id"], json.dumps({"type": "created" if row["version"] == 1 else "updated", "host": host}))]


OUTBOX = Shape(
    declared="""
[streams.hosts]
key = ["id"]
group = ["org_id"]
version = "modified_on"
time = "modified_on"
fields = { id = "uuid", fqdn = "text", facts = "json", modified_on = "time" }
hops = ["hosts", "events"]
visible = "events"
path = ["consumer"]

[hops.hosts]
driver = "postgres"
dsn = "{dsn}"
table = "rows"
kind = "state"
position = "SELECT 'outbox', pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
fields = { fqdn = "note", modified_on = "updated_at" }

[hops.events]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}"]
deleted = { type = "delete" }

[hops.events.fields]
id = "$key"
org_id = "host.org_id"
fqdn = "host.fqdn"
facts = "host.facts"
modified_on = "host.modified_on"
""",
    columns="id uuid PRIMARY KEY, org_id text, note text, facts jsonb, updated_at timestamptz",
    change=_event,
    alter=lambda row: {**row, "facts": {"arch": "x86", "disks": [row["facts"]["disks"][0]]}},
    held="events",
)


@dataclass
class Platform:
    """What a shape runs on: a log of changes, and the table that is right as the log has it."""

    shape: Shape
    broker: str
    topic: str
    source: psycopg.Connection
    stack: Stack
    ends: dict[int, int] = field(default_factory=dict)

    def tell(self, *changes: tuple[Row, bool]) -> None:
        """To the log, each key's to one partition."""
        producer = Producer({"bootstrap.servers": self.broker, "acks": "all", "log_level": 0})
        for row, gone in changes:
            part = UUID(row["id"]).int % PARTITIONS
            for key, value in self.shape.change(row, gone):
                producer.produce(self.topic, value, key, partition=part)
                self.ends[part] = self.ends.get(part, 0) + 1
        assert producer.flush(30) == 0
        if self.shape is EVENTS:
            self.source.execute("DELETE FROM heads")
            for part, end in self.ends.items():
                self.source.execute("INSERT INTO heads VALUES (%s, %s, %s)", [self.topic, part, end])

    def put(self, row: Row) -> None:
        """One row into the table, in place of what is there."""
        self.take(row["id"])
        known = {**row, "_cdc_op": "u", "facts": json.dumps(row["facts"]), "updated_at": moment(row["updated_at"])}
        names = [
            column.split()[0] for column in self.shape.columns.split(", ") if column[0].isalpha() or column[0] == "_"
        ]
        marks = ", ".join(["%s"] * len(names))
        self.source.execute(SQL(f"INSERT INTO rows VALUES ({marks})"), [known[name] for name in names])

    def take(self, key: str) -> None:
        self.source.execute("DELETE FROM rows WHERE id = %s", [key])

    def position(self) -> Position:
        """Of the outbox' connector: it has told all."""
        asked = self.source.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert asked is not None
        return {"outbox": int(asked[0])}

    def end(self) -> Position:
        return self.position()

    def compared(self) -> tuple[Compared, dict[str, list[Json]]]:
        """What is held against what, and of which kind the differing keys are."""
        (live,) = self.stack.streams.values()
        trouble: dict[str, str] = {}
        (one,), listed = states.compared(live.stream, live.hops, {"outbox": self}, lambda _, ask: ask(), trouble)
        assert trouble == {}
        named: dict[str, list[Json]] = {}
        for place, kinds in listed.items():
            assert place.partition(" ")[0] == self.shape.held
            for kind, told in kinds.items():
                named.setdefault(kind, []).extend(told["ids"])
        return one, {kind: sorted(ids) for kind, ids in named.items() if ids}


ROWS = range(1, 21)


@pytest.fixture(
    params=[EVENTS, OUTBOX, *only_in("trades", UNWRAPPED)],
    ids=["change events", "an outbox", "unwrapped rows"],
)
def platform(request: pytest.FixtureRequest, broker: str, dsn: str, tmp_path: Path) -> Iterator[Platform]:
    """Each row was made and then changed; every fifth is gone."""
    shape: Shape = request.param
    topic = f"changing-{uuid4()}"
    server.create_topics(broker, {topic: PARTITIONS})
    text = CONSUMER + shape.declared
    for name, value in {"brokers": broker, "topic": topic, "dsn": dsn}.items():
        text = text.replace(f"{{{name}}}", value)
    (tmp_path / "gameday.toml").write_text(text)
    with psycopg.connect(dsn, autocommit=True) as source:
        source.execute(SQL(f"CREATE TABLE rows ({shape.columns})"))
        source.execute("CREATE TABLE heads (topic text, partition int, next int8)")
        made = Platform(shape, broker, topic, source, open_stack(tmp_path / "gameday.toml", State(tmp_path)))
        made.tell(*((row(number, version), False) for version in (1, 2) for number in ROWS))
        made.tell(*((row(number, 3), True) for number in ROWS if number % 5 == 0))
        for number in ROWS:
            if number % 5:
                made.put(row(number, 2))
        yield made


def key(number: int) -> str:
    return str(UUID(int=number))


def test_all_that_is_wrong_is_told_with_its_key(platform: Platform) -> None:
    """And of a healthy platform nothing. A table that is spoiled is what is right of an outbox: there the events differ
    from it."""
    alive = len([number for number in ROWS if number % 5])
    one, named = platform.compared()
    assert (one.hop, one.late, one.untold, named) == (platform.shape.held, False, 0, {})
    assert [(delta.lost, delta.ghosts, delta.repeated, delta.changed) for delta in one.groups.values()] == [
        (0, 0, 0, 0)
    ] * len(one.groups)
    assert sum(delta.keys for delta in one.groups.values()) == alive
    platform.take(key(LOST))
    platform.put(row(ALIVE, 2))
    platform.put(row(BACK, 1))
    platform.put(platform.shape.alter(row(CHANGED, 2)))
    _, named = platform.compared()
    lost, ghost = ("extra", "missing") if platform.shape is OUTBOX else ("missing", "extra")
    assert named == {lost: [key(LOST)], ghost: [key(ALIVE)], "changed": [key(BACK), key(CHANGED)]}


def test_a_version_that_goes_back_and_what_cant_be_read_are_told_of_the_log(platform: Platform) -> None:
    """Each with its place."""
    platform.tell((row(BACK, 5), False), (row(BACK, 4), False))
    producer = Producer({"bootstrap.servers": platform.broker, "acks": "all", "log_level": 0})
    producer.produce(platform.topic, b"\xffbroken", b"any key", partition=0)
    assert producer.flush(30) == 0
    log: Any = next(hop for hop in platform.stack.hops.values() if hasattr(hop, "topics"))
    told: Mapping[str, Any] = log.symptoms(Window({}, {}), START_US, {})
    assert told["malformed"] == 1
    assert told["malformed_first"][0].startswith(f"{platform.topic}/0 offset ")
    back = told["versions_back"]
    assert (back["count"], [one["key"] for one in back["first"]]) == (1, [key(BACK)])
    assert back["first"][0]["at"].startswith(f"{platform.topic}/1 offset ")
