"""Is every record of the window at every hop?"""

from dataclasses import replace

from gameday.model import Evidence, Finding, Timed
from gameday.verdict.checks._damage import compare, finding, only_late

__all__ = ["no_loss"]


def no_loss(evidence: Evidence) -> Finding:
    """Fail if a hop holds fewer distinct ids than its stream's first hop, or the first hop fewer than the window.

    If a hop had not come to the window's end yet, and lacks only its newest records, the fail rests on time.
    """
    damages = compare(evidence)
    result = finding("no_loss", evidence, "lost", damages, "all {records} records are there")
    healed, ends = evidence.healed, evidence.ends
    if healed is None or ends is None or not all(only_late(evidence, d) for d in damages if d.lost):
        return result
    return replace(result, timed=Timed(healed.at_ns, ends.at_ns))
