"""Is every record of the window at every hop?"""

from dataclasses import replace

from gameday.model import Evidence, Finding, Timed
from gameday.verdict.checks._damage import compare, finding, only_late

__all__ = ["no_loss"]


def no_loss(evidence: Evidence) -> Finding:
    """Fails when a hop holds fewer distinct ids than its stream's first hop, or that one fewer than the window has.

    What lacks only its newest records, at a hop that had not come to the window's end yet, rests on time.
    """
    damages = compare(evidence)
    found = finding("no_loss", evidence, "lost", damages, "all {records} records are there")
    healed, ends = evidence.healed, evidence.ends
    if healed is None or ends is None or not all(only_late(evidence, d) for d in damages if d.lost):
        return found
    return replace(found, timed=Timed(healed.at_ns, ends.at_ns))
