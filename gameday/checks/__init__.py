"""The checks, one a file: pure functions from Evidence to a Finding. One with nothing to judge is unknown, never a
pass.
"""

from gameday.checks._damage import counts, guilty
from gameday.checks.continuous import continuous
from gameday.checks.first_kept import first_kept
from gameday.checks.isolation import isolation
from gameday.checks.no_duplicates import no_duplicates
from gameday.checks.no_loss import no_loss
from gameday.checks.offsets_advance import offsets_advance
from gameday.checks.order import order
from gameday.checks.reconnected import reconnected
from gameday.checks.recovered import recovered
from gameday.checks.resumed import resumed
from gameday.checks.served import served
from gameday.checks.unchanged import unchanged
from gameday.checks.upstream_flows import upstream_flows

__all__ = [
    "INTACT",
    "continuous",
    "counts",
    "first_kept",
    "guilty",
    "isolation",
    "no_duplicates",
    "no_loss",
    "offsets_advance",
    "order",
    "reconnected",
    "recovered",
    "resumed",
    "served",
    "unchanged",
    "upstream_flows",
]

INTACT = (no_loss, no_duplicates, unchanged, order, first_kept)
"""What every failure test asks of the data: all there, once, unchanged, in order, of a re-send the first kept."""
