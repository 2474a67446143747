"""Were the streams that the struck component doesn't carry left alone?"""

from __future__ import annotations

import math

import numpy as np

from gameday.model import Evidence, Finding, Group, Marks, Timed, Verdict
from gameday.sampling.timings import BAD, GOOD, NS, affected, delays, groups, shown
from gameday.verdict.checks._damage import compare, label

__all__ = ["BEHIND_MAX_S", "GOOD_SHARE_MIN", "isolation"]

GOOD_SHARE_MIN = 0.99
BEHIND_MAX_S = 5.0
"""How far behind another stream may be. If its sink writes so seldom that a healthy stream may be further behind, that
bound holds instead."""


def isolation(evidence: Evidence) -> Finding:
    """Fail if the fault touched anything that the struck component doesn't carry.

    From inject to restore, the other streams must be good in GOOD_SHARE_MIN of the samples and never BEHIND_MAX_S
    behind. The other components must keep their processes and connections. The other streams' records must be right.
    """
    every = groups(evidence)
    struck = set(affected(evidence))
    others = tuple(g for g in every if g not in struck)
    if every and not others:
        why = f"every stream's way goes through {evidence.component}: there is no other to leave alone"
        return Finding("isolation", Verdict.SKIPPED, why)
    if not others or evidence.inject_ns is None or evidence.baseline is None or evidence.ends is None:
        return Finding("isolation", Verdict.UNKNOWN, "there is nothing to judge: no other stream, or no act")
    restore = evidence.measures.get("restore")
    if restore is None or restore.high_s is None:
        return Finding("isolation", Verdict.UNKNOWN, "restore is unmeasured: until when the others count is not known")
    from_ns, to_ns = evidence.inject_ns, evidence.inject_ns + int(restore.high_s * NS)
    share, unseen = _good_share(evidence, others, from_ns, to_ns)
    behind_s, last = _furthest_behind(evidence, others, from_ns, to_ns)
    bad = _others_changed(evidence, evidence.baseline.marks, evidence.ends, from_ns, to_ns)
    if share is not None and share < GOOD_SHARE_MIN:
        bad.append(f"good in {math.floor(share * 1000) / 10:.1f} % of samples (at least {GOOD_SHARE_MIN * 100:.0f} %)")
    behind_max_s = max(BEHIND_MAX_S, evidence.baseline.bound_s)
    if behind_s > behind_max_s:
        bad.append(f"{label(last) or evidence.visible} was {behind_s:.1f} s behind (at most {behind_max_s:.3g} s)")
    known = evidence.baseline.marks.identities
    gone = [c for c in known if c not in evidence.touched and known[c] and not evidence.ends.identities.get(c)]
    timed = None if gone else Timed(from_ns, to_ns)  # load is no reason for a process that never came back
    for damage in compare(evidence):
        if evidence.sampled_of((damage.group,))[0] in others and (damage.lost or damage.doubled or damage.changed):
            where = f" in {label(damage.group)}" if damage.group else ""
            bad.append(f"{damage.hop} is not what the ledger says{where}")
            timed = None
    others_named = f"{len(others)} other {'shards' if evidence.sharded else 'streams'}"
    figures = {"good_share": share, "behind_max_s": round(behind_s, 3), "streams": len(others), "unseen": unseen}
    if bad:
        return Finding("isolation", Verdict.FAIL, f"{others_named}: {', '.join(bad[:4])}", figures, timed)
    if share is None or unseen:
        which = ", ".join(unseen[:3]) or "the other streams"
        return Finding("isolation", Verdict.UNKNOWN, f"too few samples of {which} between inject and restore", figures)
    why = f"{others_named}: good in {share * 100:.1f} % of samples, at most {behind_s:.2f} s behind"
    return Finding("isolation", Verdict.PASS, f"{why}, same processes", figures)


def _good_share(
    evidence: Evidence, others: tuple[Group, ...], from_ns: int, to_ns: int
) -> tuple[float | None, list[str]]:
    """Return the share of good samples over all other streams, and the series with fewer than half of the samples that
    were expected."""
    good_count, told_count, unseen = 0, 0, []
    for state in shown(evidence, others):
        inside = state.status[(state.at_ns >= from_ns) & (state.at_ns <= to_ns)]
        judged_count = int(np.count_nonzero((inside == GOOD) | (inside == BAD)))
        expected = (to_ns - from_ns) / state.period_ns if state.period_ns else 0
        if not judged_count or judged_count < expected / 2:
            unseen.append(state.series)
        good_count += int(np.count_nonzero(inside == GOOD))
        told_count += judged_count
    return (good_count / told_count if told_count else None), unseen


def _furthest_behind(evidence: Evidence, others: tuple[Group, ...], from_ns: int, to_ns: int) -> tuple[float, Group]:
    """Return the largest delay of the other streams, and the group that had it."""
    worst = (0.0, others[0])
    for group in others:
        series = delays(evidence.samples, group, evidence.visible, evidence.ledger)
        inside = series.low_s[(series.at_ns >= from_ns) & (series.at_ns <= to_ns) & ~np.isnan(series.low_s)]
        worst = max(worst, (float(np.max(inside, initial=0.0)), group))
    return worst


def _others_changed(evidence: Evidence, before: Marks, after: Marks, from_ns: int, to_ns: int) -> list[str]:
    """Return which other components are another process now, or connected again between inject and restore, in
    words."""
    others = [c for c in before.identities if c not in evidence.touched]
    bad = [
        f"{c} is another process than before: it ended with the fault, or someone else restarted it"
        for c in others
        if after.identities.get(c) != before.identities[c]
    ]
    for name, samples in evidence.samples.items():
        if not name.startswith("component/") or not name.endswith(".connects"):
            continue
        component = name.split("/")[1]
        if component in evidence.touched:
            continue
        upto = [s for s in samples if s.value is not None and s.counts_ns <= to_ns]
        first = next((s.value for s in reversed(upto) if s.counts_ns < from_ns), upto[0].value if upto else None)
        if upto and upto[-1].value != first:
            bad.append(f"{component} connected again ({first:g} → {upto[-1].value:g})")
    return bad
