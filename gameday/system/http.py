"""Asks servers over HTTP: the whole answer comes within a bound of time and size, or an error.

It uses the TLS files of the table in gameday.toml, follows no redirect, uses no proxy to loopback, and resets the
connection of a question that it gives up.

Most callers use `ask`: httpx, with a new connection each time. `Kept` keeps connections, for what is asked many times a
second or by a command that must be quick: httpx takes ten times as long for a question, and a tenth of a second to be
imported. A component's own probe (drivers/http.py) uses neither, because it must prove that one can connect.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import re
import select
import socket
import ssl
import struct
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from gameday.errors import DriverError
from gameday.system import address
from gameday.system.address import Address
from gameday.system.asking import AT_ONCE, answer, connected, give_up
from gameday.system.tls import PLAIN, Tls, context, said
from gameday.system.unix import reachable

__all__ = ["ANSWER_MAX_BYTES", "Answer", "Kept", "Unanswered", "ask"]

ANSWER_MAX_BYTES = 64 << 20
"""Far more than any answer to gameday's questions has, except ClickHouse's rows: that driver sets its own bound."""

SHORTEST_S = 0.001
"""The shortest time-out of a socket: 0 would mean that it never waits."""

STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])[ \r\n]")
LINE_MAX_BYTES = 1 << 16

CLOSES_AS_USUAL = struct.pack("ii", 0, 0)
"""SO_LINGER's value in a new socket."""


class Answer(NamedTuple):
    """A whole answer. retry_after: the header's value; only `ask` reads it."""

    status: int
    body: bytes
    retry_after: str | None = None


class Unanswered(Exception):
    """There is no whole answer; the text says why. sent: whether the server may have got the request."""

    def __init__(self, why: str, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


def ask(
    method: str,
    url: str,
    within_s: float,
    *,
    patience_s: float | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] = {},
    tls: Tls = PLAIN,
    unix: str | None = None,
    proxied: bool = False,
) -> Answer:
    """Ask one question. Raises Unanswered when the whole answer is not there within within_s.

    Args: url: with user and password, which are sent to the server. patience_s: how long connecting, and each piece of
    the answer, may take. unix: the path of a unix socket to connect to instead. proxied: use the environment's proxy,
    unless the server is on this machine.
    """
    line = _Line()
    each_s = within_s if patience_s is None else patience_s
    login = {} if unix else dict(address.of(url).login)
    sent = {"Accept-Encoding": "identity", "Connection": "close", **login, **headers}

    def asked() -> Answer:
        return _asked(method, url, each_s, body, sent, tls, unix, proxied, line)

    try:
        return answer(asked, within_s, "")
    except DriverError:  # its thread still waits for the answer
        line.hang_up()
        raise Unanswered(f"timed out: no answer within {within_s:g} s", sent=True) from None


def _asked(
    method: str,
    url: str,
    each_s: float,
    body: bytes | None,
    headers: Mapping[str, str],
    tls: Tls,
    unix: str | None,
    proxied: bool,
    line: _Line,
) -> Answer:
    import httpx  # here, because it takes a tenth of a second

    parts = urlsplit(url)
    secure = tls if parts.scheme == "https" else None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        trusted = context(secure) if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with contextlib.ExitStack() as held:
            transport = held.enter_context(
                httpx.HTTPTransport(
                    verify=trusted,
                    trust_env=False,
                    uds=held.enter_context(reachable(unix)) if unix else None,
                    proxy=_proxy(parts.scheme, parts.hostname or "") if proxied else None,
                )
            )
            request = httpx.Request(
                method,
                bare,
                content=body,
                headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()],
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), each_s), "trace": line.seen},
            )
            response = transport.handle_request(request)
            with contextlib.closing(response):
                whole = bytearray()
                for piece in response.iter_raw():
                    whole += piece
                    if len(whole) > ANSWER_MAX_BYTES:
                        raise Unanswered(f"more than {ANSWER_MAX_BYTES} bytes", sent=True)
            return Answer(response.status_code, bytes(whole), response.headers.get("Retry-After"))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as e:
        raise Unanswered(said(e, secure), sent=False) from e
    except (httpx.LocalProtocolError, httpx.InvalidURL, ValueError, ImportError) as e:
        # their texts may quote a secret
        raise Unanswered(f"this can't be asked ({type(e).__name__})", sent=False) from None
    except httpx.HTTPError as e:
        raise Unanswered(said(e, secure), sent=True) from e
    except OSError as e:  # a file of the TLS settings, or the unix socket's folder
        raise Unanswered(str(e), sent=False) from e


class _Line:
    """The connection of one question, taken from httpx's trace. Its end resets it, unless the answer is whole."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def seen(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the connection. httpx calls this at each step."""
        if event.endswith((".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            self._closes(AT_ONCE)
        elif event.endswith(".receive_response_body.complete"):
            self._closes(CLOSES_AS_USUAL)

    def hang_up(self) -> None:
        """End it, so that a thread that still waits for it gets an error."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                self._socket.shutdown(socket.SHUT_RD)  # its reader closes it then, which resets it

    def _closes(self, how: bytes) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # a unix socket's ends at once anyway
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)


def _proxy(scheme: str, host: str) -> str | None:
    """Return the environment's proxy for this server. None: ask it directly."""
    from urllib.request import getproxies, proxy_bypass

    if _on_this_machine(host) or proxy_bypass(host):
        return None
    proxy = getproxies().get(scheme)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _on_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Kept:
    """The connections to one server, one for each request under way. Makes a new one when none is idle."""

    def __init__(
        self,
        at: Address,
        tls: Tls = PLAIN,
        *,
        unix: str | None = None,
        connect_within_s: float | None = None,
        most_bytes: int | None = None,
    ) -> None:
        """unix: the path of a unix socket to connect to instead. connect_within_s: how long connecting may take, where
        that is less than an answer may take. most_bytes: the largest answer."""
        self._at, self._tls, self._unix = at, tls if at.scheme == "https" else None, unix
        self._connect_within_s = connect_within_s
        self._most_bytes = most_bytes
        self._idle: list[socket.socket] = []

    def ask(
        self, method: str, target: str, within_s: float, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send one request. Raises Unanswered when the whole answer is not there within within_s; the connection is not
        used again then. The request may be sent twice, so it must be one that does no harm when repeated.
        """
        deadline = monotonic() + within_s
        sent = {**self._at.login, **headers}
        try:
            if (idle := self._taken()) is not None:
                with contextlib.suppress(ConnectionError):  # the server closed it just now, and will take another
                    return self._asked(idle, deadline, method, target, body, sent)
            try:
                connection = self._connected(min(within_s, self._connect_within_s or within_s))
            except OSError as e:
                raise Unanswered(said(e, self._tls), sent=False) from e
            return self._asked(connection, deadline, method, target, body, sent)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise Unanswered(said(e, self._tls), sent=True) from e

    def _connected(self, within_s: float) -> socket.socket:
        host, port = self._at.host, self._at.port
        if self._unix is not None:
            with contextlib.ExitStack() as undone, reachable(self._unix) as path:
                connection = undone.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                connection.settimeout(within_s)
                connection.connect(path)
                undone.pop_all()
            return connection
        connection = connected(host, port or (80 if self._tls is None else 443), within_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection if self._tls is None else context(self._tls).wrap_socket(connection, server_hostname=host)

    def _asked(
        self,
        connection: socket.socket,
        deadline: float,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        most = ANSWER_MAX_BYTES if self._most_bytes is None else self._most_bytes
        try:
            connection.settimeout(max(SHORTEST_S, deadline - monotonic()))
            connection.sendall(_request(method, target, self._at, body, headers))
            answer, stays = _received(io.BufferedReader(_Bounded(connection, deadline, most)), method, most)
        except BaseException:
            give_up(connection.fileno())
            connection.close()
            raise
        if stays:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _taken(self) -> socket.socket | None:
        """An idle connection that the server has not closed. Safe in threads, as list.pop is."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if not select.select([connection], [], [], 0)[0]:
                return connection
            connection.close()
        return None


def _request(method: str, target: str, at: Address, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    """What is sent. Raises ValueError where a part of it can't be."""
    host = f"[{at.host}]" if ":" in at.host else at.host
    told = {"Host": host if at.port is None else f"{host}:{at.port}", "Accept-Encoding": "identity", **headers}
    if body is not None or method not in ("GET", "HEAD", "DELETE"):
        told["Content-Length"] = str(len(body or b""))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    if not target.isascii() or " " in target or any("\r" in line or "\n" in line for line in lines):
        raise ValueError("this can't be asked")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def _received(reader: io.BufferedReader, method: str, most_bytes: int) -> tuple[Answer, bool]:
    """The answer, and whether the connection stays. By hand: what the standard library does with an e-mail's headers
    takes six times as long as all else of a question. Raises OSError, HTTPException or ValueError when there is none.
    """
    version, status, fields = _head(reader)
    while status == 100:  # told before the answer itself
        version, status, fields = _head(reader)
    stays = version == b"1" and b"close" not in fields.get(b"connection", b"").lower()
    if method == "HEAD" or status in (204, 304):
        return Answer(status, b""), stays
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        pieces = []
        while size := int(reader.readline(LINE_MAX_BYTES).partition(b";")[0], 16):
            pieces.append(_exactly(reader, size, most_bytes))
            reader.readline(LINE_MAX_BYTES)
        _fields(reader)  # that came late
        return Answer(status, b"".join(pieces)), stays
    if (length := fields.get(b"content-length")) is not None:
        return Answer(status, _exactly(reader, int(length), most_bytes)), stays
    return Answer(status, reader.read()), False


def _head(reader: io.BufferedReader) -> tuple[bytes, int, Mapping[bytes, bytes]]:
    """The minor version, the status, and the fields."""
    line = reader.readline(LINE_MAX_BYTES)
    if not line:
        raise http.client.RemoteDisconnected("Remote end closed connection without response")
    if (usual := STATUS.match(line)) is None:
        raise http.client.BadStatusLine(line.decode("latin-1").strip())
    return usual[1], int(usual[2]), _fields(reader)


def _fields(reader: io.BufferedReader) -> dict[bytes, bytes]:
    """Read the header's lines up to the empty one. Returns name, in small letters -> value."""
    fields: dict[bytes, bytes] = {}
    while line := reader.readline(LINE_MAX_BYTES).strip():
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    return fields


def _exactly(reader: io.BufferedReader, size: int, most_bytes: int) -> bytes:
    if size > most_bytes:  # before room is made for it
        raise ValueError(f"more than {most_bytes} bytes")
    data = reader.read(size) if size > 0 else b""
    if len(data) < size:
        raise http.client.IncompleteRead(data, size - len(data))
    return data


class _Bounded(io.RawIOBase):
    """Reads a socket until the deadline and up to a number of bytes. (A socket's time-out begins anew each time.)"""

    def __init__(self, it: socket.socket, deadline: float, most_bytes: int) -> None:
        self._it, self._deadline, self._most_bytes, self._left_bytes = it, deadline, most_bytes, most_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._it.settimeout(left_s)
        size = self._it.recv_into(buffer)
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise ValueError(f"more than {self._most_bytes} bytes")
        return size
