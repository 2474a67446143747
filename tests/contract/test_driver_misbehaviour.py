"""Every driver against servers that refuse, hang, hang up or drip: a DriverError within its deadline, never a hang."""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gameday.drivers import (
    clickhouse,
    container,
    failpoints,
    http,
    kafka,
    nats,
    postgres,
    prefect_api,
    prometheus,
    redis_streams,
    tape,
)
from gameday.drivers._post import post
from gameday.drivers.clickhouse import queries
from gameday.drivers.kafka import log, probes
from gameday.drivers.nats import jetstream as nats_log
from gameday.drivers.postgres import looks, table
from gameday.drivers.redis_streams import entries as redis_log
from gameday.errors import DriverError, GamedayError
from gameday.hosts import toxiproxy
from gameday.model import Window
from gameday.past.history import Board
from gameday.reports import metrics
from gameday.system import address, vantage
from gameday.system import http as http_helper
from gameday.system.http import Kept, Unanswered
from gameday.system.polling import until
from tests.contract.sockets import dripping, endless, hanging_up, nobody, saying, silent, staying
from tests.trades import TRADES

TIMEOUT_S = 0.5
SLACK_S = 0.7
"""On a busy machine, and for what a client library rounds up."""

GROUP = ("binance", "BTCUSDT")
WINDOW = Window({GROUP: 0}, {GROUP: 10})
BODY = b'{"connects": 3, "last": {"BTCUSDT": 7}}'

Ask = Callable[[int], object]
SERVERS = {"refusing": nobody, "silent": silent, "hanging up": hanging_up}


def dsn(port: int) -> str:
    return f"postgresql://u:p@127.0.0.1:{port}/d"


def looked_at(port: int) -> postgres.Hop:
    hop = postgres.Hop(dsn(port), "once", TRADES, "t")
    hop._search = "SELECT 1"
    return hop


ASKS: dict[str, tuple[Ask, float]] = {
    "http probe": (lambda p: http.Probe(f"http://127.0.0.1:{p}/healthz", TIMEOUT_S).read(), TIMEOUT_S),
    "kafka probe": (lambda p: kafka.Probe(f"127.0.0.1:{p}", TIMEOUT_S).read(), TIMEOUT_S),
    "kafka serving": (lambda p: kafka.Serving(f"127.0.0.1:{p}", ["t"], TIMEOUT_S).read(), TIMEOUT_S),
    "kafka position": (lambda p: kafka.Cursor(f"127.0.0.1:{p}", "g", ["t"]).position(), probes.ASK_WITHIN_S),
    "kafka end": (lambda p: kafka.Cursor(f"127.0.0.1:{p}", "g", ["t"]).end(), probes.ASK_WITHIN_S),
    "kafka heads": (lambda p: kafka.Hop(f"127.0.0.1:{p}", TRADES, ["t"]).heads(), TIMEOUT_S),
    "kafka digest": (lambda p: kafka.Hop(f"127.0.0.1:{p}", TRADES, ["t"]).digest(WINDOW), TIMEOUT_S),
    "nats probe": (lambda p: nats.Probe(f"nats://u:p@127.0.0.1:{p}", TIMEOUT_S).read(), TIMEOUT_S),
    "nats serving": (lambda p: nats.Serving(f"nats://127.0.0.1:{p}", ["t"], TIMEOUT_S).read(), TIMEOUT_S),
    "nats lag": (lambda p: nats.Lag(f"nats://127.0.0.1:{p}", "t", "c", TIMEOUT_S).read(), TIMEOUT_S),
    "nats position": (
        lambda p: nats.Cursor(f"nats://127.0.0.1:{p}", "t", "c").position(),
        nats.consumers.ASK_WITHIN_S,
    ),
    "nats end": (lambda p: nats.Cursor(f"nats://127.0.0.1:{p}", "t", "c").end(), nats.consumers.ASK_WITHIN_S),
    "nats kept": (lambda p: nats.Cursor(f"nats://127.0.0.1:{p}", "t", "c").kept(), TIMEOUT_S),
    "nats heads": (lambda p: nats.Hop(f"nats://127.0.0.1:{p}", TRADES, ["t"]).heads(), TIMEOUT_S),
    "nats digest": (lambda p: nats.Hop(f"nats://127.0.0.1:{p}", TRADES, ["t"]).digest(WINDOW), TIMEOUT_S),
    "redis probe": (lambda p: redis_streams.Probe(f"redis://u:p@127.0.0.1:{p}", TIMEOUT_S).read(), TIMEOUT_S),
    "redis serving": (lambda p: redis_streams.Serving(f"redis://127.0.0.1:{p}", ["t"], TIMEOUT_S).read(), TIMEOUT_S),
    "redis lag": (lambda p: redis_streams.Lag(f"redis://127.0.0.1:{p}", "t", "g", TIMEOUT_S).read(), TIMEOUT_S),
    "redis position": (
        lambda p: redis_streams.Cursor(f"redis://127.0.0.1:{p}", "t", "g").position(),
        redis_streams.groups.ASK_WITHIN_S,
    ),
    "redis end": (
        lambda p: redis_streams.Cursor(f"redis://127.0.0.1:{p}", "t", "g").end(),
        redis_streams.groups.ASK_WITHIN_S,
    ),
    "redis heads": (lambda p: redis_streams.Hop(f"redis://127.0.0.1:{p}", TRADES, ["t"]).heads(), TIMEOUT_S),
    "redis digest": (lambda p: redis_streams.Hop(f"redis://127.0.0.1:{p}", TRADES, ["t"]).digest(WINDOW), TIMEOUT_S),
    "clickhouse heads": (lambda p: clickhouse.Hop(f"http://u:p@127.0.0.1:{p}", "append", "t", TRADES).heads(), 1.0),
    "clickhouse heads of a small table": (
        lambda p: clickhouse.Hop(f"http://u:p@127.0.0.1:{p}", "append", "t", TRADES, heads_table="h").heads(),
        clickhouse.hop.HEADS_WITHIN_S,
    ),
    "postgres probe": (lambda p: postgres.Probe(dsn(p), TIMEOUT_S).read(), TIMEOUT_S),
    "postgres heads": (lambda p: postgres.Hop(dsn(p), "once", TRADES, "t").heads(), TIMEOUT_S),
    "postgres heads, once it is known where they are": (lambda p: looked_at(p).heads(), table.HEADS_WITHIN_S),
    "postgres digest": (lambda p: postgres.Hop(dsn(p), "once", TRADES, "t").digest(WINDOW), TIMEOUT_S),
    "postgres slot": (lambda p: postgres.Cursor(dsn(p), "s").position(), looks.ASK_WITHIN_S),
    "postgres end of the log": (lambda p: postgres.Cursor(dsn(p), "s").end(), looks.ASK_WITHIN_S),
    "postgres mirror": (lambda p: postgres.Mirror(dsn(p), "t", "k", "r").position(), TIMEOUT_S),
    "tape heads": (lambda p: tape.Hop(f"http://127.0.0.1:{p}", "m:f", TRADES).heads(), tape.ASK_WITHIN_S),
    "prometheus alerts": (lambda p: prometheus.Alerts(f"http://127.0.0.1:{p}", TIMEOUT_S).firing(), TIMEOUT_S),
    "toxiproxy links": (lambda p: toxiproxy.Host(f"http://127.0.0.1:{p}").links(), TIMEOUT_S),
    "vantage": (lambda p: vantage.asked_manner(f"http://127.0.0.1:{p}", "127.0.0.1:1"), TIMEOUT_S),
    "prefect runs": (lambda p: prefect_api.Job(f"http://127.0.0.1:{p}/api", "f/d").runs(0), TIMEOUT_S),
}


@pytest.fixture(params=SERVERS)
def misbehaving(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of each kind of server."""
    server: AbstractContextManager[int] = SERVERS[request.param]()
    with server as port:
        yield port


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same drivers with less patience."""
    for module in (log, nats_log, redis_log):
        monkeypatch.setattr(module, "READ_WITHIN_S", TIMEOUT_S)
    monkeypatch.setattr(nats.consumers, "KEPT_WITHIN_S", TIMEOUT_S)
    for module in (prefect_api, vantage):
        monkeypatch.setattr(module, "ASK_WITHIN_S", TIMEOUT_S)
    for module in (table, looks):
        monkeypatch.setattr(module, "LOOK_WITHIN_S", TIMEOUT_S)
    monkeypatch.setattr(toxiproxy, "ANSWER_S", TIMEOUT_S)


@pytest.mark.parametrize("ask", ASKS)
def test_no_answer_is_a_driver_error_within_the_deadline(
    ask: str, misbehaving: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether nobody listens, nobody answers or the server hangs up; asking changes nothing, so it is definite."""
    impatient(monkeypatch)
    question, deadline_s = ASKS[ask]
    began = time.monotonic()
    with pytest.raises(DriverError) as caught:
        question(misbehaving)
    assert time.monotonic() - began < deadline_s + SLACK_S
    assert caught.value.definite


OVER_HTTP: dict[str, tuple[Callable[[int, Path], object], float]] = {
    "http probe": (lambda p, _: ASKS["http probe"][0](p), TIMEOUT_S),
    "clickhouse": (lambda p, _: clickhouse.Server(f"http://127.0.0.1:{p}").rows("SELECT 1", TIMEOUT_S), TIMEOUT_S),
    "tape": (lambda p, _: ASKS["tape heads"][0](p), tape.ASK_WITHIN_S),
    "prefect": (lambda p, _: ASKS["prefect runs"][0](p), 2 * TIMEOUT_S),
    "prometheus": (lambda p, _: ASKS["prometheus alerts"][0](p), 2 * TIMEOUT_S),
    "toxiproxy": (lambda p, _: ASKS["toxiproxy links"][0](p), TIMEOUT_S),
    "vantage": (lambda p, _: ASKS["vantage"][0](p), TIMEOUT_S),
    "container": (lambda _, unix: container.Probe("c", TIMEOUT_S, f"unix://{unix}").read(), TIMEOUT_S),
    "failpoints": (
        lambda _, unix: failpoints.Points(str(unix), "none")._ask("GET", "/points", None, TIMEOUT_S),
        TIMEOUT_S,
    ),
    "a post": (lambda p, _: post("it", f"http://127.0.0.1:{p}/hook", {}, {}, TIMEOUT_S), TIMEOUT_S),
    "push gateway": (lambda p, _: metrics.push(f"http://127.0.0.1:{p}", Board(), "t", TIMEOUT_S), TIMEOUT_S),
}
"""Each client of an HTTP server, with the port or the unix socket to ask at, and its bound."""

BEGINNINGS = {"body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "head": b"HTTP/1.1 200 OK\r\nX-Long: "}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("ask", OVER_HTTP)
def test_a_dripping_server_does_not_renew_a_deadline(
    ask: str, beginning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes within any socket's time-out; the whole answer does not."""
    impatient(monkeypatch)
    question, deadline_s = OVER_HTTP[ask]
    unix = tmp_path / "s" if ask in ("container", "failpoints") else None
    with dripping(BEGINNINGS[beginning] + b"x" * 1000, unix) as port:
        began = time.monotonic()
        with pytest.raises(GamedayError):
            question(port, tmp_path / "s")
        assert time.monotonic() - began < deadline_s + SLACK_S


@pytest.mark.parametrize("ask", OVER_HTTP)
def test_an_answer_without_end_is_none(ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up at a size, and the rest of it is never held in memory."""
    for module in (http_helper, queries, http):
        monkeypatch.setattr(module, "ANSWER_MAX_BYTES", 1 << 18)
    unix = tmp_path / "s" if ask in ("container", "failpoints") else None
    with (
        endless(b"HTTP/1.1 200 OK\r\n\r\n", unix) as port,
        pytest.raises(GamedayError, match=f"more than {1 << 18} bytes"),
    ):
        OVER_HTTP[ask][0](port, tmp_path / "s")


class Ended:
    """How each connection to a server ended that says half an answer and then nothing, as that server sees it."""

    def __init__(self) -> None:
        self.how: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]

    def __enter__(self) -> Ended:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
            try:
                while connection.recv(65536):  # the rest of what is asked
                    pass
                self.how.put("goodbye")
            except ConnectionResetError:
                self.how.put("reset")


@pytest.mark.parametrize("ask", [name for name in OVER_HTTP if name not in ("container", "failpoints")])
def test_a_server_that_is_given_up_is_left_nothing(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is reset: a goodbye would have to be read by a server that is frozen."""
    impatient(monkeypatch)
    with Ended() as server:
        with pytest.raises(GamedayError):
            OVER_HTTP[ask][0](server.port, Path())
        assert server.how.get(timeout=5) == "reset"


def test_a_dripping_server_does_not_renew_the_deadline_of_a_broker_probe() -> None:
    """The same for Kafka's protocol."""
    with dripping(b"\0\0\0\x64" + b"\0" * 100) as port:
        began = time.monotonic()
        with pytest.raises(DriverError):
            kafka.Probe(f"127.0.0.1:{port}", TIMEOUT_S).read()
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S


DRIPPING: dict[str, tuple[bytes, Ask]] = {
    "nats, its greeting": (b"INFO {" + b" " * 500, ASKS["nats probe"][0]),
    "redis, its answer": (
        b"+PO" + b"O" * 500,
        lambda p: redis_streams.Probe(f"redis://127.0.0.1:{p}", TIMEOUT_S).read(),
    ),
    "redis, of a password": (b"+OK\r\n" * 100, ASKS["redis probe"][0]),
}


@pytest.mark.parametrize("ask", DRIPPING)
def test_a_dripping_server_does_not_renew_the_deadline_of_a_stream_s_probe(ask: str) -> None:
    """Nor does the client library's own patience count, which begins anew with each byte."""
    data, question = DRIPPING[ask]
    with dripping(data) as port:
        began = time.monotonic()
        with pytest.raises(DriverError):
            question(port)
        assert time.monotonic() - began < TIMEOUT_S + SLACK_S


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["HTTP", "OK", "SSH"]
)
@pytest.mark.parametrize("ask", ["nats probe", "redis probe"])
def test_what_is_another_server_is_none_of_streams(ask: str, answer: bytes) -> None:
    """A port that something else took must not count as the server that answers."""
    with saying(answer) as port, pytest.raises(DriverError):
        ASKS[ask][0](port)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\0\0\0\x02\0\0",
        b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0",
        b"\0\0\0\x0agame\0\x23\0\0\0\0",
    ],
    ids=["another protocol", "too short", "another request's", "with an error"],
)
def test_what_is_no_kafka_is_no_broker(answer: bytes) -> None:
    """A port that something else took must not count as the broker that answers."""
    with saying(answer) as port, pytest.raises(DriverError):
        kafka.Probe(f"127.0.0.1:{port}", TIMEOUT_S).read()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "connects"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", "nope"),
    ],
    ids=[
        "another status",
        "another protocol",
        "cut short",
        "a chunk cut short",
        "no last chunk",
        "a field missing",
        "no JSON",
    ],
)
def test_an_http_answer_that_is_not_as_asked_is_none(answer: bytes, why: str) -> None:
    """Status, whole body and the fields that the configuration names must all be there."""
    with saying(answer) as port, pytest.raises(DriverError, match=why):
        http.Probe(f"http://127.0.0.1:{port}/healthz", TIMEOUT_S, fields=["connects"]).read()


WHOLE = {
    "of a length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "in chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"
    % (BODY[:4], len(BODY) - 4, BODY[4:]),
    "in unusual chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x;x=y\r\n%s\r\n0\r\nLate: 1\r\n\r\n"
    % (len(BODY), BODY),
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
}
"""The forms of an answer."""


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_an_http_answer_gives_its_fields(answer: bytes) -> None:
    """The answer itself is 1, and each named number is a series of its own."""
    with saying(answer) as port:
        assert http.Probe(f"http://127.0.0.1:{port}/healthz", TIMEOUT_S, fields=["connects"]).read() == {
            "": 1.0,
            ".connects": 3.0,
        }


def test_an_http_answer_is_whole_when_it_is_as_long_as_it_says() -> None:
    """The server need not hang up; one that stops before that has not answered."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    with staying(head + BODY) as port:
        assert http.Probe(f"http://127.0.0.1:{port}/healthz", TIMEOUT_S).read() == {"": 1.0}
    with staying(head + BODY[:-1]) as port, pytest.raises(DriverError, match="timed out"):
        http.Probe(f"http://127.0.0.1:{port}/healthz", TIMEOUT_S).read()


def test_a_trigger_whose_answer_was_lost_may_have_had_an_effect() -> None:
    """A request that was sent and not answered is not definite; one that could not be sent is."""
    with hanging_up() as port, pytest.raises(DriverError) as lost:
        prefect_api.Job(f"http://127.0.0.1:{port}/api", "f/d")._ask("POST", "/deployments/x/create_flow_run", {})
    with nobody() as port, pytest.raises(DriverError) as refused:
        prefect_api.Job(f"http://127.0.0.1:{port}/api", "f/d")._ask("POST", "/deployments/x/create_flow_run", {})
    assert not lost.value.definite
    assert refused.value.definite


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_a_kept_connection_gives_an_answer_of_each_form(answer: bytes) -> None:
    """Also one that is announced before."""
    with saying(b"HTTP/1.1 100 Continue\r\n\r\n" + answer) as port:
        assert Kept(address.of(f"http://127.0.0.1:{port}")).ask("POST", "/", 5.0, b"it") == (200, BODY, None)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"", "without response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{" % (1 << 40), "more than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n{", "Incomplete"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "invalid literal"),
    ],
    ids=["another protocol", "nothing", "cut short", "too long", "a chunk cut short", "no last chunk"],
)
def test_a_kept_connection_gives_no_answer_that_is_not_whole(answer: bytes, why: str) -> None:
    """And says why."""
    with saying(answer) as port, pytest.raises(Unanswered, match=why):
        Kept(address.of(f"http://127.0.0.1:{port}")).ask("GET", "/", 5.0)


class Silently(BaseHTTPRequestHandler):
    """Keeps its connections, and closes one without a word after /last. Answers with the client's port."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.client_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.path == "/last"

    def log_message(self, *_: object) -> None: ...


def test_a_kept_connection_is_used_until_the_server_closes_it() -> None:
    """Then a new one is made: a server that was restarted is not taken for one that doesn't answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Silently) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept = Kept(address.of(f"http://127.0.0.1:{server.server_port}"))
        first, second = kept.ask("GET", "/", 5.0), kept.ask("GET", "/last", 5.0)
        assert first == second
        (connection,) = kept._idle
        until(lambda: select.select([connection], [], [], 0)[0], within_s=5, what="the server's close")
        third = kept.ask("GET", "/", 5.0)
        assert (third.status, third.body != first.body) == (200, True)
        server.shutdown()


class Abruptly(Silently):
    """Ends a connection with its second request in place of an answer."""

    def do_GET(self) -> None:
        if getattr(self, "asked", False):
            self.close_connection = True
            return
        self.asked = True
        super().do_GET()


def test_a_kept_connection_that_the_server_closes_under_a_request_is_made_anew() -> None:
    """The server was not asked yet: that is no trouble of its own. What it does on a new connection is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Abruptly) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept = Kept(address.of(f"http://127.0.0.1:{server.server_port}"))
        first, second = kept.ask("GET", "/", 5.0), kept.ask("GET", "/", 5.0)
        assert (second[0], second[1] != first[1]) == (200, True)
        server.shutdown()
