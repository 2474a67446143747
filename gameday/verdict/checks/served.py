"""Did the struck streams' topics keep their leaders, and serve fetches, during the outage?"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from gameday.model import Evidence, Finding, Sample, Timed, Verdict
from gameday.sampling.timings import NS, WINDOW_SHARE_MIN, outage
from gameday.verdict.streams import whole

__all__ = ["served"]

ANSWERED_SHARE_MIN = 0.9
"""The share of fetches that must be answered. One in ten may be lost to a time-out; a topic without a leader answers
none."""

TAKEN_OVER_S = 18.0
"""How long a slot may go unanswered where another broker takes over: twice Kafka's default session of a broker (9 s). A
new controller waits for one whole session before it moves a leader."""

BROKER = "broker"
"""The role whose members hold the topics."""


@whole
def served(evidence: Evidence) -> Finding:
    """Fail if a slot was not served by its leader, from the component's last answer before the outage until service was
    restored. The samples are serving/<topic>/<partition>; each is a real fetch.

    If one of several brokers was struck, another may take over its slots. Then each slot must be served again, by any
    leader, within TAKEN_OVER_S.
    """
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
    if evidence.role == BROKER and evidence.spared:
        return _taken_over(evidence, slots, down_ns, until_ns)
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


def _taken_over(evidence: Evidence, slots: Sequence[str], down_ns: int, until_ns: int) -> Finding:
    """Judge how long each slot went without an answer, and tell how many have another leader than before."""
    longest: dict[str, float] = {}
    moved: list[str] = []
    for slot in slots:
        series = evidence.samples[f"serving/{slot}"]
        answers = [s for s in series if s.value is not None]
        before = [s for s in answers if s.counts_ns <= down_ns]
        asked = [s for s in series if down_ns < s.counts_ns <= until_ns]
        if not before or len(asked) < WINDOW_SHARE_MIN * (until_ns - down_ns) / _period_ns(series):
            why = (
                f"{slot} was asked too rarely in {(until_ns - down_ns) / NS:.1f} s of outage, or never answered before"
            )
            return Finding("served", Verdict.UNKNOWN, why)
        inside = [s for s in asked if s.value is not None]
        after = next((s.counts_ns for s in answers if s.counts_ns > until_ns), until_ns)
        at = [before[-1].counts_ns, *(s.counts_ns for s in inside), after]
        longest[slot] = max(b - a for a, b in pairwise(at)) / NS
        moved += [slot] if inside and inside[-1].value != before[-1].value else []
    worst = max(longest, key=lambda slot: longest[slot])
    took = (
        f"after {', '.join(evidence.timed)} fell silent {worst} was without an answer for up to {longest[worst]:.1f} s"
    )
    led = f"{len(moved)} of {len(slots)} slots have another leader"
    verdict = Verdict.PASS if longest[worst] <= TAKEN_OVER_S else Verdict.FAIL
    timed = None if verdict is Verdict.PASS else Timed(down_ns, until_ns, longest[worst] - TAKEN_OVER_S)
    return Finding("served", verdict, f"{took}, of {TAKEN_OVER_S:g} s; {led}", longest, timed)


def _period_ns(series: Sequence[Sample]) -> float:
    """Return the usual time between two samples of the series."""
    return median(b.at_ns - a.at_ns for a, b in pairwise(series)) if len(series) > 1 else float("inf")


def _slots(evidence: Evidence) -> list[str]:
    """Return the slots of the affected streams; of these only those whose topic names an affected group's first field
    (…orders.berlin), unless none does."""
    slots = sorted(name.removeprefix("serving/") for name in evidence.samples if name.startswith("serving/"))
    streams = [one for one in evidence.each() if one.affected]
    topics = {topic for one in streams for topic in one.topics}
    known = [slot for slot in slots if slot.rpartition("/")[0] in topics] or slots
    firsts = {group[0] for one in streams for group in one.affected if group}
    named = [slot for slot in known if firsts & set(slot.rpartition("/")[0].split("."))]
    return named or known
