"""Copies the table's position to Postgres for people and dashboards: `offload_watermarks`, one row per table.

Only the Iceberg table's own position counts; nothing is decided by this copy. A slower run never sets a row back: its
sequence number is the snapshot's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
from psycopg.types.json import Jsonb

from pipelines.trades.offload.position import Position
from pipelines.trades.offload.settings import OffloadError, Settings

__all__ = ["Mirror", "create"]

TABLE = """
CREATE TABLE IF NOT EXISTS offload_watermarks
(
    table_name           text PRIMARY KEY,
    position             jsonb NOT NULL DEFAULT '{}',
    snapshot_id          bigint,
    sequence_number      bigint NOT NULL DEFAULT 0,
    rows                 bigint NOT NULL DEFAULT 0,
    status               text NOT NULL DEFAULT 'new',
    run_id               text,
    last_successful_run  timestamptz,
    duration_s           double precision,
    failure_count        integer NOT NULL DEFAULT 0,
    last_error           text,
    updated_at           timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN offload_watermarks.rows IS 'in the table, as of snapshot_id';
COMMENT ON COLUMN offload_watermarks.status IS 'new, running, succeeded or failed: of the run that started last';
COMMENT ON COLUMN offload_watermarks.failure_count IS 'runs that failed or were killed since the last success'
"""

KILLED = "the run ended without a word: killed, or cut off from Postgres"


def create(settings: Settings) -> None:
    """Make the table and the row."""
    with _reached(settings), psycopg.connect(settings.mirror_dsn, connect_timeout=settings.connect_s) as connection:
        connection.execute(TABLE)
        connection.execute(
            "INSERT INTO offload_watermarks (table_name) VALUES (%s) ON CONFLICT DO NOTHING", (settings.table,)
        )


class Mirror:
    """One run's connection. Its application_name has the run's id: as long as it is open, the run lives."""

    def __init__(self, settings: Settings, run_id: str) -> None:
        self._settings, self._run_id = settings, run_id
        with _reached(settings):
            self._connection = psycopg.connect(
                settings.mirror_dsn,
                autocommit=True,
                connect_timeout=settings.connect_s,
                application_name=_name(run_id),
                options=f"-c statement_timeout={settings.request_s * 1000:.0f}",
            )

    def close(self) -> None:
        self._connection.close()

    def begin(self) -> int:
        """Note this run as the last that started. If the one before still counts as running but is gone, it has failed.

        Return the mirrored sequence number: read it before the table is loaded, for `reconcile`.
        """
        with _reached(self._settings), self._connection.transaction():
            row = self._connection.execute(
                "SELECT sequence_number, status, run_id FROM offload_watermarks WHERE table_name = %s FOR UPDATE",
                (self._settings.table,),
            ).fetchone()
            if row is None:
                raise OffloadError(
                    f"offload_watermarks has no row for {self._settings.table}. Remedy: run the offload with --prepare"
                )
            sequence_number, status, run_id = row
            if status == "running" and not self._lives(run_id):
                self._set("failure_count = failure_count + 1, last_error = %s", KILLED)
            self._set("status = 'running', run_id = %s", self._run_id)
        return int(sequence_number)

    def reconcile(
        self, seen: int, position: Position, snapshot_id: int | None, sequence_number: int, rows: int
    ) -> None:
        """Set the row to the table's own position, unless another run has moved it on since `begin` saw it."""
        with _reached(self._settings):
            self._set(
                "position = %s, snapshot_id = %s, sequence_number = %s, rows = %s",
                *(Jsonb(position), snapshot_id, sequence_number, rows),
                where=("sequence_number = %s", seen),
            )

    def committed(self, position: Position, snapshot_id: int, sequence_number: int, rows: int) -> None:
        """Note a committed snapshot."""
        with _reached(self._settings):
            self._set(
                "position = %s, snapshot_id = %s, sequence_number = %s, rows = %s",
                *(Jsonb(position), snapshot_id, sequence_number, rows),
                where=("sequence_number < %s", sequence_number),
            )

    def succeeded(self, duration_s: float) -> None:
        """Note a success, even if another run has started meanwhile: the end of a run counts."""
        with _reached(self._settings), self._connection.transaction():
            self._set("last_successful_run = now(), failure_count = 0, last_error = NULL")
            self._ended("succeeded", duration_s)

    def failed(self, duration_s: float, error: str) -> None:
        """Note a failure, even if another run has started meanwhile: if runs hang for longer than the schedule's
        interval, none is the last.
        """
        with _reached(self._settings), self._connection.transaction():
            self._set("failure_count = failure_count + 1, last_error = %s", error)
            self._ended("failed", duration_s)

    def _ended(self, status: str, duration_s: float) -> None:
        self._set("status = %s, duration_s = %s", status, duration_s, where=("run_id = %s", self._run_id))

    def _set(self, what: str, *values: object, where: tuple[str, object] = ("%s", True)) -> None:
        self._connection.execute(
            f"UPDATE offload_watermarks SET {what}, updated_at = now() WHERE table_name = %s AND {where[0]}",
            (*values, self._settings.table, where[1]),
        )

    def _lives(self, run_id: str) -> bool:
        found = self._connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (_name(run_id),)
        ).fetchone()
        return found is not None and found[0] > 0


def _name(run_id: str) -> str:
    return f"offload {run_id}"


@contextlib.contextmanager
def _reached(settings: Settings) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as e:
        why = str(e).strip().splitlines()[0][:300] if str(e).strip() else type(e).__name__
        raise OffloadError(
            f"Postgres at {settings.postgres_of_mirror} does not take the watermark: {why}. "
            "Remedy: start it, or mend OFFLOAD_MIRROR_DSN; if the table is missing, run the offload with --prepare"
        ) from e
