"""Keeps the table small: expires snapshots, and sweeps files that nothing refers to. Manifests merge as commits go.

It is safe while the offload runs. An orphan is swept only when it is older than the age guard *and* than the newest
snapshot: a commit that uses it would be based on an older snapshot, and be rejected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from pipelines.trades.offload.lake import POSITION, Lake, lineage
from pipelines.trades.offload.settings import OffloadError, Settings

__all__ = ["Maintained", "run"]

TRIES_MAX = 10
"""How often an expiry is tried if a commit of the offload came first."""

DELETE_MAX = 1000
"""How many objects one request may have, by S3's own rule."""

CLOCKS_DIFFER_S = 60.0
"""How far S3's and the writers' clocks may differ; at least 1 s, because S3 gives whole seconds."""

CLIENT = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})


@dataclass(frozen=True)
class Maintained:
    """What one run did."""

    expired: int
    swept: int
    aborted: int
    """Uploads that were begun and never ended."""


def run(settings: Settings) -> Maintained:
    """Expire, then sweep. Raises OffloadError when a server is away or refuses."""
    with contextlib.closing(Lake(settings)) as lake:
        expired = _expire(lake, settings.keep_snapshots)
        bucket = _Bucket(settings)
        swept = _sweep(lake, bucket, timedelta(seconds=settings.orphan_age_s))
        aborted = bucket.abort_uploads(datetime.now(UTC) - timedelta(seconds=settings.orphan_age_s))
    done = Maintained(expired, swept, aborted)
    structlog.get_logger().info("maintained", expired=expired, swept=swept, aborted=aborted)
    return done


def _expire(lake: Lake, keep: int) -> int:
    """Expire all but the newest snapshots, and none between the current one and the newest with a position."""
    for _ in range(TRIES_MAX):
        table = lake.load()
        newest = sorted(table.snapshots(), key=lambda s: s.sequence_number or 0, reverse=True)
        kept = {s.snapshot_id for s in newest[:keep]}
        for snapshot in lineage(table):
            kept.add(snapshot.snapshot_id)
            if snapshot.summary is not None and snapshot.summary.get(POSITION) is not None:
                break
        old = [s.snapshot_id for s in newest if s.snapshot_id not in kept]
        if not old:
            return 0
        with contextlib.suppress(CommitFailedException), lake.reached():
            table.maintenance.expire_snapshots().by_ids(old).commit()
            return len(old)
    raise OffloadError(f"{TRIES_MAX} expiries in a row were beaten by commits. Remedy: repeat when there are fewer")


def _sweep(lake: Lake, bucket: _Bucket, age: timedelta) -> int:
    """Delete what is under the table's location and not reachable from it; the listing comes before the table."""
    prefix = urlsplit(lake.load().location()).path.lstrip("/") + "/"
    found = dict(bucket.objects(prefix))
    table = lake.load()
    head = table.current_snapshot()
    if head is None:
        return 0
    newest = datetime.fromtimestamp(head.timestamp_ms / 1000, UTC)
    before = min(datetime.now(UTC) - age, newest) - timedelta(seconds=CLOCKS_DIFFER_S)
    with lake.reached():
        reachable = {urlsplit(location).path.lstrip("/") for location in _reachable(table)}
    orphans = [key for key, modified in found.items() if modified < before and key not in reachable]
    bucket.delete(orphans)
    return len(orphans)


def _reachable(table: Table) -> Iterator[str]:
    """Yield every file that the table's metadata names, its former metadata files too."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    manifests = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        manifests.update(snapshot.manifests(table.io))
    for manifest in manifests:
        yield manifest.manifest_path
        yield from (e.data_file.file_path for e in manifest.fetch_manifest_entry(table.io, discard_deleted=False))


class _Bucket:
    """The warehouse's bucket."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._name = settings, urlsplit(settings.warehouse).netloc
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint,
            aws_access_key_id=settings.s3_access_key,
            aws_secret_access_key=settings.s3_secret_key,
            region_name=settings.s3_region,
            config=CLIENT,
        )

    def objects(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield (key, last modified) of all objects."""
        with self._reached():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
                yield from ((o["Key"], o["LastModified"]) for o in page.get("Contents", ()))

    def delete(self, keys: list[str]) -> None:
        with self._reached():
            for first in range(0, len(keys), DELETE_MAX):
                some = [{"Key": key} for key in keys[first : first + DELETE_MAX]]
                self._client.delete_objects(Bucket=self._name, Delete={"Objects": some, "Quiet": True})

    def abort_uploads(self, before: datetime) -> int:
        """End uploads in parts that were begun before then."""
        aborted = 0
        with self._reached():
            for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name):
                for upload in page.get("Uploads", ()):
                    if upload["Initiated"] < before:
                        self._client.abort_multipart_upload(
                            Bucket=self._name, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        aborted += 1
        return aborted

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as e:
            raise OffloadError(
                f"S3 at {self._settings.s3_endpoint} does not take part: {e}. "
                "Remedy: start it, or mend the link to it, or the rights of OFFLOAD_S3_ACCESS_KEY"
            ) from e
