"""Did the fault have messages handed out again, as it should?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._deliveries import deliveries
from gameday.verdict.streams import whole

__all__ = ["redelivered"]


@whole
def redelivered(evidence: Evidence) -> Finding:
    """For a test whose fault leaves messages without an answer: where none came again it has shown nothing, so the run
    is invalid. What should come often by itself (dead letters) doesn't count, nor what had ended before the fault,
    where the account tells when. How often one may come is delivered_at_most's."""
    found = deliveries(evidence)
    if isinstance(found, str):
        return Finding("redelivered", Verdict.UNKNOWN, found)
    letters = (evidence.symptoms.get("accounts") or {}).get("letters") or {}
    dead = {str(one["id"]) for one in letters.get("letters", ())}
    first_us = min((act.at_us for act in evidence.acts), default=0)
    account = evidence.symptoms["accounts"]["deliveries"]["redelivered"]
    before = {str(one["id"]) for one in account if one.get("at_us", first_us) < first_us}
    again = found.again.keys() - dead - before
    if not again:
        why = "nothing came again but what became a dead letter: the fault left no message without an answer"
        return Finding("redelivered", Verdict.INVALID, why)
    return Finding(
        "redelivered", Verdict.PASS, f"{len(again)} messages came again that are no dead letters", len(again)
    )
