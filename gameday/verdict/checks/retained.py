"""Did the log keep what a held-back consumer had not read, and how close was it to deleting that?"""

from __future__ import annotations

from typing import Any

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import compare, forgetful, judged
from gameday.verdict.streams import whole

__all__ = ["retained"]


@whole
def retained(evidence: Evidence) -> Finding:
    """Fail if the log deleted records that the held-back consumer had not read, and they are lost.

    Symptom "retention" has the worst that was seen of each slot while the consumer was behind. Of the slot that was
    furthest behind the finding says how far away the deletion was, or what it could have cost.
    """
    seen: dict[str, dict[str, dict[str, Any]]] = evidence.symptoms.get("retention") or {}
    slots = [(cursor, slot, one) for cursor, each in seen.items() for slot, one in each.items()]
    if not slots:
        why = "there is nothing to judge: what the log keeps for a consumer was not asked"
        return Finding("retained", Verdict.UNKNOWN, why)
    if gone := [f"{one['dropped']:,} of {slot}" for _, slot, one in slots if one["dropped"]]:
        records = sum(one["dropped"] for _, _, one in slots)
        why = f"{records:,} records were deleted before {slots[0][0]} had committed them: {', '.join(gone[:3])}"
        why += _of(slots[0][2])
        if any(damage.lost for each in evidence.each() for damage in compare(each)):
            return Finding("retained", Verdict.FAIL, why, seen)
        if any(digest.hop in forgetful(each) for each in evidence.each() for digest, _ in judged(each)):
            return Finding("retained", Verdict.UNKNOWN, f"{why}; whether it had them in hand nothing tells", seen)
        return Finding("retained", Verdict.PASS, f"{why}; it had them in hand, for nothing is lost", seen)
    cursor, slot, one = max(slots, key=lambda item: item[2]["unread_s"] or 0.0)
    if one["unread_s"] is None:
        return Finding("retained", Verdict.UNKNOWN, f"{cursor} was never seen behind, so nothing waited for it", seen)
    return Finding(
        "retained", Verdict.PASS, f"the oldest record that {cursor} had not read was {_far(slot, one)}", seen
    )


def _far(slot: str, one: dict[str, Any]) -> str:
    """Return how old the oldest unread record was, compared with the retention, in words."""
    age_s, keeps_s = one["unread_s"], one["retention_s"]
    old = f"{age_s:.1f} s old ({slot})"
    if keeps_s is None:
        return f"{old}; no time bounds what the log keeps, or it may not be asked"
    if one["expired"]:
        late_s = age_s - keeps_s
        return (
            f"{old}, and the log keeps {keeps_s:g} s: {one['expired']:,} records, those of {late_s:.1f} s, could have "
            "been deleted at any moment"
        )
    left_s = keeps_s - age_s
    rate = one["waiting"] / age_s if age_s else 0.0
    return (
        f"{old}, {age_s / keeps_s:.1%} of the {keeps_s:g} s that the log keeps: {left_s:.1f} s later it would have "
        f"begun to lose {rate:.3g} records a second"
    )


def _of(one: dict[str, Any]) -> str:
    return "" if one["retention_s"] is None else f" (the log keeps {one['retention_s']:g} s)"
