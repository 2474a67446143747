"""The failpoints of a run, and a catalog and a FileIO that make pyiceberg pass them.

A commit writes data files, manifest, manifest list, metadata.json, and last the row in the catalog that makes it valid.
"""

from __future__ import annotations

from types import TracebackType

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import TableRequirement, TableUpdate

from failpoints import Point, point

__all__ = ["AFTER_MIRROR", "BEFORE_MIRROR", "BEFORE_READ", "PointedCatalog", "PointedIO"]

BEFORE_READ = point("offload::before_read", "the position is known, nothing was read from ClickHouse")
AFTER_DATA_FILE = point("offload::after_data_file", "a data file is complete on S3; each one passes here")
AFTER_MANIFEST_LIST = point("offload::after_manifest_list", "the snapshot is complete on S3, and nothing refers to it")
AFTER_METADATA = point("offload::after_metadata", "metadata.json is complete on S3, and the catalog doesn't name it")
AFTER_COMMIT = point("offload::after_commit", "the catalog names the snapshot, and the writer doesn't know it yet")
BEFORE_MIRROR = point("offload::before_mirror", "committed, and Postgres still tells the former position")
AFTER_MIRROR = point("offload::after_mirror", "committed and mirrored; another commit may follow")


class PointedCatalog(SqlCatalog):
    """The catalog of a run. Its files and its commits pass the points."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **{**properties, "py-io-impl": f"{PointedIO.__module__}.{PointedIO.__qualname__}"})

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        answer = super().commit_table(table, requirements, updates)
        if AFTER_COMMIT.on is not None:
            AFTER_COMMIT()
        return answer


class PointedIO(PyArrowFileIO):
    """Files on S3. Completing one passes the point of its kind."""

    def new_output(self, location: str) -> PyArrowFile:
        scheme, netloc, path = self.parse_location(location, self.properties)
        return _Output(location, path, self.fs_by_scheme(scheme, netloc))


class _Output(PyArrowFile):
    def create(self, overwrite: bool = False) -> OutputStream:
        stream, passed = super().create(overwrite), _point_of(self.location)
        return stream if passed is None else _Stream(stream, passed)


class _Stream:
    """A stream with the point after its end. A stream that an exception left passes none."""

    def __init__(self, stream: OutputStream, passed: Point) -> None:
        self._stream, self._passed = stream, passed
        self.closed = False

    def write(self, b: bytes) -> int:
        return self._stream.write(b)

    def tell(self) -> int:
        return self._stream.tell()

    def flush(self) -> None:
        """Do nothing: nothing is complete on S3 before the end."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._stream.close()
            if self._passed.on is not None:
                self._passed()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.closed = True
            self._stream.close()


def _point_of(location: str) -> Point | None:
    name = location.rpartition("/")[2]
    if name.endswith(".parquet"):
        return AFTER_DATA_FILE
    if name.startswith("snap-"):
        return AFTER_MANIFEST_LIST
    return AFTER_METADATA if name.endswith(".metadata.json") else None
