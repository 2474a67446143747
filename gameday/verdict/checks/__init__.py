"""The checks, one in each file. A check is a pure function from Evidence to a Finding; with nothing to judge it says
unknown, never pass.
"""

from gameday.verdict.checks._damage import counts, guilty
from gameday.verdict.checks.alert import alert
from gameday.verdict.checks.continuous import continuous
from gameday.verdict.checks.dead_lettered import dead_lettered
from gameday.verdict.checks.delivered_at_most import delivered_at_most
from gameday.verdict.checks.first_kept import first_kept
from gameday.verdict.checks.isolation import isolation
from gameday.verdict.checks.job_failed_cleanly import job_failed_cleanly
from gameday.verdict.checks.metrics_true import metrics_true
from gameday.verdict.checks.no_duplicates import no_duplicates
from gameday.verdict.checks.no_loss import no_loss
from gameday.verdict.checks.offsets_advance import offsets_advance
from gameday.verdict.checks.order import order
from gameday.verdict.checks.position_sane import position_sane
from gameday.verdict.checks.reconnected import reconnected
from gameday.verdict.checks.recovered import recovered
from gameday.verdict.checks.redelivered import redelivered
from gameday.verdict.checks.resumed import resumed
from gameday.verdict.checks.resumed_on_schedule import resumed_on_schedule
from gameday.verdict.checks.retained import retained
from gameday.verdict.checks.served import served
from gameday.verdict.checks.snapshots_whole import snapshots_whole
from gameday.verdict.checks.started_once import started_once
from gameday.verdict.checks.steady_clock import steady_clock
from gameday.verdict.checks.unchanged import unchanged
from gameday.verdict.checks.upstream_flows import upstream_flows
from gameday.verdict.checks.watermark import watermark

__all__ = [
    "EXPORTED",
    "INTACT",
    "alert",
    "continuous",
    "counts",
    "dead_lettered",
    "delivered_at_most",
    "first_kept",
    "guilty",
    "isolation",
    "job_failed_cleanly",
    "metrics_true",
    "no_duplicates",
    "no_loss",
    "offsets_advance",
    "order",
    "position_sane",
    "reconnected",
    "recovered",
    "redelivered",
    "resumed",
    "resumed_on_schedule",
    "retained",
    "served",
    "snapshots_whole",
    "started_once",
    "steady_clock",
    "unchanged",
    "upstream_flows",
    "watermark",
]

INTACT = (no_loss, no_duplicates, unchanged, order, first_kept, steady_clock, started_once)
"""The checks of every failure test. Of the data: every record is there, once, unchanged and in order, and of a record
that was sent again the first is kept. Of the run itself: the clock was steady, and nobody else restarted what it
struck."""

EXPORTED = (*INTACT, snapshots_whole, watermark)
"""The checks of a failure test of the archive's job: also every commit is whole, and its position is true."""
