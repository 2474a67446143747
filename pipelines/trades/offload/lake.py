"""Makes, loads and appends to the Iceberg table. The position is in the summary of the snapshot that has the rows.

Summary keys of a commit of ours: `offload.position` (JSON, "topic/partition" -> next offset), `offload.ids` (JSON,
"venue/symbol" -> highest trade id up to there), `offload.run-id`, `offload.commit-id`. Snapshots of others carry none.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import structlog
from pyarrow.fs import AwsStandardS3RetryStrategy
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NamespaceAlreadyExistsError, NoSuchTableError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import TableUpdate
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import DecimalType, IntegerType, LongType, NestedField, StringType, TimestamptzType
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from pipelines.trades.offload.position import Position
from pipelines.trades.offload.settings import OffloadError, Settings

__all__ = ["COMMIT_ID", "IDS", "POSITION", "RUN_ID", "Lake", "Place", "lineage", "place"]

CATALOG = "lake"
POSITION, IDS, RUN_ID, COMMIT_ID = "offload.position", "offload.ids", "offload.run-id", "offload.commit-id"

S3: Mapping[str, str] = {
    "s3.connect-timeout": "3",
    "s3.retry-strategy-impl": f"{__name__}.FewRetries",
}

SCHEMA = Schema(
    NestedField(1, "venue", StringType(), required=True),
    NestedField(2, "symbol", StringType(), required=True),
    NestedField(3, "trade_id", LongType(), required=True),
    NestedField(4, "price", DecimalType(38, 8), required=True),
    NestedField(5, "quantity", DecimalType(38, 8), required=True),
    NestedField(6, "side", IntegerType(), required=True),
    NestedField(7, "exchange_time", TimestamptzType(), required=True),
    NestedField(8, "exchange_us", LongType(), required=True),
    NestedField(9, "received_us", LongType(), required=True),
    NestedField(10, "topic", StringType(), required=True),
    NestedField(11, "partition", IntegerType(), required=True),
    NestedField(12, "offset", LongType(), required=True),
    NestedField(13, "ingested_at", TimestamptzType(), required=True),
)
PARTITIONS = PartitionSpec(
    PartitionField(source_id=1, field_id=1000, transform=IdentityTransform(), name="venue"),
    PartitionField(source_id=7, field_id=1001, transform=DayTransform(), name="exchange_day"),
)
PROPERTIES: Mapping[str, str] = {
    # pyiceberg would repeat a rejected commit on top of the one that beat it: every row a second time.
    "commit.retry.num-retries": "0",
    # A commit costs what it has to read and write of earlier ones; these, and expiry, keep that constant.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}


class FewRetries(AwsStandardS3RetryStrategy):  # type: ignore[misc]
    """Retries little: a run that fails soon is reported soon, and the next one begins where it stopped."""

    def __init__(self) -> None:
        super().__init__(max_attempts=2)


@dataclass(frozen=True)
class Place:
    """How far the table has got, by the newest snapshot with a position; all zero for a table without snapshots."""

    position: Position = field(default_factory=dict)
    ids: Mapping[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    sequence_number: int = 0
    rows: int = 0


class Lake:
    """The catalog's client. catalog: PointedCatalog for what failure tests may strike."""

    def __init__(self, settings: Settings, catalog: type[SqlCatalog] = SqlCatalog) -> None:
        self._settings = settings
        dsn = make_url(settings.catalog_dsn).set(drivername="postgresql+psycopg")
        dsn = dsn.update_query_dict(
            {
                "connect_timeout": str(settings.connect_s),
                "options": f"-c statement_timeout={settings.request_s * 1000:.0f}",
            }
        )
        properties = {
            **S3,
            "uri": dsn.render_as_string(hide_password=False),
            "warehouse": settings.warehouse,
            "pool_pre_ping": "true",
            "s3.request-timeout": f"{settings.request_s:g}",  # a server that hangs ends a request, and with it the run
            "s3.endpoint": settings.s3_endpoint,
            "s3.access-key-id": settings.s3_access_key,
            "s3.secret-access-key": settings.s3_secret_key,
            "s3.region": settings.s3_region,
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
        }
        with self.reached():
            self._catalog = catalog(CATALOG, **properties)

    def close(self) -> None:
        self._catalog.close()

    def prepare(self) -> None:
        """Make the table what this module says, without touching its rows."""
        with self.reached():
            with contextlib.suppress(NamespaceAlreadyExistsError):
                self._catalog.create_namespace(self._settings.table.partition(".")[0])
            table = self._catalog.create_table_if_not_exists(
                self._settings.table, SCHEMA, partition_spec=PARTITIONS, properties=dict(PROPERTIES)
            )
            if not PROPERTIES.items() <= table.properties.items():
                with table.transaction() as transaction:
                    transaction.set_properties(dict(PROPERTIES))

    def load(self) -> Table:
        """Return the table as it is now."""
        with self.reached():
            try:
                return self._catalog.load_table(self._settings.table)
            except NoSuchTableError as e:
                raise OffloadError(
                    f"the catalog at {self._settings.postgres} has no table {self._settings.table}. "
                    "Remedy: run the offload with --prepare"
                ) from e

    def append(self, table: Table, rows: pa.Table, before: Place, end: Position, run_id: str) -> Place | None:
        """Commit rows and position `end` in one snapshot; None: another commit came first, nothing is in the table.

        table: the object from which `before` was read: the commit is rejected unless it is still the newest. If the
        catalog's answer is lost, the table shows what happened; nothing is repeated or removed before that is known.
        """
        commit_id = uuid.uuid4().hex
        summary = {
            POSITION: json.dumps(end, sort_keys=True),
            IDS: json.dumps({**before.ids, **_highest(rows)}, sort_keys=True),
            RUN_ID: run_id,
            COMMIT_ID: commit_id,
        }
        with self.reached():
            transaction = _Transaction(table)
            transaction.append(rows, snapshot_properties=summary)
        try:
            transaction.commit_transaction()
        except CommitFailedException:
            return None
        except Exception as e:  # noqa: BLE001 - whatever it was, the commit may be true
            return self._after_lost_answer(commit_id, before, e)
        return place(table)

    def _after_lost_answer(self, commit_id: str, before: Place, error: Exception) -> Place:
        with self.reached():
            table = self.load()
            for snapshot in lineage(table):
                if snapshot.snapshot_id == before.snapshot_id:
                    break
                if snapshot.summary is not None and snapshot.summary.get(COMMIT_ID) == commit_id:
                    structlog.get_logger().warning(
                        "acknowledgement_lost", why=str(error), snapshot=snapshot.snapshot_id
                    )
                    return place(table)
            raise error

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Turn errors of Postgres and S3 into those that are shown."""
        try:
            yield
        except SQLAlchemyError as e:
            raise OffloadError(
                f"the catalog in Postgres at {self._settings.postgres} does not answer: {_first_line(e)}. "
                "Remedy: start it, or mend OFFLOAD_CATALOG_DSN"
            ) from e
        except OSError as e:
            refused = isinstance(e, PermissionError) or "ACCESS_DENIED" in str(e)
            remedy = "give OFFLOAD_S3_ACCESS_KEY that right" if refused else "start it, or mend the link to it"
            raise OffloadError(
                f"S3 at {self._settings.s3_endpoint} {'refuses' if refused else 'does not take part'}: "
                f"{_first_line(e)}. Remedy: {remedy}"
            ) from e


class _Transaction(Transaction):
    """Caches the metadata for each update. pyiceberg makes it anew, with a deep copy of every snapshot, each of the
    twenty times that it reads it in one commit. The models are frozen, so sharing them is safe."""

    _seen: tuple[tuple[TableUpdate, ...], TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        if self._seen is None or self._seen[0] is not self._updates:
            self._seen = self._updates, super().table_metadata
        return self._seen[1]


def lineage(table: Table) -> Iterator[Snapshot]:
    """Yield the current snapshot and its parents, as far as they are not expired."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def place(table: Table) -> Place:
    """Return the table's place. Raises OffloadError if no snapshot has a position: a guess would double every row."""
    for snapshot in lineage(table):
        summary = snapshot.summary
        if summary is not None and summary.get(POSITION) is not None:
            return Place(
                position=json.loads(summary[POSITION] or "{}"),
                ids=json.loads(summary[IDS] or "{}"),
                snapshot_id=snapshot.snapshot_id,
                sequence_number=snapshot.sequence_number or 0,
                rows=int(summary["total-records"] or 0),
            )
    if table.current_snapshot() is not None:
        raise OffloadError(
            f"no snapshot of {'.'.join(table.name())} tells the position any more. Remedy: find it from the highest "
            f"offsets in the table, and commit an empty append with it as {POSITION}"
        )
    return Place()


def _highest(rows: pa.Table) -> Mapping[str, int]:
    groups = rows.group_by(["venue", "symbol"]).aggregate([("trade_id", "max")]).to_pylist()
    return {f"{g['venue']}/{g['symbol']}": g["trade_id_max"] for g in groups}


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
