"""Connects to gameday's own Postgres and brings its tables up to date. history.py and claim.py use the tables."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Literal

from gameday.errors import GamedayError, NotUp

__all__ = ["connected"]

MIGRATIONS = Path(__file__).with_name("migrations")
CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 20_000  # a frozen server must not hold up a night
IDLE_MAX_MS = 10_000
"""How long a transaction may be idle before the server ends it. So the locks of a frozen process are released before
the statements that wait for them time out."""
ANSWER_WITHIN_S = 25.0
"""How long to wait for a server that is frozen, so that its own time-outs don't work: longer than for a statement."""
LOCK_KEY = 0x67616D65  # "game": one process migrates at a time


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection with its tables up to date. It is committed at the end.

    Raises GamedayError when Postgres refuses. It names the address without the password.
    """
    try:
        with _Bounded.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.execute(SQL("SET statement_timeout = {}").format(Literal(STATEMENT_TIMEOUT_MS)))
            connection.execute(SQL("SET idle_in_transaction_session_timeout = {}").format(Literal(IDLE_MAX_MS)))
            _migrate(connection)
            connection.commit()
            yield connection
    except (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout) as e:
        raise NotUp(
            f"gameday's Postgres at {_place(dsn)} can't be used: {_first_line(e)}. "
            "Remedy: gameday up; results kept in their run folders are copied in by the next run"
        ) from e
    except psycopg.Error as e:
        raise GamedayError(
            f"gameday's Postgres at {_place(dsn)} refused: {_first_line(e)}. Remedy: check `history` in gameday.toml: "
            "the user needs the right to create tables in that database"
        ) from e


class _Bounded(psycopg.Connection[Any]):
    """A connection that this side closes when an answer is overdue."""

    def wait(self, *args: Any, **more: Any) -> Any:
        try:
            ours = os.dup(self.pgconn.socket)  # a number of its own: the connection's may be another's by then
        except (OSError, psycopg.Error):
            return super().wait(*args, **more)
        overdue = threading.Event()

        def hang_up() -> None:
            overdue.set()
            with suppress(OSError), socket.socket(fileno=os.dup(ours)) as line:
                line.shutdown(socket.SHUT_RDWR)

        watch = threading.Timer(ANSWER_WITHIN_S, hang_up)
        watch.daemon = True
        watch.start()
        try:
            return super().wait(*args, **more)
        except psycopg.Error as e:
            if overdue.is_set():
                raise psycopg.OperationalError(f"no answer within {ANSWER_WITHIN_S:g} s") from e
            raise
        finally:
            watch.cancel()
            os.close(ours)


def _migrate(connection: psycopg.Connection[Any]) -> None:
    """Apply each numbered file once, in order, in a transaction of its own. The lock is taken only if there is a file
    to apply, and held only for that."""
    if _applied(connection) >= {number for number, _ in _migrations()}:
        return
    connection.commit()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK_KEY,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(number int PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
        )
        applied = _applied(connection)
        for number, path in _migrations():
            if number not in applied:
                connection.execute(path.read_bytes())
                connection.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (number, path.stem))


def _applied(connection: psycopg.Connection[Any]) -> set[int]:
    """Return the numbers of the files that were applied."""
    (there,) = connection.execute("SELECT to_regclass('migrations') IS NOT NULL").fetchone() or (False,)
    return {number for (number,) in connection.execute("SELECT number FROM migrations")} if there else set()


def _migrations() -> list[tuple[int, Path]]:
    return sorted((int(path.stem.partition("_")[0]), path) for path in MIGRATIONS.glob("[0-9]*.sql"))


def _place(dsn: str) -> str:
    """Return host:port/database, never the password."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return "an unreadable address"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _first_line(error: psycopg.Error) -> str:
    return re.sub(r"\s+", " ", str(error).strip().partition("\n")[0])
