"""The checks, one a file: pure functions from Evidence to a Finding. One with nothing to judge is unknown, never a
pass.
"""

from gameday.checks._damage import counts, guilty
from gameday.checks.alert import alert
from gameday.checks.continuous import continuous
from gameday.checks.first_kept import first_kept
from gameday.checks.isolation import isolation
from gameday.checks.job_failed_cleanly import job_failed_cleanly
from gameday.checks.no_duplicates import no_duplicates
from gameday.checks.no_loss import no_loss
from gameday.checks.offsets_advance import offsets_advance
from gameday.checks.order import order
from gameday.checks.reconnected import reconnected
from gameday.checks.recovered import recovered
from gameday.checks.resumed import resumed
from gameday.checks.resumed_on_schedule import resumed_on_schedule
from gameday.checks.served import served
from gameday.checks.snapshots_whole import snapshots_whole
from gameday.checks.started_once import started_once
from gameday.checks.steady_clock import steady_clock
from gameday.checks.unchanged import unchanged
from gameday.checks.upstream_flows import upstream_flows
from gameday.checks.watermark import watermark

__all__ = [
    "EXPORTED",
    "INTACT",
    "alert",
    "continuous",
    "counts",
    "first_kept",
    "guilty",
    "isolation",
    "job_failed_cleanly",
    "no_duplicates",
    "no_loss",
    "offsets_advance",
    "order",
    "reconnected",
    "recovered",
    "resumed",
    "resumed_on_schedule",
    "served",
    "snapshots_whole",
    "started_once",
    "steady_clock",
    "unchanged",
    "upstream_flows",
    "watermark",
]

INTACT = (no_loss, no_duplicates, unchanged, order, first_kept, steady_clock, started_once)
"""What every failure test asks of the data: all there, once, unchanged, in order, of a re-send the first kept. And
that the run itself can be believed: its clock, and that nobody else started again what it struck."""

EXPORTED = (*INTACT, snapshots_whole, watermark)
"""What a failure test of the archive's job asks besides: every commit whole, and its position true."""
