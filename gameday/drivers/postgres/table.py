"""Tables, views and queries as a hop: rows come by COPY in binary, and are hashed and tallied here.

A hash of all fields takes Postgres a hundred times as long as sending them. So there are no `sums` beside the digest:
what they would save, the sorting of keys, is a tenth of the time that reading the rows takes. Two tables of such
servers are compared by hashes of their own, which say nothing to any other engine: `both`.

numpy is imported by what computes with it: who only asks for the heads does without.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gameday.drivers.postgres.session import Kept, Refused, Row, Session, array, begin, literal
from gameday.errors import ConfigError, DriverError
from gameday.model import Columns, Digest, Group, Json, Position, Shards, Totals, Window
from gameday.records.declaration import KINDS, STATE, Stream
from gameday.records.heads import Heads
from gameday.records.in_postgres import INTS, Form, Part, Unfit, canonical, form, mixed, read
from gameday.records.types import INT64_MAX, INT64_MIN, Malformed, Type
from gameday.stack.config import Postgres

if TYPE_CHECKING:
    from gameday.drivers.postgres.paired import Sums
    from gameday.model import Tally
    from gameday.records.gathered import Gathered
    from gameday.records.hashing import U64
    from gameday.records.states import State

__all__ = ["Hop"]

HEADS_WITHIN_S = 0.9
"""Less than the deadline of the probe that samples the heads."""

LOOK_WITHIN_S = 5.0
"""For what is asked once, and not at every sample: how a table's heads are found. For connecting, too."""

DIGEST_WITHIN_S = 120.0
"""A digest of a whole history."""

SMALL_COST_MAX = 1_000.0
"""The planner's cost of reading a table that may be read whole for its heads: some 40,000 rows, 10 ms."""

SEARCH_COST_MAX = 10_000.0
"""The planner's cost of finding the heads group by group. It reckons with a hundred groups: for each a few looks into
an index cost ten, with a hundred partitions a hundred, and without an index what reading the whole table costs."""

MALFORMED_NAMED = 3
FETCHED_ROWS = 20_000
ALONE: Mapping[str, Sequence[str]] = {"text": ("text", "varchar"), "int": (*INTS, "numeric"), "uuid": ("uuid",)}
"""A field's type -> the columns' that are compared as they are, so that an index on them is used."""

TIMES = ("timestamp", "timestamptz")

PLACE, FROM, TO = '"group\'s place"', '"from id"', '"to id"'
"""Columns of the table of groups in a window: no field of a stream has such a name."""

UNIQUE = """
SELECT 1 FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
WHERE i.indrelid = {table}::pg_catalog.regclass AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL AND (c.relkind = 'p' OR c.relkind = 'r' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = c.oid))
  AND (SELECT pg_catalog.array_agg(a.attname::text) FROM pg_catalog.unnest(i.indkey) WITH ORDINALITY AS k(number, place)
       JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
       WHERE k.place <= i.indnkeyatts) <@ {columns}
"""
"""Whether an index keeps any two rows of a table from having the same in these columns: it may be of some of them. The
rows of tables that inherit from another are not in its index."""

HASHES: Sequence[tuple[str, str]] = (
    ("-4294967297::int8", "int8"),
    ("-1.50", "numeric"),
    ("0.5::float8", "float8"),
    ("'Zürich'::text", "text"),
    ("'00000000-0000-4000-8000-000000000001'::uuid", "uuid"),
    ("'2026-01-01 00:00:00.000001'::timestamp", "timestamp"),
)
"""Values by which it shows whether two servers hash alike, one of each function."""

NAME = r'(?:[A-Za-z_\u0080-\uffff][\w$]*|"(?:[^"]|"")+")'
TABLE = re.compile(rf"{NAME}(?:\.{NAME})*")

REMEDIES: Mapping[str, str] = {
    "42P01": "the table's name as SQL has it, with its schema, and in quotes where it has capitals or blanks",
    "3F000": "the table's name as SQL has it, with its schema",
    "42703": "`fields` says where each field lies",
    "42501": "grant its user SELECT on the table",
    "42601": "`fields`, `where` and `query` are SQL of Postgres",
    "57014": "an index on its group and sequence, or a server that is less busy",
    "22": "leave the cast out of `fields`: what doesn't fit a field's type is counted as malformed",
}
"""SQLSTATE, or its class -> what to do."""


@dataclass(frozen=True)
class _Part:
    """One table or query that holds records. rows: SQL of what records are read from; named: the same for people."""

    rows: str
    named: str
    sql: Mapping[str, str]
    where: str | None
    heads_table: str | None
    recent: str | None
    deleted: str | None

    def source(self, fields: Sequence[str], rows: str = "", more: str | None = None) -> str:
        """SELECT of these fields under their own names. more: a condition beside `where`."""
        listed = ", ".join(f"{self.sql[name]} AS {_quoted(name)}" for name in fields)
        conditions = " AND ".join(f"({one}\n)" for one in (self.where, more) if one)
        return f"SELECT {listed} FROM {rows or self.rows}" + (f" WHERE {conditions}" if conditions else "")


@dataclass(frozen=True)
class _Shape:
    """A part's records, made for the types that its columns have. fits: SQL of whether all values of a row fit
    theirs."""

    source: str
    columns: Mapping[str, str]
    forms: Mapping[str, Form]
    fits: str


@dataclass
class Hop:
    """A table of records, or a view, or what a query gives.

    table: its name as SQL has it. query: any SELECT, in place of a table. kind: what it promises: "append" may repeat a
    record, "once" has each once, "state" has each key once, with its highest version. deleted: SQL of whether a row is
    deleted, of kind "state". position: a SELECT of slot and number, which says as of which place in the log, or of the
    server, such a table is: it is asked in the moment of the rows, so whoever writes them writes it in the same
    transaction. fields: SQL of each field that is not a column of its own name. where: SQL of the rows
    that belong to the stream. heads_table: a small one with the same fields of group and sequence. recent: SQL that
    only the newest rows fulfil, where there is no table of heads: heads() looks no further. part: further tables, each
    with its own table or query, fields, where, heads_table and recent.
    """

    dsn: Postgres
    kind: str
    stream: Stream
    table: str | None = None
    query: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    heads_table: str | None = None
    recent: str | None = None
    deleted: str | None = None
    position: str | None = None
    part: Sequence[Mapping[str, Any]] = ()
    name: str = "postgres"
    _search: str | None = field(default=None, init=False, repr=False)
    _heads: Heads = field(default_factory=Heads, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._parts = _parts(self)

    def heads(self) -> Mapping[Group, int]:
        """Group -> highest id: from the table of heads, else from the recent rows, else from the index of group and
        sequence, one look for each group; a small table is read whole. DriverError where none of these is possible."""
        rows = self._searched_for(lambda search: search)
        if self._recent:  # what had a head has one, also when nothing of it is new any more
            with self._lock:
                self._met(rows)
                return self._heads.all()
        found: dict[Group, int] = {}
        for *texts, head in rows:
            if head is not None and None not in texts:
                group = tuple(map(str, texts))
                found[group] = max(found.get(group, INT64_MIN), int(Decimal(head)))
        return found

    def totals(self, shards: Shards) -> Totals:
        """As `heads`, added up by the server, but for those of recent rows."""
        if self._recent:
            rows = self._searched_for(lambda search: search)
            with self._lock:
                self._met(rows)
                return self._heads.totals(shards)
        names = [f"t{n}" for n in range(len(self.stream.group))]
        joined = " || '/' || ".join(names)
        mark = f"('x' || left(md5(convert_to({joined}, 'UTF8')), 8))::bit(32)::int8"
        way = ", ".join([*(names[place] for place in shards.by), f"(mark % {shards.buckets})::text"])
        there = " AND ".join(f"{name} IS NOT NULL" for name in [*names, "head"])

        def added(search: str) -> str:
            each = f"SELECT {', '.join(names)}, {mark} AS mark, trunc(max(head::numeric)) AS top FROM ({search}) AS s"
            each += f"({', '.join([*names, 'head'])}) WHERE {there} GROUP BY {', '.join(names)}"
            return f"SELECT {way}, sum(mark)::text, sum(top)::text FROM ({each}) AS g GROUP BY {way}"

        found = self._searched_for(added)
        return {
            shards.named(map(str, way), int(str(bucket))): (int(str(marks)), int(str(total)))
            for *way, bucket, marks, total in found
        }

    @property
    def _recent(self) -> bool:
        """Whether the server tells no more than the heads of recent rows."""
        return any(part.recent and not part.heads_table for part in self._parts)

    def _met(self, rows: Sequence[Row]) -> None:
        """Note these heads. Whoever calls holds the lock."""
        for *texts, head in rows:
            if head is not None and None not in texts:
                self._heads.rise(tuple(map(str, texts)), int(Decimal(head)))

    def _searched_for(self, made: Callable[[str], str]) -> list[Row]:
        """What the server answers to a query that is made of the search of the heads."""
        with self._said():
            search = self._search or " UNION ALL ".join(f"({self._searched(part)})" for part in self._parts)
            self._search = search
            try:
                return self._kept.rows(made(search), HEADS_WITHIN_S)
            except Refused:
                self._search = None  # the next question asks anew what the table is like
                raise

    def digest(self, window: Window) -> Sequence[Digest]:
        """The stream, all parts as of one moment."""
        from gameday.records.gathered import Gathered

        groups = list(window.hi)
        with self._moment() as session, Gathered(len(groups)) as gathered:
            for part in self._parts:
                self._gather(session, self._shape(session, part), window, gathered)
            try:
                found = {groups[number]: tally for number, tally in gathered.tallies().items()}
            except OSError as e:
                raise DriverError(f"hops.{self.name}: {e}", definite=True) from e
        return (Digest(self.stream.name, self.name, KINDS.get(self.kind, self.kind), found),)

    def both(self, other: object, window: Window) -> tuple[Digest, Digest] | None:
        """By sums of each group, and only the ranges of ids in which these differ row by row. None unless the other is
        a table in Postgres too, its columns have the same types, the servers have one encoding and hash alike, and a
        unique index of each shows that no key is there twice."""
        from gameday.drivers.postgres.paired import compared

        if not isinstance(other, Hop) or not self._alone or not other._alone:
            return None
        with self._moment() as session:
            one = _Side(self, session, self._shape(session, self._parts[0]))  # the moment of the first: others may have
            with other._moment() as beside:  # had more by theirs
                two = _Side(other, beside, other._shape(beside, other._parts[0]))
                if not one.each_once() or not two.each_once() or one.hashes() != two.hashes():
                    return None
                found = compared(one, two, window)
        digests = (
            Digest(hop.stream.name, hop.name, KINDS[hop.kind], dict(groups))
            for hop, groups in zip((self, other), found, strict=True)
        )
        return next(digests), next(digests)

    def state(self, upto: Position | None = None) -> State:
        """All rows that count, and the position, as of one moment. Rows that don't fit their types count as missing."""
        import numpy as np

        from gameday.records.states import ROWS_MAX, state

        found: list[list[U64]] = []
        groups: dict[int, Group] = {}
        with self._moment() as session:
            for part in self._parts:
                shape = self._shape(session, part)
                for piece in self._hashed(session, shape):
                    found.append(piece)
                    if sum(len(keys) for keys, *_ in found) > ROWS_MAX:
                        raise DriverError(
                            f"hops.{self.name} has more than {ROWS_MAX:,} rows, which are compared in memory. Remedy: "
                            "`where`, for a part of them",
                            definite=True,
                        )
                groups |= self._groups(session, shape)
            position = self._position(session)
        none = np.empty(0, dtype=np.uint64)
        keys, rows, versions, group = (
            np.concatenate([none, *held]) for held in zip(*found or [[none] * 4], strict=True)
        )
        known = np.array(sorted(groups), dtype=np.uint64)
        names = [groups[int(one)] for one in known]
        at = np.searchsorted(known, group)
        exact = self.position is not None
        return state(names, at.astype(np.int64), keys, versions.view(np.int64), rows, position, exact)

    def records(self, hashes: U64) -> Columns:
        """Those of now, by reading all rows."""
        import numpy as np

        found: list[Columns] = []
        with self._moment() as session:
            for part in self._parts:
                shape = self._shape(session, part)
                values = ", ".join(f"({shape.forms[name].part.value})::text" for name in self.stream.types)
                session.rows(f"DECLARE state NO SCROLL CURSOR FOR SELECT {values} {self._counting(shape)}")
                while rows := session.rows(f"FETCH {FETCHED_ROWS} FROM state"):
                    columns = _columns(self.stream, rows)
                    mine = np.isin(self.stream.state_hashes(columns)[1], hashes)
                    found.append({name: column[mine] for name, column in columns.items()})
                session.rows("CLOSE state")
        empty = _columns(self.stream, [])
        whole = {name: np.concatenate([empty[name], *(one[name] for one in found)]) for name in self.stream.types}
        first = np.unique(self.stream.state_hashes(whole)[1], return_index=True)[1]
        return {name: column[first] for name, column in whole.items()}

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """The records lo < id <= hi by id; where records may be there again, each once."""
        names = list(self.stream.types)
        found: list[Row] = []
        window = Window({group: lo}, {group: hi})
        with self._moment() as session:
            for part in self._parts:
                shape = self._shape(session, part)
                values = ", ".join(f"({shape.forms[name].part.value})::text" for name in names)
                if inside := self._inside(shape, window):
                    found += session.rows(f"SELECT {values} {inside} AND {shape.fits}")
        if self.kind == "append":
            found = list(dict.fromkeys(found))
        place = names.index(self.stream.sequence)
        found.sort(key=lambda row: int(row[place] or 0))
        return _columns(self.stream, found)

    @property
    def tells(self) -> frozenset[str]:
        """The symptoms that it can tell."""
        return frozenset({"malformed"})

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """malformed: how many rows of the window, or of a state, have values that don't fit their types, and of the
        first of them key and reason; absent: none."""
        rows, first = 0, []
        with self._moment() as session:
            for part in self._parts:
                shape = self._shape(session, part)
                inside = f"FROM ({shape.source}) AS s WHERE true"
                if self.kind != STATE and not (inside := self._inside(shape, window)):
                    continue
                listed = ", ".join(f"{_quoted(name)}::text" for name in self.stream.types)
                sql = f"SELECT count(*) OVER (), {listed} {inside} AND NOT ({shape.fits})"
                order = f"ORDER BY {_quoted(self.stream.sequence)} LIMIT {MALFORMED_NAMED}"
                found = session.rows(f"{sql} {order}")
                rows += int(found[0][0] or 0) if found else 0
                first += [f"{part.named}: {self._reason(texts)}" for _, *texts in found]
        return {"malformed": {"rows": rows, "first": first[:MALFORMED_NAMED]}} if rows else {}

    def _reason(self, texts: Sequence[str | None]) -> str:
        """Which record it is, and what of it doesn't fit."""
        values = dict(zip(self.stream.types, texts, strict=True))
        named = dict.fromkeys((*self.stream.key, self.stream.sequence))
        which = ", ".join(f"{name} {values[name]}" for name in named)
        for name, kind in self.stream.types.items():
            if values[name] is None and name in self.stream.needed:
                return f"{which}: {name} is NULL"
            try:
                kind.canonical(values[name])
            except Malformed as e:
                return f"{which}: {name} {e}"
        return which

    # ---- SQL -----------------------------------------------------------------------------------------------

    def _shape(self, session: Session, part: _Part) -> _Shape:
        """Asked for each time, in the moment that is digested: a column may have another type since the last one."""
        alive = f"({part.deleted}) IS NOT TRUE" if part.deleted else None
        source = part.source(list(self.stream.types), more=alive)
        columns = dict(zip(self.stream.types, session.types(source), strict=True))
        forms = {name: self._form(name, column) for name, column in columns.items()}
        fits = [
            *(f"{_quoted(name)} IS NOT NULL" for name in self.stream.needed),
            *(made.fits for made in forms.values() if made.fits),
        ]
        return _Shape(source, columns, forms, " AND ".join(fits))

    def _form(self, name: str, column: str) -> Form:
        try:
            return form(self.stream.types[name], _quoted(name), column)
        except Unfit as e:
            raise DriverError(f"hops.{self.name}.fields: {e}", definite=True) from e

    @property
    def _alone(self) -> bool:
        """Whether it is one table, of which a unique index can show that it has each key once."""
        return len(self._parts) == 1 and self._parts[0].rows == self._parts[0].named and self.kind in KINDS

    def _gather(self, session: Session, shape: _Shape, window: Window, gathered: Gathered) -> None:
        """Hash the window's rows of one part, as they come."""
        import numpy as np

        from gameday.records.hashing import row_hash

        inside = self._inside(shape, window)
        if not inside:
            return
        hashed = sorted(self.stream.hashed, key=lambda name: shape.forms[name].part.kind == "json")  # they come last
        parts = [Part(PLACE, "int"), *(shape.forms[name].part for name in hashed)]
        sql = f"SELECT {', '.join(part.sql for part in parts)} {inside} AND {shape.fits}"
        try:
            for place, *words in read(session.copy(sql), parts):
                left = iter(words)
                columns = {name: [next(left) for _ in range(shape.forms[name].part.words)] for name in hashed}
                own = row_hash([word for name in self.stream.own for word in columns[name]])
                rest = [word for name in self.stream.hashed if name not in self.stream.own for word in columns[name]]
                whole = row_hash(rest, own) if rest else own
                ids = columns[self.stream.sequence][0].view(np.int64)
                gathered.add(place.astype(np.int64), ids, own, whole)
        except (Malformed, OSError) as e:
            raise DriverError(f"hops.{self.name}: {e}", definite=True) from e

    def _counting(self, shape: _Shape) -> str:
        """SQL from FROM on: a part's rows that count."""
        return f"FROM ({shape.source}) AS s WHERE {shape.fits}"

    def _hashed(self, session: Session, shape: _Shape) -> Iterator[list[U64]]:
        """Of a part's rows that count the hashes of key and row, the version, and a number for the group, in pieces."""
        import numpy as np

        from gameday.records.hashing import row_hash

        names = sorted(self.stream.types, key=lambda name: shape.forms[name].part.kind == "json")  # they come last
        parts = [shape.forms[name].part for name in names]
        sql = f"SELECT {', '.join(part.sql for part in parts)} {self._counting(shape)}"
        try:
            for found in read(session.copy(sql), parts):
                left = iter(found)
                columns = {name: [next(left) for _ in range(shape.forms[name].part.words)] for name in names}
                keys = row_hash([word for name in self.stream.key for word in columns[name]])
                rest = [word for name in self.stream.by_key[len(self.stream.key) :] for word in columns[name]]
                grouped = [word for name in self.stream.group for word in columns[name]]
                versions = columns[str(self.stream.version)][0]
                rows = row_hash(rest, keys) if rest else keys
                yield [keys, rows, versions, row_hash(grouped) if grouped else np.zeros_like(keys)]
        except (Malformed, OSError) as e:
            raise DriverError(f"hops.{self.name}: {e}", definite=True) from e

    def _groups(self, session: Session, shape: _Shape) -> dict[int, Group]:
        """The number of each group of a part, see _hashed."""
        from gameday.records.hashing import row_hash, words

        names = self.stream.group
        if not names:
            return {0: ()}
        values = ", ".join(f"({shape.forms[name].part.value})::text" for name in names)
        found = {}
        for row in session.rows(f"SELECT DISTINCT {values} {self._counting(shape)}"):
            own = {name: canonical(self.stream.types[name], text) for name, text in zip(names, row, strict=True)}
            number = row_hash([word for name in names for word in words(self.stream.types[name], [own[name]])])
            found[int(number[0])] = self.stream.grouped(own)
        return found

    def _position(self, session: Session) -> Position:
        if self.position is None:
            return {}
        found: dict[str, int] = {}
        for row in session.rows(self.position):
            try:
                slot, number = row
                found[str(slot)] = int(number or "")
            except ValueError:
                raise DriverError(
                    f"hops.{self.name}.position gives {row!r}. Remedy: a SELECT of two columns: the slot, such as "
                    "topic || '/' || partition, and the number of its next place",
                    definite=True,
                ) from None
        return found

    def _inside(self, shape: _Shape, window: Window) -> str:
        """SQL from FROM on: a part's rows in the window, joined with a small table of its groups; PLACE is the place of
        the row's group among the window's. "": there can be none."""
        types = self.stream.types
        known = {
            group: place
            for place, group in enumerate(window.hi)
            if all(_possible(types[name], text) for name, text in zip(self.stream.group, group, strict=True))
        }
        if not known:
            return ""
        los = [max(window.lo.get(group, 0), INT64_MIN) for group in known]
        his = [min(window.hi[group], INT64_MAX) for group in known]
        arrays, names, conditions = [], [], []
        for at, name in enumerate(self.stream.group):
            kind = {"int": "int8", "uuid": "uuid"}.get(types[name].name, "text")
            arrays.append(array([group[at] for group in known], kind))
            names.append(_quoted(f"group {at}"))
            conditions.append(f"{self._compared(shape, name)} = {names[-1]}")
        arrays += [array(numbers, "int8") for numbers in (los, his, [*known.values()])]
        listed = ", ".join([*names, FROM, TO, PLACE])
        number = self._compared(shape, self.stream.sequence)
        conditions += [f"{number} > {FROM}", f"{number} <= {TO}"]
        within = f"{number} > '{min(los)}'::int8 AND {number} <= '{max(his)}'::int8"
        first, column = types[self.stream.sequence].shown(min(los)), shape.columns[self.stream.sequence]
        if column in TIMES and min(los) > 0 and isinstance(first, str):  # for an index on the column
            within += f" AND {_quoted(self.stream.sequence)} > '{first}'::{column}"
        joined = f"JOIN unnest({', '.join(arrays)}) AS w({listed}) ON {' AND '.join(conditions)}"
        return f"FROM ({shape.source}) AS s {joined} WHERE {within}"

    def _compared(self, shape: _Shape, name: str) -> str:
        """A field of group or sequence as it is compared: the column itself where that has its canonical value."""
        alone = shape.columns[name] in ALONE.get(self.stream.types[name].name, ())
        return _quoted(name) if alone else shape.forms[name].part.value

    # ---- heads ---------------------------------------------------------------------------------------------

    def _searched(self, part: _Part) -> str:
        """SQL of the heads: the group's texts, and the highest id."""
        source = part.source(self._named, part.heads_table or "", None if part.heads_table else part.recent)
        columns = self._kept.types(source, LOOK_WITHIN_S)
        whole = self._grouped(source, columns)
        if part.heads_table or part.recent or self._cost(whole) <= SMALL_COST_MAX:
            return whole
        if self.stream.group and self._cost(searched := self._loose(source, columns)) <= SEARCH_COST_MAX:
            return searched
        raise DriverError(
            f"hops.{self.name}: finding the newest records would read all of {part.named} again and again. Remedy: an "
            f"index on ({', '.join(part.sql[name] for name in self._named)}), or heads_table = a small table that has "
            "them, or recent = SQL that only its newest rows fulfil",
            definite=True,
        )

    @property
    def _named(self) -> list[str]:
        return [*self.stream.group, self.stream.sequence]

    def _cost(self, sql: str) -> float:
        """What the planner reckons with."""
        ((told,),) = self._kept.rows(f"EXPLAIN (FORMAT JSON) {sql}", LOOK_WITHIN_S)
        return float(json.loads(told or "")[0]["Plan"]["Total Cost"])

    def _heads_forms(self, columns: Sequence[str]) -> tuple[list[str], str, str]:
        """The group's canonical texts, the highest number, and a condition under which it is one, as SQL."""
        forms = [self._form(name, column) for name, column in zip(self._named, columns, strict=True)]
        texts = [f"({made.part.value})::text" for made in forms[:-1]]
        number = _quoted(self.stream.sequence)
        if columns[-1] in TIMES:  # the column itself, for which there may be an index
            return texts, f"(extract(epoch FROM max({number})) * 1000000)::int8", f"{number} < 'infinity'"
        if columns[-1] not in ALONE.get(self.stream.types[self.stream.sequence].name, ()):
            return texts, f"max({forms[-1].part.value})", "true"
        return texts, f"max({number})", f"{number} <= '{INT64_MAX}'::int8"  # a numeric may be NaN, which is above all

    def _grouped(self, source: str, columns: Sequence[str]) -> str:
        """All rows of a source."""
        texts, highest, right = self._heads_forms(columns)
        by = f" GROUP BY {', '.join(texts)}" if texts else ""
        return f"SELECT {', '.join([*texts, f'({highest})::text'])} FROM ({source}) AS s WHERE {right}{by}"

    def _loose(self, source: str, columns: Sequence[str]) -> str:
        """A look into an index for each group, and one for its highest id: the next group is the lowest above the one
        before (a loose index scan)."""
        texts, highest, right = self._heads_forms(columns)
        own = [_quoted(name) for name in self.stream.group]
        listed = ", ".join(own)
        there, before = (", ".join(f"{table}.{name}" for name in own) for table in ("s", "g"))
        same = " AND ".join(f"s.{name} = g.{name}" for name in own)
        return (
            f"WITH RECURSIVE g AS ((SELECT {listed} FROM ({source}) AS s WHERE {own[0]} IS NOT NULL ORDER BY {listed} "
            f"LIMIT 1) UNION ALL SELECT n.* FROM g CROSS JOIN LATERAL (SELECT {there} FROM ({source}) AS s "
            f"WHERE ROW({there}) > ROW({before}) ORDER BY {there} LIMIT 1) AS n) "
            f"SELECT {', '.join(texts)}, (SELECT ({highest})::text FROM ({source}) AS s WHERE {same} AND {right}) "
            "FROM g"
        )

    # ---- the server ----------------------------------------------------------------------------------------

    @cached_property
    def _kept(self) -> Kept:
        return Kept(self.dsn)

    @contextmanager
    def _moment(self) -> Iterator[Session]:
        """A session that sees all tables as of one moment."""
        with self._said(), Session(self.dsn, LOOK_WITHIN_S) as session:
            session.allow(DIGEST_WITHIN_S)
            session.rows(begin(DIGEST_WITHIN_S))
            yield session

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the server refuses is told with the hop and what to do."""
        try:
            yield
        except Refused as e:
            remedy = REMEDIES.get(e.state) or REMEDIES.get(e.state[:2])
            told = f". Remedy: {remedy}" if remedy else ""
            raise DriverError(f"hops.{self.name}: {e}{told}", definite=True) from e


@dataclass(frozen=True)
class _Side:
    """A hop of one table as one of two that are compared, as of one moment."""

    hop: Hop
    session: Session
    shape: _Shape

    def each_once(self) -> bool:
        """Whether no key is there twice, by an index of columns whose own values are canonical ones."""
        sql, types = self.hop._parts[0].sql, self.hop.stream.types
        columns = []
        for name in self.hop.stream.key:
            column = self.shape.columns[name]
            plain = column in ALONE.get(types[name].name, ()) or (types[name].name == "time" and column in TIMES)
            if not plain or not TABLE.fullmatch(sql[name]) or "." in sql[name]:
                return False
            columns.append(sql[name][1:-1].replace('""', '"') if sql[name][0] == '"' else sql[name].lower())
        table = literal(self.hop._parts[0].rows)
        return bool(self.session.rows(UNIQUE.format(table=table, columns=array(columns, "text"))))

    def hashes(self) -> object:
        """What has to be the same of two sides whose equal sums mean equal rows; not even equal to itself where no sum
        means that."""
        if self._mixed is None:
            return object()
        known = mixed([(Type("text"), sql, column) for sql, column in HASHES])
        return self.session.rows(f"SELECT current_setting('server_encoding'), ({known})::text"), self.shape.columns

    @cached_property
    def _mixed(self) -> str | None:
        types = self.hop.stream.types
        return mixed([(types[name], _quoted(name), column) for name, column in self.shape.columns.items()])

    def sums(self, window: Window, ranges: int) -> Sums:
        from gameday.drivers.postgres.paired import Sum

        inside = self.hop._inside(self.shape, window)
        if not inside:
            return {}
        number = f"({self.hop._compared(self.shape, self.hop.stream.sequence)})::int8"
        range_ = f"({number} - {FROM} - 1) / (({TO} - {FROM}) / {ranges} + 1)"  # as paired.width has it
        by = f"{PLACE}, {range_}" if ranges > 1 else PLACE
        figures = f"count(*), min({number}), max({number}), mod(sum({self._mixed}), 18446744073709551616)"
        sql = f"SELECT {PLACE}, {range_ if ranges > 1 else 0}, {figures} {inside} AND {self.shape.fits} GROUP BY {by}"
        groups, found = list(window.hi), dict[Group, dict[int, Sum]]()
        for row in self.session.rows(f"SET LOCAL enable_sort = off; {sql}"):  # it would expect few rows, and sort all
            place, at, rows, lo, hi, total = (int(text or 0) for text in row)
            found.setdefault(groups[place], {})[at] = Sum(rows, lo, hi, total % (1 << 64))
        return found

    def tallies(self, window: Window) -> Mapping[Group, Tally]:
        from gameday.records.gathered import Gathered

        groups = list(window.hi)
        with Gathered(len(groups)) as gathered:
            self.hop._gather(self.session, self.shape, window, gathered)
            return {groups[number]: tally for number, tally in gathered.tallies().items()}


def _parts(hop: Hop) -> tuple[_Part, ...]:
    """What a hop declares. Raises ConfigError with every mistake."""
    mistakes = []
    if hop.kind not in (*KINDS, STATE):
        mistakes.append(f"hops.{hop.name}.kind is {hop.kind!r}. Remedy: one of {', '.join((*KINDS, STATE))}")
    told = [("", "position", hop.position), ("", "deleted", hop.deleted)]
    for at, key, given in [*told, *((".part", "deleted", shape.get("deleted")) for shape in hop.part)]:
        if given is not None and hop.kind != STATE:
            mistakes.append(
                f"hops.{hop.name}{at}.{key} is {given!r}, but its kind is {hop.kind!r}. Remedy: kind = {STATE!r}, or "
                "leave it out"
            )
    if hop.position is not None and not (isinstance(hop.position, str) and hop.position.strip()):
        mistakes.append(f"hops.{hop.name}.position is {hop.position!r}. Remedy: a SELECT of slot and number")
    names = ("table", "query", "fields", "where", "heads_table", "recent", "deleted")
    own = {name: getattr(hop, name) for name in names}
    found = []
    for shape in [own, *hop.part] if hop.table or hop.query or not hop.part else hop.part:
        at = f"hops.{hop.name}" + (".part" if shape is not own else "")
        if unknown := set(shape) - set(names):
            mistakes.append(f"{at} has {', '.join(sorted(unknown))}. Known: {', '.join(names)}")
        texts = {name: shape.get(name) for name in names if name != "fields"}
        if wrong := [
            name for name, text in texts.items() if text is not None and not (isinstance(text, str) and text.strip())
        ]:
            mistakes += [f"{at}.{name} is {texts[name]!r}. Remedy: a text" for name in wrong]
            continue
        table, query = texts["table"], texts["query"]
        if (table is None) is (query is None):
            both = "both table and query" if table else "neither table nor query"
            mistakes.append(f"{at} has {both}. Remedy: table = the name of one, or query = a SELECT")
        for name in ("table", "heads_table"):
            if texts[name] is not None and not TABLE.fullmatch(str(texts[name])):
                mistakes.append(
                    f"{at}.{name} is {texts[name]!r}. Remedy: its name as SQL has it, such as orders or "
                    'shop."Order Items"; for more than a table there is query = a SELECT'
                )
        sql = {name: shape.get("fields", {}).get(name, _quoted(name)) for name in hop.stream.types}
        rows = table or f"({str(query).strip().rstrip(';')}\n) AS q"
        kept = (texts[name] for name in ("where", "heads_table", "recent", "deleted"))
        found.append(_Part(rows, table or "the query", sql, *kept))
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return tuple(found)


def _columns(stream: Stream, rows: Sequence[Row]) -> Columns:
    """Rows of Part.value in the order of the stream's fields, as canonical columns."""
    from gameday.records.columns import array as column

    listed = list(zip(*rows, strict=True)) or [()] * len(stream.types)
    return {
        name: column(kind, [canonical(kind, text) for text in texts])
        for (name, kind), texts in zip(stream.types.items(), listed, strict=True)
    }


def _possible(kind: Type, text: str) -> bool:
    """Whether a row's group can have this text."""
    tests: Mapping[str, Callable[[str], bool]] = {
        "int": lambda t: INT64_MIN <= int(t) <= INT64_MAX,
        "uuid": lambda t: bool(uuid.UUID(t)),
        "text": lambda t: "\0" not in t,
    }
    try:
        return tests[kind.name](text)
    except ValueError:
        return False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
