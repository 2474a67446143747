"""What is asked many times a second: does the server answer, how far is a replication slot, and positions that rest in
a table."""

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
"""For one reading of a slot: less than the deadline of the probe that asks."""

END = """
    (CASE WHEN pg_is_in_recovery() THEN COALESCE(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
     ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8"""

PLACE = "(CASE slot_type WHEN 'logical' THEN confirmed_flush_lsn ELSE restart_lsn END - '0/0'::pg_lsn)::int8"

UNFIT = ("lost", "unreserved")
"""What wal_status says of a slot whose log is removed, or will be by the next checkpoint."""


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
    """A replication slot as a consumer's place in the server's log (WAL). Positions are LSNs as numbers, so that its
    lag is in bytes; their one slot has the name of the replication slot."""

    dsn: Postgres
    slot: str

    def position(self) -> Position:
        """Up to where the consumer has confirmed the log: confirmed_flush_lsn of a logical slot, restart_lsn of a
        physical one. Raises DriverError when there is no such slot, or its log is lost or about to be."""
        return {self.slot: _place(self._kept, self.slot, PLACE, ASK_WITHIN_S)}

    def end(self) -> Position:
        """The log's end."""
        return {self.slot: int(self._kept.rows(f"SELECT {END}", ASK_WITHIN_S)[0][0] or 0)}

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.dsn)


@dataclass(frozen=True)
class Lag:
    """A Probe: how many bytes of the log a replication slot's consumer has not confirmed yet."""

    dsn: Postgres
    slot: str
    timeout_s: float

    def read(self) -> Mapping[str, float]:
        """Slot -> bytes. Raises DriverError as Cursor.position."""
        return {self.slot: float(_place(self._kept, self.slot, f"{END} - {PLACE}", self.timeout_s))}

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.dsn)


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
        told = _cell(self.dsn, self.table, self.key, self.row, Identifier(self.position_column))
        try:
            return {str(slot): int(offset) for slot, offset in json.loads(told or "").items()}
        except (ValueError, TypeError, AttributeError):
            why = f"{self.table} has no position for {self.key} = {self.row}"
            raise DriverError(f"{place(self.dsn)}: {why}", definite=True) from None


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
        told = _cell(self.dsn, self.table, self.key, self.row, wanted)
        if told is None:
            why = f"{self.table} has no {self.time} for {self.key} = {self.row}"
            raise DriverError(f"{place(self.dsn)}: {why}", definite=True)
        return {"time_us": int(told)}


def _place(kept: Kept, slot: str, wanted: str, within_s: float) -> int:
    """A number about a slot that is whole."""
    status = "to_jsonb(s) ->> 'wal_status'"  # a column that is there since version 13
    sql = f"SELECT {wanted}, {status} FROM pg_catalog.pg_replication_slots AS s WHERE slot_name = {literal(slot)}"
    found = kept.rows(sql, within_s)
    if not found:
        remedy = "the name of one in pg_replication_slots, or start the consumer that makes it"
        raise DriverError(f"there is no replication slot {slot!r}. Remedy: {remedy}", definite=True)
    ((number, told),) = found
    if told in UNFIT:
        why = "has lost log that its consumer needs" if told == "lost" else "loses log that its consumer needs soon"
        remedy = (
            "make it anew and copy the tables again" if told == "lost" else "max_slot_wal_keep_size, or its consumer"
        )
        raise DriverError(f"replication slot {slot!r} is {told}: it {why}. Remedy: {remedy}", definite=True)
    if number is None:
        raise DriverError(f"replication slot {slot!r} has no place yet: nobody has used it", definite=True)
    return int(number)


def _cell(dsn: str, table: str, key: str, row: str, wanted: Composable) -> str | None:
    """One value of the row; None: there is no such row, or it is null."""
    asked = SQL("SELECT {} FROM {} WHERE {} = ").format(wanted, Identifier(*table.split(".")), Identifier(key))
    with Session(dsn, LOOK_WITHIN_S) as session:
        found = session.rows(f"{begin(LOOK_WITHIN_S)}; {asked.as_string()}{literal(row)}; COMMIT")
    return found[0][0] if found else None
