"""Asks whether a server of this container answers its own protocol: python compose/docker/healthy.py URL.

Every container asks all the time, so this costs only the start of a Python: it imports no module of the checkout.
"""

import http.client
import socket
import struct
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 3.0
ANSWER_BYTES = 4096


def http_answers(url: str) -> bool:
    """With status 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


def kafka_answers(url: str) -> bool:
    """Ask for its API's versions."""
    ask = struct.pack(">hhih", 18, 0, 1, 6) + b"health"
    return _asked(url, struct.pack(">i", len(ask)) + ask)[4:8] == struct.pack(">i", 1)


def postgresql_answers(url: str) -> bool:
    """Whether it asks for a password; while it recovers it sends an error instead."""
    ask = struct.pack(">i", 196_608) + b"user\0" + (urlsplit(url).username or "").encode() + b"\0\0"
    return _asked(url, struct.pack(">i", len(ask) + 4) + ask).startswith(b"R")


def _asked(url: str, ask: bytes) -> bytes:
    """Return the beginning of the answer. All bytes are read: else the connection is reset, which the server logs."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), TIMEOUT_S) as connection:
        connection.sendall(ask)
        return connection.recv(ANSWER_BYTES)


if __name__ == "__main__":
    ways = {"http": http_answers, "kafka": kafka_answers, "postgresql": postgresql_answers}
    try:
        sys.exit(not ways[urlsplit(sys.argv[1]).scheme](sys.argv[1]))
    except (OSError, http.client.HTTPException) as e:
        sys.exit(f"{sys.argv[1]}: {e}")
