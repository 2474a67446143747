"""Did the struck streams' topics keep their leader and serve fetches meanwhile?"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from gameday.model import Evidence, Finding, Sample, Timed, Verdict
from gameday.sampling.timings import NS, WINDOW_SHARE_MIN, outage
from gameday.verdict.streams import whole

__all__ = ["served"]

ANSWERED_SHARE_MIN = 0.9
"""One lost probe in ten is a probe's time-out; a topic without a leader answers none."""


@whole
def served(evidence: Evidence) -> Finding:
    """Per slot (samples serving/<topic>/<partition>, each a real fetch): answered, by the same leader as before, from
    the component's last answer before the outage until service was restored."""
    down_ns, up_ns = outage(evidence)
    if down_ns is None:
        return Finding("served", Verdict.UNKNOWN, "the component was never seen silent, so there was no outage")
    until_ns = up_ns if up_ns is not None else max(s[-1].counts_ns for s in evidence.samples.values() if s)
    restore = evidence.measures.get("restore")
    if restore and restore.high_s is not None and evidence.inject_ns is not None:
        until_ns = max(until_ns, evidence.inject_ns + int(restore.high_s * NS))
    slots = _slots(evidence)
    if not slots:
        return Finding("served", Verdict.UNKNOWN, "there are no samples of the struck streams' topics")
    figures: dict[str, str] = {}
    bad: list[str] = []
    unseen: list[str] = []
    for slot in slots:
        series = evidence.samples[f"serving/{slot}"]
        asked = [s for s in series if down_ns <= s.counts_ns and s.at_ns <= until_ns]
        answered = [s.value for s in asked if s.value is not None]
        before = [s.value for s in series if s.value is not None and s.counts_ns < down_ns]
        figures[slot] = f"{len(answered)} of {len(asked)}"
        if not asked:
            unseen.append(slot)
        elif len(answered) < ANSWERED_SHARE_MIN * len(asked):
            bad.append(f"{slot} served {figures[slot]} fetches")
        elif before and any(leader != before[-1] for leader in answered):
            bad.append(f"{slot} changed its leader from {before[-1]:g}")
        elif len(asked) < WINDOW_SHARE_MIN * (until_ns - down_ns) / _period_ns(series):
            unseen.append(slot)
    lasted_s = (until_ns - down_ns) / NS
    if bad:
        why = f"in {lasted_s:.1f} s: {', '.join(bad[:3])}"
        return Finding("served", Verdict.FAIL, why, figures, Timed(down_ns, until_ns))
    if unseen:
        why = f"{unseen[0]} was asked too rarely in {lasted_s:.1f} s of outage: {figures[unseen[0]]} answered"
        return Finding("served", Verdict.UNKNOWN, why, figures)
    why = f"{len(slots)} slots kept their leader and served fetches for {lasted_s:.1f} s"
    return Finding("served", Verdict.PASS, why, figures)


def _period_ns(series: Sequence[Sample]) -> float:
    """How far apart it is asked."""
    return median(b.at_ns - a.at_ns for a, b in pairwise(series)) if len(series) > 1 else float("inf")


def _slots(evidence: Evidence) -> list[str]:
    """The slots of the affected streams, of them those whose topic names an affected group's first field
    (…orders.berlin); all when none does."""
    slots = sorted(name.removeprefix("serving/") for name in evidence.samples if name.startswith("serving/"))
    streams = [one for one in evidence.each() if one.affected]
    topics = {topic for one in streams for topic in one.topics}
    theirs = [slot for slot in slots if slot.rpartition("/")[0] in topics] or slots
    firsts = {group[0] for one in streams for group in one.affected if group}
    own = [slot for slot in theirs if firsts & set(slot.rpartition("/")[0].split("."))]
    return own or theirs
