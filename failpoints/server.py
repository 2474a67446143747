"""Arms points from outside: `listen`, which a process's main calls, and HTTP over a unix socket for its own user only.

GET    /points                                 every point: what it stands for, what is armed, counts
GET    /points/NAME
PUT    /points/NAME?ttl_s=60&run=ID            the body is a chain of terms; it disarms itself after ttl_s
DELETE /points/NAME                            disarm, and release what is paused there
POST   /points/NAME/release                    release what is paused there; it stays armed
GET    /points/NAME/wait?fired=1&within_s=10   200 once it has fired so often, 408 when that is too late
GET    /metrics                                Prometheus' text format
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Iterator, MutableMapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote, urlsplit

from failpoints import points
from failpoints.armed import log
from failpoints.grammar import parse
from failpoints.points import Point, UnknownPoint
from failpoints.trail import Trail

__all__ = ["ListenError", "Listener", "listen"]

PATH_BYTES_MAX = 100
"""A unix socket's path has at most 108 bytes; longer paths are reached through their folder's descriptor."""

TTL_MAX_S = 86_400.0
WAIT_MAX_S = 600.0
HANGS_UP_S = 0.25
"""How often a waiting request checks that its client is still there."""

READ_WITHIN_S = 5.0
"""How long a client may take to send its request."""

END_SEEN_S = 0.1
"""How often the server checks whether it was closed."""

REQUESTS_MAX = 32
BODY_BYTES_MAX = 1 << 16
DRAINED_BYTES_MAX = 1 << 20


class ListenError(RuntimeError):
    """The socket, the evidence or the claims can't be used."""


class Listener:
    """A process that listens. path: its socket; None: it has none, and only its environment arms it.

    It answers from `serve` on; by then the points of the environment are armed.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self._pid = os.getpid()
        self._server: _Server | None = None
        self._lock = -1
        self._serving = False
        if path is None:
            return
        self._lock = _lock(path)
        try:
            self._server = _Server(path)
        except OSError as e:
            os.close(self._lock)
            raise ListenError(f"FAILPOINTS_SOCKET={path} can't be opened: {e.strerror}") from e

    def serve(self) -> None:
        """Answer in a thread of its own."""
        if self._server is None:
            return
        self._serving = True
        threading.Thread(target=self._server.serve_forever, args=(END_SEEN_S,), name="failpoints", daemon=True).start()

    def close(self) -> None:
        """Stop listening; what is armed stays armed. In a forked child, only close the parent's socket."""
        global _listener
        _listener = None
        server, self._server = self._server, None
        if server is None or self.path is None:
            return
        if os.getpid() == self._pid:
            if self._serving:
                server.shutdown()
            Path(self.path).unlink(missing_ok=True)
        server.server_close()
        os.close(self._lock)


_listener: Listener | None = None


def listen(environ: MutableMapping[str, str] = os.environ) -> Listener | None:
    """Let this process be armed. Its main calls this after its imports. Without FAILPOINTS_ENABLE=1 it returns None and
    does nothing.

    FAILPOINTS: entries to arm now. FAILPOINTS_FILE: a file with more entries. If it is missing there are none, so
    deleting it before this process answers at its socket disarms it. FAILPOINTS_SOCKET: where to listen; it is removed
    from the environment, so that children don't use it. FAILPOINTS_EVIDENCE: the file of firings. FAILPOINTS_CLAIMS:
    the folder that [global] terms share. FAILPOINTS_RUN: whose faults these are. FAILPOINTS_SEED: the seed of the
    points' generators.

    Raises ValueError when an entry can't be armed, ListenError when a file can't be used or another process listens.
    """
    global _listener
    text = environ.get("FAILPOINTS", "")
    if environ.get("FAILPOINTS_ENABLE") != "1":
        if text:
            log.warning("FAILPOINTS=%s is ignored. To arm it: FAILPOINTS_ENABLE=1", text)
        return None
    if _listener is not None:
        return _listener
    names = ("FAILPOINTS_EVIDENCE", "FAILPOINTS_CLAIMS", "FAILPOINTS_RUN", "FAILPOINTS_SEED")
    try:
        points.configure(Trail.at(*(environ.get(name, "") for name in names)))
    except OSError as e:
        raise ListenError(f"{e.filename} can't be used for failpoints: {e.strerror}") from e
    listener = Listener(environ.pop("FAILPOINTS_SOCKET", None) or None)
    try:
        for name, chain in parse(";".join(filter(None, (text, _entries(environ.get("FAILPOINTS_FILE")))))).items():
            points.arm(name, chain)
    except BaseException:
        listener.close()
        raise
    listener.serve()
    _listener = listener
    return _listener


def _entries(file: str | None) -> str:
    """What FAILPOINTS_FILE says."""
    if not file:
        return ""
    try:
        return Path(file).read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as e:
        raise ListenError(f"FAILPOINTS_FILE={file} can't be read: {e}") from e


def status(point: Point) -> dict[str, Any]:
    """Return one point's status. evaluated and fired: since it was armed, else since the process began."""
    armed = point.current()
    hits, fired = point.totals() if armed is None else (armed.hits, armed.fired)
    return {
        "point": point.name,
        "about": point.about,
        "returns": point.returns is not None,
        "term": None if armed is None else str(armed),
        "run": None if armed is None else armed.run,
        "left_s": None if armed is None else armed.left_s,
        "paused": 0 if armed is None else armed.paused,
        "loaded": point.loaded,
        "evaluated": hits,
        "fired": fired,
    }


# ---- the socket -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """Yield the socket's path in a form short enough for the kernel."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)


def _lock(path: str) -> int:
    """Lock this path as long as the process lives: the lock's owner may replace a stale socket."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise ListenError(f"FAILPOINTS_SOCKET={path} can't be used: {e.strerror}") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        raise ListenError(f"another process listens at {path}. Remedy: a socket of its own for each process") from e
    return descriptor


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)
        self.slots = threading.BoundedSemaphore(REQUESTS_MAX)
        with reachable(path) as short:
            super().__init__(short, _Handler)

    def server_bind(self) -> None:
        os.fchmod(self.fileno(), 0o600)  # before bind, so that others can never open it
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Accept only root and the process's own user: the mode may have been changed by hand."""
        _, uid, _ = struct.unpack("3i", request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return uid in (0, os.geteuid())

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request failed", exc_info=True)


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_WITHIN_S
    server: _Server
    routes: ClassVar[dict[tuple[str, str], str]] = {
        ("GET", ""): "_show",
        ("PUT", ""): "_put",
        ("DELETE", ""): "_delete",
        ("POST", "release"): "_release",
        ("GET", "wait"): "_wait",
    }

    def handle(self) -> None:
        if not self.server.slots.acquire(blocking=False):
            self.wfile.write(b"HTTP/1.0 503 Busy\r\n\r\n")
            return
        try:
            super().handle()
        finally:
            self.server.slots.release()

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_DELETE = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def _answer(self) -> None:
        try:
            sent = self._read()  # before anything is refused: a client that still sends would not read the reason
            body = self._route(sent)
        except _Refused as e:
            self._send(e.status, {"error": str(e)})
        except UnknownPoint as e:
            self._send(404, {"error": str(e)})
        except ValueError as e:
            self._send(400, {"error": str(e)})
        else:
            self._send(200, body)

    def _read(self) -> str:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(max(0, min(size, DRAINED_BYTES_MAX)))
        if not 0 <= size <= BODY_BYTES_MAX:
            raise _Refused(400, f"the body is a chain of terms, at most {BODY_BYTES_MAX} bytes")
        if len(body) < size:
            raise _Refused(400, f"the body ended after {len(body)} of {size} bytes")
        return body.decode()

    def _route(self, sent: str) -> Any:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        folder, _, rest = parts.path.strip("/").partition("/")
        if self.command == "GET" and parts.path == "/metrics":
            return "\n".join(points.metrics()) + "\n"
        if self.command == "GET" and folder == "points" and not rest:
            return {"pid": os.getpid(), "points": {name: status(p) for name, p in points.known().items()}}
        name, _, verb = rest.partition("/")
        method = self.routes.get((self.command, verb))
        if folder != "points" or method is None:
            raise _Refused(404, f"no {self.command} {parts.path}")
        return getattr(self, method)(points.find(unquote(name)), {**query, "body": sent})

    def _show(self, point: Point, query: dict[str, str]) -> Any:
        return status(point)

    def _put(self, point: Point, query: dict[str, str]) -> Any:
        points.arm(point.name, query["body"], _number(query, "ttl_s", TTL_MAX_S), query.get("run", ""))
        return status(point)

    def _delete(self, point: Point, query: dict[str, str]) -> Any:
        points.disarm(point.name)
        return status(point)

    def _release(self, point: Point, query: dict[str, str]) -> Any:
        armed = point.current()
        return {**status(point), "released": 0 if armed is None else armed.release()}

    def _wait(self, point: Point, query: dict[str, str]) -> Any:
        times = int(query.get("fired", "1"))
        armed = point.current()
        if armed is None:
            raise _Refused(409, f"{point.name} is not armed")
        deadline = time.monotonic() + _number(query, "within_s", WAIT_MAX_S)
        while not armed.wait_fired(times, min(HANGS_UP_S, max(0.0, deadline - time.monotonic()))):
            if armed.over or time.monotonic() >= deadline or self._hung_up():
                why = "it is not armed any more" if armed.over else "that took too long"
                raise _Refused(408, f"{point.name} has fired {armed.fired} times, not {times}: {why}")
        return {**status(point), "fired": armed.fired}

    def _hung_up(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _send(self, status: int, body: Any) -> None:
        content = body if isinstance(body, str) else json.dumps(body)
        data = content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _number(query: dict[str, str], name: str, most: float) -> float:
    try:
        value = float(query[name])
    except (KeyError, ValueError):
        raise _Refused(400, f"{name} is missing or no number") from None
    if not 0 < value <= most:
        raise _Refused(400, f"{name} is {value:g}, not above 0 and at most {most:g}")
    return value


def _after_fork() -> None:
    """Close the parent's socket in a child: if it stayed open, a dead parent would look alive."""
    if _listener is not None:
        _listener.close()


os.register_at_fork(after_in_child=_after_fork)
