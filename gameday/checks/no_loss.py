"""Is every record of the window at every hop?"""

from gameday.checks._damage import compare, finding
from gameday.model import Evidence, Finding

__all__ = ["no_loss"]


def no_loss(evidence: Evidence) -> Finding:
    """Fails when a hop holds fewer distinct ids than its stream's first hop, or that one fewer than the window has."""
    return finding("no_loss", evidence, "lost", compare(evidence), "all {records} records are there")
