"""Servers that misbehave as a socket can: nobody listens, nobody answers, everybody is sent away, bytes only drip."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

DRIP_EVERY_S = 0.05
PIECE_BYTES = 1 << 16

LOOK_EVERY_S = 0.05

END_SEEN_S = 0.01
"""How soon a server of Python's sees that it is to end; by itself it would look every half second."""


@contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses connections: bound, never listening."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield s.getsockname()[1]


@contextmanager
def silent(unix: Path | None = None) -> Iterator[int]:
    """A port whose server accepts and never says a word. unix: at this socket instead."""
    with _accepting(lambda _connection, ended: ended.wait(), unix) as port:
        yield port


@contextmanager
def meeting(number: int) -> Iterator[tuple[int, threading.Event]]:
    """A port whose server says nothing, and sends everybody away when so many are there at the same time; and whether
    they ever were."""
    met, there, lock = threading.Event(), 0, threading.Lock()

    def stay(connection: socket.socket, ended: threading.Event) -> None:
        nonlocal there
        with lock:
            there += 1
            if there == number:
                met.set()
        while not met.is_set() and not ended.is_set() and not _left(connection):
            met.wait(LOOK_EVERY_S)
        with lock:
            there -= 1

    with _accepting(stay) as port:
        yield port, met


def _left(connection: socket.socket) -> bool:
    """Whether the client has gone."""
    try:
        return connection.recv(65536, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@contextmanager
def hanging_up(unix: Path | None = None) -> Iterator[int]:
    """A port whose server closes every connection at once. unix: at this socket instead."""
    with _accepting(lambda _connection, _ended: None, unix) as port:
        yield port


@contextmanager
def saying(data: bytes, unix: Path | None = None) -> Iterator[int]:
    """A port whose server says the same to everybody, whatever is asked, and hangs up. unix: at this socket instead."""

    def say(connection: socket.socket, _ended: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(data)

    with _accepting(say, unix) as port:
        yield port


@contextmanager
def staying(data: bytes) -> Iterator[int]:
    """The same of one that does not hang up."""

    def stay(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(data)
        ended.wait()

    with _accepting(stay) as port:
        yield port


@contextmanager
def dripping(data: bytes, unix: Path | None = None) -> Iterator[int]:
    """A port whose server sends its answer byte by byte: each within any time-out, the whole never. unix: at this
    socket instead."""

    def drip(connection: socket.socket, ended: threading.Event) -> None:
        for byte in data:
            if ended.wait(DRIP_EVERY_S):
                return
            connection.sendall(bytes([byte]))

    with _accepting(drip, unix) as port:
        yield port


@contextmanager
def endless(data: bytes, unix: Path | None = None) -> Iterator[int]:
    """The same of one that says this, and then never ends to say more."""

    def flood(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(data)
        while not ended.is_set():
            connection.sendall(b" " * PIECE_BYTES)

    with _accepting(flood, unix) as port:
        yield port


@contextmanager
def _accepting(serve: Callable[[socket.socket, threading.Event], object], unix: Path | None = None) -> Iterator[int]:
    ended = threading.Event()

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection, ended)
            except OSError:
                return  # the client went away first

    def loop(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) if unix is None else _listening(unix) as server:
        threading.Thread(target=loop, args=(server,), daemon=True).start()
        try:
            yield server.getsockname()[1] if unix is None else 0
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


def _listening(unix: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(unix))
    server.listen()
    return server


class Answering:
    """An HTTP server that answers every GET with its `body` as JSON, and keeps what is posted."""

    def __init__(self, body: Any) -> None:
        self.body = body
        self.posted: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(json.dumps(outer.body).encode())

            def do_POST(self) -> None:
                outer.posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer(b"{}")

            def _answer(self, data: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def __enter__(self) -> Answering:
        threading.Thread(target=self._server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
