"""Did the consumer go on exactly where it had committed, and had it delivered everything before that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gameday.model import EMPTY, Evidence, Finding, Json, Sample, Verdict
from gameday.sampling.timings import outage, probes
from gameday.verdict.streams import whole

__all__ = ["resumed"]


@whole
def resumed(evidence: Evidence) -> Finding:
    """Fail if a slot did not go on from the position that the consumer had committed.

    The first offset that was taken in since the consumer's present start, or since its link was healed (symptom
    first_after_start), must equal that position. If it is higher, records were skipped; if it is lower, they were taken
    in again.

    The committed position itself may be wrong: anyone can move it while nobody consumes. So it must not be lower than
    it was seen before, nor beyond what the consumer had delivered (symptom last_before_start). The latter is fine if
    the hop has the same offsets as the log: then there was no record between the two.
    """
    if evidence.spared:
        why = f"which slots {', '.join(evidence.spared)} took over from {', '.join(evidence.timed)} is not known"
        return Finding("resumed", Verdict.SKIPPED, f"{why}: loss and doubling tell")
    first = {(hop, slot): n for hop, each in evidence.by_hop("first_after_start").items() for slot, n in each.items()}
    if not first:
        return Finding("resumed", Verdict.UNKNOWN, "there is nothing to judge: no consumer started since the baseline")
    moments = _moments(evidence)
    if not moments:
        return Finding("resumed", Verdict.UNKNOWN, "when the consumer came back is not known: it was never seen silent")
    last = evidence.by_hop("last_before_start")
    wrong: list[_Wrong] = []
    undecided: list[str] = []
    judged = 0
    for (hop, slot), offset in sorted(first.items()):
        committed = [c for c in (_committed(s, moments) for s in _positions(evidence, slot)) if c is not None]
        if not committed:
            continue
        judged += 1
        if not any(offset in c.at and offset >= c.highest for c in committed):
            wrong.append(_Wrong(slot, max(committed[-1].at[-1], committed[-1].highest), offset, "committed"))
            continue
        delivered = last.get(hop, {}).get(slot, offset - 1) + 1
        if offset > delivered:
            missing = _lacks(evidence, hop, slot)
            if missing is None:
                undecided.append(f"{slot}: {hop} had only {delivered} of the {offset} that were committed")
            elif missing:
                wrong.append(_Wrong(slot, delivered, offset, "delivered"))
    if wrong:
        rest = f", and {len(wrong) - 1} more of {judged} slots" if len(wrong) > 1 else ""
        figures = [{"slot": w.slot, w.what: w.expected, "first": w.first} for w in wrong]
        return Finding("resumed", Verdict.FAIL, wrong[0].sentence + rest, figures)
    if undecided:
        why = f"{undecided[0]}, and whether records lie between is not known"
        return Finding("resumed", Verdict.UNKNOWN, why, undecided)
    if not judged:
        return Finding("resumed", Verdict.UNKNOWN, "no committed position was seen before the consumer came back")
    figures_ = {slot: offset for (_, slot), offset in first.items()}
    return Finding("resumed", Verdict.PASS, f"{judged} of {judged} slots went on from the committed offset", figures_)


@dataclass(frozen=True)
class _Wrong:
    """A slot that went on at another offset than expected. what: where `expected` comes from, "committed" or
    "delivered"."""

    slot: str
    expected: int
    first: int
    what: str

    @property
    def sentence(self) -> str:
        by = self.first - self.expected
        did = f"skipped {by} records" if by > 0 else f"took {-by} records again"
        moved = ": its committed offset was ahead" if self.what == "delivered" else ""
        return f"{self.slot}: {did} ({self.what} {self.expected}, went on at {self.first}{moved})"


@dataclass(frozen=True)
class _Committed:
    """What one consumer had committed in a slot. at: at each moment. highest: the highest before the first moment."""

    at: tuple[int, ...]
    highest: int


def _moments(evidence: Evidence) -> list[int]:
    """Return when to look at the position: at the start of the consumer's present process, and at its first answer.

    The old process may commit until it ends, and a sample just before the start can miss that. The new process may
    commit before its first answer was seen. The new process went on from the position between these two moments. A
    process that never ended went on when its link was healed.
    """
    began = evidence.baseline.marks.identities if evidence.baseline else {}
    for marks in (evidence.ends, evidence.healed):
        identity = marks.identities.get(evidence.component or "") if marks else None
        if marks and isinstance(identity, dict) and identity.get("started_us") and _replaced(began, identity, evidence):
            started_ns = marks.at_ns + (int(identity["started_us"]) - marks.at_us) * 1000
            names = probes(evidence.samples, evidence.component or "")
            after = [
                s.counts_ns for n in names for s in evidence.samples[n] if s.value is not None and s.at_ns > started_ns
            ]
            return [started_ns, *sorted(after)[:1]]
    back_ns = outage(evidence)[1]
    return [] if back_ns is None else [back_ns]


def _replaced(began: Mapping[str, Json], identity: Json, evidence: Evidence) -> bool:
    """Return whether another process runs now than at the baseline."""
    return began.get(evidence.component or "") != identity


def _positions(evidence: Evidence, slot: str) -> list[Sequence[Sample]]:
    """Return the samples of the positions in this slot, one series for each consumer."""
    names = [n for n in evidence.samples if n.startswith("position/") and n.split("/", 2)[2:] == [slot]]
    return [evidence.samples[name] for name in names]


def _committed(samples: Sequence[Sample], moments: Sequence[int]) -> _Committed | None:
    """Return what was committed at these moments; None: nothing was seen to be committed by then."""
    answers = [s for s in samples if s.value is not None]
    last = [next((s for s in reversed(answers) if s.counts_ns <= moment), None) for moment in moments]
    at = tuple(int(s.value) for s in last if s is not None and s.value is not None and s.value >= 0)
    before = [int(s.value) for s in answers if s.value is not None and s.counts_ns <= moments[0]]
    return _Committed(at, max(before, default=0)) if at else None


def _lacks(evidence: Evidence, hop: str, slot: str) -> bool | None:
    """Return whether a hop lacks offsets of this slot that the log has in the run's window; None: no digest tells."""
    topic, _, partition = slot.rpartition("/")
    each = ([d for d in one.digests if d.stream == "offsets"] for one in evidence.each())
    offsets = next((found for found in each if any(d.hop == hop for d in found[1:])), None)
    if offsets is None or (topic, partition) not in offsets[0].groups:
        return None
    held = next(d for d in offsets[1:] if d.hop == hop)
    log_tally, hop_tally = offsets[0].groups[topic, partition], held.groups.get((topic, partition), EMPTY)
    return (log_tally.keys, log_tally.sum) != (hop_tally.keys, hop_tally.sum)
