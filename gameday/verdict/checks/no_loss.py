"""Is every record of the window at every hop?"""

from gameday.model import Evidence, Finding
from gameday.verdict.checks._damage import compare, finding, resting_on_time

__all__ = ["no_loss"]


def no_loss(evidence: Evidence) -> Finding:
    """Fail if a hop holds fewer distinct ids than its stream's first hop, or the first hop fewer than the window.

    If a hop had not come to the window's end yet, and lacks only its newest records, the fail rests on time.
    """
    damages = compare(evidence)
    result = finding("no_loss", evidence, "lost", damages, "all {records} records are there")
    return resting_on_time(evidence, result, "lost", damages)
