"""Did every consumer commit new positions after the recovery?"""

from collections.abc import Iterator, Mapping

from gameday.model import Evidence, Finding, Marks, Timed, Verdict
from gameday.sampling.timings import NS
from gameday.verdict.streams import whole

__all__ = ["late", "offsets_advance"]

COMMITTED_WITHIN_S = 5.0
"""A consumer commits after each batch, so records that came this shortly before the end may not be committed yet. Where
a record may take longer than this to be seen, that bound holds instead."""


@whole
def offsets_advance(evidence: Evidence) -> Finding:
    """Fail if the log of a slot grew after the recovery, and the consumer's committed position did not follow.

    The position must have moved, and have passed what was there at recovery, unless everything beyond it has only just
    come. A cursor that did not answer is unknown. A position is unknown too if a hop that knows its rows' offsets has
    taken in nothing beyond the recovery: somebody may have moved the position.
    """
    healed, ends = evidence.healed, evidence.ends
    if healed is None or ends is None:
        return Finding("offsets_advance", Verdict.UNKNOWN, "positions were not marked after recovery and after drain")
    judged = 0
    stuck: list[dict[str, object]] = []
    moved: list[str] = []
    for cursor, log in ends.ends.items():
        for slot, end in sorted(log.items()):
            before = healed.ends.get(cursor, {}).get(slot)
            if before is None or end <= before:
                continue
            was, now = (
                healed.positions.get(cursor, {}).get(slot),
                ends.positions.get(cursor, {}).get(slot),
            )
            if now is not None and now >= before and now == was and _has_just_grown(evidence, cursor, slot, now, ends):
                continue
            judged += 1
            if now is None or now < before or (was is not None and now <= was):
                stuck.append({"cursor": cursor, "slot": slot, "was": was, "now": now, "end_at_recovery": before})
                continue
            delivered = {hop: taken[slot] for hop, taken in ends.delivered.items() if slot in taken}
            if delivered and (most := max(delivered.values())) <= before and most < now:
                moved.append(f"{cursor} stands at {now} in {slot}, but {' and '.join(delivered)} had only {most}")
    if stuck:
        first = stuck[0]
        at = "never committed" if first["now"] is None else f"stands at {first['now']}"
        why = f"{first['cursor']} {at} in {first['slot']}, whose end was {first['end_at_recovery']} at recovery"
        rest = f" and {len(stuck) - 1} more of {judged} slots" if len(stuck) > 1 else ""
        return Finding("offsets_advance", Verdict.FAIL, why + rest, stuck, Timed(healed.at_ns, ends.at_ns))
    known = evidence.baseline.marks.ends if evidence.baseline else {}
    if mute := sorted(set(known) - (set(healed.ends) & set(ends.ends))):
        return Finding("offsets_advance", Verdict.UNKNOWN, f"{', '.join(mute)} did not tell positions after recovery")
    if moved:
        why = f"{moved[0]}: whether that was consumed is not known"
        return Finding("offsets_advance", Verdict.UNKNOWN, why, moved)
    if not judged:
        return Finding("offsets_advance", Verdict.UNKNOWN, "there is nothing to judge: no log grew after the recovery")
    why = f"{judged} of {judged} slots that grew were committed beyond the recovery"
    return Finding("offsets_advance", Verdict.PASS, why, {"slots": judged})


def late(
    healed: Marks, positions: Mapping[str, Mapping[str, int]], ends: Mapping[str, Mapping[str, int]]
) -> Iterator[tuple[str, str]]:
    """Yield (cursor, slot) where the log grew after the recovery and the committed position has not passed what was
    there at recovery.

    Args:
        positions, ends: cursor -> slot -> where it stands, and the log's end.
    """
    for cursor, log in ends.items():
        for slot, end in sorted(log.items()):
            before = healed.ends.get(cursor, {}).get(slot)
            now = positions.get(cursor, {}).get(slot)
            if before is not None and end > before and (now is None or now < before):
                yield cursor, slot


def _has_just_grown(evidence: Evidence, cursor: str, slot: str, position: int, ends: Marks) -> bool:
    """Return whether, until shortly before the end, the log's end was seen no further than the position."""
    ends_seen = evidence.samples.get(f"end/{cursor}/{slot}", ())
    still = [s for s in ends_seen if s.value is not None and s.value <= position]
    within_s = max(COMMITTED_WITHIN_S, evidence.baseline.bound_s if evidence.baseline else 0.0)
    return bool(still) and ends.at_ns - still[-1].at_ns < within_s * NS
