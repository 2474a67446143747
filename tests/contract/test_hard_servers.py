"""`gameday init`, `check --look` and the canary against servers that hang, refuse, talk of something else, are full of
noise, or let nobody look: each ends within its bound, says which server it was, and goes on with the rest."""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from compose.servers import kafka as server
from gameday.drivers.kafka import Canary, wire
from gameday.errors import NotUp
from gameday.model import Outcome
from gameday.records import attempts
from gameday.records.attempts import Attempt
from gameday.stack.live import open_stack
from gameday.state import State
from pipelines.trades.schema import query
from tasks import survey
from tasks.init import Asked, look_again, looked, text_of
from tasks.inventory import clickhouse, connect, engine, kafka, postgres, prometheus
from tasks.look import look
from tests.contract import sockets
from tests.contract.conftest import new_broker, serving
from tests.fakes import CONSUMER

BOUND_S = 0.5
"""What each server has here, so that a test of one that hangs is short."""

TOPICS, GROUPS = 1_000, 10_000
NUMBER = 200


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    return State(tmp_path)


# ---- doors behind which there is nobody, or somebody else ------------------------------------------------------------


def http(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


Way = Callable[[Path | None], AbstractContextManager[int]]

WAYS: Mapping[str, Way] = {
    "hangs": sockets.silent,
    "hangs up": sockets.hanging_up,
    "answers a list": lambda unix: sockets.saying(http(b"[1]"), unix),
    "answers an object": lambda unix: sockets.saying(http(b'{"a": 1}'), unix),
    "answers a page": lambda unix: sockets.saying(http(b"<html>"), unix),
    "answers an error": lambda unix: sockets.saying(http(b"[]", b"500 x"), unix),
    "talks noise": lambda unix: sockets.saying(b"\0\1nonsense\r\n" * 20, unix),
    "drips": lambda unix: sockets.dripping(http(b"x" * 1000), unix),
}

DOORS: Mapping[str, Callable[[str], Asked]] = {
    "Kafka": lambda at: Asked(kafka=at),
    "ClickHouse": lambda at: Asked(clickhouse=f"http://{at}"),
    "Postgres": lambda at: Asked(postgres=(f"postgresql://user:secret@{at}/shop",)),
    "Kafka Connect": lambda at: Asked(connect=f"http://{at}"),
    "Prometheus": lambda at: Asked(prometheus=f"http://{at}"),
    "Docker engine": lambda at: Asked(project="shop"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", DOORS)
def test_init_says_of_each_door_what_is_behind_it(
    door: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence with the server's place; and, where nothing else is there, no file is made up. Nobody is asked for a
    password in that sentence."""
    for module in (kafka, clickhouse, postgres, connect, prometheus, engine):
        monkeypatch.setattr(module, "ASK_WITHIN_S", BOUND_S)
    unix = tmp_path / "none.sock" if door == "Docker engine" else None
    with WAYS[way](unix) as port:
        at = str(unix) if unix else f"127.0.0.1:{port}"
        seen = looked(DOORS[door](at), "shop", lambda line: None)
    (told,) = seen.troubles
    assert at in told
    assert "secret" not in told
    if way == "hangs":
        assert any(words in told for words in ("timed out", f"no answer within {BOUND_S:g} s"))
    with pytest.raises(NotUp, match="nothing was found to write about"):
        text_of(seen)


@pytest.mark.parametrize("way", WAYS)
def test_a_prefect_server_that_is_none_is_a_question(way: str, warehouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the file; the rest is written."""
    monkeypatch.setattr("tasks.init.PREFECT_PATIENCE_S", BOUND_S)
    query(warehouse, "CREATE TABLE IF NOT EXISTS alone (id UInt64) ENGINE = MergeTree ORDER BY id")
    with WAYS[way](None) as port:
        page = text_of(looked(Asked(clickhouse=warehouse, prefect=f"http://127.0.0.1:{port}"), "shop", lambda _: None))
    assert tomllib.loads(page.text)["prefect"]["api_url"] == f"http://127.0.0.1:{port}/api"


# ---- a broker full of noise ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka with a thousand topics, each with a message, and ten thousand consumer groups that have a place there."""
    service = new_broker(tmp_path_factory.mktemp("kafka"))
    with serving(service):
        brokers = str(service.ready).removeprefix("kafka://")
        topics = [f"noise.{number:04}" for number in range(TOPICS)]
        server.create_topics(brokers, dict.fromkeys(topics, 1))
        producer = Producer({"bootstrap.servers": brokers, "log_level": 0, "topic.metadata.refresh.sparse": False})
        producer.list_topics(timeout=60)
        for topic in topics:
            producer.produce(topic, json.dumps({"id": uuid4().hex}).encode())
        assert producer.flush(120) == 0
        commit(brokers, "first", topics[0], 1)
        with wire.Cluster(brokers, 120.0) as cluster:
            coordinator = cluster._coordinator("first")
            for number in range(GROUPS):
                place = wire._topics({(topics[number % TOPICS], 0): struct.pack(">iqh", 0, 1, -1)})
                generation = struct.pack(">i", -1) + wire._string("") + struct.pack(">q", -1)
                cluster._ask(coordinator, 8, 2, wire._string(f"group-{number:05}") + generation + place)
        yield brokers


def commit(brokers: str, group: str, topic: str, offset: int) -> None:
    """A consumer's place, without a consumer."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


@pytest.mark.suite("members")
def test_a_stream_is_found_among_a_thousand_topics_and_ten_thousand_groups(
    noisy: str, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its values. The file has that stream alone and the one group that reads it, says how much it left aside, and
    its look says yes; a plain check finds all that it names, and a canary is taken."""
    topic = "shop.orders"
    server.create_topics(noisy, {topic: 1})
    producer = Producer({"bootstrap.servers": noisy, "acks": "all", "log_level": 0})
    orders = [{"id": str(uuid4()), "note": f"for {n}", "total": n} for n in range(NUMBER)]
    for order in orders:
        producer.produce(topic, json.dumps(order).encode(), key=str(order["id"]))
    assert producer.flush(60) == 0
    commit(noisy, "shop-sink", topic, NUMBER)
    with psycopg.connect(dsn) as own, own.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id uuid PRIMARY KEY, note text, total int)")
        cursor.executemany("INSERT INTO orders VALUES (%(id)s, %(note)s, %(total)s)", orders)
        own.commit()
        seen = looked(Asked(kafka=noisy, postgres=(dsn,)), "shop", lambda line: None)
    assert seen.broker is not None
    assert (len(seen.broker.topics), seen.broker.unread) == (kafka.TOPICS_READ_MAX, TOPICS + 1 - kafka.TOPICS_READ_MAX)
    assert seen.broker.groups_known == GROUPS + 2
    page = text_of(seen)
    raw = tomllib.loads(page.text)
    assert list(raw["cursors"]) == ["shop-sink"]
    assert len(page.text.splitlines()) < 400
    assert f"{seen.broker.unread} more topics hold messages, and were not looked into" in page.text
    path = tmp_path / "gameday.toml"
    path.write_text(page.text)
    rows = look_again(page, path)
    assert {row["what"]: row["ok"] for row in rows} == dict.fromkeys((row["what"] for row in rows), True), rows
    assert len(rows) == 3
    for name, value in page.secrets.items():
        monkeypatch.setenv(name, value)
    asked = {row["what"]: row for row in survey.requirements(open_stack(path, State(tmp_path)), {})}
    assert asked["cursor shop-sink"] == {"what": "cursor shop-sink", "ok": True, "note": "1 slots"}
    writer = Canary(noisy, topic, '{"id": "{key}"}', 30.0)
    attempt = Attempt(1, "", str(uuid4()), 1_795_000_000_123_000)
    assert writer.send(attempts.values(attempt, "gameday-")).outcome is Outcome.DONE


# ---- databases that let one see nothing ------------------------------------------------------------------------------


def poor_of(dsn: str, *statements: str) -> str:
    """Another user's DSN; statements: with {who} for it."""
    who = f"poor_{uuid4().hex}"
    with psycopg.connect(dsn) as own:
        for statement in (f"CREATE ROLE {who} LOGIN PASSWORD 'x'", *statements):
            own.execute(statement.replace("{who}", who).encode())
    return f"postgresql://{who}:x@{dsn.rpartition('@')[2]}"


def test_a_postgres_that_lets_one_read_nothing_is_said(dsn: str) -> None:
    """Which table, and which right."""
    poor = poor_of(dsn, "CREATE TABLE secret (id int)")
    seen = looked(Asked(postgres=(poor,)), "shop", lambda line: None)
    assert seen.troubles == ["Postgres: no right to SELECT from public.secret"]
    assert [list(store.tables) for store in seen.stores] == [[]]


def test_a_clickhouse_that_lets_one_see_nothing_is_said(warehouse: str) -> None:
    """Its list of tables is empty then, as that of a new server is: with the remedy. Of such a server, whose user
    `default` has hardly a right."""
    query(warehouse, "CREATE TABLE IF NOT EXISTS alone (id UInt64) ENGINE = MergeTree ORDER BY id")
    seen = looked(Asked(clickhouse=f"http://{warehouse.rpartition('@')[2]}"), "shop", lambda line: None)
    assert seen.troubles == ["ClickHouse: its user sees no table. Remedy: GRANT SELECT ON NAME.*, or another user"]


def test_a_check_without_rights_says_which(dsn: str, tmp_path: Path) -> None:
    """With and without --look: the hop's row is a no with the server's own word, and the other hop is looked at."""
    poor = poor_of(
        dsn,
        "CREATE TABLE secret (id bigint PRIMARY KEY)",
        "CREATE TABLE open (id bigint PRIMARY KEY)",
        "INSERT INTO open VALUES (1)",
        "GRANT SELECT ON open TO {who}",
    )
    hop = 'driver = "postgres"\nkind = "once"\ndsn = "{}"\ntable = "{}"\n'
    stream = CONSUMER + '[streams.s]\nkey = ["id"]\nsequence = "id"\nhops = ["one", "two"]\nvisible = "two"\n'
    stream += (
        'path = ["consumer"]\n[hops.one]\n' + hop.format(poor, "open") + "[hops.two]\n" + hop.format(poor, "secret")
    )
    path = tmp_path / "gameday.toml"
    path.write_text(stream)
    stack = open_stack(path, State(tmp_path))
    plain = {row["what"]: row for row in survey.requirements(stack, {})}
    shown = {row["what"]: row for row in look(stack)}
    assert (plain["hop one"]["ok"], shown["look at one"]["ok"]) == (True, True)
    for row in (plain["hop two"], shown["look at two"]):
        assert not row["ok"]
        assert "permission denied for table secret" in row["note"]
        assert ":x@" not in row["note"]
