"""The questions that are asked many times a second: does the server answer, how far is a replication slot, which
position does a table hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from psycopg.sql import SQL, Composable, Identifier

from gameday.drivers.postgres.session import Kept, Session, begin, literal, place
from gameday.errors import DriverError
from gameday.model import Position
from gameday.stack.config import Postgres

__all__ = ["Cursor", "Lag", "Mirror", "Probe", "TimeMirror"]

LOOK_WITHIN_S = 2.0

ASK_WITHIN_S = 0.9
"""For one reading of a slot. Less than the deadline of the probe that asks."""

END = """
    (CASE WHEN pg_is_in_recovery() THEN COALESCE(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
     ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8"""

PLACE = "(CASE slot_type WHEN 'logical' THEN confirmed_flush_lsn ELSE restart_lsn END - '0/0'::pg_lsn)::int8"

UNFIT = ("lost", "unreserved")
"""The wal_status of a slot whose log is removed, or will be removed at the next checkpoint."""


@dataclass(frozen=True)
class Probe:
    """`select 1` on a fresh connection."""

    dsn: Postgres
    timeout_s: float

    def read(self) -> Mapping[str, float]:
        """{"": 1.0}. Raises DriverError when the answer is not there within timeout_s, or is an error."""
        with Session(self.dsn, self.timeout_s) as session:
            session.rows("SELECT 1")
        return {"": 1.0}


@dataclass(frozen=True)
class Cursor:
    """A replication slot as a consumer's place in the server's log (WAL).

    Positions have one slot, with the replication slot's name, and LSNs as numbers, so that a lag is in bytes.
    """

    dsn: Postgres
    slot: str

    def position(self) -> Position:
        """Return where the consumer has confirmed the log: confirmed_flush_lsn of a logical slot, restart_lsn of a
        physical one. Raises DriverError when there is no such slot, or its log is lost or will be soon."""
        return {self.slot: _place(self._kept, self.slot, PLACE, ASK_WITHIN_S)}

    def end(self) -> Position:
        """Return the log's end."""
        return {self.slot: int(self._kept.rows(f"SELECT {END}", ASK_WITHIN_S)[0][0] or 0)}

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.dsn)


@dataclass(frozen=True)
class Lag:
    """Probes how many bytes of the log a replication slot's consumer has not confirmed yet."""

    dsn: Postgres
    slot: str
    timeout_s: float

    def read(self) -> Mapping[str, float]:
        """Return slot -> bytes. Raises DriverError like Cursor.position."""
        return {self.slot: float(_place(self._kept, self.slot, f"{END} - {PLACE}", self.timeout_s))}

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.dsn)


@dataclass(frozen=True)
class Mirror:
    """Reads a position from a table: from the row whose column `key` is `row`, in the column `position_column`.

    The value is a JSON object, slot -> next position.
    """

    dsn: Postgres
    table: str
    key: str
    row: str
    position_column: str = "position"

    def position(self) -> Position:
        """Return the position. Raises DriverError when there is no such row, or no answer."""
        value = _cell(self.dsn, self.table, self.key, self.row, Identifier(self.position_column))
        try:
            return {str(slot): int(offset) for slot, offset in json.loads(value or "").items()}
        except (ValueError, TypeError, AttributeError):
            why = f"{self.table} has no position for {self.key} = {self.row}"
            raise DriverError(f"{place(self.dsn)}: {why}", definite=True) from None


@dataclass(frozen=True)
class TimeMirror:
    """Reads from a table up to when a job has exported: from the row whose column `key` is `row`, in the column `time`.

    The value is the exported rows' own time, a timestamp or timestamptz. Without a zone it is UTC.
    """

    dsn: Postgres
    table: str
    key: str
    row: str
    time: str = "last_offload_timestamp"

    def position(self) -> Position:
        """Return {"time_us": microseconds since 1970}. Raises DriverError when there is no such row, time or answer."""
        microseconds = SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(Identifier(self.time))
        value = _cell(self.dsn, self.table, self.key, self.row, microseconds)
        if value is None:
            why = f"{self.table} has no {self.time} for {self.key} = {self.row}"
            raise DriverError(f"{place(self.dsn)}: {why}", definite=True)
        return {"time_us": int(value)}


def _place(kept: Kept, slot: str, number_sql: str, within_s: float) -> int:
    """Return a number about a slot. Raises DriverError when the slot is missing, unused, or without its log."""
    status = "to_jsonb(s) ->> 'wal_status'"  # the column exists since version 13
    sql = f"SELECT {number_sql}, {status} FROM pg_catalog.pg_replication_slots AS s WHERE slot_name = {literal(slot)}"
    rows = kept.rows(sql, within_s)
    if not rows:
        remedy = "the name of one in pg_replication_slots, or start the consumer that makes it"
        raise DriverError(f"there is no replication slot {slot!r}. Remedy: {remedy}", definite=True)
    ((number, wal_status),) = rows
    if wal_status in UNFIT:
        lost = wal_status == "lost"
        why = "has lost log that its consumer needs" if lost else "loses log that its consumer needs soon"
        remedy = "make it anew and copy the tables again" if lost else "max_slot_wal_keep_size, or its consumer"
        raise DriverError(f"replication slot {slot!r} is {wal_status}: it {why}. Remedy: {remedy}", definite=True)
    if number is None:
        raise DriverError(f"replication slot {slot!r} has no place yet: nobody has used it", definite=True)
    return int(number)


def _cell(dsn: str, table: str, key: str, row: str, column: Composable) -> str | None:
    """Read one value of a row. None: there is no such row, or the value is null."""
    query = SQL("SELECT {} FROM {} WHERE {} = ").format(column, Identifier(*table.split(".")), Identifier(key))
    with Session(dsn, LOOK_WITHIN_S) as session:
        rows = session.rows(f"{begin(LOOK_WITHIN_S)}; {query.as_string()}{literal(row)}; COMMIT")
    return rows[0][0] if rows else None
