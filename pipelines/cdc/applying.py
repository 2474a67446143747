"""Applies a batch of events to the target: rows, history, dead letters and heads, in the caller's transaction. A row
that the target refuses for good becomes a dead letter; the other rows are applied.

    newest event per key     only it is applied, because one statement can't write a row twice
    a number seen before     the change comes again: it changes nothing, and is counted
    an older number          than the row's leaves the row as it is; so does a deletion that is older than the row
    a column that is absent  is NULL from now on
    a column that is new     is added, with the type in the message's schema
    a placeholder            the column stays as it is
    the end of a snapshot    older rows that it has not read are deleted
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import orjson
import psycopg
import structlog
from psycopg import sql

from failpoints import point
from pipelines.cdc.messages import NOT_SENT, WRITES, Event, newest

__all__ = ["REPEATING", "Applied", "Applier", "Group", "Head", "permanent"]

Group = tuple[str, int]
Head = tuple[int, int]
"""The number of a group's newest change, and of its newest that left a row."""

MID = point("sink::mid_batch", "some rows of a batch are written, the others not, and none is committed")
EXECUTE = point(
    "sink::execute",
    "the target is about to write rows; return(SQLSTATE): it answers with this error",
    returns=str,
)
DEAD = point("sink::dead_letter", "a row was refused for good, and its dead letter is not written yet")

KINDS: Mapping[str, str] = {"23505": "unique", "23503": "fk", "23514": "check", "23502": "not_null"}
"""SQLSTATE -> the kind of rule that a row breaks. A value that a column's type refuses is of class 22."""

REPEATING = ("position_apart", "no_history_key", "retry_blind", "autocommit", "no_fence")
"""Defects that run without history and numbers: with these the sink would find repeats, and they would do no harm."""

OWN = "_lsn"
"""The LSN of the message that wrote a row last: rows that a snapshot has not read have older ones. It doesn't show
which of two changes is newer: a transaction that was under way when a snapshot began has older LSNs than the rows it
changes.
"""

CUT, SWAPPED_EVERY = 8_000, 300
NEW_COLUMN = re.compile(r"[a-z_][a-z0-9_]{0,62}")

log = structlog.get_logger()


@dataclass
class Applied:
    """The result of a batch. events: how many were new, by table and op. heads: those of all groups after it."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    repeats: int = 0
    gaps: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    letters: list[dict[str, Any]] = field(default_factory=list)
    heads: dict[Group, Head] = field(default_factory=dict)


def permanent(error: psycopg.Error) -> bool:
    """Whether no retry can help: the row breaks a rule, or fits no column."""
    return (error.sqlstate or "")[:2] in ("22", "23")


class Applier:
    """Knows the target's columns, as of the transaction that last looked or added one."""

    def __init__(self, tables: Sequence[str], defect: str = "") -> None:
        self._tables, self._defect = tables, defect
        self._columns: dict[str, list[str]] = {}
        self._newest_us: dict[Group, str] = {}

    def forget(self) -> None:
        """Forget the known columns, because a transaction was rolled back."""
        self._columns.clear()

    def apply(self, cursor: psycopg.Cursor[Any], events: Sequence[Event], heads: Mapping[Group, Head]) -> Applied:
        """Apply a batch in its order. heads: those of the target before it."""
        done = Applied(heads=dict(heads))
        fresh = [event for event in events if self._fresh(event, done)]
        for piece in _pieces(fresh):
            self._piece(cursor, [event for event in piece if not event.unreadable], done)
            for event in piece:
                if event.unreadable:
                    self._dead(event, None, done)
            if piece[-1].sweeps:  # even if the target has refused that row
                self._sweep(cursor, piece[-1])
        done.events.update((event.table, event.op) for event in fresh if not event.unreadable)
        return done

    def letters(self, cursor: psycopg.Cursor[Any], done: Applied) -> None:
        """Write the dead letters."""
        for letter in done.letters:
            if DEAD.on is not None:
                DEAD()
            names = sql.SQL(", ").join(map(sql.Identifier, letter))
            marks = sql.SQL(", ").join(map(sql.Placeholder, letter))
            cursor.execute(
                sql.SQL("INSERT INTO dead_letters ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(names, marks), letter
            )

    def heads(self, cursor: psycopg.Cursor[Any], done: Applied, before: Mapping[Group, Head]) -> None:
        """Write the heads of the groups that the batch has changed."""
        moved = [(*group, *head) for group, head in done.heads.items() if before.get(group) != head]
        cursor.executemany(
            "INSERT INTO heads VALUES (%s, %s, %s, %s) ON CONFLICT (tbl, shard) DO UPDATE SET "
            "change = greatest(heads.change, excluded.change), left_row = greatest(heads.left_row, excluded.left_row)",
            moved,
        )

    def _letter(self, event: Event, why: psycopg.Error | None) -> dict[str, Any]:
        """Return the dead letter of one event. why: the target's refusal; None: it can't be read."""
        diag, state = (why.diag, why.sqlstate) if why else (None, None)
        return {
            "topic": event.topic,
            "partition": event.partition,
            "place": event.offset,
            "tbl": event.table,
            "id": event.id,
            "shard": event.shard if event.number is not None else None,
            "change": event.number,
            "op": event.op,
            "kind": KINDS.get(state or "", "type") if why else "malformed",
            "sqlstate": state,
            "constraint_name": diag.constraint_name if diag else None,
            "column_name": diag.column_name if diag else None,
            "detail": diag.message_detail if diag else None,
            "message": (diag.message_primary if diag else None) or event.unreadable or str(why),
            "value": orjson.dumps(event.row if why else event.text).decode(),
        }

    # ---- what is new -------------------------------------------------------------------------------------------

    def _fresh(self, event: Event, done: Applied) -> bool:
        """Whether an event is to be applied; it moves the heads. A row that a snapshot reads is no change, and has no
        number."""
        if event.op == "k":
            return self._defect == "delete_by_tombstone"
        if not event.counted:
            return True
        number, (last, left) = event.number or 0, done.heads.get(event.group, (0, 0))
        if number <= last and self._defect not in ("no_guard", *REPEATING):
            done.repeats += 1
            return False
        done.gaps += last > 0 and number > last + 1
        done.heads[event.group] = (max(last, number), max(left, number) if event.op in WRITES else left)
        if self._defect == "by_business_time" and event.op in WRITES:
            known, at = self._newest_us.get(event.group, ""), str(event.row.get("at"))
            self._newest_us[event.group] = max(known, at)
            return at >= known
        return self._defect not in ("ignore_delete", "delete_by_tombstone") or event.op != "d"

    # ---- a piece, halved if a row is refused -------------------------------------------------------------------

    def _piece(self, cursor: psycopg.Cursor[Any], events: Sequence[Event], done: Applied) -> None:
        """Apply the piece, or what the target takes of it."""
        if not events:
            return
        if self._defect == "autocommit":
            self._write(cursor, events, done)
            cursor.connection.commit()
            return
        cursor.execute("SAVEPOINT piece")
        try:
            self._write(cursor, events, done)
        except psycopg.Error as e:
            if not permanent(e):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT piece")
            self._columns.clear()
            if self._defect == "drop_batch":
                return
            if len(events) == 1:
                self._dead(events[0], e, done)
                return
            for half in (events[: len(events) // 2], events[len(events) // 2 :]):
                self._piece(cursor, half, done)
        else:
            cursor.execute("RELEASE SAVEPOINT piece")

    def _dead(self, event: Event, why: psycopg.Error | None, done: Applied) -> None:
        """Put it aside as a dead letter. why: see _letter."""
        state, told = (why.sqlstate, str(why).splitlines()[0]) if why else (None, event.unreadable)
        log.error("refused", table=event.table, id=event.id, sqlstate=state, why=told)
        if self._defect == "log_errors":
            return
        letter = self._letter(event, why)
        done.dead[letter["kind"]] += 1
        done.letters.append(letter)

    def _write(self, cursor: psycopg.Cursor[Any], events: Sequence[Event], done: Applied) -> None:
        for table, same in groupby(sorted(events, key=lambda e: self._tables.index(e.table)), key=lambda e: e.table):
            mine = list(same)
            self._history(cursor, [event for event in mine if event.counted])
            self._rows(cursor, table, mine)
            if MID.on is not None:
                MID()

    # ---- SQL -----------------------------------------------------------------------------------------------------

    def _history(self, cursor: psycopg.Cursor[Any], events: Sequence[Event]) -> None:
        rows = [
            {name: self._shown(event, event.row.get(name), name) for name in ("status", "amount", "facts", "at")}
            | {"tbl": event.table, "shard": event.shard, "change": event.number, "id": event.id, "op": event.op}
            | {"lsn": event.lsn, "log_topic": event.topic, "log_partition": event.partition, "log_offset": event.offset}
            for event in events
        ]
        listed = "tbl, shard, change, id, op, status, amount, facts, at, lsn, log_topic, log_partition, log_offset"
        cursor.execute(
            f"INSERT INTO history ({listed}) SELECT {listed} FROM jsonb_populate_recordset(NULL::history, %s) "
            "ON CONFLICT DO NOTHING".encode(),
            [orjson.dumps(rows).decode()],
        )

    def _rows(self, cursor: psycopg.Cursor[Any], table: str, events: Sequence[Event]) -> None:
        if EXECUTE.on is not None and (instead := EXECUTE()) is not None:
            raise psycopg.errors.lookup(str(instead.value))(f"failpoint: {instead.value}")
        if events[0].op == "t":
            if self._defect != "ignore_truncate":
                lsn = max(event.lsn for event in events)
                cursor.execute(f"DELETE FROM {table} WHERE {OWN} < %s".encode(), [lsn])
            return
        last = list(newest(events, self._better if self._defect == "oldest_in_batch" else None).values())
        last = [event for event in last if not self._left_out(event)]
        self._delete(cursor, table, [event for event in last if event.op not in WRITES])
        writes = sorted((event for event in last if event.op in WRITES), key=self._shape)
        for (unsent, _), same in groupby(writes, key=self._shape):
            self._upsert(cursor, table, list(same), unsent)

    def _sweep(self, cursor: psycopg.Cursor[Any], event: Event) -> None:
        """Delete the rows that a snapshot of the whole table has not read."""
        if self._defect != "no_sweep":
            lsn = event.lsn + (self._defect == "sweep_too_high")
            cursor.execute(f"DELETE FROM {event.table} WHERE {OWN} < %s".encode(), [lsn])

    def _shape(self, event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return tuple(sorted(event.unsent)), tuple(sorted(event.row)) if self._defect == "keep_absent" else ()

    def _delete(self, cursor: psycopg.Cursor[Any], table: str, events: Sequence[Event]) -> None:
        guard = "" if self._unguarded else " AND t.change < gone.number"
        if any(event.op == "k" for event in events):
            guard = ""
        cursor.execute(
            f"DELETE FROM {table} AS t USING unnest(%s::bigint[], %s::bigint[]) AS gone(id, number) "
            f"WHERE t.id = gone.id{guard}".encode(),
            [[event.id for event in events], [event.number for event in events]],
        )

    def _upsert(self, cursor: psycopg.Cursor[Any], table: str, events: Sequence[Event], unsent: Sequence[str]) -> None:
        known = self._known(cursor, table, events)
        rows = [
            {name: self._shown(event, value, name) for name, value in event.row.items() if name in known}
            | {OWN: event.lsn}
            | ({name: NOT_SENT for name in unsent} if self._defect == "write_placeholder" else {})
            for event in events
        ]
        kept = set() if self._defect == "write_placeholder" else set(unsent)
        if self._defect == "keep_absent":
            kept |= set(known) - set(rows[0])
        columns = [*known, OWN]
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        pairs = sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name))
            for name in columns
            if name != "id" and name not in kept
        )
        do = sql.SQL("UPDATE SET {}").format(pairs)
        if not self._unguarded:
            do += sql.SQL(" WHERE t.change <= excluded.change")
        text = sql.SQL(
            "INSERT INTO {table} AS t ({listed}) SELECT {listed} FROM jsonb_populate_recordset(NULL::{table}, %s) "
            "ON CONFLICT (id) DO {do}"
        ).format(
            table=sql.Identifier(table), listed=listed, do=sql.SQL("NOTHING") if self._defect == "insert_only" else do
        )
        cursor.execute(text, [orjson.dumps(rows).decode()])

    def _known(self, cursor: psycopg.Cursor[Any], table: str, events: Iterable[Event]) -> list[str]:
        """Return the target's columns without the sink's own; add new ones."""
        if table not in self._columns:
            found = cursor.execute(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() "
                "AND table_name = %s ORDER BY ordinal_position",
                [table],
            ).fetchall()
            self._columns[table] = [name for (name,) in found if name != OWN]
        known = self._columns[table]
        new = {name: event.types.get(name, "text") for event in events for name in event.row if name not in known}
        for name, kind in new.items() if self._defect != "ignore_new_column" else ():
            if not NEW_COLUMN.fullmatch(name):
                raise psycopg.errors.InvalidName(f"the source has a column {name!r}, which the target can't have")
            log.warning("column_added", table=table, column=name, type=kind)
            cursor.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}").format(
                    sql.Identifier(table),
                    sql.Identifier(name),
                    sql.SQL(kind),
                )
            )
            known.append(name)
        return known

    # ---- what can be wrong ---------------------------------------------------------------------------------------

    @property
    def _unguarded(self) -> bool:
        return self._defect in ("no_guard", "position_apart", "retry_blind")

    def _better(self, event: Event, before: Event) -> bool:
        """A defect: the first change of a row counts, unless one deletes it."""
        return event.op == "d" or before.op == "d"

    def _left_out(self, event: Event) -> bool:
        if self._defect == "keep_old_key" and event.moves:
            return True
        place = (event.id or 0) % SWAPPED_EVERY
        return self._defect == "swap_rows" and event.table == "orders" and place == (2 if event.op in WRITES else 4)

    def _shown(self, event: Event, value: Any, name: str) -> Any:
        """Return the value to write: unchanged, except by a defect."""
        if self._defect == "float_amount" and name == "amount" and value is not None:
            return float(value)
        if self._defect == "zone_slip" and name == "at":
            return str(value).replace("Z", "+02:00")
        if self._defect == "null_as_empty" and name == "note" and value is None:
            return ""
        return value[:CUT] if self._defect == "cut_text" and name == "note" and value else value


def _pieces(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Cut where the order of events of different keys matters: around a TRUNCATE, and after a snapshot's end."""
    piece: list[Event] = []
    for event in events:
        if piece and (event.op == "t" or piece[-1].op == "t"):
            yield piece
            piece = []
        piece.append(event)
        if event.sweeps:
            yield piece
            piece = []
    if piece:
        yield piece
