"""Reads an Iceberg table to which a job appends, as its users would: through the catalog, pinned to one snapshot.

pyiceberg reads the catalog and the manifests. ClickHouse digests the rows from the snapshot's own metadata file, so no
row is transferred and only committed rows are seen.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gameday import codec
from gameday.drivers.clickhouse import Hop as Rows
from gameday.drivers.clickhouse import literal
from gameday.errors import ConfigError, DriverError, RolledBack, masked
from gameday.model import Columns, Commit, Digest, Group, Tally, Window
from gameday.records.declaration import Stream
from gameday.stack.config import Http
from gameday.system.tls import PLAIN, Tls

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

__all__ = ["Archive"]

SECRET = "s3.secret-access-key"
STORE = ("s3.endpoint", "s3.access-key-id", SECRET)
"""The catalog's properties that ClickHouse needs to read the files itself."""

PATIENCE = {"s3.connect-timeout": "1", "s3.request-timeout": "2"}
"""Time-outs in seconds, unless the catalog's properties have others: a store that is away must not block a look."""

PATH = "trimLeft(replaceRegexpOne(_path, '^[a-z0-9]+://', ''), '/')"
"""A row's data file in ClickHouse, as _files names it."""

ADDING = ("append", "overwrite")
"""The operations of commits that may add rows; maintenance makes the others."""

COMMITS_MAX = 10_000
"""How many commits of a table's history are read at most."""


@dataclass
class Archive:
    """catalog: pyiceberg's properties, among them name, uri, warehouse and those of STORE. table: namespace.name.

    clickhouse: http://user:password@host:port of the server that reads the files. position, ids: the keys of the
    summary that hold, as JSON, slot -> next offset and "group/parts" -> highest id. position = "": summaries have
    neither, and each commit's heads are those of its rows. fields, where: as in clickhouse.Hop. endpoint: the store's
    address for that server, if it isn't the catalog's. tls: ClickHouse's; the catalog's is among its properties.
    """

    catalog: Mapping[str, str]
    table: str
    clickhouse: Http
    stream: Stream
    position: str = "offload.position"
    ids: str = "offload.ids"
    fields: Mapping[str, str] = field(default_factory=dict)
    where: str | None = None
    endpoint: Http | None = None
    name: str = "archive"
    tls: Tls = PLAIN
    _loaded: list[Any] = field(default_factory=list, init=False, repr=False)
    _place: list[Any] = field(default_factory=list, init=False, repr=False)
    _reached: dict[int, Mapping[Group, int]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if missing := [key for key in ("name", "uri", "warehouse", *STORE) if key not in self.catalog]:
            raise ConfigError(f"{self.name}: catalog lacks {', '.join(missing)}. It has {', '.join(self.catalog)}")
        self.placed = bool(self.position)

    # ---- Archive ---------------------------------------------------------------------------------------------

    def read(self) -> Mapping[str, float]:
        """Return the newest commit's "head/<group>" and "position/<slot>"; {} while there is no commit."""
        found = self._newest()
        if found is None:
            return {"": 0.0}
        _, commit = found
        heads = {f"head/{codec.key_of(group)}": float(head) for group, head in commit.heads.items()}
        return {"": 1.0, **heads, **{f"position/{slot}": float(at) for slot, at in commit.position.items()}}

    def commits(self, after: str | None) -> Sequence[Commit]:
        """Return the commits after this one. The rows that a commit added are those of the files that its manifests
        list as added, read at its own snapshot: maintenance may have moved them to other files since. Raises
        RolledBack if the table goes on from a commit before `after`."""
        if after is None:
            newest = self._newest()
            return [newest[1]] if newest else []
        table = self._table()
        chain: list[tuple[Snapshot, Commit]] = []
        for snapshot, commit in self._history(table):
            chain.insert(0, (snapshot, commit))
            if after == commit.id:
                break
        else:
            if self._left(table, int(after)):
                raise RolledBack(
                    f"{self.name}: commit {after} of the baseline is no longer in the history of {self.table}: the "
                    f"table was rolled back to one before it",
                    definite=True,
                )
            raise DriverError(
                f"{self.name}: commit {after} is no longer in the history of {self.table}, so what came after it is "
                "not known. Remedy: keep snapshots for longer than a run takes",
                definite=True,
            )
        if not self.placed:
            chain = [(snapshot, self._with_heads(table, snapshot)) for snapshot, _ in chain]
        added = self._added(table, [snapshot for snapshot, _ in chain[1:]])
        return [
            Commit(commit.id, commit.at_us, commit.position, commit.heads, added.get(commit.id, {}))
            for _, commit in chain
        ]

    # ---- Hop -------------------------------------------------------------------------------------------------

    def heads(self) -> Mapping[Group, int]:
        found = self._newest()
        return found[1].heads if found else {}

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the digest of the stream "archive": each record once."""
        table = self._table()
        if table.metadata.current_snapshot_id is None:
            return (Digest("archive", self.name, "final", {}),)
        with self._masked():
            found = self._rows_of(table).digest(window)
        return tuple(Digest("archive", self.name, d.view, d.groups) for d in found)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        with self._masked():
            return self._rows_of(self._table()).rows(group, lo, hi)

    # ---- Store -----------------------------------------------------------------------------------------------

    def stored(self) -> Collection[str]:
        """Return the names of the stored data files, without a scheme. Raises DriverError; definite."""
        from pyarrow.fs import FileSelector

        if not self._place:
            self._place.append(self._table())  # its location never changes, and this is asked many times a second
        place = urlsplit(f"{self._place[0].metadata.location}/data")
        with self._read(f"data files of {self.table}"):
            files = self._place[0].io.fs_by_scheme(place.scheme, place.netloc)
            selector = FileSelector(f"{place.netloc}{place.path}", allow_not_found=True, recursive=True)
            return {info.path for info in files.get_file_info(selector) if info.is_file}

    def named(self) -> Collection[str]:
        table = self._table()
        with self._read(f"manifests of {self.table}"):
            return {path for _, path in self._files(table, table.current_snapshot())}

    # ---- the table -------------------------------------------------------------------------------------------

    def _table(self) -> Table:
        """Return the table as it is now. Raises DriverError; definite, because reading changes nothing."""
        from pyiceberg.catalog import load_catalog

        with self._read(f"table {self.table}"):
            if not self._loaded:
                self._loaded.append(load_catalog(**{**PATIENCE, **self.catalog}))
            return self._loaded[0].load_table(self.table)

    @contextmanager
    def _read(self, what: str) -> Iterator[None]:
        """Turn pyiceberg's errors into DriverError, without the secret."""
        with self._masked():
            try:
                yield
            except Exception as e:
                reason = " ".join(str(e).split())[:300] or type(e).__name__
                raise DriverError(f"Iceberg {what}: {reason}", definite=True) from e

    def _newest(self) -> tuple[Snapshot, Commit] | None:
        table = self._table()
        found = next(self._history(table), None)
        if found is None or self.placed:
            return found
        return found[0], self._with_heads(table, found[0])

    def _history(self, table: Table) -> Iterator[tuple[Snapshot, Commit]]:
        """Yield the commits whose summaries have a position, newest first; maintenance's snapshots have none. If
        summaries have none at all, yield all commits that added rows, without their heads."""
        snapshot = table.current_snapshot()
        for _ in range(COMMITS_MAX):
            if snapshot is None:
                return
            summary: Mapping[str, Any] = snapshot.summary.additional_properties if snapshot.summary else {}
            if self.position in summary:
                position = {slot: int(at) for slot, at in json.loads(summary[self.position]).items()}
                heads = {
                    self._group(name): int(head) for name, head in json.loads(summary.get(self.ids) or "{}").items()
                }
                yield snapshot, Commit(str(snapshot.snapshot_id), snapshot.timestamp_ms * 1000, position, heads)
            elif not self.placed and snapshot.summary and snapshot.summary.operation.value in ADDING:
                yield snapshot, Commit(str(snapshot.snapshot_id), snapshot.timestamp_ms * 1000, {}, {})
            parent = snapshot.parent_snapshot_id
            snapshot = None if parent is None else table.metadata.snapshot_by_id(parent)

    def _added(self, table: Table, wanted: Sequence[Snapshot]) -> Mapping[str, Mapping[Group, Tally]]:
        """Return commit -> group -> the rows of the files that it added."""
        added: dict[str, Mapping[Group, Tally]] = {}
        for snapshot in wanted:
            with self._read(f"manifests of {self.table}"):
                files = [p for maker, p in self._files(table, snapshot, own=True) if maker == snapshot.snapshot_id]
            if files:
                names = ", ".join(map(literal, files))
                with self._masked():
                    rows = self._rows_of(table, snapshot)
                    added[str(snapshot.snapshot_id)] = rows.tallies(f"{PATH} IN ({names})")
        return added

    def _files(self, table: Table, snapshot: Snapshot | None, own: bool = False) -> Iterator[tuple[int, str]]:
        """Yield (the snapshot that added it, its name without a scheme) for every data file of a snapshot. own: only
        those in the manifests that the snapshot itself wrote, among which are all that it added."""
        if snapshot is None:
            return
        for manifest in snapshot.manifests(table.io):
            if own and manifest.added_snapshot_id != snapshot.snapshot_id:
                continue
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield int(entry.snapshot_id or 0), entry.data_file.file_path.partition("://")[2]

    def _left(self, table: Table, snapshot_id: int) -> bool:
        """Whether the table was rolled back: this snapshot still exists, and the current one descends from one before
        it. This can't be known if snapshots in between have expired."""
        now = {snapshot.snapshot_id for snapshot in self._line(table, table.metadata.current_snapshot_id)}
        line = {snapshot.snapshot_id for snapshot in self._line(table, snapshot_id)}
        return snapshot_id not in now and bool(line & now)

    def _line(self, table: Table, snapshot_id: int | None) -> Iterator[Snapshot]:
        """Yield a snapshot and those before it, newest first, as far as they are kept."""
        for _ in range(COMMITS_MAX):
            snapshot = None if snapshot_id is None else table.metadata.snapshot_by_id(snapshot_id)
            if snapshot is None:
                return
            yield snapshot
            snapshot_id = snapshot.parent_snapshot_id

    def _with_heads(self, table: Table, snapshot: Snapshot) -> Commit:
        """Return a commit without a position, with the highest ids of the rows up to it. They are looked up once, in
        the files since the last commit whose ids are known."""
        with self._lock:
            heads = self._reached.get(snapshot.snapshot_id)
            if heads is None:
                heads = self._reached[snapshot.snapshot_id] = self._heads_at(table, snapshot)
        return Commit(str(snapshot.snapshot_id), snapshot.timestamp_ms * 1000, {}, heads)

    def _heads_at(self, table: Table, snapshot: Snapshot) -> Mapping[Group, int]:
        line: dict[int, None] = {}
        known: Mapping[Group, int] | None = None
        one: Snapshot | None = snapshot
        while one is not None and known is None and len(line) < COMMITS_MAX:
            known = self._reached.get(one.snapshot_id)
            if known is None:
                line[one.snapshot_id] = None
            parent = one.parent_snapshot_id
            one = None if parent is None else table.metadata.snapshot_by_id(parent)
        with self._read(f"manifests of {self.table}"):  # those of the snapshot: maintenance may have moved rows since
            chosen = [p for maker, p in self._files(table, snapshot) if known is None or maker in line]
        found: dict[Group, int] = dict(known or {})
        if chosen:
            names = ", ".join(map(literal, chosen))
            with self._masked():
                top = self._rows_of(table, snapshot).tops(f"{PATH} IN ({names})")
            found.update({group: max(head, found.get(group, 0)) for group, head in top.items()})
        return found

    def _rows_of(self, table: Table, snapshot: Snapshot | None = None) -> Rows:
        """Return the table's rows in ClickHouse, pinned to a snapshot; None: this metadata file's current one."""
        endpoint, key, secret = (self.catalog[name] for name in STORE)
        endpoint = self.endpoint or endpoint
        location = urlsplit(table.metadata.location)
        folder = f"{endpoint.rstrip('/')}/{location.netloc}{location.path}"
        pinned = table.metadata_location.removeprefix(table.metadata.location).lstrip("/")
        where = ", ".join(map(literal, (f"{folder}/", key, secret)))
        made = f"icebergS3({where}, SETTINGS iceberg_metadata_file_path = {literal(pinned)})"
        return Rows(
            self.clickhouse,
            "once",
            made,
            self.stream,
            fields=self.fields,
            where=self.where,
            name=self.name,
            settings={} if snapshot is None else {"iceberg_snapshot_id": snapshot.snapshot_id},
            tls=self.tls,
        )

    def _group(self, name: str) -> Group:
        """Split "group/parts". The last part may contain "/"."""
        return tuple(name.split("/", max(0, len(self.stream.group) - 1)))

    @contextmanager
    def _masked(self) -> Iterator[None]:
        """Remove the store's secret from errors: a server may quote the statement that it refuses."""
        secret = self.catalog[SECRET]
        try:
            yield
        except DriverError as e:
            told = masked(str(e), (secret, literal(secret)[1:-1]))
            if told == str(e):
                raise
            raise DriverError(told, definite=e.definite) from None
