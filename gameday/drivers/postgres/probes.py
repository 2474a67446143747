"""A component that answers SQL as PostgreSQL does, and a position that rests in one of its tables."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.sql import SQL, Composable, Identifier

from gameday.asking import give_up
from gameday.config import Postgres
from gameday.errors import DriverError
from gameday.model import Position

__all__ = ["Mirror", "Probe", "TimeMirror"]

LOOK_WITHIN_S = 2


@dataclass(frozen=True)
class Probe:
    """`select 1` on a fresh connection. Through libpq's non-blocking calls: its own timeout counts whole seconds, two
    at least, and covers the connecting alone."""

    dsn: Postgres
    timeout_s: float

    def read(self) -> Mapping[str, float]:
        """{"": 1.0}. Raises DriverError when the answer is not there within timeout_s, or is an error."""
        deadline = time.monotonic() + self.timeout_s
        connection = pq.PGconn.connect_start(self.dsn.encode())
        try:
            while (state := connection.connect_poll()) != pq.PollingStatus.OK:
                if state == pq.PollingStatus.FAILED:
                    raise self._error(connection.get_error_message())
                self._wait(connection, state == pq.PollingStatus.WRITING, deadline)
            connection.send_query(b"select 1")
            while connection.is_busy():
                self._wait(connection, False, deadline)
                connection.consume_input()
            result = connection.get_result()
            if result is None or result.status != pq.ExecStatus.TUPLES_OK:
                raise self._error(connection.get_error_message())
        except (psycopg.Error, DriverError) as e:
            with suppress(psycopg.Error, OSError):  # it may have no socket
                give_up(connection.socket)
            raise e if isinstance(e, DriverError) else self._error(str(e)) from e
        finally:
            connection.finish()
        return {"": 1.0}

    def _wait(self, connection: pq.abc.PGconn, write: bool, deadline: float) -> None:
        left = deadline - time.monotonic()
        files = [connection.socket]
        if left <= 0 or not any(select.select([] if write else files, files if write else [], [], left)):
            raise self._error(f"no answer within {self.timeout_s:g} s")

    def _error(self, text: str) -> DriverError:
        return _error(self.dsn, text)


@dataclass(frozen=True)
class Mirror:
    """The row of `table` whose column `key` is `row` holds a position in its column `position`: a JSON object, slot ->
    next position."""

    dsn: Postgres
    table: str
    key: str
    row: str
    position_column: str = "position"

    def position(self) -> Position:
        """Raises DriverError when there is no such row, or no answer."""
        found = _cell(self.dsn, self.table, self.key, self.row, Identifier(self.position_column))
        if not isinstance(found, dict):
            raise _error(self.dsn, f"{self.table} has no position for {self.key} = {self.row}")
        return {str(slot): int(offset) for slot, offset in found.items()}


@dataclass(frozen=True)
class TimeMirror:
    """The row of `table` whose column `key` is `row` says in its column `time` up to when the job has exported, by the
    rows' own time (timestamp or timestamptz; without a zone it is UTC)."""

    dsn: Postgres
    table: str
    key: str
    row: str
    time: str = "last_offload_timestamp"

    def position(self) -> Position:
        """{"time_us": microseconds since 1970}. Raises DriverError when there is no such row or time, or no answer."""
        wanted = SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(Identifier(self.time))
        found = _cell(self.dsn, self.table, self.key, self.row, wanted)
        if found is None:
            raise _error(self.dsn, f"{self.table} has no {self.time} for {self.key} = {self.row}")
        return {"time_us": int(found)}


def _cell(dsn: str, table: str, key: str, row: str, wanted: Composable) -> Any:
    """One value of the row; None: there is no such row, or it is null."""
    sql = SQL("SELECT {} FROM {} WHERE {} = %s").format(wanted, Identifier(*table.split(".")), Identifier(key))
    try:
        with psycopg.connect(
            dsn, connect_timeout=LOOK_WITHIN_S, options=f"-c statement_timeout={LOOK_WITHIN_S * 1000}"
        ) as connection:
            found = connection.execute(sql, (row,)).fetchone()
    except psycopg.Error as e:
        raise _error(dsn, str(e)) from e
    return found[0] if found else None


def _error(dsn: str, text: str) -> DriverError:
    where = psycopg.conninfo.conninfo_to_dict(dsn)
    name = f"Postgres at {where.get('host', 'localhost')}:{where.get('port', 5432)}"
    return DriverError(f"{name}: {' '.join(text.split())[:300]}", definite=True)
