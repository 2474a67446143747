"""One run of the offload: from the table's position to where ClickHouse has committed, in commits of bounded size."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import structlog

from pipelines.trades.offload import mirror
from pipelines.trades.offload.lake import Lake, Place, place
from pipelines.trades.offload.mirror import Mirror
from pipelines.trades.offload.points import AFTER_MIRROR, BEFORE_MIRROR, BEFORE_READ, PointedCatalog
from pipelines.trades.offload.position import Position, size, step
from pipelines.trades.offload.settings import OffloadError, Settings
from pipelines.trades.offload.silver import Silver, committed

__all__ = ["Done", "prepare", "run"]

REJECTED_MAX = 5
"""After so many rejected commits in a row, because another run's came first, this run leaves the work to that one."""


WRITERS = 2
"""Threads of pyiceberg."""


@dataclass(frozen=True)
class Done:
    """What one run did. rows: 0 when it was idle."""

    rows: int
    commits: int
    seconds: float


def prepare(settings: Settings) -> None:
    """Make the Iceberg table and the mirror's, unless they are there."""
    with contextlib.closing(Lake(settings)) as lake:
        lake.prepare()
    mirror.create(settings)


def run(settings: Settings) -> Done:
    """Move the new trades. Raises OffloadError when a server is away or refuses; what was committed stays."""
    _spare_memory()
    began, run_id = time.monotonic(), uuid.uuid4().hex
    log = structlog.get_logger().bind(run=run_id)
    with contextlib.closing(Mirror(settings, run_id)) as told:
        seen = told.begin()
        try:
            with contextlib.closing(Lake(settings, PointedCatalog)) as lake:
                rows, commits = _Run(settings, run_id, lake, told, log).work(seen)
        except Exception as e:
            log.error("offload_failed", why=str(e))
            with contextlib.suppress(OffloadError):  # the first error is the one to report
                told.failed(time.monotonic() - began, str(e))
            raise
        done = Done(rows, commits, round(time.monotonic() - began, 3))
        told.succeeded(done.seconds)
    log.info("offload_done", rows=done.rows, commits=done.commits, seconds=done.seconds)
    return done


def _spare_memory() -> None:
    """Use less memory: Arrow's own allocator keeps all it once had, and each file being written has its own buffers."""
    pa.set_memory_pool(pa.system_memory_pool())
    os.environ.setdefault("PYICEBERG_MAX_WORKERS", str(WRITERS))


class _Run:
    """The loop of one run."""

    def __init__(
        self, settings: Settings, run_id: str, lake: Lake, told: Mirror, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._settings, self._run_id, self._lake, self._told, self._log = settings, run_id, lake, told, log

    def work(self, mirrored: int) -> tuple[int, int]:
        """Return rows and commits. mirrored: the sequence number that the mirror had before the table was loaded.

        The next window is read while one is written: reading waits for ClickHouse, writing for S3.
        """
        table = self._lake.load()
        now = place(table)
        self._told.reconcile(mirrored, now.position, now.snapshot_id, now.sequence_number, now.rows)
        end = committed(self._settings)
        rows = commits = rejected = 0
        with contextlib.closing(Silver(self._settings)) as silver, ThreadPoolExecutor(1) as ahead:
            reading = ahead.submit(self._next, silver, now.position, end)
            while (window := reading.result()) is not None:
                upto, found = window
                reading = ahead.submit(self._next, silver, upto, end)
                after = self._lake.append(table, found, now, upto, self._run_id)
                if after is not None:
                    rows, commits, rejected = rows + found.num_rows, commits + 1, 0
                    self._committed(after, found.num_rows)
                elif (rejected := rejected + 1) > REJECTED_MAX:
                    raise OffloadError(
                        f"{rejected} commits in a row were beaten by others'. Remedy: run one offload only"
                    )
                else:
                    self._log.warning("rejected", why="another commit came first")
                del window, found
                table = self._lake.load()
                now = place(table)
                if after is None:
                    reading = ahead.submit(self._next, silver, now.position, end)
        return rows, commits

    def _next(self, silver: Silver, start: Position, end: Position) -> tuple[Position, pa.Table] | None:
        """Return the end of the next window with new trades, and these; None: there are none before `end`.

        A window without new trades is no commit: the next commit's position is beyond it.
        """
        while size(start, end):
            if BEFORE_READ.on is not None:
                BEFORE_READ()
            upto = step(start, end, self._settings.commit_rows)
            found = silver.rows(start, upto)
            if found is not None:
                return upto, found
            start = upto
        return None

    def _committed(self, after: Place, rows: int) -> None:
        self._log.info("committed", rows=rows, snapshot=after.snapshot_id, total=after.rows)
        if BEFORE_MIRROR.on is not None:
            BEFORE_MIRROR()
        assert after.snapshot_id is not None
        self._told.committed(after.position, after.snapshot_id, after.sequence_number, after.rows)
        if AFTER_MIRROR.on is not None:
            AFTER_MIRROR()
