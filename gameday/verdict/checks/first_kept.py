"""Of a record that was sent again, is the first one kept?"""

from gameday.model import Evidence, Finding, Verdict

__all__ = ["first_kept"]


def first_kept(evidence: Evidence) -> Finding:
    """Fails when an id's kept offset isn't the lowest in the raw table (symptom not_first).

    Were a later one kept, a re-send after an export would move the row past the export's position: exported twice.
    """
    told = evidence.by_hop("not_first")
    wrong = sum(told.values())
    if not told:
        return Finding("first_kept", Verdict.UNKNOWN, "there is nothing to judge: no hop tells which offset it kept")
    if wrong:
        where = ", ".join(hop for hop, ids in told.items() if ids)
        late = f"{wrong} ids are kept from a later offset than their first"
        why = f"{where}: {late}: a re-send would move them past an export"
        return Finding("first_kept", Verdict.FAIL, why, {"ids": wrong})
    return Finding("first_kept", Verdict.PASS, "every id is kept from its lowest offset", {"ids": 0})
