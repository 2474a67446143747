"""Is the first copy kept of a record that was sent again?"""

from gameday.model import Evidence, Finding, Verdict

__all__ = ["first_kept"]


def first_kept(evidence: Evidence) -> Finding:
    """Fail if an id's kept offset isn't the lowest in the raw table (symptom not_first).

    If a later copy were kept, a re-send after an export would move the row past the export's position, and it would be
    exported twice.
    """
    wrong_by_hop = evidence.by_hop("not_first")
    wrong = sum(wrong_by_hop.values())
    if not wrong_by_hop:
        return Finding("first_kept", Verdict.UNKNOWN, "there is nothing to judge: no hop tells which offset it kept")
    if wrong:
        where = ", ".join(hop for hop, ids in wrong_by_hop.items() if ids)
        late = f"{wrong} ids are kept from a later offset than their first"
        why = f"{where}: {late}: a re-send would move them past an export"
        return Finding("first_kept", Verdict.FAIL, why, {"ids": wrong})
    return Finding("first_kept", Verdict.PASS, "every id is kept from its lowest offset", {"ids": 0})
