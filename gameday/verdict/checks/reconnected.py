"""Did everything around the struck component come back by itself?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.sampling.timings import probes
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["reconnected"]

LAST_PROBES = 3
"""A component that answered none of this many last probes does not answer. A single probe may be lost."""


@whole
def reconnected(evidence: Evidence) -> Finding:
    """Fail if another component is a different process than at the baseline, or doesn't answer at the end: then it did
    not come back by itself.

    On a busy machine watchdogs also restart what is well, so such a fail rests on time.
    """
    before, after = evidence.baseline, evidence.ends
    if before is None or after is None:
        return Finding("reconnected", Verdict.UNKNOWN, "processes were not marked before and after")
    others = [c for c, was in before.marks.identities.items() if was is not None and c not in evidence.touched]
    if not others:
        return Finding("reconnected", Verdict.UNKNOWN, "there is nothing to judge: no other process is known")
    bad = [
        f"{c} is another process than before" for c in others if after.identities.get(c) != before.marks.identities[c]
    ]
    for component in others:
        for name in probes(evidence.samples, component):
            last = evidence.samples[name][-LAST_PROBES:]
            if last and all(s.value is None for s in last):
                bad.append(f"{component} does not answer ({name.rpartition('/')[2]})")
    if bad:
        return Finding("reconnected", Verdict.FAIL, ", ".join(bad), bad, since_act(evidence))
    why = f"{', '.join(others)} are the same processes as before, and answer"
    return Finding("reconnected", Verdict.PASS, why, others)
