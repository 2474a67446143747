"""Talks HTTP: probes a component, sends canary records, and reads an account of a run.

The probe opens a connection for each reading: a kept one would still answer when the server takes no new ones. It uses
sockets directly, because it is asked twenty times a second and httpx takes six times as long.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from gameday.errors import DriverError
from gameday.model import Json, Outcome, Sent
from gameday.records.attempts import filled
from gameday.stack.config import Http
from gameday.system import address
from gameday.system.asking import connected, give_up
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls, context, said

__all__ = ["Account", "Canary", "Probe"]

ANSWER_MAX_BYTES = 4 << 20
PIECE_BYTES = 1 << 16

USUAL = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9])[ \r]")
LENGTH = re.compile(rb"\r\nContent-Length:[ \t]*([0-9]+)[ \t]*(?:\r\n|$)", re.IGNORECASE)
CODING = re.compile(rb"\r\nTransfer-Encoding:[ \t]*([^\r]*)", re.IGNORECASE)
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


UNSURE = (408, 409)
"""Statuses of 4xx that may be answered although the record is stored: time-out, and conflict."""

SHOWN_BYTES = 200


@dataclass(frozen=True)
class Canary:
    """Sends each record as the body of a request of its own, on a new connection."""

    url: Http
    text: str
    timeout_s: float
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    tls: Tls = PLAIN

    def send(self, known: Mapping[str, str]) -> Sent:
        """Send one record. done: any 2xx. refused: most of 4xx, or no connection. All else is unknown: a 5xx may come
        from a proxy."""
        url = filled(self.url, known)
        headers = {name: filled(text, known) for name, text in self.headers.items()}
        body = filled(self.text, known).encode()
        try:
            answer = ask(self.method, url, self.timeout_s, body=body, headers=headers, tls=self.tls)
        except Unanswered as e:
            return Sent(Outcome.UNKNOWN if e.sent else Outcome.REFUSED, f"{self.method} {url}: {e}")
        if 200 <= answer.status < 300:
            return Sent(Outcome.DONE)
        why = f"{self.method} {url} answered {answer.status}: {answer.body[:SHOWN_BYTES].decode(errors='replace')}"
        definite = 400 <= answer.status < 500 and answer.status not in UNSURE
        return Sent(Outcome.REFUSED if definite else Outcome.UNKNOWN, why)


@dataclass(frozen=True)
class Account:
    """GET url?since_us=… answers with a JSON object. known: added to it; what the server doesn't know."""

    url: Http
    known: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 10.0
    tls: Tls = PLAIN

    def told(self, since_us: int) -> Json:
        """Return the object. Raises DriverError for any other answer."""
        url = f"{self.url}?since_us={since_us}"
        try:
            answer = ask("GET", url, self.timeout_s, tls=self.tls)
            told = json.loads(answer.body)
        except (Unanswered, ValueError) as e:
            raise DriverError(f"GET {url}: {e}", definite=True) from e
        if answer.status != HTTPStatus.OK or not isinstance(told, dict):
            shown = answer.body[:SHOWN_BYTES].decode(errors="replace")
            raise DriverError(f"GET {url} answered {answer.status}: {shown}", definite=True)
        return {**told, **self.known}


@dataclass(frozen=True)
class Probe:
    """GET url must answer with the status `ok`. fields: numbers in its JSON body that are sampled too; their series are
    <...>.<field>.
    """

    url: Http
    timeout_s: float
    fields: Sequence[str] = ()
    ok: int = 200
    tls: Tls = PLAIN

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0, ".<field>": value}. Raises DriverError when the whole answer is not there within timeout_s,
        or has another status or no such number.
        """
        deadline = time.monotonic() + self.timeout_s
        try:
            connection = self._connected()
            try:
                connection.sendall(self._request)
                status, body = _parsed(_all(connection, deadline))
            except BaseException:
                give_up(connection.fileno())
                raise
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as e:
            secure = self.tls if self.url.startswith("https") else None
            raise DriverError(f"GET {self.url}: {said(e, secure)}", definite=True) from e
        if status != self.ok:
            raise DriverError(f"GET {self.url} answered {status}, not {self.ok}", definite=True)
        return {"": 1.0, **self._numbers(body)}

    def _connected(self) -> socket.socket:
        host, port, secure = self._server
        connection = connected(host, port, self.timeout_s)
        return connection if secure is None else secure.wrap_socket(connection, server_hostname=host)

    @cached_property
    def _server(self) -> tuple[str, int, ssl.SSLContext | None]:
        """Return host, port, and TLS's settings; None: without TLS."""
        parts = urlsplit(self.url)
        secure = context(self.tls) if parts.scheme == "https" else None
        return parts.hostname or "", parts.port or (443 if secure else 80), secure

    @cached_property
    def _request(self) -> bytes:
        """The request's bytes, made once because they are sent many times a second."""
        parts = urlsplit(self.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        headers = {"Host": host, "Accept-Encoding": "identity", "Connection": "close", **address.of(self.url).login}
        lines = (f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "")
        return "\r\n".join(lines).encode("ascii")

    def _numbers(self, body: bytes) -> dict[str, float]:
        if not self.fields:
            return {}
        try:
            document: Any = json.loads(body)
            return {f".{field}": float(document[field]) for field in self.fields}
        except (ValueError, TypeError, KeyError) as e:
            raise DriverError(f"GET {self.url}: {e!r} in {body[:200]!r}", definite=True) from e


def _parsed(data: bytes) -> tuple[int, bytes]:
    """Return an answer's status and body. Raises HTTPException when it is no answer, or was cut short.

    This code reads what servers usually send: the library parses the headers like an e-mail's, which takes as long as
    the connection. The library reads all other answers, and says what is wrong with them.
    """
    head, whole, rest = data.partition(b"\r\n\r\n")
    if whole and (usual := USUAL.match(head)):
        length, coding = LENGTH.search(head), CODING.search(head)
        if length and not coding and len(rest) >= int(length[1]):
            return int(usual[1]), rest[: int(length[1])]
        if coding and not length and coding[1].lower() == b"chunked" and (body := _joined(rest)) is not None:
            return int(usual[1]), body
    response = http.client.HTTPResponse(_Received(data))  # type: ignore[arg-type]
    response.begin()
    return response.status, response.read()


def _joined(chunks: bytes) -> bytes | None:
    """Return the body that was sent in chunks; None unless it is complete and has nothing unusual."""
    pieces: list[bytes] = []
    at = 0
    while size := CHUNK.match(chunks, at):
        start, length = size.end(), int(size[1], 16)
        if length == 0:
            return b"".join(pieces)
        pieces.append(chunks[start : start + length])
        at = start + length + 2
        if chunks[at - 2 : at] != b"\r\n":
            return None
    return None


@dataclass(frozen=True)
class _Received:
    """Bytes that were received already, in the form that HTTPResponse takes: a socket."""

    data: bytes

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def _all(connection: socket.socket, deadline: float) -> bytes:
    """Return all bytes until the answer is as long as its head says, or the server closes the connection. Waiting for
    the close too would wake the sampler once more. The deadline is for all bytes: a server that sends byte by byte
    would renew a socket's own time-out each time."""
    data = bytearray()
    while len(data) <= ANSWER_MAX_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        piece = connection.recv(PIECE_BYTES)
        data += piece
        if not piece or _is_whole(data):
            return bytes(data)
    raise ConnectionError(f"more than {ANSWER_MAX_BYTES} bytes")


def _is_whole(data: bytearray) -> bool:
    """Whether an answer with Content-Length is complete; one in chunks ends with its connection."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or CODING.search(data, 0, end):
        return False
    length = LENGTH.search(data, 0, end)
    return length is not None and len(data) - end - 4 >= int(length[1])
