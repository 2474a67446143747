"""Did the consumer go on exactly where it had committed?"""

from collections.abc import Mapping

from gameday.model import Evidence, Finding, Json, Sample, Verdict
from gameday.timings import outage, probes

__all__ = ["resumed"]


def resumed(evidence: Evidence) -> Finding:
    """Per slot: the first offset taken in since the consumer's present start, or since a link of it was mended (symptom
    first_after_start), equals the position that was committed before. Higher: records were skipped; lower: taken
    in again."""
    first = {(hop, slot): n for hop, each in evidence.by_hop("first_after_start").items() for slot, n in each.items()}
    if not first:
        return Finding("resumed", Verdict.UNKNOWN, "there is nothing to judge: no consumer started since the baseline")
    moments = _moments(evidence)
    if not moments:
        return Finding("resumed", Verdict.UNKNOWN, "when the consumer came back is not known: it was never seen silent")
    wrong, judged = [], 0
    for (_, slot), offset in sorted(first.items()):
        committed = [c for c in (_committed(evidence, slot, moment) for moment in moments) if c is not None]
        if not committed:
            continue
        judged += 1
        if offset not in committed:
            wrong.append({"slot": slot, "committed": committed[-1], "first": offset})
    if wrong:
        why = _sentence(wrong[0]["slot"], wrong[0]["committed"], wrong[0]["first"])
        rest = f", and {len(wrong) - 1} more of {judged} slots" if len(wrong) > 1 else ""
        return Finding("resumed", Verdict.FAIL, why + rest, wrong)
    if not judged:
        return Finding("resumed", Verdict.UNKNOWN, "no committed position was seen before the consumer came back")
    return Finding("resumed", Verdict.PASS, f"{judged} of {judged} slots went on from the committed offset")


def _sentence(slot: str, committed: int, first: int) -> str:
    what = f"skipped {first - committed} records" if first > committed else f"took {committed - first} records again"
    return f"{slot}: {what} (committed {committed}, went on at {first})"


def _moments(evidence: Evidence) -> list[int]:
    """When to look at the position: at the start of the consumer's present process, and at its first answer after that.

    The old process may commit up to its very end, which a sample just before the start can miss; the new one may commit
    before its first answer was seen. Between the two, the position is what the new one went on from. A process that
    never ended went on when its link was mended.
    """
    began = evidence.baseline.marks.identities if evidence.baseline else {}
    for marks in (evidence.ends, evidence.healed):
        identity = marks.identities.get(evidence.component or "") if marks else None
        if marks and isinstance(identity, dict) and identity.get("started_us") and _other(began, identity, evidence):
            started_ns = marks.at_ns + (int(identity["started_us"]) - marks.at_us) * 1000
            names = probes(evidence.samples, evidence.component or "")
            after = [
                s.counts_ns for n in names for s in evidence.samples[n] if s.value is not None and s.at_ns > started_ns
            ]
            return [started_ns, *sorted(after)[:1]]
    back_ns = outage(evidence)[1]
    return [] if back_ns is None else [back_ns]


def _other(began: Mapping[str, Json], identity: Json, evidence: Evidence) -> bool:
    """Whether another process runs now than at the baseline."""
    return began.get(evidence.component or "") != identity


def _committed(evidence: Evidence, slot: str, before_ns: int) -> int | None:
    """The last position committed in this slot that was seen by then, by whichever cursor has the slot."""
    last: Sample | None = None
    for name, samples in evidence.samples.items():
        if name.startswith("position/") and name.split("/", 2)[2] == slot:
            last = next((s for s in reversed(samples) if s.value is not None and s.counts_ns <= before_ns), last)
    return None if last is None or last.value is None or last.value < 0 else int(last.value)
