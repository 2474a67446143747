"""The canary against real servers: what each outcome is worth, what its process leaves behind, and its stream judged
through a real log and a real table."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import clickhouse_connect
import psycopg
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from nats.errors import ConnectionClosedError

from compose.ports import free_ports
from compose.servers import kafka as server
from gameday.codec import load_evidence
from gameday.drivers import clickhouse, http, kafka, nats, postgres, redis_streams
from gameday.drivers.kafka.wire import EARLIEST, LATEST, Cluster
from gameday.drivers.nats import server as nats_session
from gameday.errors import GamedayError
from gameday.faults.noop import Noop
from gameday.model import Evidence, Followed, Group, Outcome, RunResult, Verdict, Window
from gameday.plan import FailureTest, Heal, Inject
from gameday.records.attempts import Attempt, Book, Reader, values
from gameday.run import Run
from gameday.sampling.canary import Flight
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.verdict import checks
from gameday.verdict.checks import no_duplicates, no_loss, unchanged
from tasks import verify
from tasks.run import interpret, plain
from tests.contract.conftest import freeze, new_nats, new_valkey, serving
from tests.contract.streamrigs import JetStream, RedisStream, connected
from tests.fakes import CONSUMER, Supervisor
from tests.suites import only_in

TIMEOUT_S = 1.0
OWN: Group = ()


def known(number: int) -> Mapping[str, str]:
    return values(Attempt(number, "", str(uuid4()), 1_795_000_000_000_000 + number), "gameday-")


# ---- a front door that takes records by HTTP -------------------------------------------------------------------------


@dataclass
class Door:
    """A real HTTP server. held: the bodies that it has; GET gives them. deleted: what was deleted, and how many it had
    then. status: of its answers. hangs: it takes a record, and does not answer before it is set. hanging: how many wait
    for that. loses: how many of the next records it says it has, and forgets."""

    held: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[tuple[str, int]] = field(default_factory=list)
    status: int = 201
    hangs: threading.Event = field(default_factory=threading.Event)
    hanging: int = 0
    url: str = ""
    loses: int = 0


@pytest.fixture
def door() -> Iterator[Door]:
    told = Door()
    told.hangs.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if 200 <= told.status < 300 and not told.loses:
                told.held.append(body)
            told.loses = max(0, told.loses - 1)
            if not told.hangs.is_set():
                told.hanging += 1
                told.hangs.wait()
                told.hanging -= 1
            self._answer()

        def do_GET(self) -> None:
            self._answer(json.dumps(told.held).encode())

        def do_DELETE(self) -> None:
            told.deleted.append((self.path, len(told.held)))
            self._answer()

        def _answer(self, body: bytes = b"") -> None:
            with suppress(OSError):
                self.send_response(told.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    told.url = f"http://127.0.0.1:{running.server_port}/orders"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield told
    told.hangs.set()
    running.shutdown()
    running.server_close()
    thread.join()


# ---- an address between writer and server, at which answers are lost -------------------------------------------------


class Cut:
    """Passes on what the client sends, and the answers until `mute`: then each connection is reset as soon as the
    server answers so on it. So the server has done its part, and nobody is told."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._mute: bytes | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def mute(self, answer: bytes) -> None:
        """answer: what is in an answer to a record, and in none before it; b"": any is one."""
        self._mute = answer

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                behind = socket.create_connection(self._to)
                for source, target, answers in ((client, behind, False), (behind, client, True)):
                    threading.Thread(target=self._pass, args=(source, target, answers), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self._mute is not None and self._mute in data:
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Written:
    """A front door under test. make: a writer, at its own address or at another port. numbers: those that are there.
    wrong: one that the server refuses, and why. answer: see Cut."""

    make: Callable[[int | None], Any]
    numbers: Callable[[], list[int]]
    wrong: tuple[Any, str]
    port: int
    answer: bytes = b""


@pytest.fixture
def orders(warehouse: str) -> Iterator[tuple[Client, str]]:
    """A ClickHouse client and an empty table."""
    parts = urlsplit(warehouse)
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=parts.port or 0, username=parts.username or "", password=unquote(parts.password or "")
    )
    name = f"orders_{uuid4().hex[:8]}"
    client.command(f"CREATE TABLE {name} (n Int64, id String, at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY n")
    yield client, name
    client.command(f"DROP TABLE {name}")


def elsewhere(url: str, port: int | None) -> str:
    """The same address at another port of this machine."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0]
    return (
        url
        if port is None
        else parts._replace(netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}").geturl()
    )


@pytest.fixture(params=["http", "postgres", "clickhouse", "nats", "redis"])
def front(request: pytest.FixtureRequest) -> Written:
    """Each front door that is reached at one address."""
    if request.param == "http":
        door: Door = request.getfixturevalue("door")
        text = '{"n": {n}, "id": "{key}"}'

        def refusing(known: Mapping[str, str]) -> Any:
            door.status = 422
            return http.Canary(door.url, text, TIMEOUT_S).send(known)

        return Written(
            lambda port: http.Canary(elsewhere(door.url, port), text, TIMEOUT_S),
            lambda: [one["n"] for one in door.held],
            (SimpleNamespace(send=refusing), "answered 422"),
            urlsplit(door.url).port or 0,
        )
    if request.param == "postgres":
        dsn: str = request.getfixturevalue("dsn")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (n bigint PRIMARY KEY, id text)")
            connection.execute("CREATE TABLE others (n bigint)")
            role = f"writer_{uuid4().hex[:8]}"
            connection.execute(f"CREATE ROLE {role} LOGIN")
        insert = "INSERT INTO orders VALUES ({n}, '{key}')"

        def numbers() -> list[int]:
            with psycopg.connect(dsn) as connection:
                return [n for (n,) in connection.execute("SELECT n FROM orders ORDER BY n")]

        return Written(
            lambda port: postgres.Canary(elsewhere(dsn, port), insert, TIMEOUT_S),
            numbers,
            (
                postgres.Canary(dsn, f"SET ROLE {role}; INSERT INTO others VALUES ({{n}})", TIMEOUT_S),
                "permission denied",
            ),
            urlsplit(dsn).port or 0,
        )
    if request.param == "nats":
        stream = JetStream(request.getfixturevalue("jetstream"))
        subject, text = f"{stream.topic}.orders", '{"n": {n}, "id": "{key}"}'
        return Written(
            lambda port: nats.Canary(elsewhere(stream.url, port), subject, text, TIMEOUT_S),
            lambda: [json.loads(message)["n"] for message in stream.held()],
            (nats.Canary(stream.url, "nobodys", text, TIMEOUT_S), "no stream has the subject nobodys"),
            urlsplit(stream.url).port or 0,
            b"MSG ",
        )
    if request.param == "redis":
        entries = RedisStream(request.getfixturevalue("redis_url"))
        made = {"data": '{"n": {n}, "id": "{key}"}'}
        absent = f"{entries.topic}-none"
        return Written(
            lambda port: redis_streams.Canary(elsewhere(entries.url, port), entries.topic, made, TIMEOUT_S),
            lambda: [json.loads(message)["n"] for message in entries.held()],
            (redis_streams.Canary(entries.url, absent, made, TIMEOUT_S), f"there is no stream {absent}"),
            urlsplit(entries.url).port or 0,
            b"$",
        )
    client, table = request.getfixturevalue("orders")
    warehouse: str = request.getfixturevalue("warehouse")
    insert = f"INSERT INTO {table} (n, id) VALUES ({{n}}, '{{key}}')"
    wrong = replace_password(warehouse)
    return Written(
        lambda port: clickhouse.Canary(elsewhere(warehouse, port), insert, TIMEOUT_S),
        lambda: [n for (n,) in client.query(f"SELECT n FROM {table} ORDER BY n").result_rows],
        (clickhouse.Canary(wrong, insert, TIMEOUT_S), "Authentication failed"),
        urlsplit(warehouse).port or 0,
    )


def replace_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:wrong@127.0.0.1:{parts.port}").geturl()


def test_what_the_server_has_said_it_has_is_done(front: Written) -> None:
    """Once each; also from several threads."""
    writer = front.make(None)
    assert [writer.send(known(n)).outcome for n in (1, 2)] == [Outcome.DONE] * 2
    threads = [threading.Thread(target=writer.send, args=(known(n),)) for n in (3, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(front.numbers()) == [1, 2, 3, 4, 5]


def test_what_the_server_says_no_to_is_refused(front: Written) -> None:
    """A right, a password or a body that it does not take; and nothing is there."""
    writer, why = front.wrong
    sent = writer.send(known(1))
    assert sent.outcome is Outcome.REFUSED
    assert why in sent.why
    assert front.numbers() == []


def test_where_nobody_listens_it_is_refused(front: Written) -> None:
    """Nothing was sent."""
    (port,) = free_ports(1)
    assert front.make(port).send(known(1)).outcome is Outcome.REFUSED


def test_an_answer_that_is_lost_leaves_it_unknown(front: Written) -> None:
    """The record is there, once: nobody sends it again; and after that all goes on."""
    cut = Cut("127.0.0.1", front.port)
    writer = front.make(cut.port)
    assert writer.send(known(1)).outcome is Outcome.DONE
    cut.mute(front.answer)
    sent = writer.send(known(2))
    assert sent.outcome is Outcome.UNKNOWN, sent.why
    until(lambda: len(front.numbers()) >= 2 or None, within_s=5.0, what="the record")
    cut.close()
    assert front.make(None).send(known(3)).outcome is Outcome.DONE
    assert sorted(front.numbers()) == [1, 2, 3]


def test_a_server_that_answers_nothing_leaves_it_unknown_in_time(door: Door) -> None:
    """It may have the record. Whoever asks has gone on while the server hangs still."""
    door.hangs.clear()
    sent = http.Canary(door.url, '{"n": {n}}', TIMEOUT_S).send(known(1))
    assert (sent.outcome, door.hanging) == (Outcome.UNKNOWN, 1)
    assert [one["n"] for one in door.held] == [1]


@pytest.mark.parametrize(
    ("status", "outcome"), [(500, "unknown"), (502, "unknown"), (409, "unknown"), (404, "refused")]
)
def test_a_servers_error_may_be_a_proxys(door: Door, status: int, outcome: str) -> None:
    """What is behind it may have the record; a plain no is one."""
    door.status = status
    assert http.Canary(door.url, '{"n": {n}}', TIMEOUT_S).send(known(1)).outcome == outcome


def test_a_statement_that_the_server_ends_is_unknown(dsn: str) -> None:
    """It may have been committed before: the server's word for that (57P01) says no more."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (n bigint)")
        found: list[Any] = []
        writer = postgres.Canary(dsn, "INSERT INTO orders VALUES ({n}); SELECT pg_sleep(20)", 15.0)
        sending = threading.Thread(target=lambda: found.append(writer.send(known(1))))
        sending.start()
        asleep = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO orders%' AND wait_event = 'PgSleep'"
        (pid,) = until(lambda: connection.execute(asleep).fetchone(), within_s=10.0, what="the statement")
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        sending.join(10.0)
    assert found[0].outcome is Outcome.UNKNOWN, found


# ---- a topic ---------------------------------------------------------------------------------------------------------


def test_a_topic_takes_each_once_refuses_what_it_must_and_may_die(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A topic that is not there is not made; what a broker was given when it was killed is unknown."""
    server.get(lambda _: None)
    port, controller = free_ports(2)
    folder = tmp_path_factory.mktemp("canary")
    service = server.process(folder, (server.Listener("DIRECT", port, port),), controller, cluster="canary")
    brokers = f"127.0.0.1:{port}"
    with serving(service) as process:
        server.create_topics(brokers, {"orders": 1})
        writer = kafka.Canary(brokers, "orders", '{"n": {n}}', TIMEOUT_S, key="{key}")
        assert [writer.send(known(n)).outcome for n in (1, 2, 3)] == [Outcome.DONE] * 3

        def held() -> int:
            with Cluster(brokers, 5.0) as cluster:
                leaders = cluster.leaders(["orders"])
                (first,), (end,) = (cluster.offsets(leaders, at).values() for at in (EARLIEST, LATEST))
                return end - first

        assert held() == 3
        large = kafka.Canary(brokers, "orders", "x" * 2_000_000, TIMEOUT_S).send(known(4))
        assert (large.outcome, held()) == (Outcome.REFUSED, 3)
        absent = kafka.Canary(brokers, "absent", "{n}", TIMEOUT_S).send(known(5))
        assert absent.outcome is Outcome.REFUSED
        with Cluster(brokers, 5.0) as cluster, pytest.raises(GamedayError, match="absent"):
            cluster.leaders(["absent"])
        freeze(process.pid)
        frozen = writer.send(known(6))
        assert frozen.outcome is Outcome.UNKNOWN, frozen.why
        found: list[Any] = []
        sending = threading.Thread(target=lambda: found.append(writer.send(known(7))))
        sending.start()
        process.send_signal(signal.SIGKILL)
        sending.join(10.0)
        assert found[0].outcome is Outcome.UNKNOWN, found
        process.wait()
        assert kafka.Canary(brokers, "orders", "{n}", TIMEOUT_S).send(known(8)).outcome is Outcome.REFUSED


def test_a_stream_of_jetstream_refuses_what_it_must_and_may_die(tmp_path: Path) -> None:
    """What the server says no to, and what it was given when it froze or was killed."""
    service, url = new_nats(tmp_path)
    with serving(service) as process:
        stream = JetStream(url, "orders", {"max_msgs": 2, "discard": "new"})
        writer = nats.Canary(url, "orders.x", "{n}", TIMEOUT_S)
        assert [writer.send(known(n)).outcome for n in (1, 2)] == [Outcome.DONE] * 2
        full = writer.send(known(3))
        assert (full.outcome, len(stream.held())) == (Outcome.REFUSED, 2)
        assert "maximum messages exceeded" in full.why
        large = nats.Canary(url, "orders.x", "x" * 2_000_000, TIMEOUT_S).send(known(3))
        assert (large.outcome, len(stream.held())) == (Outcome.REFUSED, 2)
        assert (
            nats.Canary(replace_password(url), "orders.x", "{n}", TIMEOUT_S).send(known(4)).outcome is Outcome.REFUSED
        )
        stream.trim(0)
        _frozen_and_killed(process, writer)
    assert writer.send(known(8)).outcome is Outcome.REFUSED


def test_an_answer_that_is_no_acknowledgement_leaves_it_unknown(
    jetstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else listens to the subject, and answers; or the connection ends under the attempt."""
    subject = f"calls.{uuid4()}"

    async def served() -> None:
        client = await connected(jetstream)

        async def answer(message: Any) -> None:
            await message.respond(b'{"ok": true}')

        await client.subscribe(subject, cb=answer)
        await client.flush()
        sent = await asyncio.to_thread(nats.Canary(jetstream, subject, "{n}", TIMEOUT_S).send, known(1))
        assert sent.outcome is Outcome.UNKNOWN
        assert "no acknowledgement" in sent.why
        await client.close()

    asyncio.run(served())

    async def ended(*_: Any) -> Any:
        raise ConnectionClosedError

    monkeypatch.setattr(nats_session.Session, "request", ended)
    sent = nats.Canary(jetstream, subject, "{n}", TIMEOUT_S).send(known(1))
    assert sent.outcome is Outcome.UNKNOWN


def test_a_stream_of_redis_refuses_what_it_must_and_may_die(tmp_path: Path) -> None:
    """The same: a key that is none, an id that is not above the last."""
    service, url = new_valkey(tmp_path)
    with serving(service) as process:
        stream = RedisStream(url, "orders")
        writer = redis_streams.Canary(url, "orders", {"n": "{n}"}, TIMEOUT_S)
        numbered = redis_streams.Canary(url, "orders", {"n": "{n}"}, TIMEOUT_S, id="{n}-0")
        assert [numbered.send(known(n)).outcome for n in (1, 2)] == [Outcome.DONE] * 2
        again = numbered.send(known(2))
        assert again.outcome is Outcome.REFUSED
        assert "equal or smaller" in again.why
        with stream.client() as client:
            client.set("text", "x")
            assert client.xlen("orders") == 2
        assert redis_streams.Canary(url, "text", {"n": "{n}"}, TIMEOUT_S).send(known(3)).outcome is Outcome.REFUSED
        wrong = redis_streams.Canary(replace_password(url), "orders", {"n": "{n}"}, TIMEOUT_S)
        assert wrong.send(known(4)).outcome is Outcome.REFUSED
        _frozen_and_killed(process, writer)
    assert writer.send(known(8)).outcome is Outcome.REFUSED


def _frozen_and_killed(process: Any, writer: Any) -> None:
    """A frozen server takes no new connection's word: nothing was sent. One that is killed under an attempt says
    nothing."""
    assert writer.send(known(5)).outcome is Outcome.DONE
    freeze(process.pid)
    began_s = time.monotonic()
    assert writer.send(known(6)).outcome is Outcome.REFUSED
    assert time.monotonic() - began_s < 2 * TIMEOUT_S + 1.0
    process.send_signal(signal.SIGKILL)
    process.wait()


# ---- the process -----------------------------------------------------------------------------------------------------

BY_HTTP = """
[canary]
driver = "http"
url = "{url}"
text = '{"n": {n}, "id": "{key}"}'
fields = { id = "{key}" }
rate_hz = 20
timeout_s = 1.0
at_most = {most}
clean_up = { driver = "http", url = "{url}?prefix=gameday-", method = "DELETE", text = "" }
[hops.sink]
driver = "postgres"
dsn = "postgresql://nobody@127.0.0.1:1/none"
table = "orders"
kind = "once"
[streams.canary]
key = ["n"]
sequence = "n"
fields = { id = "text" }
hops = ["canary", "sink"]
visible = "sink"
path = ["consumer"]
"""


def by_http(folder: Path, door: Door, most: int = 500) -> tuple[Stack, Flight]:
    path = folder / "gameday.toml"
    path.write_text(CONSUMER + BY_HTTP.replace("{url}", door.url).replace("{most}", str(most)))
    stack = open_stack(path, State(folder / "state").ensure())
    stack.state.run("r1").mkdir(parents=True)
    return stack, Flight.launch(stack, "r1")


def read(stack: Stack) -> list[Attempt]:
    reader = Reader(stack.state.canary)
    reader.update()
    return reader.attempts


def test_a_killed_canary_leaves_unknowns_and_no_lies(tmp_path: Path, door: Door) -> None:
    """Whatever the server has was written down before; what is said to be done is there."""
    stack, flight = by_http(tmp_path, door)
    try:
        flight.await_done()
        door.hangs.clear()
        until(
            lambda: len(door.held) > sum(a.outcome is not None for a in read(stack)),
            within_s=10.0,
            what="one under way",
        )
        os.kill(flight.pid, signal.SIGKILL)
        until(lambda: not flight.alive, within_s=10.0, what="its end")
    finally:
        door.hangs.set()
        flight.stop(clean_up=False)
    told = read(stack)
    held = {one["n"] for one in door.held}
    assert {a.number for a in told if a.outcome is Outcome.DONE} <= held <= {a.number for a in told}
    assert any(a.outcome is None and a.number in held for a in told)
    assert door.deleted == []
    assert "exit code -9" in flight.end


def test_its_clean_up_is_the_users_own(tmp_path: Path, door: Door) -> None:
    """Once, when the run has all its evidence, after the last attempt."""
    stack, flight = by_http(tmp_path, door)
    flight.await_done()
    assert flight.stop(clean_up=True) is None
    assert door.deleted == [("/orders?prefix=gameday-", len(door.held))]
    assert all(a.outcome is not None for a in read(stack))


def test_it_ends_when_it_has_written_all_that_it_may(tmp_path: Path, door: Door) -> None:
    """Which a run is told: it can prove nothing from then on."""
    stack, flight = by_http(tmp_path, door, most=5)
    until(lambda: not flight.alive, within_s=60.0, what="its end")
    assert "it has written all 5 records that it may. Remedy: a greater canary.at_most" in flight.end
    assert len(door.held) == len(read(stack)) == 5
    flight.stop(clean_up=False)


def test_a_platform_that_takes_nothing_is_told_with_the_reason(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is broken."""
    monkeypatch.setattr("gameday.sampling.canary.BEGUN_WITHIN_S", 15.0)
    door.status = 403
    _, flight = by_http(tmp_path, door, most=100_000)
    with pytest.raises(GamedayError, match=r"took no record .* refused: POST .* answered 403.*Remedy: .*\[canary\]"):
        flight.await_done()
    flight.stop(clean_up=False)


# ---- a whole run, over a platform that nothing else is known of ------------------------------------------------------

SINKS = """
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.request import urlopen

from gameday.model import Columns, Digest, Group, Window
from gameday.records.columns import canonical
from gameday.records.declaration import Stream


@dataclass
class Shown:
    url: str
    stream: Stream
    name: str

    def heads(self) -> Mapping[Group, int]:
        held = self._held()
        return {(): max(one["n"] for one in held)} if held else {}

    def digest(self, window: Window) -> Sequence[Digest]:
        groups = {g: self.stream.tally(self.rows(g, window.lo.get(g, 0), hi)) for g, hi in window.hi.items()}
        return [Digest(self.stream.name, self.name, "final", groups)]

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        held = [one for one in self._held() if lo < one["n"] <= hi]
        return {name: canonical(kind, [one[name] for one in held]) for name, kind in self.stream.types.items()}

    def _held(self):
        with urlopen(self.url, timeout=5) as answer:
            return json.loads(answer.read())
"""


@pytest.mark.parametrize("loses", [1, *only_in("kills", 0)])
def test_a_canary_alone_is_enough_for_a_verdict(tmp_path: Path, door: Door, loses: int) -> None:
    """From preflight to the verdict, with the processes of a run: one record that is acknowledged and forgotten after
    the act is a fail, and nothing else is."""
    (tmp_path / "sinks.py").write_text(SINKS)
    text = CONSUMER.replace('socket = "none"', f'socket = "{State(tmp_path).supervisor_socket}"')
    text = text.replace("components.consumer", "components.web") + "components.web.opt_in = true\n"
    text += BY_HTTP.replace("{url}", door.url).replace("{most}", "10000").replace('"consumer"', '"web"')
    sink = text[text.index("[hops.sink]") : text.index("[streams.canary]")]
    text = text.replace(sink, f'[hops.sink]\ndriver = "sinks:Shown"\nurl = "{door.url}"\n')
    with Supervisor(tmp_path, ("web",)) as supervisor:
        supervisor.broken["lives"] = lambda order: {"ok": True, "lives": []}
        path = tmp_path / "gameday.toml"
        path.write_text(text)
        stack = open_stack(path, State(tmp_path))
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            if "nothing was done to web" in line:
                door.loses = loses

        judging = (checks.no_loss, checks.no_duplicates, checks.unchanged)
        test = FailureTest(plan=(Inject(Noop("web")), Heal()), mttr_max_s=30, checks=judging)
        kept: list[RunResult] = []
        result = interpret(Run(stack, "noop", {}, test, "night", say), plain, kept.append)
    assert result.verdict is (Verdict.FAIL if loses else Verdict.PASS), (result.why, said)
    assert {f.check for f in result.findings if f.verdict is Verdict.FAIL} == ({"no_loss"} if loses else set())
    assert door.deleted == [("/orders?prefix=gameday-", len(door.held))]
    evidence = load_evidence(stack.state.run(result.id))
    assert evidence.symptoms["canary.outcomes"]["done"] > 0


# ---- its stream, judged ----------------------------------------------------------------------------------------------

DECLARED = """
[canary]
driver = "kafka"
brokers = "{brokers}"
topic = "{topic}"
key = "{key}"
text = '{"n": {n}, "id": "{key}", "at": "{now}"}'
fields = { id = "{key}" }
[streams.canary]
key = ["n"]
sequence = "n"
time = "at"
fields = { id = "text", at = "time" }
hops = ["canary", "log", "sink"]
visible = "sink"
path = ["consumer"]
[hops.log]
driver = "kafka"
brokers = "{brokers}"
topics = ["{topic}"]
where = { "$key" = "gameday-*" }
[hops.sink]
driver = "clickhouse"
url = "{warehouse}"
kind = "once"
table = "{table}"
where = "startsWith(id, 'gameday-')"
"""


@dataclass
class Platform:
    """A topic, a table and what was attempted: 1 to 20, of which 5 was refused, 8 and 13 are of unknown outcome, and
    only 8 arrived. Between them are other records."""

    stack: Stack
    client: Client
    table: str
    producer: Producer
    topic: str

    def insert(self, numbers: Sequence[int]) -> None:
        rows = [[n, known(n)["key"], 1_795_000_000_000_000 + n] for n in numbers]
        shown = ", ".join(f"({n}, '{key}', fromUnixTimestamp64Micro({at_us}))" for n, key, at_us in rows)
        self.client.command(f"INSERT INTO {self.table} VALUES {shown}")

    def remove(self, *numbers: int) -> None:
        self.client.command(f"DELETE FROM {self.table} WHERE n IN ({', '.join(map(str, numbers))})")

    def judged(self) -> dict[str, str]:
        """check -> verdict and reason."""
        live = self.stack.streams["canary"]
        window = Window({OWN: 0}, {OWN: 20})
        followed = Followed("canary", live.stream.hops, "sink", gapless=False, window=window)
        evidence = Evidence("t", {}, "s", followed=(followed,))
        run = SimpleNamespace(
            stack=self.stack,
            lasts=lambda: None,
            log=lambda text: None,
            evidence=lambda: evidence,
            followed={"canary": followed},
            arrived={},
        )
        trouble: dict[str, str] = {}
        digests = verify._agreed(run, live, window, list(live.hops), trouble)  # type: ignore[arg-type]
        assert not trouble
        own = replace(evidence.of(followed), digests=digests)
        return {f.check: f"{f.verdict}: {f.why}" for f in (no_loss(own), no_duplicates(own), unchanged(own))}


ARRIVED = [n for n in range(1, 21) if n not in (5, 13)]


@pytest.fixture
def platform(
    tmp_path: Path, broker: str, warehouse: str, orders: tuple[Client, str], monkeypatch: pytest.MonkeyPatch
) -> Platform:
    monkeypatch.setattr(verify, "PASSED_WITHIN_S", 2.0)
    client, table = orders
    topic = f"orders-{uuid4().hex[:8]}"
    server.create_topics(broker, {topic: 2})
    told = {"brokers": broker, "topic": topic, "warehouse": warehouse, "table": table}
    text = DECLARED
    for name, value in told.items():
        text = text.replace(f"{{{name}}}", value)
    path = tmp_path / "gameday.toml"
    path.write_text(CONSUMER + text)
    stack = open_stack(path, State(tmp_path / "state").ensure())
    assert stack.canary is not None
    book = Book(stack.state.canary)
    for n in range(1, 21):
        attempt = Attempt(n, "", str(uuid4()), 1_795_000_000_000_000 + n)
        place = book.begin(attempt)
        if n in ARRIVED:
            sent = stack.canary.send(values(attempt, "gameday-"))
            assert sent.outcome is Outcome.DONE, sent
        outcome = Outcome.REFUSED if n == 5 else Outcome.UNKNOWN if n == 8 else Outcome.DONE
        if n != 13:
            book.end(place, type(sent)(outcome))
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(topic, key=b"a customer's", value=b'{"id": "other"}')
    producer.flush()
    found = Platform(stack, client, table, producer, topic)
    found.insert(ARRIVED)
    client.command(f"INSERT INTO {table} VALUES (9999, 'other', now())")
    return found


def lose(platform: Platform) -> None:
    platform.remove(7)


def lose_one_that_arrived(platform: Platform) -> None:
    platform.remove(8)


def double(platform: Platform) -> None:
    platform.insert([9])


def change(platform: Platform) -> None:
    platform.remove(10)
    platform.client.command(
        f"INSERT INTO {platform.table} SELECT 10, 'gameday-10', at FROM {platform.table} WHERE n = 11"
    )


def change_one_that_arrived(platform: Platform) -> None:
    platform.remove(8)
    platform.client.command(
        f"INSERT INTO {platform.table} SELECT 8, 'gameday-8', at FROM {platform.table} WHERE n = 11"
    )


def keep_what_was_refused(platform: Platform) -> None:
    platform.insert([5])


def arrive_late(platform: Platform) -> None:
    """What was not known to have arrived is there after all, in both places."""
    canary = platform.stack.canary
    assert canary is not None
    canary.send(values(Attempt(13, "", "", 1_795_000_000_000_013), "gameday-"))
    platform.insert([13])


@pytest.mark.parametrize(
    ("plant", "caught"),
    [
        (lambda platform: None, {}),
        (arrive_late, {}),
        (lose, {"no_loss": "sink has 1 canary record fewer than canary"}),
        (lose_one_that_arrived, {"no_loss": "sink has 1 canary record fewer than canary"}),
        (double, {"no_duplicates": "sink has 1 canary record too many"}),
        (change, {"unchanged": "sink has at least 1 canary record unlike canary's"}),
        (change_one_that_arrived, {"unchanged": "sink has at least 1 canary record unlike canary's"}),
        (keep_what_was_refused, {"no_duplicates": "sink has 1 canary record too many"}),
    ],
)
def test_a_planted_fault_is_found_and_an_unknown_record_is_none(
    platform: Platform, plant: Callable[[Platform], None], caught: Mapping[str, str]
) -> None:
    """One that arrived, and one that didn't, are both right; and so are the platform's own records beside them."""
    plant(platform)
    told = platform.judged()
    assert {check for check, why in told.items() if why.startswith("fail")} == set(caught), told
    for check, why in caught.items():
        assert why in told[check]
