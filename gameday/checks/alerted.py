"""Did the platform's alert fire while the fault was on?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.timings import NS

__all__ = ["alerted"]

SERIES = ".alerts"
"""The suffix of a probe's field that counts the alerts that arrived where the on-call engineer reads them."""


def alerted(evidence: Evidence) -> Finding:
    """A counter of alerts (a probe's field `alerts`) stood still over the baseline and rose after the first act."""
    if evidence.inject_ns is None:
        return Finding("alerted", Verdict.UNKNOWN, "nothing was injected")
    names = [name for name in evidence.samples if name.startswith("component/") and name.endswith(SERIES)]
    if not names:
        why = 'no probe counts the platform\'s alerts. Remedy: a probe with fields = ["alerts"]'
        return Finding("alerted", Verdict.SKIPPED, why)
    for name in names:
        told = [s for s in evidence.samples[name] if s.value is not None]
        before = [s.value for s in told if s.counts_ns <= evidence.inject_ns]
        if not before or not told[len(before) :]:
            return Finding("alerted", Verdict.UNKNOWN, f"too few samples of {name} before and after the act")
        rise = next((s for s in told[len(before) :] if (s.value or 0) > (before[-1] or 0)), None)
        if rise is not None:
            after_s = (rise.counts_ns - evidence.inject_ns) / NS
            return Finding("alerted", Verdict.PASS, f"the alert arrived {after_s:.1f} s after the act", after_s)
    return Finding("alerted", Verdict.FAIL, "no alert arrived: the on-call engineer would not have known")
