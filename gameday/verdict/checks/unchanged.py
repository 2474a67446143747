"""Is every record at every hop what it was at the first, in every field?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import compare, finding, label

__all__ = ["unchanged"]


def unchanged(evidence: Evidence) -> Finding:
    """Fails when row hashes of the same ids differ between hops, when an id has two contents within one, or when a
    record that was sent again from before the window isn't the one that the ledger knows."""
    damages = compare(evidence)
    found = finding("unchanged", evidence, "changed", damages, "all {records} records are as they were")
    if found.verdict is Verdict.FAIL:
        return found
    for hop, late in evidence.by_hop("late").items():
        if not late.get("unknown"):
            continue
        at = f"{hop}: " if hop else ""
        named = late.get("named") or []
        more = f", and {late['unknown'] - len(named)} more" if late["unknown"] > len(named) > 0 else ""
        why = f"{at}{late['unknown']} of {late['rows']} records re-sent from before the window are not the ledger's"
        why += f": {', '.join(named)}{more}" if named else ""
        return Finding(found.check, Verdict.FAIL, why, late)
    if found.verdict is Verdict.PASS and (untold := _untold(evidence)):
        return Finding(found.check, Verdict.UNKNOWN, untold)
    hidden = [d for d in damages if not d.told]
    if found.verdict is Verdict.PASS and hidden:
        where = ", ".join(dict.fromkeys(f"{label(d.group)} at {d.hop}".lstrip() for d in hidden[:3]))
        why = f"{len(hidden)} groups can't be compared, for their ids differ already: {where}"
        return Finding(found.check, Verdict.UNKNOWN, why)
    return found


def _untold(evidence: Evidence) -> str | None:
    """Why it isn't known what was sent again from before the window."""
    if mute := evidence.symptoms.get("untold"):
        return f"what was sent again from before the window is not known: {', '.join(mute)} did not tell"
    for late in evidence.by_hop("late").values():
        if late.get("looked_at", late.get("rows", 0)) < late.get("rows", 0):
            return f"only {late['looked_at']} of {late['rows']} records re-sent from before the window were looked at"
    return None
