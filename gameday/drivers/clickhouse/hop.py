"""Reads a table as a hop. ClickHouse computes the digests, so that no row moves before there is a difference to list.

Only the functions that compute with numpy import it: a caller that asks for the heads alone needs none.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from gameday.drivers.clickhouse.answers import canonical, varint
from gameday.drivers.clickhouse.queries import Refused, Server
from gameday.drivers.clickhouse.sql import (
    NO_SURPLUS,
    Bounds,
    Number,
    Shape,
    Surplus,
    array,
    as_texts,
    either,
    figures_of,
    fitting,
    literal,
    misfitting,
    same,
    without,
)
from gameday.errors import ConfigError, DriverError
from gameday.model import (
    EMPTY,
    Columns,
    Digest,
    Excerpt,
    Group,
    Json,
    Position,
    Shards,
    Tally,
    Totals,
    Window,
)
from gameday.records.declaration import KINDS, STATE, Stream
from gameday.records.excerpts import back
from gameday.records.heads import Heads
from gameday.records.in_clickhouse import Form, Unfit, form, row_hash
from gameday.records.types import INT64_MAX
from gameday.stack.config import Http
from gameday.system.tls import PLAIN, Tls

if TYPE_CHECKING:
    from gameday.records.hashing import U64
    from gameday.records.states import State

__all__ = ["DIGEST_WITHIN_S", "LOOK_WITHIN_S", "Hop"]

T = TypeVar("T")

HEADS_WITHIN_S = 0.9
"""Less than the deadline of the probe that samples the heads."""

ONE_THREAD = "SETTINGS max_threads = 1"
"""For a query of a few rows, asked twenty times a second: to set up more threads takes longer than the query."""

LOOK_WITHIN_S = 5.0
"""For heads that are not sampled."""

DIGEST_WITHIN_S = 120.0
"""How long a digest of a whole history may take."""

TAIL_ROWS = 5_000
"""How far back from each partition's end heads() looks at first, where there is no table of heads."""

BUCKET_KEYS = 12_000_000
"""How many keys an exact digest holds at once, at about 50 bytes each. More are done one hash bucket after another."""

RANGES_MAX = 5_000
"""How many ranges of ids a window is cut into for the table's index."""

KEY, ROW, KNOWN, COUNTS = "`hash of the key`", "`hash of the row`", "`groups of the window`", "`in the window`"
"""Names in a query. They must not be a column's: the query's conditions would then mean these."""

PAIR = f"if(min({ROW}) = max({ROW}), min({ROW}), min({ROW}) + max({ROW}))"
TRIES = 3
"""How often a table is counted when rows come or go meanwhile."""

MALFORMED_NAMED = 3
TIMES = re.compile(r"(Nullable\()?DateTime")
"""Types of columns that are a moment and can be compared with a time. A Date is not: it depends on the zone."""

SHOWN_MAX = 60
"""How many characters of a value that doesn't fit its type are shown."""

NEWEST_WITHIN_S = 20.0
"""For each question about the newest records. Less than the caller waits."""

NEWEST_TIMES = 10
"""newest() reads at most so many times the rows that it was asked for, because records may repeat."""

IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")

TABLE = re.compile(r"[`\"A-Za-z_][`\"A-Za-z0-9_.]*")
"""A table's name, and no query in brackets."""

STATE_ROW = [("key", "<u8"), ("row", "<u8"), ("version", "<i8")]
"""A row of a state as RowBinary has it."""


@dataclass
class Hop:
    """A table of records.

    kind: what `table` promises. "append" may repeat a record, "once" has each once, "state" has each key once, with its
    highest version, when it is read with FINAL. (A query in brackets decides itself how it reads.)
    deleted: SQL that says whether a row is deleted, for kind "state".
    fields: SQL of each field that has another name or form than in the stream.
    where: SQL of the rows that belong to the stream.
    raw: the table behind one of kind "once".
    heads_table: a small table with the same fields of group and sequence.
    log: for a table of delivered messages, its columns topic, partition, offset, ingested.
    first: {"table", "offset"}: the table keeps the copy of a record with the lowest offset; this table has all copies.
    recent: SQL that only the newest rows fulfil, where there is no heads_table: heads() reads no others.
    settings: ClickHouse's own, for every query.
    component: the role of the server, to know when its process started.
    """

    url: Http
    kind: str
    table: str
    stream: Stream
    fields: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    deleted: str | None = None
    raw: str | None = None
    heads_table: str | None = None
    log: Mapping[str, str] | None = None
    first: Mapping[str, str] | None = None
    recent: str | None = None
    component: str = "clickhouse"
    name: str = "clickhouse"
    settings: Mapping[str, int | str] = field(default_factory=dict)
    tls: Tls = PLAIN
    _after: dict[tuple[str, int], int] = field(default_factory=dict, init=False, repr=False)
    _heads: Heads = field(default_factory=Heads, init=False, repr=False)
    _numbers: dict[str, Number] = field(default_factory=dict, init=False, repr=False)
    _shapes: dict[str, Shape] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, STATE):
            raise ConfigError(f"hops.{self.name}.kind is {self.kind!r}. Remedy: one of {', '.join((*KINDS, STATE))}")
        if self.deleted is not None and self.kind != STATE:
            raise ConfigError(
                f"hops.{self.name}.deleted is {self.deleted!r}, but its kind is {self.kind!r}. Remedy: kind = "
                f"{STATE!r}, or leave it out"
            )
        self._server = Server(self.url, self.settings, self.tls)
        self._sql = {name: self.fields.get(name, name) for name in self.stream.types}
        self._groups = tuple(
            self._sql[name] if self.stream.types[name].name == "text" else f"toString({self._sql[name]})"
            for name in self.stream.group
        )

    def heads(self) -> Mapping[Group, int]:
        """Return group -> highest id. Reads the table of heads, else the recent rows, else the end of each partition of
        the log, else the whole table."""
        if self.heads_table is not None:
            return self._tops(self.heads_table, "true", HEADS_WITHIN_S, ONE_THREAD)
        return self._met(Heads.all)

    def totals(self, shards: Shards) -> Totals:
        """Return the sums of the heads by shard. The server adds them up, unless the hop keeps the heads itself."""
        if self.heads_table is None and (self.recent or self.log or self.kind == STATE):
            return self._met(lambda heads: heads.totals(shards))
        names = [f"`group {n}`" for n in range(len(self._groups))]
        texts = [f"assumeNotNull({sql}) AS {name}" for sql, name in zip(self._groups, names, strict=True)]
        table = self.heads_table or self.table
        inside = " AND ".join([f"({self.where or 'true'})", *(f"notEmpty({sql})" for sql in self._groups)])
        mark = f"reinterpretAsUInt32(reverse(substring(MD5(arrayStringConcat([{', '.join(names)}], '/')), 1, 4)))"
        way = ", ".join([*(names[place] for place in shards.by), f"{KEY} % {shards.buckets}"])
        sql = f"""
            SELECT {way}, sum({KEY}), sum({ROW})
            FROM (SELECT {", ".join(texts)}, {mark} AS {KEY}, toInt128(max({self._number(table).sql})) AS {ROW}
                  FROM {table} WHERE {inside} GROUP BY {", ".join(names)})
            GROUP BY {way} {ONE_THREAD}"""
        found = self._server.rows(sql, HEADS_WITHIN_S)
        return {shards.named(map(str, way), bucket): (int(marks), int(total)) for *way, bucket, marks, total in found}

    def _met(self, tell: Callable[[Heads], T]) -> T:
        """Read what is new into the heads that the hop keeps itself. Returns what `tell` makes of these."""
        if self.recent is None and self.log is not None:
            return self._log_heads(self.log, tell)
        found = self.tops(self.recent or "true", HEADS_WITHIN_S)
        with self._lock:  # a group that had a head keeps it, also when none of its rows is recent any more
            for group, head in found.items():
                self._heads.rise(group, max(0, head))
            return tell(self._heads)

    def sums(self, window: Window) -> Sequence[Digest]:
        """The same as `digest`, in one scan. A row that repeats a record is counted and summed again."""
        return self._digests(window, self._scanned)

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the digests of the table behind (`raw`), and of the table. For a log also "offsets": the places of the
        same records, with groups (topic, partition)."""
        return self._digests(window, lambda shape, table, bounds: self._exact(shape, table, bounds.inside))

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi, ordered by id. A repeated record is there once, unless kind is "once"."""
        shape = self._shape(self.table)
        fields = ", ".join(shape.values[name] for name in self.stream.types)
        where = fitting(shape, self._inside(Window({group: lo}, {group: hi}), self.table))
        repeats = "" if self.kind == "once" else "DISTINCT "  # kind "once" promises none, so a repeat must show
        sql = f"SELECT {repeats}{fields}, {shape.id} FROM {self._read} WHERE {where} ORDER BY {shape.id}"
        return canonical(self._server.rows(sql, DIGEST_WITHIN_S), self.stream)

    def state(self, upto: Position | None = None) -> State:
        """Return all rows that are in the table now and not deleted. Ignores `upto`: ClickHouse has no transaction that
        reads rows and position together, and may show a consumer's block in a part of its partitions only."""
        import numpy as np

        from gameday.records.states import ROWS_MAX, state

        shape, (keys, rows) = self._shape(self.table), self._state_hashes()
        version = f"assumeNotNull(toInt64({shape.values[str(self.stream.version)]}))"
        texts = [f"toString(assumeNotNull({sql}))" for sql in shape.groups]
        listed = ", ".join([*texts, f"groupArray(({keys}, {rows}, {version}))"])
        by = f" GROUP BY {', '.join(texts)}" if texts else ""
        left = self._server.binary(f"SELECT {listed} {self._counting(shape)}{by}", DIGEST_WITHIN_S)
        groups: list[Group] = []
        found = [np.empty(0, dtype=STATE_ROW)]
        place = 0
        while place < len(left):
            group = []
            for _ in texts:
                size, place = varint(left, place)
                group.append(left[place : place + size].decode(errors="replace"))
                place += size
            size, place = varint(left, place)
            found.append(np.frombuffer(left, STATE_ROW, size, place))
            place += size * found[0].itemsize
            groups.append(tuple(group))
        if sum(map(len, found)) > ROWS_MAX:
            raise DriverError(
                f"hops.{self.name} has more than {ROWS_MAX:,} rows, which are compared in memory. Remedy: `where`, for "
                "a part of them",
                definite=True,
            )
        whole, sizes = np.concatenate(found), [len(piece) for piece in found[1:]]
        numbers = np.repeat(np.arange(len(groups)), sizes)
        return state(groups, numbers, whole["key"].copy(), whole["version"].copy(), whole["row"].copy())

    def records(self, hashes: U64) -> Columns:
        """Return the records that have these hashes now."""
        shape, (_, rows) = self._shape(self.table), self._state_hashes()
        values = ", ".join(shape.values[name] for name in self.stream.types)
        wanted = f"{rows} IN ({', '.join(map(str, hashes.tolist()))})" if len(hashes) else "false"
        sql = f"SELECT DISTINCT {values} {self._counting(shape)} AND {wanted}"
        return canonical(self._server.rows(sql, DIGEST_WITHIN_S), self.stream)

    def _counting(self, shape: Shape) -> str:
        """SQL, from FROM on, of the rows that belong to the stream and fit their types."""
        return f"FROM {self._read} WHERE {fitting(shape, self._belongs)}"

    @property
    def _read(self) -> str:
        """SQL of what to read. For kind "state" the table as its merges will leave it (FINAL)."""
        return f"{self.table} FINAL" if self.kind == STATE and TABLE.fullmatch(self.table) else self.table

    @property
    def _belongs(self) -> str:
        """SQL condition: the row belongs to the stream, and is not deleted."""
        alive = f" AND NOT ifNull(toBool({self.deleted}), false)" if self.deleted else ""
        return f"({self.where or 'true'}){alive}"

    def _state_hashes(self) -> tuple[str, str]:
        """SQL of the hashes of key and row, equal to those of Stream.state_hashes."""
        words = self._shape(self.table).words
        own, rest = self.stream.key, self.stream.by_key
        return (row_hash([w for name in own for w in words[name]]), row_hash([w for name in rest for w in words[name]]))

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        """Return the newest records of each group by id. From a table that shows no head it takes any rows, to say what
        is wrong with them."""
        heads, shape = self.heads() if upto is None else upto, self._shape(self.table)
        if not heads:
            return self._any(shape, limit)
        rows_max = limit * NEWEST_TIMES
        figures = ", ".join([*as_texts(shape.groups), *(shape.values[name] for name in self.stream.types), shape.id])
        shown = f"concat('id ', toString({shape.id}), ': ', {shape.unfit})"
        malformed, reasons, records = 0, (), 0

        def ask(window: Window) -> tuple[dict[Group, Columns], int]:
            nonlocal malformed, reasons, records
            inside = self._inside(window, self.table)
            right, wrong = (f"FROM {self._read} WHERE {found(shape, inside)}" for found in (fitting, misfitting))
            order = f"ORDER BY {shape.id} DESC LIMIT {rows_max}"
            found: dict[Group, list[Sequence[Any]]] = {}
            for row in self._server.rows(f"SELECT {figures} {right} {order}", NEWEST_WITHIN_S):
                found.setdefault(tuple(map(str, row[: len(shape.groups)])), []).append(row[len(shape.groups) :])
            records = sum(map(len, found.values()))
            if shape.fits:
                sql = f"SELECT count(), groupArray({MALFORMED_NAMED})({shown}) {wrong}"
                ((malformed, reasons),) = self._server.rows(sql, NEWEST_WITHIN_S)
            return {group: canonical(rows, self.stream) for group, rows in found.items()}, records + malformed

        groups, window, read = back(ask, heads, limit, self.stream)
        above = dict(window.lo)
        if records == rows_max:  # the rest was cut off
            lows = {group: int(held[self.stream.sequence].min()) for group, held in groups.items()}
            above = {group: lows.get(group, hi) for group, hi in window.hi.items()}
        return Excerpt(groups, heads, above, read, malformed, tuple(reasons))

    def _any(self, shape: Shape, limit: int) -> Excerpt:
        belongs = f"{self._belongs} AND ({self.recent or 'true'})"
        sql = f"SELECT {shape.unfit} FROM {self._read} WHERE {belongs} LIMIT {limit}"
        told = [row[0] for row in self._server.rows(sql, NEWEST_WITHIN_S)]
        if not told:
            sql = f"SELECT count() FROM (SELECT 1 FROM {self.table} LIMIT {limit})"
            ((rows,),) = self._server.rows(sql, NEWEST_WITHIN_S)
            return Excerpt({}, {}, {}, int(rows))
        reasons = [text for text in told if text]
        return Excerpt({}, {}, {}, len(told), len(reasons), tuple(reasons[:MALFORMED_NAMED]))

    def delivered(self) -> Position:
        """Return slot -> the offset after the highest in the table. {} for a table without places in a log."""
        if self.log is None:
            return {}
        self._log_heads(self.log, Heads.all)
        with self._lock:
            return {f"{topic}/{partition}": end + 1 for (topic, partition), end in self._after.items()}

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """Return what the table shows beside its records.

        ingest_gap_s: topic -> the longest time since the baseline that a record waited for its insert, counted from the
        insert before, or from when the record happened if that was later. ingest_idle_s: topic -> the time since its
        last insert, or since the baseline. first_after_start: "topic/partition" -> the lowest offset inserted since the
        server's start, where that was after the baseline. last_before_start: the highest inserted before. not_first:
        how many ids of the window are kept with another row than the one with the lowest offset. malformed: the rows of
        the window with values that don't fit their types, and the first of them.
        """
        found: dict[str, Json] = self._malformed(window)
        if self.log:
            found["ingest_gap_s"], found["ingest_idle_s"] = self._ingest_gaps(self.log, since_us)
            start_us = started_us.get(self.component)
            if start_us is not None:
                found |= self._around(self.log, start_us)
        if self.first:
            found["not_first"] = self._not_first(self.first, window)
        return found

    @property
    def tells(self) -> frozenset[str]:
        """The names of the symptoms that it can return, as it is configured."""
        of_log = ("ingest_gap_s", "ingest_idle_s", "first_after_start", "last_before_start")
        told = [(self.log, of_log), (self.first, ("not_first",))]
        return frozenset(name for configured, names in told if configured for name in names)

    def tops(self, where: str = "true", within_s: float = DIGEST_WITHIN_S) -> dict[Group, int]:
        """Return group -> highest id of the table's rows that fulfil a condition, which is SQL."""
        return self._tops(self.table, where, within_s)

    def tallies(self, where: str) -> dict[Group, Tally]:
        """Return group -> tally of the table's rows that fulfil a condition, which is SQL."""
        return self._exact(self._shape(self.table), self.table, where)

    def _tops(self, table: str, where: str, within_s: float, settings: str = "") -> dict[Group, int]:
        groups = ", ".join(self._groups)
        by = f" GROUP BY {groups}" if groups else ""
        select = ", ".join([*as_texts(self._groups), f"max({self._number(table).sql})", "count()"])
        sql = f"SELECT {select} FROM {table} WHERE ({where}) AND ({self.where or 'true'}){by} {settings}"
        found = self._server.rows(sql, within_s)
        return {tuple(map(str, group)): int(head) for *group, head, rows in found if rows and all(group)}

    def _digests(self, window: Window, tallied: Callable[[Shape, str, Bounds], dict[Group, Tally]]) -> list[Digest]:
        found = []
        for table, view in ((self.raw, "raw"), (self.table, KINDS.get(self.kind, self.kind))):
            if table is not None:
                groups = tallied(self._shape(table), table, self._bounds(window, table))
                found.append(Digest(self.stream.name, self.name, view, groups))
        if self.log:
            topic, partition, offset = (self.log[name] for name in ("topic", "partition", "offset"))
            hashed = row_hash([f"toUInt64({offset})"])
            shape = self._shape(self.table)
            places = Shape(
                (topic, f"toString({partition})"), f"toInt64({offset})", hashed, hashed, shape.fits, casts=shape.casts
            )
            places_held = tallied(places, self.table, self._bounds(window, self.table))
            found.append(Digest("offsets", self.name, "raw", places_held))
        return found

    def _scanned(self, shape: Shape, table: str, bounds: Bounds) -> dict[Group, Tally]:
        """Compute the sums in one scan.

        When most rows are in the window, each aggregate has the condition, not the WHERE: to leave a few rows out of a
        block the server would copy all its columns. The server then computes the figures of all rows. When that fails
        on one of them, the WHERE is used: the rows of the window alone may be right.
        """
        if not (bounds.wide and bounds.own):
            return self._summed(shape, table, bounds.inside)
        condition = f"(({fitting(shape, bounds.own)}) AS {COUNTS})"
        figures = [f"countIf({condition})", f"countIf({COUNTS})"]
        figures += [f"{name}If({sql}, {COUNTS})" for name, sql in figures_of(shape)]
        try:
            return self._tallied(shape, table, bounds.range, figures)
        except Refused:
            return self._summed(shape, table, bounds.inside)

    def _summed(self, shape: Shape, table: str, where: str, keys: str = "count()") -> dict[Group, Tally]:
        """Compute the sums in one scan, without grouping by key. keys: SQL of the number of keys."""
        figures = ["count()", keys, *(f"{name}({sql})" for name, sql in figures_of(shape))]
        return self._tallied(shape, table, fitting(shape, where), figures)

    def _tallied(self, shape: Shape, table: str, where: str, figures: Sequence[str]) -> dict[Group, Tally]:
        by = f" GROUP BY {', '.join(shape.groups)}" if shape.groups else ""
        sql = f"SELECT {', '.join([*as_texts(shape.groups), *figures])} FROM {table} WHERE {where}{by}"
        return {
            tuple(map(str, group)): Tally(rows, distinct, lo, hi, total, key_sum=key_sum)
            for *group, rows, distinct, lo, hi, total, key_sum in self._asked(sql)
            if rows
        }

    def _exact(self, shape: Shape, table: str, where: str) -> dict[Group, Tally]:
        """Compute exact tallies by key, in hash buckets of at most about BUCKET_KEYS keys."""
        from gameday.records.tallies import add

        counted = self._asked(f"SELECT count() FROM {table} WHERE {fitting(shape, where)}")
        buckets = 1 + sum(rows for (rows,) in counted) // BUCKET_KEYS
        found: dict[Group, Tally] = {}
        for bucket in range(buckets):
            within = f"{where} AND {shape.key} % {buckets} = {bucket}" if buckets > 1 else where
            for group, tally in self._told_apart(shape, table, within).items():
                found[group] = add(found.get(group, EMPTY), tally)
        return found

    def _told_apart(self, shape: Shape, table: str, where: str) -> dict[Group, Tally]:
        """Compute exact tallies of one bucket.

        Sums that count distinct keys are exact when no key repeats. Else a second query reads the repeated keys, and
        their surplus is subtracted. Raises DriverError when rows come or go between the two queries, TRIES times.
        """
        for _ in range(TRIES):
            sums = self._summed(shape, table, where, f"uniqExact({shape.key})")
            if all(tally.rows == tally.keys for tally in sums.values()):
                return sums
            surplus = self._surplus(shape, table, where)
            found = {group: without(tally, surplus.get(group, NO_SURPLUS)) for group, tally in sums.items()}
            if all(found[group].keys == tally.keys for group, tally in sums.items()):
                return found
        raise DriverError(f"hops.{self.name}: records were repeated in {table} while they were counted", definite=True)

    def _surplus(self, shape: Shape, table: str, where: str, distinct: str = PAIR) -> dict[Group, Surplus]:
        """Return what the keys with more than one row add to the sums.

        distinct: SQL of the sum of a key's distinct hashes. Of at most two distinct hashes the lowest and the highest
        are all; only where a key may have more, all its hashes are held in memory.
        """
        keep = fitting(shape, where)
        names = [f"`group {n}`" for n in range(len(shape.groups))]
        group = [f"{sql} AS {name}" for sql, name in zip(shape.groups, names, strict=True)]
        told = f"bitXor(cityHash64({', '.join(shape.groups)}), {shape.key})" if names else shape.key
        again = f"SELECT {told} FROM {table} WHERE {keep} GROUP BY {told} HAVING count() > 1"
        figures = f"sum(copies - 1), sum(more), sum(differs), sum((copies - 1) * {KEY}), max(copies * differs)"
        sql = f"""
            SELECT {", ".join([*as_texts(names), figures])}
            FROM (
                SELECT {", ".join([*names, KEY])}, count() AS copies, sum({ROW}) - {distinct} AS more,
                    min({ROW}) != max({ROW}) AS differs
                FROM (SELECT {", ".join([*group, f"{shape.key} AS {KEY}", f"{shape.row} AS {ROW}"])}
                      FROM {table} WHERE {keep} AND {told} IN ({again}))
                GROUP BY {", ".join([*names, KEY])})
            {f"GROUP BY {', '.join(names)}" if names else ""}"""
        rows = self._asked(sql)
        if distinct == PAIR and any(most > 2 for *_, most in rows):
            return self._surplus(shape, table, where, f"arraySum(groupUniqArray({ROW}))")
        return {tuple(map(str, row[: len(names)])): Surplus(*map(int, row[len(names) : -1])) for row in rows}

    def _asked(self, sql: str) -> Sequence[Sequence[Any]]:
        return self._server.rows(sql, DIGEST_WITHIN_S)

    def _shape(self, table: str) -> Shape:
        """Return the table's records as SQL, made for the types of its columns."""
        if table not in self._shapes:
            names = list(self.stream.types)
            listed = ", ".join(f"{self._sql[name]} AS f{n}" for n, name in enumerate(names))
            told = self._server.rows(f"DESCRIBE TABLE (SELECT {listed} FROM {table})", LOOK_WITHIN_S)
            columns = dict(zip(names, (str(row[1]) for row in told), strict=True))
            try:
                self._shapes[table] = self._made(columns, self._number(table).sql)
            except Unfit as e:
                raise DriverError(f"hops.{self.name}.fields: {e}", definite=True) from e
        return self._shapes[table]

    def _number(self, table: str) -> Number:
        """Return the sequence as SQL. A time, which a table may have in several forms, becomes microseconds."""
        sql = self._sql[self.stream.sequence]
        if self.stream.counted:
            return Number(sql)
        if table not in self._numbers:
            ((_, column, *_),) = self._server.rows(f"DESCRIBE TABLE (SELECT {sql} AS f FROM {table})", LOOK_WITHIN_S)
            try:
                value = form(self.stream.types[self.stream.sequence], sql, str(column)).value
            except Unfit as e:
                raise DriverError(f"hops.{self.name}.fields: {e}", definite=True) from e
            self._numbers[table] = Number(value, sql if TIMES.match(str(column)) else None)
        return self._numbers[table]

    def _made(self, columns: Mapping[str, str], number: str) -> Shape:
        kinds = self.stream.types
        forms = {name: form(kinds[name], self._sql[name], column) for name, column in columns.items()}
        own, hashed = (
            [word for name in names for word in forms[name].words] for names in (self.stream.own, self.stream.hashed)
        )
        needed = dict.fromkeys(name for name in self.stream.needed if "Nullable(" in columns[name])
        bounded = {name: made.fits for name, made in forms.items() if made.fits}
        fits = [*(f"isNotNull({self._sql[name]})" for name in needed), *bounded.values()]
        return Shape(
            self._groups,
            f"assumeNotNull(toInt64({number}))",
            row_hash(own),
            row_hash(hashed),
            " AND ".join(f"({one})" for one in fits) or None,
            {name: made.value for name, made in forms.items()},
            self._unfit(columns, forms),
            {name: made.words for name, made in forms.items()},
            not all(IDENTIFIER.fullmatch(self._sql[name]) for name in (*needed, *bounded)),
        )

    def _unfit(self, columns: Mapping[str, str], forms: Mapping[str, Form]) -> str:
        """SQL of a text that says what is wrong with a row's values; '' for nothing."""
        told = []
        for name, kind in self.stream.types.items():
            sql = self._sql[name]
            missing = [f"isNull({sql})"] if "Nullable(" in columns[name] else []
            missing += [f"toString({sql}) = ''"] if name in self.stream.group else []
            if name in self.stream.needed and missing:
                told.append(f"if({' OR '.join(missing)}, {literal(f'{name}: is missing')}, '')")
            if (fits := forms[name].fits) is not None:
                value = f"substring(ifNull(toString({sql}), 'NULL'), 1, {SHOWN_MAX})"
                shown = f"concat({literal(f'{name}: ')}, {value}, {literal(f' does not fit {kind}')})"
                told.append(f"if({fits}, '', {shown})")
        return f"arrayStringConcat(arrayFilter(t -> t != '', [{', '.join(told)}]), ', ')" if told else "''"

    def _inside(self, window: Window, table: str) -> str:
        """SQL condition: the record is in the window."""
        return self._bounds(window, table).inside

    def _bounds(self, window: Window, table: str) -> Bounds:
        """Write the window's conditions. A record's bounds are looked up by its group's hash: that is quick for any
        number of groups."""
        groups = {group: (window.lo.get(group, 0), hi) for group, hi in window.hi.items()}
        if not groups:
            return Bounds("false")
        lows, highs = (min(lo for lo, _ in groups.values()), max(hi for _, hi in groups.values()))
        number = self._number(table)
        found = [self._belongs, f"{number.sql} > {lows}", f"{number.sql} <= {highs}"]
        if number.column is not None and lows > 0:  # for the table's index
            found.append(f"{number.column} >= fromUnixTimestamp64Micro(toInt64({lows}))")
        if len(groups) == 1:
            (group,) = groups
            found += [same(sql, text) for sql, text in zip(self._groups, group, strict=True)]
            return Bounds(" AND ".join(found))
        names = ", ".join(f"t{n}" for n in range(len(self._groups)))
        texts = ", ".join(array(map(literal, column), "String") for column in zip(*groups, strict=True))
        # as sub-queries: the server would write out a long array in the condition again and again as it plans
        known = f"(SELECT arrayMap(({names}) -> cityHash64({names}), {texts})) AS {KNOWN}"
        own = f"cityHash64({', '.join(f'toString({sql})' for sql in self._groups)})"  # of an Enum it hashes the number
        bounds = []
        # transform(hash of the row's group, hashes of the window's groups, their bounds, a bound that no record meets)
        for sign, place, none in ((">", 0, INT64_MAX), ("<=", 1, -INT64_MAX)):
            listed = f"(SELECT {array((str(bound[place]) for bound in groups.values()), 'Int64')})"
            bounds.append(f"{number.sql} {sign} transform({own}, {known}, {listed}, toInt64({none}))")
            known = KNOWN
        inside = sum(hi - lo for lo, hi in groups.values())
        wide = lows < 0 or sum(lo for lo, _ in groups.values()) < inside
        hint = [] if wide else self._hint(groups, inside, number.sql)
        return Bounds(" AND ".join([*found, *hint]), " AND ".join(bounds), wide)

    def _hint(self, groups: Mapping[Group, tuple[int, int]], inside: int, number: str) -> list[str]:
        """Write the same condition for the table's index, where the fields are columns: the ranges of ids that can hold
        records of the window. inside: how many ids are in the window."""
        plain = (*self._groups, number)
        if not all(IDENTIFIER.fullmatch(sql) for sql in plain):
            return []
        width = max(8192, inside // RANGES_MAX)
        ranges = [
            (*map(literal, group), str(part))
            for group, (lo, hi) in groups.items()
            for part in range(lo // width, hi // width + 1)
        ]
        names = [f"t{n}" for n in range(len(plain))]
        arrays = (
            f"[{', '.join(column)}] AS {name}" for column, name in zip(zip(*ranges, strict=True), names, strict=True)
        )
        listed, told = ", ".join([*self._groups, f"intDiv({number}, {width})"]), ", ".join(names)
        # as arrays: the server takes ten times as long to read as many tuples
        return (
            [f"indexHint(({listed}) IN (SELECT {told} FROM (SELECT {', '.join(arrays)}) ARRAY JOIN {told}))"]
            if ranges
            else []
        )

    def _malformed(self, window: Window) -> dict[str, Json]:
        shape = self._shape(self.table)
        if shape.fits is None:
            return {}
        inside = self._belongs if self.kind == STATE else self._inside(window, self.table)
        where = misfitting(shape, inside)
        shown = ", ".join(
            f"concat('{name} ', ifNull(toString({self._sql[name]}), 'NULL'))" for name in self.stream.types
        )
        (row,) = self._server.rows(
            f"SELECT count(), groupArray({MALFORMED_NAMED})(arrayStringConcat([{shown}], ', ')) FROM {self._read} "
            f"WHERE {where}",
            DIGEST_WITHIN_S,
        )
        return {"malformed": {"rows": int(row[0]), "first": row[1]}} if int(row[0]) else {}

    def _log_heads(self, log: Mapping[str, str], tell: Callable[[Heads], T]) -> T:
        """Read the rows since the call before into the heads. Returns what `tell` makes of these.

        The first call reads the last TAIL_ROWS of each partition, which it finds by the table's order.
        """
        topic, partition, offset = log["topic"], log["partition"], log["offset"]
        with self._lock:
            if not self._after:
                sql = f"SELECT {topic}, {partition}, max({offset}) FROM {self.table} GROUP BY 1, 2"
                ends = self._server.rows(sql, LOOK_WITHIN_S)
                self._after = {(t, p): int(end) - TAIL_ROWS for t, p, end in ends}
            known = [
                f"({same(topic, t)} AND {partition} = {p} AND {offset} > {o})" for (t, p), o in self._after.items()
            ]
            pairs = ", ".join(f"({literal(t)}, {p})" for t, p in self._after)
            fresh = [f"({topic}, {partition}) NOT IN ({pairs})"] if pairs else ["true"]
            columns = ", ".join([*self._groups, topic, partition])
            shown = ", ".join([*as_texts(self._groups), topic, partition])
            sql = (
                f"SELECT {shown}, max({self._number(self.table).sql}), max({offset}) FROM {self.table} "
                f"WHERE ({either([*known, *fresh])}) AND ({self.where or 'true'}) GROUP BY {columns}"
            )
            for *texts, t, p, head, end in self._server.rows(sql, LOOK_WITHIN_S):
                if all(texts) and head is not None:  # a message that holds no record has no group
                    self._heads.rise(tuple(map(str, texts)), max(0, int(head)))
                self._after[t, p] = max(self._after.get((t, p), 0), int(end))
            return tell(self._heads)

    def _ingest_gaps(self, log: Mapping[str, str], since_us: int) -> tuple[dict[str, float], dict[str, float]]:
        us = f"toUnixTimestamp64Micro(toDateTime64({log['ingested']}, 6))"
        happened = self._shape(self.table).values[self.stream.time] if self.stream.time else "0"
        inserts = f"""
            SELECT {log["topic"]} AS t, {us} AS u, min({happened}) AS happened
            FROM {self.table} WHERE u > {since_us} GROUP BY t, u"""
        before = f"lagInFrame(u, 1, {since_us}) OVER (PARTITION BY t ORDER BY u)"
        waited = f"SELECT t, u, u - greatest({before}, happened) AS w FROM ({inserts})"
        sql = f"SELECT t, max(w), toUnixTimestamp64Micro(now64(6)) - max(u) FROM ({waited}) GROUP BY t"
        idle = f"SELECT DISTINCT {log['topic']}, toUnixTimestamp64Micro(now64(6)) - {since_us} FROM {self.table}"
        found = self._server.rows(sql, DIGEST_WITHIN_S)
        idle_s = {name: us / 1e6 for name, us in self._server.rows(idle, DIGEST_WITHIN_S)}
        gaps_s = {**dict.fromkeys(idle_s, 0.0), **{name: max(0, us) / 1e6 for name, us, _ in found}}
        return gaps_s, {**idle_s, **{name: us / 1e6 for name, _, us in found}}

    def _around(self, log: Mapping[str, str], start_us: int) -> dict[str, Json]:
        us = f"toUnixTimestamp64Micro(toDateTime64({log['ingested']}, 6))"
        offset = f"toInt64({log['offset']})"
        after, before = f"minIf({offset}, {us} >= {start_us})", f"maxIf({offset}, {us} < {start_us})"
        counts = f"countIf({us} >= {start_us}), countIf({us} < {start_us})"
        sql = f"SELECT {log['topic']}, {log['partition']}, {after}, {before}, {counts} FROM {self.table} GROUP BY 1, 2"
        rows = self._server.rows(sql, DIGEST_WITHIN_S)
        return {
            "first_after_start": {f"{t}/{p}": int(first) for t, p, first, _, later, _ in rows if later},
            "last_before_start": {f"{t}/{p}": int(last) for t, p, _, last, _, earlier in rows if earlier},
        }

    def _not_first(self, first: Mapping[str, str], window: Window) -> int:
        kept, lowest = (
            f"SELECT tuple({', '.join([*as_texts(self._groups), self._shape(table).key])}) AS {KEY}, "
            f"min({first['offset']}) AS `lowest offset` FROM {table} WHERE {self._inside(window, table)} GROUP BY 1"
            for table in (self.table, first["table"])
        )
        differ = "s.`lowest offset` != b.`lowest offset`"
        sql = f"SELECT countIf({differ}) FROM ({kept}) AS s INNER JOIN ({lowest}) AS b ON s.{KEY} = b.{KEY}"
        return int(self._server.rows(sql, DIGEST_WITHIN_S)[0][0])
