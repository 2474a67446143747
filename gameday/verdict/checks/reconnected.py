"""Did everything around the struck component come back by itself?"""

from collections.abc import Sequence

from gameday.model import Evidence, Finding, Sample, Verdict
from gameday.sampling.timings import NS, probes
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["reconnected"]

LAST_PROBES = 3
"""A component that answered none of this many last probes does not answer. A single probe may be lost."""

SILENT_MAX_S = 10.0
"""A busy machine makes answers late, and keeps no process from all answers for so long."""


@whole
def reconnected(evidence: Evidence) -> Finding:
    """Fail if another component is a different process than at the baseline, or doesn't answer at the end: then it did
    not come back by itself.

    On a busy machine watchdogs also restart what is well, and answers are late, so such a fail rests on time. That a
    component has no process at the end, or was silent for the last SILENT_MAX_S, does not: it has not come back at all.
    """
    before, after = evidence.baseline, evidence.ends
    if before is None or after is None:
        return Finding("reconnected", Verdict.UNKNOWN, "processes were not marked before and after")
    others = [c for c, was in before.marks.identities.items() if was is not None and c not in evidence.touched]
    if not others:
        return Finding("reconnected", Verdict.UNKNOWN, "there is nothing to judge: no other process is known")
    bad, gone = [], False
    for component in others:
        now = after.identities.get(component)
        if now != before.marks.identities[component]:
            gone |= now is None
            is_ = "is not running" if now is None else "is another process than before"
            bad.append(f"{component} {is_}")
    for component in others:
        for name in probes(evidence.samples, component):
            samples = evidence.samples[name]
            if samples and all(s.value is None for s in samples[-LAST_PROBES:]):
                silent_s = _silent_s(samples)
                gone |= silent_s >= SILENT_MAX_S
                bad.append(f"{component} does not answer ({name.rpartition('/')[2]}) for {silent_s:.1f} s")
    if bad:
        return Finding("reconnected", Verdict.FAIL, ", ".join(bad), bad, None if gone else since_act(evidence))
    why = f"{', '.join(others)} are the same processes as before, and answer"
    return Finding("reconnected", Verdict.PASS, why, others)


def _silent_s(samples: Sequence[Sample]) -> float:
    """Return how long nothing has been answered at the end: from the first probe after the last answer to the last
    probe."""
    place = next((n for n in range(len(samples), 0, -1) if samples[n - 1].value is not None), 0)
    return (samples[-1].at_ns - samples[place].at_ns) / NS if place < len(samples) else 0.0
