"""A component that answers HTTP. One fresh connection a reading: a kept one would go on answering for a server that
takes no new ones.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gameday.errors import ConfigError, DriverError

__all__ = ["Probe"]

ANSWER_MAX_BYTES = 4 << 20
PIECE_BYTES = 1 << 16


@dataclass(frozen=True)
class Probe:
    """GET url answers with the status `ok`. fields: numbers to take along from its JSON body; their series are
    <...>.<field>.
    """

    url: str
    timeout_s: float
    fields: Sequence[str] = ()
    ok: int = 200

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"probe url {self.url!r} is no HTTP address. Remedy: http://host:port/path")

    def read(self) -> Mapping[str, float]:
        """{"": 1.0, ".<field>": value}. Raises DriverError when the whole answer is not there within timeout_s, or is
        not as asked.
        """
        deadline = time.monotonic() + self.timeout_s
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout_s)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.connect()
            connection.request("GET", target, headers={"Connection": "close"})
            response = http.client.HTTPResponse(_Received(_all(connection.sock, deadline)))  # type: ignore[arg-type]
            response.begin()
            body = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise DriverError(f"GET {self.url}: {e or type(e).__name__}", definite=True) from e
        finally:
            connection.close()
        if response.status != self.ok:
            raise DriverError(f"GET {self.url} answered {response.status}, not {self.ok}", definite=True)
        return {"": 1.0, **self._numbers(body)}

    def _numbers(self, body: bytes) -> dict[str, float]:
        if not self.fields:
            return {}
        try:
            document: Any = json.loads(body)
            return {f".{field}": float(document[field]) for field in self.fields}
        except (ValueError, TypeError, KeyError) as e:
            raise DriverError(f"GET {self.url}: {e!r} in {body[:200]!r}", definite=True) from e


@dataclass(frozen=True)
class _Received:
    """What HTTPResponse takes for a socket: bytes that are here already."""

    data: bytes

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def _all(connection: socket.socket, deadline: float) -> bytes:
    """All that comes until the server hangs up. Read by hand: a server that drips bytes would renew a socket's own
    time-out with each of them."""
    data = bytearray()
    while len(data) <= ANSWER_MAX_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        piece = connection.recv(PIECE_BYTES)
        if not piece:
            return bytes(data)
        data += piece
    raise ConnectionError(f"more than {ANSWER_MAX_BYTES} bytes")
