"""Did every consumer commit new positions after the recovery?"""

from gameday.model import Evidence, Finding, Verdict

__all__ = ["offsets_advance"]


def offsets_advance(evidence: Evidence) -> Finding:
    """Judged per slot whose log grew since the recovery: the position must have passed what was there, and moved."""
    healed, ends = evidence.healed, evidence.ends
    if healed is None or ends is None:
        return Finding("offsets_advance", Verdict.UNKNOWN, "positions were not marked after recovery and after drain")
    judged = 0
    stuck: list[dict[str, object]] = []
    for cursor, log in ends.ends.items():
        for slot, end in sorted(log.items()):
            before = healed.ends.get(cursor, {}).get(slot)
            if before is None or end <= before:
                continue
            judged += 1
            was, now = healed.positions.get(cursor, {}).get(slot), ends.positions.get(cursor, {}).get(slot)
            if now is None or now < before or (was is not None and now <= was):
                stuck.append({"cursor": cursor, "slot": slot, "was": was, "now": now, "end_at_recovery": before})
    if stuck:
        one = stuck[0]
        at = "never committed" if one["now"] is None else f"stands at {one['now']}"
        why = f"{one['cursor']} {at} in {one['slot']}, whose end was {one['end_at_recovery']} at recovery"
        rest = f" and {len(stuck) - 1} more of {judged} slots" if len(stuck) > 1 else ""
        return Finding("offsets_advance", Verdict.FAIL, why + rest, stuck)
    if not judged:
        return Finding("offsets_advance", Verdict.UNKNOWN, "there is nothing to judge: no log grew after the recovery")
    why = f"{judged} of {judged} slots that grew were committed beyond the recovery"
    return Finding("offsets_advance", Verdict.PASS, why, {"slots": judged})
