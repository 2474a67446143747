"""Did everything around the struck component come back by itself?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.sampling.timings import probes
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["reconnected"]

LAST_PROBES = 3
"""A component that answered none of so many probes at the end does not answer; one may be lost."""


@whole
def reconnected(evidence: Evidence) -> Finding:
    """Fails when another component is not the process that it was at baseline, or doesn't answer at the end: something
    had to be started again for it to come back. On a machine without time also watchdogs do that, to what is well."""
    before, after = evidence.baseline, evidence.ends
    if before is None or after is None:
        return Finding("reconnected", Verdict.UNKNOWN, "processes were not marked before and after")
    others = [c for c, who in before.marks.identities.items() if who is not None and c not in evidence.touched]
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
