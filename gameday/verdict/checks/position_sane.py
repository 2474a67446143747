"""Was no consumer ever beyond the end of its log, and did no log give a place anew?"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from gameday.model import Evidence, Finding, Sample, Verdict
from gameday.sampling.timings import fall
from gameday.verdict.streams import whole

__all__ = ["position_sane"]


@whole
def position_sane(evidence: Evidence) -> Finding:
    """Per slot (samples end/<cursor>/<slot>, position/<cursor>/<slot>): the end never falls, for a log that has lost
    its newest records gives their places to others; and no position is beyond an end that was asked for later. A
    consumer that is beyond the end gets nothing, and shows no lag."""
    ends = {name.removeprefix("end/"): told for name, told in evidence.samples.items() if name.startswith("end/")}
    known = {slot: told for slot, told in ends.items() if any(s.value is not None for s in told)}
    if not known:
        return Finding("position_sane", Verdict.UNKNOWN, "there is nothing to judge: no log's end was sampled")
    bad: list[str] = []
    for slot, told in sorted(known.items()):
        if fell := fall(told):
            bad.append(f"the end of {slot} fell from {fell[0]:g} to {fell[1]:g}, so places in it are given anew")
        if beyond := _beyond(evidence.samples.get(f"position/{slot}", ()), told):
            bad.append(f"{slot} stands at {beyond[0]:g}, beyond the end at {beyond[1]:g}")
    if bad:
        return Finding("position_sane", Verdict.FAIL, "; ".join(bad[:3]), bad)
    if mute := sorted(ends.keys() - known.keys()):
        return Finding("position_sane", Verdict.UNKNOWN, f"the end of {', '.join(mute)} was never told")
    cursors = dict.fromkeys(slot.partition("/")[0] for slot in known)
    if mute := sorted(cursor for cursor in cursors if not _told(evidence, cursor)):
        return Finding("position_sane", Verdict.UNKNOWN, f"no position of {', '.join(mute)} was ever told")
    return Finding("position_sane", Verdict.PASS, f"{len(known)} slots: no end fell, and no position was beyond it")


def _told(evidence: Evidence, cursor: str) -> bool:
    """Return whether a cursor has told any position. It need not have one in each slot: it may have read nothing
    there."""
    prefix = f"position/{cursor}/"
    return any(s.value is not None for name, told in evidence.samples.items() if name.startswith(prefix) for s in told)


def _beyond(positions: Sequence[Sample], ends: Sequence[Sample]) -> tuple[float, float] | None:
    """The first position that is higher than the end that was asked for after it had been told."""
    later = [(s.at_ns, s.value) for s in ends if s.value is not None]
    asked = [at for at, _ in later]
    for sample in positions:
        place = bisect.bisect_left(asked, sample.counts_ns)
        if sample.value is not None and place < len(later) and sample.value > (later[place][1] or 0.0):
            return sample.value, later[place][1] or 0.0
    return None
