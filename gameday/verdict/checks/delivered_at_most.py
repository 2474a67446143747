"""Was no message handed out more often than it may be?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._deliveries import deliveries
from gameday.verdict.streams import whole

__all__ = ["delivered_at_most"]


@whole
def delivered_at_most(evidence: Evidence) -> Finding:
    """By the broker's own account since the baseline. One whose count does not outlive its end may hand a message out
    once more for each; and where the consumer makes the dead letters (buried_by), it is handed once more what was never
    answered: what can't be answered, and through the fault others."""
    found = deliveries(evidence)
    if isinstance(found, str):
        return Finding("delivered_at_most", Verdict.UNKNOWN, found)
    if beyond := found.beyond:
        return Finding("delivered_at_most", Verdict.FAIL, beyond, dict(found.again))
    return Finding("delivered_at_most", Verdict.PASS, found.told)
