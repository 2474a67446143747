"""Connections to a Postgres server that have one deadline for all that is asked, the connecting too.

Through libpq's non-blocking calls: a client's own time-outs count whole seconds and cover the connecting alone, and the
server's are kept by no server that is frozen.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from gameday.errors import DriverError
from gameday.system.asking import give_up

__all__ = ["Kept", "Refused", "Row", "Session", "array", "begin", "literal", "place"]

T = TypeVar("T")

Row: TypeAlias = tuple[str | None, ...]
"""One row as texts, whatever its columns' types."""

PIECE_BYTES = 1 << 22
"""A copy comes row by row; numpy wants many at once."""

ERROR_CHARS_MAX = 300

REMEDIES: Mapping[str, str] = {
    "certificate verify failed": "sslrootcert=/path/ca.pem of who signed the server's certificate in the address; or a "
    "new certificate, where the server's has ended",
    "password authentication failed": "user and password of the address; in the password, /, ?, #, @ and % are "
    "percent-encoded",
    "no encryption": "sslmode=require, or verify-full with sslrootcert, in the address",
}
"""Words of libpq's, or of the server's, when somebody is not let in."""


class Refused(DriverError):
    """The server answered with an error. state: its SQLSTATE."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message, definite=True)
        self.state = state


def begin(within_s: float) -> str:
    """SQL that begins a transaction which sees one moment and changes nothing. The server gives up each of its
    statements, and the whole once nothing more is asked, after within_s."""
    ms = max(1, int(within_s * 1000))
    return (
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL TimeZone = 'UTC'; "
        f"SET LOCAL statement_timeout = {ms}; SET LOCAL idle_in_transaction_session_timeout = {ms}"
    )


class Session:
    """One connection, closed at the end of the block. Raises DriverError; definite, for a question changes nothing."""

    def __init__(self, dsn: str, within_s: float) -> None:
        """within_s: for the connecting and all that is asked, until `allow` says otherwise."""
        self._dsn = dsn
        self.allow(within_s)
        with self._told():
            wanted = make_conninfo(dsn, client_encoding="UTF8", fallback_application_name="gameday")
            self._connection = pq.PGconn.connect_start(wanted.encode())
        try:
            with self._told():
                while (state := self._connection.connect_poll()) != pq.PollingStatus.OK:
                    if state == pq.PollingStatus.FAILED:
                        raise self.error(self._connection.get_error_message())
                    self._wait(select.POLLOUT if state == pq.PollingStatus.WRITING else select.POLLIN)
                self._connection.nonblocking = 1
        except BaseException:
            self.abandon()
            raise

    def allow(self, within_s: float) -> None:
        """All that is asked from now on may take so long."""
        self._within_s = within_s
        self._deadline = time.monotonic() + within_s

    def rows(self, sql: str) -> list[Row]:
        """The rows of the last of these statements that gives any."""
        found: list[Row] = []
        for result in self._results(sql):
            if result.status == pq.ExecStatus.TUPLES_OK:
                columns = range(result.nfields)
                found = [tuple(_text(result.get_value(n, column)) for column in columns) for n in range(result.ntuples)]
        return found

    def types(self, query: str) -> list[str]:
        """The names of the types of a query's columns, of a domain the one behind it; "enum" of any enumeration."""
        (result,) = self._results(f"SELECT * FROM ({query}\n) AS asked LIMIT 0")
        numbers = [result.ftype(n) for n in range(result.nfields)]
        named = "CASE typtype WHEN 'e' THEN 'enum' ELSE typname END"
        listed = ", ".join(map(str, numbers))
        found = self.rows(f"SELECT oid, {named} FROM pg_catalog.pg_type WHERE oid IN ({listed})")
        known = {number: name or "" for number, name in found}
        return [known[str(number)] for number in numbers]

    def copy(self, query: str) -> Iterator[bytes]:
        """What COPY gives of a query in binary, in pieces of whole rows."""
        with self._told():
            self._send(f"COPY ({query}) TO STDOUT (FORMAT BINARY)")
            result = self._result()
            if result is None or result.status != pq.ExecStatus.COPY_OUT:
                raise self._refused(result)
            piece, next_row = bytearray(), self._connection.get_copy_data  # a list of rows would keep Python's
            while True:  # garbage collector busy
                length, row = next_row(1)
                if length > 0:
                    piece += row
                    if len(piece) < PIECE_BYTES:
                        continue
                elif length == 0:
                    self._wait(select.POLLIN)
                    self._connection.consume_input()
                    continue
                if piece:
                    yield bytes(piece)
                    piece = bytearray()
                if length < 0:
                    break
            self._end()

    def ended(self) -> bool:
        """Whether the server has hung up, or said something that nobody has asked for, since the last answer."""
        waiting = select.poll()
        waiting.register(self._connection.socket, select.POLLIN)
        return bool(waiting.poll(0))

    def error(self, text: str) -> DriverError:
        return DriverError(self._message(text), definite=True)

    def close(self) -> None:
        self._connection.finish()

    def abandon(self) -> None:
        """Close it so that the server is left nothing of it."""
        with suppress(psycopg.Error, OSError):  # it may have no socket
            give_up(self._connection.socket)
        self._connection.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _results(self, sql: str) -> list[pq.abc.PGresult]:
        with self._told():
            self._send(sql)
            return self._end()

    def _end(self) -> list[pq.abc.PGresult]:
        """The results until nothing more comes; the first error is raised."""
        found = []
        while (result := self._result()) is not None:
            found.append(result)
        good = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
        for result in found:
            if result.status not in good:
                raise self._refused(result)
        return found

    def _send(self, sql: str) -> None:
        self._connection.send_query(sql.encode())
        while self._connection.flush():
            self._wait(select.POLLIN | select.POLLOUT)
            self._connection.consume_input()

    def _result(self) -> pq.abc.PGresult | None:
        while self._connection.is_busy():
            self._wait(select.POLLIN)
            self._connection.consume_input()
        return self._connection.get_result()

    def _wait(self, events: int) -> None:
        left_s = self._deadline - time.monotonic()
        waiting = select.poll()
        waiting.register(self._connection.socket, events)
        if left_s <= 0 or not waiting.poll(left_s * 1000):
            raise self.error(f"no answer within {self._within_s:g} s")

    def _refused(self, result: pq.abc.PGresult | None) -> DriverError:
        if result is None:
            return self.error(self._connection.get_error_message())
        fields = pq.DiagnosticField
        told = [
            result.error_field(field) for field in (fields.MESSAGE_PRIMARY, fields.MESSAGE_DETAIL, fields.MESSAGE_HINT)
        ]
        text = ". ".join(part.decode(errors="replace").rstrip(".") for part in told if part)
        state = _text(result.error_field(fields.SQLSTATE)) or ""
        return Refused(self._message(text or result.get_error_message()), state)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the library raises is a DriverError."""
        try:
            yield
        except psycopg.Error as e:
            raise self.error(str(e)) from e

    def _message(self, text: str) -> str:
        told = f"{place(self._dsn)}: {' '.join(text.split())[:ERROR_CHARS_MAX]}"
        remedy = next((f". Remedy: {what}" for words, what in REMEDIES.items() if words in text), "")
        return told.rstrip(".") + remedy if remedy else told


class Kept:
    """Sessions that are kept between questions, for what is asked many times a second and doesn't prove that one can
    connect. From any thread: each question has a session of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._idle: list[Session] = []

    def rows(self, sql: str, within_s: float) -> list[Row]:
        """One question, in a transaction that changes nothing."""
        return self._asked(lambda session: session.rows(f"{begin(within_s)}; {sql}; COMMIT"), within_s)

    def types(self, query: str, within_s: float) -> list[str]:
        """See Session.types."""

        def ask(session: Session) -> list[str]:
            session.rows(begin(within_s))
            found = session.types(query)
            session.rows("COMMIT")
            return found

        return self._asked(ask, within_s)

    def _asked(self, ask: Callable[[Session], T], within_s: float) -> T:
        session = self._taken(within_s)
        try:
            found = ask(session)
        except BaseException:
            session.abandon()
            raise
        self._idle.append(session)
        return found

    def _taken(self, within_s: float) -> Session:
        while self._idle:
            session = self._idle.pop()
            if not session.ended():
                session.allow(within_s)
                return session
            session.abandon()
        return Session(self._dsn, within_s)


def place(dsn: str) -> str:
    """Which server it is, for people."""
    try:
        where = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "Postgres at an address that can't be read"
    return f"Postgres at {where.get('host', 'localhost')}:{where.get('port', 5432)}"


def literal(text: str) -> str:
    """A string of Postgres' SQL, whatever is in it and however the server reads backslashes."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def array(values: Sequence[str | int], kind: str) -> str:
    """An array of this type as SQL."""
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return literal("{" + ",".join(f'"{value}"' for value in quoted) + "}") + f"::{kind}[]"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
