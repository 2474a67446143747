"""Reads a table as a hop: one snapshot's rows, with pyiceberg and pyarrow, without another engine or a job."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from gameday.drivers.iceberg.archived import PATIENCE
from gameday.errors import ConfigError, DriverError, masked
from gameday.model import Columns, Digest, Group, Json, Position, Shards, Totals, Window
from gameday.ports import Arrivals
from gameday.records.arrivals import with_time
from gameday.records.columns import array, canonical
from gameday.records.declaration import KINDS, STATE, Stream
from gameday.records.gathered import Gathered
from gameday.records.hashing import U64
from gameday.records.heads import Heads
from gameday.records.paths import TRUE
from gameday.records.states import ROWS_MAX, State, state
from gameday.records.types import Malformed, Type

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import FileScanTask, Table

__all__ = ["Hop"]

T = TypeVar("T")

SECRETS = ("secret", "token", "password", "credential")
"""The value of a property whose name has one of these is masked in errors."""

REASONS_MAX = 3
"""How many malformed rows are reported with their reason."""

MICROSECONDS = Type("time", unit="us")

Array = npt.NDArray[Any]


@dataclass
class Hop:
    """kind: what the table promises. "append": a record may repeat; "once": each record is there once; "state": each
    key is there once, with its highest version. catalog: pyiceberg's properties, among them name and uri. table:
    namespace.name. fields: where a field is, if not in the column of its own name: a column, a path into it such as
    `payload.after.id`, or a text in quotes. where: a row filter of pyiceberg, such as `op != 'd'`. For kind "state":
    deleted: the column, or a path into one, where true says that a row is deleted; position: the key of a commit's
    summary that has its place in the log, as JSON slot -> next offset."""

    kind: str
    catalog: Mapping[str, str]
    table: str
    stream: Stream
    fields: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    deleted: str | None = None
    position: str | None = None
    name: str = "iceberg"
    arrivals: Arrivals | None = field(default=None, init=False, repr=False)
    _catalogs: list[Any] = field(default_factory=list, init=False, repr=False)
    _known: set[str] = field(default_factory=set, init=False, repr=False)
    _heads: Heads = field(default_factory=Heads, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, STATE):
            raise ConfigError(f"hops.{self.name}.kind is {self.kind!r}. Remedy: one of {', '.join((*KINDS, STATE))}")
        for key in ("deleted", "position"):
            if getattr(self, key) is not None and self.kind != STATE:
                raise ConfigError(
                    f"hops.{self.name}.{key} is {getattr(self, key)!r}, but its kind is {self.kind!r}. Remedy: kind = "
                    f"{STATE!r}, or leave it out"
                )
        if missing := [key for key in ("name", "uri") if key not in self.catalog]:
            raise ConfigError(f"hops.{self.name}.catalog lacks {', '.join(missing)}. It has {', '.join(self.catalog)}")
        self._paths = {name: self.fields.get(name, name) for name in self.stream.fields}

    def heads(self) -> Mapping[Group, int]:
        """Return group -> highest id. The first call reads all files, later calls those that came since."""
        return self._looked(Heads.all)

    def totals(self, shards: Shards) -> Totals:
        """Return the same as `heads`, summed up."""
        return self._looked(lambda heads: heads.totals(shards))

    def _looked(self, tell: Callable[[Heads], T]) -> T:
        """Read all files that exist now, then return what `tell` makes of the heads."""
        own = self.stream.key if self.stream.keyed else (self.stream.sequence,)
        names = tuple(dict.fromkeys([*self.stream.group, *own]))
        with self._lock, self._read():
            table = self._table()
            scan = self._scan(table, names)
            tasks = [task for task in scan.plan_files() if task.file.file_path not in self._known]
            if not tasks:
                return tell(self._heads)
            for columns, _ in self._timed(self._pieces(table, scan, tasks, names)):
                for group, mine in self._by_group(columns).items():
                    self._heads.rise(group, int(columns[self.stream.sequence][mine].max()))
            self._known.update(task.file.file_path for task in tasks)
            return tell(self._heads)

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the newest snapshot's digest. A row that doesn't fit its types is no record; see symptoms."""
        numbers = {group: number for number, group in enumerate(window.hi)}
        with self._read(), Gathered(len(numbers)) as gathered:
            for columns, _ in self._window(window):
                for group, mine in self._by_group(columns).items():
                    ids = columns[self.stream.sequence][mine]
                    inside = (ids > window.lo.get(group, 0)) & (ids <= window.hi.get(group, -(1 << 63)))
                    rows = {name: column[mine][inside] for name, column in columns.items()}
                    of = np.full(int(inside.sum()), numbers.get(group, 0), dtype=np.int64)
                    gathered.add(of, ids[inside], self.stream.key_hashes(rows), self.stream.row_hashes(rows))
            tallies = gathered.tallies()
        groups = {group: tallies[number] for group, number in numbers.items() if number in tallies}
        return (Digest(self.stream.name, self.name, KINDS.get(self.kind, self.kind), groups),)

    def state(self, upto: Position | None = None) -> State:
        """Return all rows of the newest snapshot that are not deleted, and its place in the log if commits have it.
        Rows that don't fit their types count as missing."""
        groups: dict[Group, int] = {}
        nothing = np.empty(0, dtype=np.uint64)
        found: list[tuple[Array, ...]] = [(nothing, nothing, nothing.astype(np.int64), nothing.astype(np.int64))]
        held = 0
        with self._read():
            table = self._table()
            for columns, _ in self._counting(table):
                keys, rows = self.stream.state_hashes(columns)
                numbers = np.empty(len(keys), dtype=np.int64)
                for group, mine in self._by_group(columns).items():
                    numbers[mine] = groups.setdefault(group, len(groups))
                found.append((keys, rows, columns[str(self.stream.version)].astype(np.int64), numbers))
                held += len(keys)
                if held > ROWS_MAX:
                    raise DriverError(
                        f"hops.{self.name} has more than {ROWS_MAX:,} rows, which are compared in memory. Remedy: "
                        "`where`, for a part of them",
                        definite=True,
                    )
            position = self._position(table)
        keys, rows, versions, numbers = (np.concatenate(column) for column in zip(*found, strict=True))
        return state(list(groups), numbers, keys, versions, rows, position, exact=self.position is not None)

    def records(self, hashes: U64) -> Columns:
        """Return the records with these row hashes in the newest snapshot."""
        found: list[Columns] = [{name: array(kind, []) for name, kind in self.stream.types.items()}]
        with self._read():
            for columns, _ in self._counting(self._table()):
                mine = np.isin(self.stream.state_hashes(columns)[1], hashes)
                found.append({name: column[mine] for name, column in columns.items()})
        whole = {name: np.concatenate([piece[name] for piece in found]) for name in self.stream.types}
        first = np.unique(self.stream.state_hashes(whole)[1], return_index=True)[1]
        return {name: column[first] for name, column in whole.items()}

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi by id. If the table may repeat records, each is returned once."""
        found: list[Columns] = []
        with self._read():
            for columns, _ in self._window(Window({group: lo}, {group: hi})):
                mine = self._by_group(columns).get(group)
                if mine is not None:
                    ids = columns[self.stream.sequence][mine]
                    inside = mine[(ids > lo) & (ids <= hi)]
                    found.append({name: column[inside] for name, column in columns.items()})
        nothing = {name: array(kind, []) for name, kind in self.stream.types.items()}
        whole = {name: np.concatenate([piece[name] for piece in (nothing, *found)]) for name in self.stream.types}
        order = np.argsort(whole[self.stream.sequence], kind="stable")
        if self.kind == "append":
            pairs = np.stack([self.stream.key_hashes(whole), self.stream.row_hashes(whole)])[:, order]
            order = order[np.sort(np.unique(pairs, axis=1, return_index=True)[1])]
        return {name: column[order] for name, column in whole.items()}

    @property
    def tells(self) -> Collection[str]:
        """Return the names of the symptoms that it can report."""
        return frozenset({"malformed"})

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """Return malformed: how many rows of the window's files, or of a state, don't fit their types, and the first
        reasons; absent if there are none."""
        reasons: list[str] = []
        rows = 0
        with self._read():
            for _, bad in self._counting(self._table()) if self.kind == STATE else self._window(window):
                rows, reasons = rows + len(bad), [*reasons, *bad][:REASONS_MAX]
        return {"malformed": {"rows": rows, "first": reasons}} if rows else {}

    # ---- the table -------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        from pyiceberg.catalog import load_catalog

        if not self._catalogs:
            self._catalogs.append(load_catalog(**{**PATIENCE, **self.catalog}))
        return self._catalogs[0].load_table(self.table)

    @contextmanager
    def _read(self) -> Iterator[None]:
        """Turn the library's errors into DriverError, without a secret; definite, because reading changes nothing."""
        try:
            yield
        except DriverError:
            raise
        except Exception as e:
            reason = " ".join(str(e).split()) or type(e).__name__
            for key, value in self.catalog.items():
                if any(part in key.lower() for part in SECRETS):
                    reason = reason.replace(value, "***")
            raise DriverError(f"Iceberg table {self.table}: {masked(reason)[:300]}", definite=True) from e

    def _window(self, window: Window) -> Iterator[tuple[Columns, list[str]]]:
        """Yield the rows that may be in the window, in pieces."""
        if not window.hi:
            return
        table, names = self._table(), self.stream.fields
        lo, hi = min(window.lo.get(group, 0) for group in window.hi), max(window.hi.values())
        scan = self._scan(table, names, lo, hi)
        yield from self._timed(self._pieces(table, scan, list(scan.plan_files()), names), window)

    def _timed(
        self, pieces: Iterator[tuple[Columns, list[str]]], window: Window | None = None
    ) -> Iterator[tuple[Columns, list[str]]]:
        """Yield the same with the records' times, if the log has these. The log is asked after the snapshot was taken,
        so it has all that the table has of it."""
        if self.arrivals is None:
            yield from pieces
            return
        came = self.arrivals.arrived(window)
        for columns, reasons in pieces:
            yield with_time(self.stream, came, columns), reasons

    def _counting(self, table: Table) -> Iterator[tuple[Columns, list[str]]]:
        """Yield all rows that are not deleted, in pieces."""
        names = tuple(self.stream.types)
        scan = self._scan(table, names)
        yield from self._pieces(table, scan, list(scan.plan_files()), names, self.deleted)

    def _position(self, table: Table) -> Position:
        """Return the position of the newest commit that has one. Maintenance's commits have none, and change no row."""
        snapshot = table.current_snapshot()
        if self.position is None or snapshot is None:
            return {}
        one = snapshot
        while self.position not in (told := one.summary.additional_properties if one.summary else {}):
            parent = one.parent_snapshot_id
            before = None if parent is None else table.metadata.snapshot_by_id(parent)
            if before is None:
                raise DriverError(
                    f"hops.{self.name}.position is {self.position!r}, which no commit's summary has. It has "
                    f"{', '.join(snapshot.summary.additional_properties if snapshot.summary else ())}. Remedy: the key "
                    "under which the table's writer tells its place in the log, or leave it out",
                    definite=True,
                )
            one = before
        try:
            return {str(slot): int(at) for slot, at in json.loads(told[self.position]).items()}
        except (ValueError, AttributeError, TypeError):
            raise DriverError(
                f"hops.{self.name}.position: a commit's summary has {told[self.position]!r} there. Remedy: JSON of "
                'topic/partition and the next offset, such as {"orders/0": 17}',
                definite=True,
            ) from None

    def _scan(self, table: Table, names: Sequence[str], lo: int | None = None, hi: int | None = None) -> Any:
        """Scan these fields' columns; only files that may have ids in (lo, hi], if the table's statistics show that."""
        from pyiceberg.expressions import AlwaysTrue, And, GreaterThan, LessThanOrEqual
        from pyiceberg.expressions.parser import parse
        from pyiceberg.types import IntegerType, LongType

        chosen: BooleanExpression = parse(self.where) if self.where else AlwaysTrue()
        path = self._paths.get(self.stream.sequence, "''")
        if lo is not None and hi is not None and self.stream.counted and _text(path) is None:
            kind = table.schema().find_field(path).field_type
            if isinstance(kind, LongType | IntegerType):
                chosen = And(chosen, GreaterThan(path, lo), LessThanOrEqual(path, hi))  # type: ignore[arg-type, call-arg]
        paths = dict.fromkeys(path for name in names if _text(path := self._paths[name]) is None)
        if self.deleted is not None:
            paths[self.deleted] = None
        return table.scan(row_filter=chosen, selected_fields=tuple(paths))

    def _pieces(
        self,
        table: Table,
        scan: Any,
        tasks: Sequence[FileScanTask],
        names: Sequence[str],
        deleted: str | None = None,
    ) -> Iterator[tuple[Columns, list[str]]]:
        """Yield canonical columns of the rows that fit their types, and a reason for each that doesn't. deleted: the
        path where true says that a row is deleted."""
        import pyarrow as pa
        from pyiceberg.io.pyarrow import ArrowScan

        reader = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter, scan.case_sensitive)
        for batch in reader.to_record_batches(tasks):
            if deleted is not None:
                batch = batch.filter(pa.array([v not in TRUE for v in self._column(batch, deleted).to_pylist()]))
            if batch.num_rows:
                yield self._fitted(batch, names)

    def _fitted(self, batch: pa.RecordBatch, names: Sequence[str]) -> tuple[Columns, list[str]]:
        found: dict[str, Array] = {}
        wrong: dict[int, str] = {}
        for name in names:
            kind, values = _plain(self.stream.types[name], self._column(batch, self._paths[name]))
            column = canonical(kind, values)
            if column is None:
                column = np.empty(len(values), dtype=object)
                for row, value in enumerate(values):
                    try:
                        column[row] = kind.canonical(value)
                    except Malformed as e:
                        wrong.setdefault(row, f"{name}: {e}")
            if name in self.stream.needed and column.dtype == object:
                for row, value in enumerate(column.tolist()):
                    if value is None:
                        wrong.setdefault(row, f"{name}: is missing")
            found[name] = column
        if not wrong:
            return found, []
        keep = np.ones(batch.num_rows, dtype=bool)
        keep[list(wrong)] = False
        columns = {name: array(self.stream.types[name], column[keep].tolist()) for name, column in found.items()}
        return columns, [wrong[row] for row in sorted(wrong)]

    def _column(self, batch: pa.RecordBatch, path: str) -> Any:
        """Return what is at a path: an array of pyarrow, or a text that is the same in every row."""
        import pyarrow.compute as pc

        if (text := _text(path)) is not None:
            return [text] * batch.num_rows
        first, *steps = path.split(".")
        column = batch.column(first)
        return pc.struct_field(column, steps) if steps else column

    def _by_group(self, columns: Columns) -> dict[Group, npt.NDArray[np.intp]]:
        """Return group -> the indices of its rows."""
        groups, place = self.stream.groups_of(columns)
        return {group: np.flatnonzero(place == number) for number, group in enumerate(groups)}


def _text(path: str) -> str | None:
    """Return the text of a path that is a quoted text; None: it is a path."""
    return path[1:-1] if len(path) > 1 and path[0] == path[-1] == "'" else None


def _plain(kind: Type, column: Any) -> tuple[Type, Sequence[Any]]:
    """Return a column's values as in JSON, and the type by which they are read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, list):
        return kind, column
    at = column.type
    if pa.types.is_timestamp(at) and kind.name == "time":
        return MICROSECONDS, pc.cast(pc.cast(column, pa.timestamp("us", at.tz)), pa.int64()).to_pylist()
    if pa.types.is_date(at) and kind.name == "time":
        days = pc.cast(column, pa.int32()).to_pylist()
        return MICROSECONDS, [None if day is None else day * 86_400_000_000 for day in days]
    values = column.to_pylist()
    if pa.types.is_decimal(at):
        return kind, [None if value is None else f"{value:f}" for value in values]
    if kind.name == "uuid":
        return kind, [
            value.hex() if isinstance(value, bytes) else None if value is None else str(value) for value in values
        ]
    return kind, values
