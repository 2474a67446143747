"""Two streams of one stack, judged as a run judges them: from real logs and tables, what is lost, doubled or changed in
one is found at its hop with its key, and the other is intact."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer

from compose.servers import kafka as server
from gameday.model import Baseline, Evidence, Finding, Marks, Verdict
from gameday.plan import FailureTest
from gameday.run import Run
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.verdict import checks, diagnose
from tasks import verify

NUMBER = 60
"""Records of each stream: half of them before the baseline."""

START_S = 1_795_000_000
TEST = FailureTest(plan=(), mttr_max_s=60, checks=checks.INTACT[:4])
HOPS = {"orders": ("log", "staged", "sink"), "events": ("topic", "table")}

Row = dict[str, Any]

DECLARED = """
name = "two"
history = "postgresql://nobody@127.0.0.1:1/none"
prefect.api_url = "http://127.0.0.1:1/api"
[hosts]
[components]

[streams.orders]
key = ["shop", "number"]
group = ["shop"]
sequence = "number"
gapless = true
fields = { total = "decimal(2)" }
hops = ["log", "staged", "sink"]
visible = "sink"
path = ["{shop}"]

[hops.log]
driver = "kafka"
brokers = "BROKER"
topics = ["TOPIC-orders"]

[hops.staged]
driver = "clickhouse"
url = "WAREHOUSE"
table = "staged_TABLE"
kind = "append"

[hops.sink]
driver = "clickhouse"
url = "WAREHOUSE"
table = "sink_TABLE"
kind = "once"

[streams.events]
key = ["event_id"]
group = ["shop"]
time = "at"
fields = { event_id = "uuid", at = "time", page = "text" }
hops = ["topic", "table"]
visible = "table"
path = ["{shop}"]

[hops.topic]
driver = "kafka"
brokers = "BROKER"
topics = ["TOPIC-events"]

[hops.table]
driver = "clickhouse"
url = "WAREHOUSE"
table = "table_TABLE"
kind = "once"
"""

ORDERS = {"shop": "String", "number": "UInt64", "total": "Decimal(12, 2)"}
EVENTS = {"shop": "String", "event_id": "UUID", "at": "DateTime64(3, 'UTC')", "page": "String"}
COLUMNS = {"staged": ORDERS, "sink": ORDERS, "table": EVENTS}


def order(n: int) -> Row:
    """Of two shops in turn, each counted from 1 on."""
    return {"shop": "ab"[n % 2], "number": n // 2 + 1, "total": f"{n}.50"}


def event(n: int) -> Row:
    """Of the same two shops."""
    at = datetime.fromtimestamp(START_S + n / 4, UTC).isoformat(timespec="milliseconds")
    return {"shop": "ab"[n % 2], "event_id": str(UUID(int=(n + 1) << 64)), "at": at, "page": f"/{n % 7}"}


MADE: Mapping[str, Callable[[int], Row]] = {"orders": order, "events": event}
PLANTED = NUMBER - 10
"""The record in which something goes wrong: it came after the baseline, and is not the last."""

KEYS: Mapping[str, Any] = {"orders": order(PLANTED)["number"], "events": event(PLANTED)["event_id"]}
WRONG: Mapping[str, Row] = {"orders": {"total": "0.01"}, "events": {"page": ""}}


@dataclass
class Platform:
    """Kafka and ClickHouse, and what carries the records: the test."""

    stack: Stack
    send: Callable[[str, Row], None]
    put: Callable[[str, Sequence[Row]], None]

    def fill(self, numbers: range, spoil: Callable[[str, list[Row]], list[Row]] = lambda hop, rows: rows) -> None:
        """The records of these numbers, in all hops; spoil: what a table gets in place of them."""
        for stream, (_, *tables) in HOPS.items():
            rows = [MADE[stream](n) for n in numbers]
            for row in rows:
                self.send(stream, row)
            for table in tables:
                self.put(table, spoil(table, list(rows)))

    def judged(
        self, tmp_path: Path, spoil: Callable[[str, list[Row]], list[Row]]
    ) -> tuple[Mapping[str, Finding], Evidence]:
        """What a run finds that saw the first half as its baseline, and the second come."""
        self.fill(range(NUMBER // 2))
        run = Run(self.stack, "t", {}, TEST, "night", print)
        run.lasts = run.watching = lambda: None  # type: ignore[method-assign]
        run.follow({name: live.ledger.heads() for name, live in self.stack.streams.items()})
        heads = {name: hop.heads() for name, hop in self.stack.hops.items()}
        run.baseline = Baseline(Marks(time.monotonic_ns(), time.time_ns() // 1000, heads), 0.1, 1.0, {})
        self.fill(range(NUMBER // 2, NUMBER), spoil)
        verify.gather.fn(run)
        findings = verify.judge.fn(run)
        assert run.gathered is not None
        return {found.check: found for found in findings}, run.gathered


@pytest.fixture
def platform(
    broker: str, warehouse: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Platform]:
    monkeypatch.setattr(verify, "PASSED_WITHIN_S", 2.0)
    topic, table = f"two-{uuid4()}", uuid4().hex
    server.create_topics(broker, {f"{topic}-{stream}": 2 for stream in HOPS})
    for name, columns in COLUMNS.items():
        typed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        client.command(f"CREATE TABLE {name}_{table} ({typed}) ENGINE = MergeTree ORDER BY tuple()")
    producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
    text = DECLARED
    for name, value in {"BROKER": broker, "TOPIC": topic, "WAREHOUSE": warehouse, "TABLE": table}.items():
        text = text.replace(name, value)
    (tmp_path / "gameday.toml").write_text(text)

    def send(stream: str, row: Row) -> None:
        producer.produce(f"{topic}-{stream}", json.dumps(row), partition="ab".index(row["shop"]))
        assert producer.flush(30) == 0

    def put(name: str, rows: Sequence[Row]) -> None:
        values = ", ".join(str(tuple(row[column] for column in COLUMNS[name])) for row in rows)
        client.command(f"INSERT INTO {name}_{table} VALUES {values}")

    yield Platform(open_stack(tmp_path / "gameday.toml", State(tmp_path)), send, put)
    for name in COLUMNS:
        client.command(f"DROP TABLE {name}_{table}")


def test_two_healthy_streams_pass(platform: Platform, tmp_path: Path) -> None:
    """Each check says it of both; only one of them has an order."""
    found, evidence = platform.judged(tmp_path, lambda hop, rows: rows)
    assert {name: str(one.verdict) for name, one in found.items()} == {check.__name__: "pass" for check in TEST.checks}
    assert found["no_loss"].why == (
        "orders: staged, sink: all 30 records are there; events: table: all 30 records are there"
    )
    assert "events: not judged here" in found["order"].why
    assert diagnose.culprits(evidence) == []


@pytest.mark.parametrize("hop", [hop for _, *tables in HOPS.values() for hop in tables])
@pytest.mark.parametrize(
    ("kind", "check"), [("lost", "no_loss"), ("doubled", "no_duplicates"), ("changed", "unchanged")]
)
def test_what_goes_wrong_is_found_in_its_stream_at_its_hop(
    platform: Platform, tmp_path: Path, hop: str, kind: str, check: str
) -> None:
    """With the key of the record. A table that may hold a record again may do so."""
    stream = "events" if hop == "table" else "orders"
    planted = MADE[stream](PLANTED)

    def spoil(at: str, rows: list[Row]) -> list[Row]:
        if at != hop:
            return rows
        if kind == "doubled":
            return [*rows, planted]
        others = [row for row in rows if row != planted]
        return others if kind == "lost" else [*others, {**planted, **WRONG[stream]}]

    found, evidence = platform.judged(tmp_path, spoil)
    wrong = {name: one for name, one in found.items() if one.verdict is not Verdict.PASS}
    if (hop, kind) == ("staged", "doubled"):
        assert wrong == {}
        assert "staged 1" in found[check].why
        return
    hidden = {"unchanged": Verdict.UNKNOWN} if kind == "lost" else {}  # the others of that group may be anything
    assert {name: one.verdict for name, one in wrong.items()} == {check: Verdict.FAIL, **hidden}
    assert all(one.why.startswith(f"{stream}: ") for one in wrong.values())
    assert wrong[check].why.startswith(f"{stream}: {hop} has "), wrong[check].why
    assert ("events: " in wrong[check].why) is (stream == "events")
    shop = planted["shop"]
    named = {"lost": "missing", "doubled": "doubled", "changed": "changed"}[kind]
    listed = evidence.symptoms["differences"]
    assert set(listed) == {f"{hop} {shop}"}
    assert listed[f"{hop} {shop}"][named]["ids"] == [KEYS[stream]]
    before = HOPS[stream][HOPS[stream].index(hop) - 1]
    assert any(line.startswith(f"Look between {before} and {hop}: ") for line in diagnose.culprits(evidence))
    assert checks.counts(evidence)[kind][hop] == 1
    other = next(one for one in evidence.each() if one.stream != stream)
    assert checks.no_loss(replace(other, symptoms={})).verdict is Verdict.PASS
