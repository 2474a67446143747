"""Databases behind TLS and a password, as production has them: whoever has both is let in, and all others are told
which of the two was wrong, without the password."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from clickhouse_connect.driver.client import Client

from gameday.drivers import clickhouse, postgres
from gameday.errors import DriverError
from gameday.model import Window
from gameday.system.tls import PLAIN, Tls
from tests.contract.certificates import Authority
from tests.contract.certificates import secured as front
from tests.contract.conftest import PASSWORD
from tests.contract.sockets import END_SEEN_S
from tests.trades import TRADES

ENDED = -2
"""Days."""

WAIT_S = 5.0
ASKS_FOR_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f"
"""How a client of Postgres begins."""

WINDOW = Window({("west", "1"): 0}, {("west", "1"): 3})


@dataclass(frozen=True)
class Authorities:
    """One that is trusted here, and another."""

    own: Authority
    other: Authority


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    folder = tmp_path_factory.mktemp("authorities")
    return Authorities(Authority(folder, "own"), Authority(folder, "other"))


# ---- Postgres ----------------------------------------------------------------------------------------------


@contextmanager
def in_front_of_postgres(dsn: str, files: tuple[str, str]) -> Iterator[int]:
    """The port where TLS ends before this Postgres, whose build has none: what a client asks for first is answered
    with "S", as Postgres does."""
    where = urlsplit(dsn)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)

    class Ended(StreamRequestHandler):
        def handle(self) -> None:
            if self.request.recv(8) != ASKS_FOR_TLS:
                return
            self.request.sendall(b"S")
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((where.hostname, where.port)) as behind,
            ):
                back = threading.Thread(target=_pass_on, args=(behind, client), daemon=True)
                back.start()
                _pass_on(client, behind)
                behind.shutdown(socket.SHUT_RDWR)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Ended) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield listening.server_address[1]
        listening.shutdown()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    """Until one of them ends."""
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)


def through(port: int, dsn: str, ca: Path, password: str = PASSWORD) -> str:
    """The address that demands TLS."""
    return f"{login_of(dsn, password)}@127.0.0.1:{port}{urlsplit(dsn).path}?sslmode=verify-full&sslrootcert={ca}"


def login_of(dsn: str, password: str) -> str:
    return f"postgresql://tester:{quote(password, safe='')}"


def test_a_postgres_behind_tls_is_read(dsn: str, known: Authorities) -> None:
    """libpq's own words in the address are all that is needed, for a probe and for what is compared."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE trades (venue text, symbol text, trade_id int, price numeric, at timestamptz)")
        connection.execute("INSERT INTO trades SELECT 'west', '1', n, n, now() FROM generate_series(1, 3) AS n")
    fields = {"quantity": "0", "side": "'buy'", "exchange_time": "at"}
    with in_front_of_postgres(dsn, known.own.certificate("postgres")) as port:
        secured = through(port, dsn, known.own.ca)
        assert postgres.Probe(secured, WAIT_S).read() == {"": 1.0}
        found, plain = (postgres.Hop(at, "once", TRADES, table="trades", fields=fields) for at in (secured, dsn))
        assert dict(found.heads()) == {("west", "1"): 3}
        assert found.rows(("west", "1"), 0, 3).keys() == plain.rows(("west", "1"), 0, 3).keys()


@pytest.mark.parametrize(
    ("authority", "password", "days", "told"),
    [
        ("other", PASSWORD, 1, r"certificate verify failed. Remedy: sslrootcert=/path/ca.pem"),
        ("own", "wrong-one", 1, r'password authentication failed for user "tester". Remedy: user and password'),
        ("own", PASSWORD, ENDED, r"certificate verify failed. Remedy: .* where the server's has ended"),
    ],
)
def test_who_is_not_let_in_to_postgres_is_told_why(
    dsn: str, known: Authorities, authority: str, password: str, days: int, told: str
) -> None:
    """Which of the two it was, and at which address."""
    ca = known.own.ca if authority == "own" else known.other.ca
    with (
        in_front_of_postgres(dsn, known.own.certificate("postgres", days=days)) as port,
        pytest.raises(DriverError, match=told) as raised,
    ):
        postgres.Probe(through(port, dsn, ca, password), WAIT_S).read()
    assert f"127.0.0.1:{port}" in str(raised.value)
    assert password not in str(raised.value)


# ---- ClickHouse --------------------------------------------------------------------------------------------


@contextmanager
def ended_here(warehouse: str, files: tuple[str, str]) -> Iterator[int]:
    """The port where TLS ends before this ClickHouse, whose build has no listener of its own for it."""
    where = urlsplit(warehouse)

    class Passed(BaseHTTPRequestHandler):
        """Each question as it came, to the server behind; its answer as it is."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            behind = HTTPConnection(where.hostname or "", where.port or 0, timeout=WAIT_S)
            kept = {name: value for name, value in self.headers.items() if name.lower() != "accept-encoding"}
            behind.request(self.command, self.path, body, kept)
            answer = behind.getresponse()
            told = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            return

    with front(Passed, files) as port:
        yield port


def address(port: int, password: str = PASSWORD) -> str:
    return f"https://gameday:{quote(password, safe='')}@127.0.0.1:{port}"


def test_a_clickhouse_behind_tls_is_read(warehouse: str, client: Client, known: Authorities) -> None:
    """Heads and digest, as over plain HTTP."""
    client.command("CREATE TABLE IF NOT EXISTS secured (n UInt64) ENGINE = MergeTree ORDER BY n")
    fields = {"venue": "'west'", "symbol": "'1'", "trade_id": "n", "price": "0", "quantity": "0", "side": "'buy'"}
    rest = {"fields": {**fields, "exchange_time": "toDateTime64(n, 6, 'UTC')"}, "table": "secured"}
    client.command("INSERT INTO secured VALUES (1), (2), (3)")
    with ended_here(warehouse, known.own.certificate("clickhouse")) as port:
        found = clickhouse.Hop(address(port), "once", stream=TRADES, tls=Tls(str(known.own.ca)), **rest)  # type: ignore[arg-type]
        plain = clickhouse.Hop(warehouse, "once", stream=TRADES, **rest)  # type: ignore[arg-type]
        assert dict(found.heads()) == {("west", "1"): 3}
        assert found.digest(WINDOW)[0].groups == plain.digest(WINDOW)[0].groups


@pytest.mark.parametrize(
    ("tls", "password", "days", "told"),
    [
        ("own", "wrong-one", 1, r"AUTHENTICATION_FAILED|Authentication failed"),
        ("other", PASSWORD, 1, r"certificate is not trusted \(.*Remedy: ca = "),
        ("none", PASSWORD, 1, r"certificate is not trusted \(.*Remedy: ca = "),
        ("own", PASSWORD, ENDED, r"its certificate has expired. Remedy: a new certificate"),
    ],
)
def test_who_is_not_let_in_to_clickhouse_is_told_why(
    warehouse: str, known: Authorities, tls: str, password: str, days: int, told: str
) -> None:
    """Whom nobody vouches for, whose certificate has ended, and who knows no password."""
    trusted = {"own": Tls(str(known.own.ca)), "other": Tls(str(known.other.ca)), "none": PLAIN}[tls]
    with (
        ended_here(warehouse, known.own.certificate("clickhouse", days=days)) as port,
        pytest.raises(DriverError, match=told) as raised,
    ):
        clickhouse.Server(address(port, password), tls=trusted).rows("SELECT 1", WAIT_S)
    assert password not in str(raised.value)
