"""Streams that no number counts: events with a UUID, told by their time; and a log with nothing but its offset."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from compose.servers import kafka as server
from gameday.drivers import kafka
from gameday.drivers.clickhouse import Hop
from gameday.model import Digest, Evidence, Window
from gameday.records.declaration import Stream, stream
from gameday.verdict import diagnose
from gameday.verdict.checks._damage import compare
from tasks.verify import digest_of

START_MS = 1_795_000_000_000
PARTITIONS = 3

Event = dict[str, Any]


def declared(**given: Any) -> Stream:
    mistakes: list[str] = []
    made = stream(
        "events", {"hops": ["log", "table"], "visible": "table", "path": ["web"], **given}, ["log", "table"], mistakes
    )
    assert made is not None, mistakes
    return made


EVENTS = declared(
    key=["event_id"],
    group=["site"],
    time="happened",
    fields={"event_id": "uuid", "page": "text", "happened": "time", "took": "float(15)"},
)
PLACED = declared(group=["site"], fields={"page": "text"})
COLUMNS = ("event_id", "site", "page", "happened", "took", "topic", "partition", "offset")


def event(number: int, site: str = "a", **changes: Any) -> Event:
    """Events happen every 10 ms."""
    at = datetime.fromtimestamp((START_MS + number * 10) / 1000, UTC).isoformat(timespec="milliseconds")
    key = str(UUID(int=(number + 1) * 0x9E3779B97F4A7C15 % (1 << 128)))
    return {
        "event_id": key,
        "site": site,
        "page": f"/{number % 7}",
        "happened": at,
        "took": 1 / (number + 1),
        **changes,
    }


@pytest.fixture
def topic(broker: str) -> str:
    name = f"events-{uuid4()}"
    server.create_topics(broker, {name: PARTITIONS})
    return name


@pytest.fixture
def table(client: Client) -> Iterator[str]:
    name = f"events_{uuid4().hex}"
    client.command(
        f"CREATE TABLE {name} (event_id UUID, site String, page String, happened DateTime64(3, 'Asia/Tokyo'), "
        "took Float64, topic String, partition UInt16, offset UInt64) ENGINE = MergeTree ORDER BY happened"
    )
    yield name
    client.command(f"DROP TABLE {name}")


def send(broker: str, topic: str, events: Sequence[Event]) -> None:
    """Out of order, as several servers do: by up to twenty events, over all partitions."""
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    shuffled = random.Random(7)
    for at, one in sorted(enumerate(events), key=lambda pair: pair[0] + shuffled.random() * 20):
        producer.produce(topic, json.dumps(one), partition=at % PARTITIONS, timestamp=START_MS + at * 10 + 300)
        producer.poll(0)
    assert producer.flush(30) == 0


def put(client: Client, table: str, events: Sequence[Event], topic: str = "") -> None:
    rows = [
        [
            *(UUID(one["event_id"]), one["site"], one["page"], datetime.fromisoformat(one["happened"]), one["took"]),
            *(topic, 0, number),
        ]
        for number, one in enumerate(events)
    ]
    client.insert(table, rows, column_names=COLUMNS)


def hops(broker: str, topic: str, warehouse: str, table: str, of: Stream = EVENTS) -> tuple[kafka.Hop, Hop]:
    return kafka.Hop(broker, of, [topic], name="log"), Hop(warehouse, "once", table, of, name="table")


def judged(log: kafka.Hop, table: Hop, window: Window, of: Stream = EVENTS) -> list[tuple[int, int, int]]:
    """How many are lost, doubled (or there besides) and changed, where any are."""
    found: list[Digest] = [log.digest(window)[0]]
    found += digest_of(log, table, window, found)
    known: dict[str, Any] = {"stream": of.name, "gapless": of.gapless, "knows": False, "ledger": "log"}
    evidence = Evidence("t", {}, "s", visible="table", window=window, digests=tuple(found), **known)
    return [(one.lost, one.doubled, one.changed) for one in compare(evidence)]


def test_log_and_table_have_the_same(broker: str, topic: str, warehouse: str, table: str, client: Client) -> None:
    """Whatever their order, and though a window begins and ends between two of them; ISO text here, a time with a zone
    there."""
    events = [event(n, site="ab"[n % 2]) for n in range(400)]
    send(broker, topic, events)
    put(client, table, events)
    log, held = hops(broker, topic, warehouse, table)
    assert log.heads() == held.heads()
    top = log.heads()["a",]
    window = Window({("a",): top - 2_000_000, ("b",): top - 1_000_000}, {("a",): top, ("b",): top})
    digest = log.digest(window)[0]
    assert (digest.groups["a",].keys, digest.groups["a",].back) == (100, None)
    assert judged(log, held, window) == []


@pytest.mark.parametrize(
    ("change", "figures", "listed"),
    [
        (lambda events: events[:-10] + events[-9:], (1, 0, 0), "missing"),
        (lambda events: [*events, events[-10]], (0, 1, 0), "doubled"),
        (lambda events: [*events[:-10], {**events[-10], "took": 0.5}, *events[-9:]], (0, 0, 1), "changed"),
        (lambda events: [*events, event(195, event_id=str(UUID(int=7)))], (0, 1, 0), "extra"),
    ],
    ids=["lost", "doubled", "changed", "foreign"],
)
def test_each_damage_is_told_by_the_key(
    broker: str,
    topic: str,
    warehouse: str,
    table: str,
    client: Client,
    change: Any,
    figures: tuple[int, int, int],
    listed: str,
) -> None:
    """Two that happened at the same moment are two."""
    events = [event(n, happened=event(n // 2)["happened"]) for n in range(400)]
    send(broker, topic, events)
    put(client, table, change(events))
    log, held = hops(broker, topic, warehouse, table)
    top = log.heads()["a",]
    window = Window({("a",): top - 1_000_000}, {("a",): top})
    assert judged(log, held, window) == [figures]
    right, mine = (hop.rows(("a",), top - 1_000_000, top) for hop in (log, held))
    differs = diagnose.difference(right, mine, EVENTS)
    wrong = str(UUID(int=7)) if listed == "extra" else events[-10]["event_id"]
    assert {name: found["ids"] for name, found in differs.items() if found["count"]} == {listed: [wrong]}


def test_a_log_with_nothing_but_its_offset(broker: str, topic: str, warehouse: str, table: str, client: Client) -> None:
    """The place is the key: a table that has noted it can be held against the log."""
    events = [event(n) for n in range(50)]
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    for one in events:
        producer.produce(topic, json.dumps(one), partition=0)
    assert producer.flush(30) == 0
    put(client, table, events, topic)
    log, held = hops(broker, topic, warehouse, table, PLACED)
    group = ("a", topic, "0")
    assert log.heads() == held.heads() == {group: 49}
    assert judged(log, held, Window({group: 20}, {group: 49}), PLACED) == []
    client.command(f"ALTER TABLE {table} DELETE WHERE offset = 30", settings={"mutations_sync": 2})
    assert judged(log, held, Window({group: 20}, {group: 49}), PLACED) == [(1, 0, 0)]
    assert log.digest(Window({group: 20}, {group: 49}))[0].groups[group].keys == 29
