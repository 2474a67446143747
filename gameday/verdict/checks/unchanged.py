"""Is every record at every hop the same as at the first hop, in every field?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import compare, finding, label, resting_on_time

__all__ = ["unchanged"]


def unchanged(evidence: Evidence) -> Finding:
    """Fail if row hashes of the same ids differ between hops, an id has two contents within one hop, or a record that
    was sent again from before the window differs from the ledger's.

    Rows that are older at a hop that had not come to its end yet may still change: then the fail rests on time.
    """
    damages = compare(evidence)
    result = finding("unchanged", evidence, "changed", damages, "all {records} records are as they were")
    if result.verdict is Verdict.FAIL:
        return resting_on_time(evidence, result, "changed", damages)
    for hop, late in evidence.by_hop("late").items():
        if not late.get("unknown"):
            continue
        at = f"{hop}: " if hop else ""
        named = late.get("named") or []
        more = f", and {late['unknown'] - len(named)} more" if late["unknown"] > len(named) > 0 else ""
        why = f"{at}{late['unknown']} of {late['rows']} records re-sent from before the window are not the ledger's"
        why += f": {', '.join(named)}{more}" if named else ""
        return Finding(result.check, Verdict.FAIL, why, late)
    if result.verdict is Verdict.PASS and (untold := _untold(evidence)):
        return Finding(result.check, Verdict.UNKNOWN, untold)
    hidden = [d for d in damages if not d.told]
    if result.verdict is Verdict.PASS and hidden:
        where = ", ".join(dict.fromkeys(f"{label(d.group)} at {d.hop}".lstrip() for d in hidden[:3]))
        why = f"{len(hidden)} groups can't be compared, for their ids differ already: {where}"
        return Finding(result.check, Verdict.UNKNOWN, why)
    return result


def _untold(evidence: Evidence) -> str | None:
    """Return why it isn't known what was sent again from before the window; None: it is known."""
    if mute := evidence.symptoms.get("untold"):
        return f"what was sent again from before the window is not known: {', '.join(mute)} did not tell"
    for late in evidence.by_hop("late").values():
        if late.get("looked_at", late.get("rows", 0)) < late.get("rows", 0):
            return f"only {late['looked_at']} of {late['rows']} records re-sent from before the window were looked at"
    return None
