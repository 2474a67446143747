"""Asks a Redis or a Valkey, each question on a new connection and within its time.

The library's own retries are off, because it would send a write again without saying so. Only the library's connections
are used, not its client, because a question is only a command or two.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from gameday.errors import DriverError
from gameday.system import address
from gameday.system.asking import answer, give_up
from gameday.system.tls import PLAIN, Tls, said

__all__ = ["Server", "Talk", "after", "id_of", "place_of"]

T = TypeVar("T")

PORT = 6379

ADDED_BITS = 20
"""An entry's id is a time in milliseconds and a number. Its place in the log has both in one number, whose lowest bits,
so many, are the second."""

ADDED_MAX, MS_MAX = (1 << ADDED_BITS) - 1, (1 << (63 - ADDED_BITS)) - 1

NONE = b"0-0"
"""The id below all others."""


class Talk:
    """A connection for one question."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __call__(self, *words: str | bytes | int) -> Any:
        """Send a command, return the server's answer as in RESP2. Raises RedisError."""
        self._connection.send_command(*words)  # type: ignore[no-untyped-call]
        return self._connection.read_response()

    def named(self, *words: str | bytes | int) -> dict[str, Any]:
        """Return an answer that alternates names and values."""
        return _pairs(self(*words))

    def stream(self, topic: str) -> dict[str, Any]:
        return self.named("XINFO", "STREAM", topic)

    def group(self, topic: str, name: str) -> dict[str, Any]:
        """Return a consumer group's state. Raises ValueError if the stream has no group of that name."""
        found = [_pairs(group) for group in self("XINFO", "GROUPS", topic)]
        mine = next((group for group in found if group["name"] == name.encode()), None)
        if mine is None:
            known = ", ".join(group["name"].decode(errors="replace") for group in found) or "none"
            raise ValueError(f"stream {topic} has no group {name!r}. Known: {known}")
        return mine


@dataclass(frozen=True)
class Server:
    """The address of a Redis or a Valkey, and the user. The path of the address is the number of the database."""

    url: str
    tls: Tls = field(default=PLAIN)

    def ask(self, question: Callable[[Talk], T], within_s: float, what: str) -> T:
        """Return the question's result. Raises DriverError, definite, naming `what`, if there is none in time."""
        try:
            return self.talk(question, within_s, what)
        except (OSError, RedisError, ValueError, KeyError) as e:
            raise DriverError(f"{what} at {self}: {self.words(e, within_s)}", definite=True) from e

    def talk(self, question: Callable[[Talk], T], within_s: float, what: str) -> T:
        """Do the same, but raise the client's own errors."""
        connection = self._made(within_s)

        def asked() -> T:
            try:
                connection.connect()  # type: ignore[no-untyped-call]
                found = question(Talk(connection))
            except BaseException:
                _abandon(connection)
                raise
            connection.disconnect()  # type: ignore[no-untyped-call]
            return found

        try:
            return answer(asked, within_s, f"{what} at {self}")
        except DriverError:
            _abandon(connection)  # its thread waits for a server that answers byte by byte
            raise

    def words(self, error: BaseException, within_s: float) -> str:
        """Say what happened."""
        if isinstance(error, RedisTimeout | TimeoutError):
            return f"no answer within {within_s:g} s"
        return said(error, self.tls if self._address.scheme == "rediss" else None)

    def __str__(self) -> str:
        return f"Redis {self._address.host}:{self._address.port or PORT}"

    def _made(self, within_s: float) -> Connection:
        at = self._address
        secured: dict[str, Any] = {
            "ssl_ca_certs": self.tls.ca or None,
            "ssl_certfile": self.tls.certificate or None,
            "ssl_keyfile": self.tls.key or self.tls.certificate or None,
        }
        kind, more = (SSLConnection, secured) if at.scheme == "rediss" else (Connection, {})
        database = self.url.partition("://")[2].partition("?")[0].partition("/")[2]
        return kind(
            host=at.host,
            port=at.port or PORT,
            db=int(database or 0),
            username=at.user or None,
            password=at.password,
            socket_timeout=within_s,
            socket_connect_timeout=within_s,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **more,
        )

    @property
    def _address(self) -> address.Address:
        return address.of(self.url)


def place_of(entry: bytes) -> int:
    """Convert an entry's id to a place in the log. A later id has a higher place."""
    ms, added = (int(part) for part in entry.split(b"-"))
    if ms > MS_MAX or added > ADDED_MAX:
        raise ValueError(
            f"an entry has the id {entry.decode()}. Remedy: the server's own ids (*), or ids whose first number is at "
            f"most {MS_MAX} and whose second is at most {ADDED_MAX}"
        )
    return ms << ADDED_BITS | added


def id_of(place: int) -> str:
    """The inverse."""
    return f"{place >> ADDED_BITS}-{place & ADDED_MAX}"


def after(entry: bytes) -> int:
    """Return the place after that entry; 0 after none."""
    return 0 if entry == NONE else place_of(entry) + 1


def _pairs(found: Any) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(found[::2], found[1::2], strict=True)}


def _abandon(connection: Connection) -> None:
    """Reset the connection, so that the server drops it too: a frozen one would keep those that are only closed."""
    inner = getattr(connection, "_sock", None)
    if isinstance(inner, socket.socket):
        with contextlib.suppress(OSError):
            give_up(inner.fileno())
            inner.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.disconnect()  # type: ignore[no-untyped-call]
