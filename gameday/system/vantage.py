"""Tells how a server reacts to a few bytes, from this machine or from a vantage point in the platform's network.

A vantage point is for addresses that only the platform's clients can reach. `python -m gameday.system.vantage --host H
--port P` starts one. It answers GET /reaction?address=HOST:PORT, GET /manner?address=HOST:PORT and GET /healthz.
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
"""HTTP servers answer it. Kafka and Postgres read it as a frame of absurd length, and hang up."""

PATIENCE_S = 1.0
"""How long to wait for a reaction. A server that is reached takes milliseconds."""

ASK_WITHIN_S = 2 * PATIENCE_S + 2.0
"""Connecting and reacting each have PATIENCE_S."""

UNASKED_S = 0.1
"""How long to watch a connection before anything is sent. A proxy that can't reach its server hangs up within
milliseconds; a server waits for the question."""

ANSWERS, HANGS_UP, UNASKED = "answers", "hangs up", "hangs up before it is asked anything"
SILENT, REFUSES, RESETS = "is silent", "refuses connections", "resets connections"
"""The results of `manner`."""

READ_WITHIN_S = 5.0
REFUSED, RESET = "refused", "reset"

ANY = ("", "::", "0.0.0.0")
"""The hosts of a server that listens on every address of its machine."""


def reaction_s(address: str) -> float | None:
    """Return the seconds from connecting until the server answered NOISE or hung up. None: neither in PATIENCE_S.

    Raises ConnectionRefusedError when no server listens, ConnectionResetError when the connection was reset.
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
    """Say how the server at this address treats a connection.

    Returns ANSWERS or HANGS_UP (its reaction to NOISE), UNASKED (it hangs up before that), SILENT, REFUSES or RESETS.
    Raises OSError when the address can't be asked at all.
    A proxy that can't reach its server takes a connection and hangs up at once; a server waits for bytes.
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
    """Return what `reaction_s` finds at this vantage point (a URL). Raises the same errors, and DriverError when the
    vantage point doesn't answer."""
    reply = _asked(vantage, "/reaction", address, tls)
    why = reply.get("error")
    if why == REFUSED:
        raise ConnectionRefusedError(f"{address} refuses connections")
    if why == RESET:
        raise ConnectionResetError(f"{address} resets connections")
    if why is not None:
        raise DriverError(f"{address}, as seen from {vantage}: {why}", definite=True)
    seconds: float | None = reply["reaction_s"]
    return seconds


def asked_manner(vantage: str, address: str, tls: Tls = PLAIN) -> str:
    """Return what `manner` finds at this vantage point (a URL). Raises DriverError when that doesn't answer."""
    reply = _asked(vantage, "/manner", address, tls)
    if "manner" not in reply:
        raise DriverError(f"{address}, as seen from {vantage}: {reply.get('error')}", definite=True)
    return str(reply["manner"])


def _asked(vantage: str, path: str, address: str, tls: Tls) -> dict[str, Any]:
    try:
        answer = ask("GET", f"{vantage.rstrip('/')}{path}?address={quote(address)}", ASK_WITHIN_S, tls=tls)
        reply: dict[str, Any] = json.loads(answer.body)
    except (Unanswered, ValueError) as e:
        raise DriverError(
            f"the vantage point {vantage} does not tell how {address} reacts: {e}. Remedy: start it", definite=True
        ) from e
    return reply


def _parts(address: str) -> tuple[str, int]:
    """Split an address into host and port. An IPv6 host is in brackets; "every address" ("[::]") becomes loopback."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    return "localhost" if host in ANY else host, int(port)


def server(host: str, port: int) -> ThreadingHTTPServer:
    """Return the vantage point's server: it listens, and does not answer yet."""

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_WITHIN_S

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            addresses = parse_qs(parts.query).get("address", [])
            if parts.path == "/healthz":
                return self._answer(200, {"ok": True})
            look = {"/reaction": _reaction, "/manner": _manner}.get(parts.path)
            if look is None or len(addresses) != 1 or not addresses[0].rpartition(":")[2].isdecimal():
                return self._answer(400, {"error": "GET /reaction?address=HOST:PORT, or /healthz"})
            return self._answer(200, look(addresses[0]))

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


def _reaction(address: str) -> dict[str, Any]:
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
