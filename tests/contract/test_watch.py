"""A running platform is watched: orders go from a real Kafka into a real Postgres, and rows that change into a copy
that knows its place in the log. What is lost, doubled, changed or a ghost is told at its hop with its key at the second
look; a server that is gone, and a consumer that is stopped, are no finding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from psycopg.sql import SQL

from compose.ports import free_ports
from compose.servers import kafka as broker_server
from compose.servers import postgres as server
from gameday import cli
from gameday.model import Group
from gameday.stack.live import open_stack
from gameday.state import ROOT, State
from gameday.system.process import Process
from gameday.undo import lease
from gameday.verdict.known import DAMAGE, LAG, UNANSWERED, Trouble
from tasks import looks
from tasks.looks import Left, Look, Watched, watched
from tests.contract.conftest import PASSWORD, serving
from tests.suites import only_in

START_US = 1_795_000_000_000_000
SHOPS = ("north", "south")
DECLARED = """
name = "shops"
history = "postgresql://nobody@127.0.0.1:1/none"
[prefect]
api_url = "http://127.0.0.1:1/api"
[hosts.local]
socket = "{folder}/nobody.sock"
[components.web]
probes.disk = {{ driver = "disk", path = "/" }}
[streams.orders]
key = ["shop", "id"]
group = ["shop"]
sequence = "id"
gapless = true
time = "at"
fields = {{ total = "decimal(2)", at = "time(us)" }}
hops = ["log", "sink"]
visible = "sink"
path = ["web"]
[hops.log]
driver = "kafka"
brokers = "{broker}"
topics = ["{topic}"]
[hops.sink]
driver = "postgres"
dsn = "{dsn}"
table = "orders"
kind = "once"
[cursors.sink]
driver = "kafka"
brokers = "{broker}"
group = "{topic}"
topics = ["{topic}"]
[streams.carts]
key = ["id"]
group = ["shop"]
version = "version"
time = "at"
fields = {{ id = "int", total = "decimal(2)", at = "time(us)" }}
hops = ["changes", "copy"]
visible = "copy"
path = ["web"]
[hops.changes]
driver = "kafka"
brokers = "{broker}"
topics = ["{topic}-carts"]
fields = {{ id = "$key.id", shop = "after.shop", total = "after.total", at = "after.at", version = "after.version" }}
deleted = {{ op = "d" }}
[hops.copy]
driver = "postgres"
dsn = "{dsn}"
table = "carts"
kind = "state"
position = "SELECT topic || '/0', next FROM heads"
"""

Row = Mapping[str, Any]


def order(number: int, shop: str) -> dict[str, Any]:
    return {"shop": shop, "id": number, "total": f"{number}.50", "at": START_US + number * 20_000}


def cart(key: int, version: int = 1) -> dict[str, Any]:
    at = START_US + (1_000 * version + key) * 1_000
    return {"id": key, "shop": SHOPS[key % 2], "total": f"{key}.2{version}", "at": at, "version": version}


class Platform:
    """Two topics of one partition and three tables, all of the test's own. What reads the one and writes the other is
    the test."""

    def __init__(self, broker: str, dsn: str, folder: Path) -> None:
        self.topic = f"o{uuid4().hex}"
        self._broker = broker
        broker_server.create_topics(broker, {self.topic: 1, f"{self.topic}-carts": 1})
        self.sink = psycopg.connect(dsn, autocommit=True)
        self.sink.execute("CREATE TABLE orders (shop text, id int8, total numeric(12, 2), at timestamptz)")
        self.sink.execute("CREATE INDEX ON orders (shop, id)")
        self.sink.execute("CREATE TABLE carts (id int8, shop text, total numeric(12, 2), at timestamptz, version int8)")
        self.sink.execute("CREATE TABLE heads (topic text PRIMARY KEY, next int8)")
        self._producer = Producer({"bootstrap.servers": broker, "acks": "all", "log_level": 0})
        self._carts = 0
        self.folder = folder
        text = DECLARED.format(broker=broker, topic=self.topic, dsn=dsn, folder=folder)
        (folder / "gameday.toml").write_text(text)

    def watchers(self, left: Mapping[str, Left] = {}, known: Iterable[Trouble] = ()) -> dict[str, Watched]:
        stack = open_stack(self.folder / "gameday.toml", State(self.folder))
        found, without = watched(stack, left, known)
        assert without == {}
        return {one.name: one for one in found}

    # ---- orders --------------------------------------------------------------------------------------------

    def send(self, orders: Iterable[Row]) -> None:
        for one in orders:
            self._producer.produce(self.topic, json.dumps(one), key=one["shop"], partition=0)
        assert self._producer.flush(30) == 0

    def insert(self, orders: Iterable[Row]) -> None:
        with self.sink.cursor() as cursor:
            rows = [[o["shop"], o["id"], o["total"], o["at"]] for o in orders]
            cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s, to_timestamp(%s::numeric / 1000000))", rows)

    def both(self, lo: int, hi: int) -> None:
        made = [order(number, shop) for number in range(lo + 1, hi + 1) for shop in SHOPS]
        self.send(made)
        self.insert(made)

    def commit(self, place: int) -> None:
        """The consumer's place in the orders' log."""
        consumer = Consumer({"bootstrap.servers": self._broker, "group.id": self.topic, "log_level": 0})
        consumer.commit(offsets=[TopicPartition(self.topic, 0, place)], asynchronous=False)
        consumer.close()

    # ---- carts ---------------------------------------------------------------------------------------------

    def change(self, row: Row, gone: bool = False, apply: bool = True) -> None:
        topic = f"{self.topic}-carts"
        value = {"op": "d", "after": {"version": row["version"]}} if gone else {"op": "u", "after": dict(row)}
        self._producer.produce(topic, json.dumps(value), key=json.dumps({"id": row["id"]}), partition=0)
        assert self._producer.flush(30) == 0
        self._carts += 1
        if not apply:
            return
        with self.sink.transaction():
            self.sink.execute("DELETE FROM carts WHERE id = %s", [row["id"]])
            if not gone:
                self.put(row)
            self.sink.execute(
                "INSERT INTO heads VALUES (%s, %s) ON CONFLICT (topic) DO UPDATE SET next = EXCLUDED.next",
                [topic, self._carts],
            )

    def put(self, row: Row) -> None:
        self.sink.execute(
            "INSERT INTO carts VALUES (%(id)s, %(shop)s, %(total)s, to_timestamp(%(at)s::numeric / 1000000), "
            "%(version)s)",
            row,
        )


@pytest.fixture
def platform(broker: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """Forty orders a shop, and ten carts, one of which is gone; nobody adds any but the test."""
    monkeypatch.setattr(looks, "AGAIN_S", 0.0)
    monkeypatch.setattr(looks, "RANGE_REST", 0.0)
    monkeypatch.setattr(looks, "EVERY_S", 0.0)
    made = Platform(broker, dsn, tmp_path)
    made.both(0, 40)
    for key in range(10):
        made.change(cart(key))
    made.change(cart(9, 2), gone=True)
    yield made
    made.sink.close()


def damage(look: Look) -> dict[tuple[str, str, Group], tuple[int, tuple[str, ...]]]:
    """(kind, hop, group) -> how many, and their ids."""
    return {(t.kind, t.hop, t.group): (t.count, t.ids) for t in look.troubles if t.kind in DAMAGE}


def kinds(look: Look) -> list[tuple[str, str]]:
    return [(one.kind, one.hop) for one in look.troubles]


def trouble(look: Look, kind: str) -> Trouble:
    (found,) = [one for one in look.troubles if one.kind == kind]
    return found


NORTH = ("north",)


def test_a_healthy_platform_is_quiet(platform: Platform) -> None:
    """At the first look, which judges what is there already, while orders come, and when none does."""
    orders = platform.watchers()["orders"]
    assert orders.look().counts["sink"] == {"north": 40, "south": 40}
    for lo, hi in ((40, 60), (60, 90), (90, 90)):
        platform.both(lo, hi)
        look = orders.look()
        assert (look.troubles, look.open, set(look.judged)) == ((), False, {"log", "sink"})
    assert look.counts["sink"] == {"north": 90, "south": 90}
    assert look.hops["sink"]["answers"] is True


PLANTED: Mapping[str, tuple[str, tuple[str, int, tuple[str, ...]]]] = {
    "lost": ("DELETE FROM orders WHERE shop = 'north' AND id = 47", ("lost", 1, ("47",))),
    "doubled": (
        "INSERT INTO orders SELECT * FROM orders WHERE shop = 'north' AND id = 47",
        ("doubled", 1, ("47",)),
    ),
    "changed": ("UPDATE orders SET total = 7 WHERE shop = 'north' AND id = 47", ("changed", 1, ("47",))),
    "foreign": (
        "INSERT INTO orders SELECT shop, 99, total, at FROM orders WHERE shop = 'north' AND id = 47",
        ("doubled", 1, ("99",)),
    ),
}


@pytest.mark.parametrize("planted", ["lost", *only_in("trades", *list(PLANTED)[1:])])
def test_what_is_wrong_with_a_record_is_told_at_its_hop_at_the_second_look(platform: Platform, planted: str) -> None:
    """With its id, and until it is mended; also by a watch that was started anew meanwhile."""
    sql, (kind, count, ids) = PLANTED[planted]
    orders = platform.watchers()["orders"]
    assert orders.look().troubles == ()
    platform.both(40, 60)
    before = platform.sink.execute("SELECT * FROM orders WHERE shop = 'north' AND id = 47").fetchall()
    platform.sink.execute(SQL(sql))
    first = orders.look()
    assert (damage(first), first.open) == ({}, True), "a single look is no finding"
    look = orders.look()
    assert damage(look) == {(kind, "sink", NORTH): (count, ids)}
    platform.both(60, 70)
    again = platform.watchers({"orders": look.left})["orders"]
    for one in (orders, again):
        assert damage(one.look()).keys() <= {(kind, "sink", NORTH)}
        assert damage(one.look()) == {(kind, "sink", NORTH): (count, ids)}
    platform.sink.execute("DELETE FROM orders WHERE shop = 'north' AND id IN (47, 99)")
    with platform.sink.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s, %s, %s, %s)", before)
    for one in (orders, again):
        one.look()
        assert one.look().troubles == ()


def test_a_changed_record_says_what_it_was(platform: Platform) -> None:
    """And what it became, field by field."""
    orders = platform.watchers()["orders"]
    platform.sink.execute("UPDATE orders SET total = 7 WHERE shop = 'north' AND id = 30")
    orders.look()
    assert trouble(orders.look(), "changed").detail == "total 30.50 became 7.00"


def test_a_record_that_was_never_in_the_log_is_told_there(platform: Platform) -> None:
    """Ids that leave none out show it; the hop behind it lacks it no more than the log does."""
    orders = platform.watchers()["orders"]
    assert orders.look().troubles == ()
    made = [order(number, shop) for number in range(41, 60) for shop in SHOPS if (number, shop) != (50, "north")]
    platform.send(made)
    platform.insert(made)
    orders.look()
    assert damage(orders.look()) == {("lost", "log", NORTH): (1, ("50",))}


def test_what_a_stopped_consumer_owes_is_late_and_not_lost(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as lag once that lasts; when the consumer has passed it and its rows are not there, they are lost."""
    monkeypatch.setattr(looks, "LAG_AFTER_S", 0.0)
    monkeypatch.setattr(looks, "BACK_S", 0.0)
    platform.commit(80)
    orders = platform.watchers()["orders"]
    assert orders.look().troubles == ()
    platform.send([order(number, shop) for number in range(41, 61) for shop in SHOPS])
    for _ in range(3):
        look = orders.look()
        assert (damage(look), look.open) == ({}, False)
    assert kinds(look) == [(LAG, "sink")]
    assert trouble(look, LAG).detail.startswith("40 ids behind log in 2 of 2 groups (north, south), for ")
    platform.commit(120)
    orders.look()
    look = orders.look()
    assert damage(look) == {
        ("lost", "sink", (shop,)): (20, tuple(str(number) for number in range(41, 61))) for shop in SHOPS
    }


def test_late_records_are_well_when_they_have_come(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the look before saw a part of them."""
    monkeypatch.setattr(looks, "LAG_AFTER_S", 0.0)
    orders = platform.watchers()["orders"]
    orders.look()
    late = [order(number, shop) for number in range(41, 61) for shop in SHOPS]
    platform.send(late)
    platform.insert(late[:11])
    orders.look()
    platform.insert(late[11:])
    assert orders.look().troubles == ()


def test_a_server_that_is_gone_is_no_finding(broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't be asked, and says so; what is known of it stays, until it answers again. A log that is gone is asked
    no less."""
    monkeypatch.setattr(looks, "AGAIN_S", 0.0)
    state = State(tmp_path / "own").ensure()
    (port,) = free_ports(1)
    server.get(state, lambda _: None)
    service = server.process(state, "own-postgres", port, "tester", PASSWORD)
    folder = tmp_path / "folder"
    folder.mkdir()
    try:
        with serving(service):
            platform = Platform(broker, server.url(port, "tester", PASSWORD, "postgres"), folder)
            platform.both(0, 40)
            orders = platform.watchers()["orders"]
            platform.sink.execute("DELETE FROM orders WHERE shop = 'north' AND id = 7")
            orders.look()
            known = damage(orders.look())
            assert known == {("lost", "sink", NORTH): (1, ("7",))}
            platform.sink.close()
        for _ in range(2):
            look = orders.look()
            assert kinds(look) == [(UNANSWERED, "sink"), ("lost", "sink")]
            assert "sink" not in look.judged
            assert look.hops["sink"]["answers"] is False
        with serving(service):
            orders.look()
            look = orders.look()
            assert (kinds(look), damage(look)) == ([("lost", "sink")], known)
    finally:
        server.remove(state)


CARTS: Mapping[str, tuple[str, tuple[str, str, str]]] = {
    "lost": ("DELETE FROM carts WHERE id = 4", ("lost", "north", "4")),
    "changed": ("UPDATE carts SET total = 7 WHERE id = 4", ("changed", "north", "4")),
    "doubled": ("INSERT INTO carts SELECT * FROM carts WHERE id = 4", ("doubled", "north", "4")),
    "ghost": (
        "INSERT INTO carts SELECT 9, 'south', total, at, 1 FROM carts WHERE id = 4",
        ("doubled", "south", "9"),
    ),
}


@pytest.mark.parametrize("planted", ["ghost", *only_in("trades", *list(CARTS)[:-1])])
def test_rows_that_change_are_judged_as_of_their_position(platform: Platform, planted: str) -> None:
    """A ghost is a row that should be gone. What goes on in other rows meanwhile changes nothing."""
    sql, (kind, shop, key) = CARTS[planted]
    carts = platform.watchers()["carts"]
    look = carts.look()
    assert (look.troubles, look.open, look.counts["copy"]) == ((), False, {"north": 5, "south": 4})
    platform.sink.execute(SQL(sql))
    look = carts.look()
    assert (damage(look), look.open) == ({}, True)
    platform.change(cart(1, 2))
    look = carts.look()
    assert damage(look) == {(kind, "copy", (shop,)): (1, (key,))}
    again = platform.watchers(known=look.troubles)["carts"]
    assert damage(again.look()) == damage(look), "what the watch before knew has been looked at twice"
    platform.sink.execute("DELETE FROM carts WHERE id IN (4, 9)")
    platform.put(cart(4))
    assert carts.look().troubles == ()


# ---- the command -------------------------------------------------------------------------------------------


def command(platform: Platform, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Its exit code."""
    monkeypatch.setenv("GAMEDAY_CONFIG", str(platform.folder / "gameday.toml"))
    monkeypatch.setenv("GAMEDAY_STATE", str(platform.folder))
    monkeypatch.setattr("sys.argv", ["gameday", "watch", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_says_what_is_wrong_by_its_exit_code(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 while all is well, 1 when something is lost, 3 when a hop can't be asked; and a damage that is known stays so.
    With all that is known as one JSON object."""

    def known() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert command(platform, monkeypatch, "--json", "--once") == 0
    told = known()
    assert (told["well"], told["known_issues"], told["diagnosis"]) == (True, [], [])
    assert told["streams"]["orders"]["counts"] == {name: {"north": 40, "south": 40} for name in ("log", "sink")}
    assert told["streams"]["carts"]["counts"]["copy"] == {"north": 5, "south": 4}
    assert all(one["last_verified_at"] for one in told["streams"].values())
    assert "gameday's Postgres" in told["recent_failures_unknown"]
    platform.sink.execute("ALTER TABLE carts RENAME TO gone")
    assert command(platform, monkeypatch, "--json", "--once") == 3
    assert [(one["kind"], one["hop"]) for one in known()["known_issues"]] == [("unanswered", "copy")]
    platform.both(40, 60)
    platform.sink.execute("DELETE FROM orders WHERE shop = 'north' AND id = 47")
    assert command(platform, monkeypatch, "--json", "--once") == 1
    (lost, _) = known()["known_issues"]
    assert (lost["kind"], lost["hop"], lost["group"], lost["ids"]) == ("lost", "sink", "north", ["47"])
    platform.sink.execute("ALTER TABLE gone RENAME TO carts")
    assert command(platform, monkeypatch, "--once") == 1
    shown = capsys.readouterr().out
    assert f"since {lost['since']}: sink lacks 1 record of orders/north: id 47" in shown
    assert "likely: Records are lost between two hops, and nobody is behind" in shown
    platform.insert([order(47, "north")])
    assert command(platform, monkeypatch, "--once") == 0
    assert "orders: every hop has what it should, as of " in capsys.readouterr().out


def test_a_failure_test_that_runs_meanwhile_is_named(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What begins then is told as of its time; and it goes on, for nothing is taken from it."""
    state = State(platform.folder)
    held, _ = lease.take(state, "run-1", "crash", Process.me(), 60.0)
    try:
        platform.sink.execute("DELETE FROM orders WHERE shop = 'north' AND id = 30")
        assert command(platform, monkeypatch, "--json", "--once") == 1
        told = json.loads(capsys.readouterr().out)
        assert told["during"] == "run-1 (crash)"
        assert told["known_issues"][0]["text"].endswith("id 30 (during run-1 (crash), a failure test)")
        found = lease.holder(state)
        assert found is not None
        assert found.run == "run-1"
    finally:
        held.release()


@pytest.mark.parametrize("how", ["Ctrl-C", *only_in("trades", "nobody reads")])
def test_a_watch_ends_when_it_is_told_to(platform: Platform, how: str) -> None:
    """By Ctrl-C, and when what reads its lines has gone; with what it knows as its exit code."""
    platform.sink.execute("DELETE FROM orders WHERE shop = 'north' AND id = 30")
    env = {**os.environ, "GAMEDAY_CONFIG": str(platform.folder / "gameday.toml"), "GAMEDAY_STATE": str(platform.folder)}
    argv = [sys.executable, "-c", "from gameday import cli; cli.main()", "watch", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            told = json.loads(process.stdout.readline())
            assert (told["event"], told["kind"], told["hop"], told["ids"]) == ("begins", "lost", "sink", ["30"])
            if how == "Ctrl-C":
                process.send_signal(signal.SIGINT)
            else:
                process.stdout.close()
            assert process.wait(60) == 1
            assert process.stderr.read() == ""
        finally:
            process.kill()
