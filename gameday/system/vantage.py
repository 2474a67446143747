"""How a server reacts to a few bytes: asked from this machine, or from a vantage point inside the platform's network,
for an address that only its clients can reach.

`python -m gameday.system.vantage --host H --port P` is such a point: GET /reaction?address=HOST:PORT, the same of
/manner, and /healthz.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from gameday.errors import DriverError
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = [
    "ANSWERS",
    "ANY",
    "HANGS_UP",
    "PATIENCE_S",
    "REFUSES",
    "RESETS",
    "SILENT",
    "UNASKED",
    "asked_manner",
    "asked_s",
    "main",
    "manner",
    "reaction_s",
    "server",
]

NOISE = b"GET /gameday HTTP/1.0\r\n\r\n"
"""HTTP servers answer it; Kafka and Postgres read a frame of absurd length, and hang up."""

PATIENCE_S = 1.0
"""How long a reaction is waited for; a server that is reached takes milliseconds."""

ASK_WITHIN_S = 2 * PATIENCE_S + 2.0
"""Connecting and reacting each have PATIENCE_S."""

UNASKED_S = 0.1
"""How long a connection that has said nothing is watched: a proxy that reaches nobody hangs up within milliseconds, and
a server waits for what it is asked."""

ANSWERS, HANGS_UP, UNASKED = "answers", "hangs up", "hangs up before it is asked anything"
SILENT, REFUSES, RESETS = "is silent", "refuses connections", "resets connections"
"""The manners in which an address treats a connection: see manner."""

READ_WITHIN_S = 5.0
REFUSED, RESET = "refused", "reset"

ANY = ("", "::", "0.0.0.0")
"""Hosts of who listens on every address of its machine."""


def reaction_s(address: str) -> float | None:
    """Seconds from connecting until whoever is there answered noise, or hung up; None: neither within PATIENCE_S.

    Raises ConnectionRefusedError when nobody listens, ConnectionResetError when the connection was reset.
    """
    began = time.monotonic()
    with socket.create_connection(_parts(address), PATIENCE_S) as connection:
        try:
            connection.settimeout(PATIENCE_S)
            connection.sendall(NOISE)
            connection.recv(1)
        except TimeoutError:
            return None
    return time.monotonic() - began


def manner(address: str) -> str:
    """In which manner whoever is at this address treats a connection: it ANSWERS noise, HANGS_UP on it, hangs up
    UNASKED, is SILENT, REFUSES or RESETS connections. Raises OSError where the address can't be asked at all.

    A proxy that reaches nobody takes a connection and hangs up at once; the server behind waits for noise.
    """
    try:
        with socket.create_connection(_parts(address), PATIENCE_S) as connection:
            with contextlib.suppress(TimeoutError):
                connection.settimeout(UNASKED_S)
                return ANSWERS if connection.recv(1) else UNASKED
            connection.settimeout(PATIENCE_S)
            connection.sendall(NOISE)
            return ANSWERS if connection.recv(1) else HANGS_UP
    except TimeoutError:
        return SILENT
    except ConnectionRefusedError:
        return REFUSES
    except (ConnectionResetError, BrokenPipeError):
        return RESETS


def asked_s(vantage: str, address: str, tls: Tls = PLAIN) -> float | None:
    """What `reaction_s` finds at this vantage point (a URL). Raises the same; DriverError when it doesn't tell."""
    told = _asked(vantage, "/reaction", address, tls)
    why = told.get("error")
    if why == REFUSED:
        raise ConnectionRefusedError(f"{address} refuses connections")
    if why == RESET:
        raise ConnectionResetError(f"{address} resets connections")
    if why is not None:
        raise DriverError(f"{address}, as seen from {vantage}: {why}", definite=True)
    found: float | None = told["reaction_s"]
    return found


def asked_manner(vantage: str, address: str, tls: Tls = PLAIN) -> str:
    """What `manner` finds at this vantage point (a URL). Raises DriverError when it doesn't tell."""
    told = _asked(vantage, "/manner", address, tls)
    if "manner" not in told:
        raise DriverError(f"{address}, as seen from {vantage}: {told.get('error')}", definite=True)
    return str(told["manner"])


def _asked(vantage: str, path: str, address: str, tls: Tls) -> dict[str, Any]:
    try:
        answer = ask("GET", f"{vantage.rstrip('/')}{path}?address={quote(address)}", ASK_WITHIN_S, tls=tls)
        told: dict[str, Any] = json.loads(answer.body)
    except (Unanswered, ValueError) as e:
        raise DriverError(
            f"the vantage point {vantage} does not tell how {address} reacts: {e}. Remedy: start it", definite=True
        ) from e
    return told


def _parts(address: str) -> tuple[str, int]:
    """Host and port; an IPv6 host is in brackets, and every address of this machine ("[::]") is asked on loopback."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return "localhost" if host in ANY else host, int(port)


def server(host: str, port: int) -> ThreadingHTTPServer:
    """Listening, and not yet answering."""

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_WITHIN_S

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            addresses = parse_qs(parts.query).get("address", [])
            if parts.path == "/healthz":
                return self._answer(200, {"ok": True})
            told = {"/reaction": _told, "/manner": _manner}.get(parts.path)
            if told is None or len(addresses) != 1 or not addresses[0].rpartition(":")[2].isdecimal():
                return self._answer(400, {"error": "GET /reaction?address=HOST:PORT, or /healthz"})
            return self._answer(200, told(addresses[0]))

        def log_message(self, *_: Any) -> None:
            return

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer((host, port), Handler)


def _told(address: str) -> dict[str, Any]:
    try:
        return {"reaction_s": reaction_s(address)}
    except ConnectionRefusedError:
        return {"error": REFUSED}
    except ConnectionResetError:
        return {"error": RESET}
    except (OSError, OverflowError) as e:
        return {"error": str(e) or type(e).__name__}


def _manner(address: str) -> dict[str, Any]:
    try:
        return {"manner": manner(address)}
    except (OSError, OverflowError) as e:
        return {"error": str(e) or type(e).__name__}


def main() -> int:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Tells how servers react that only the platform's clients can reach.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    options = parser.parse_args()
    with server(options.host, options.port) as serving:
        serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
