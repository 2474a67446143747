"""Did the wall clock go as fast as time does? What others tell of their times is placed by it."""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.streams import whole

__all__ = ["STEP_MAX_S", "steady_clock"]

STEP_MAX_S = 1.0
"""A clock that is being slewed by NTP gains or loses 500 us a second at most: 0.3 s in ten minutes."""


@whole
def steady_clock(evidence: Evidence) -> Finding:
    """Compares the two clocks at baseline and at the end. Where the wall clock was stepped, or the machine slept (which
    its monotonic clock does not count), the run proves nothing."""
    if evidence.baseline is None or evidence.ends is None:
        return Finding("steady_clock", Verdict.UNKNOWN, "there is nothing to judge: the run did not reach its end")
    began, ended = evidence.baseline.marks, evidence.ends
    step_s = (ended.at_us - began.at_us) / 1e6 - (ended.at_ns - began.at_ns) / 1e9
    if abs(step_s) <= STEP_MAX_S:
        return Finding("steady_clock", Verdict.PASS, f"the wall clock kept to {abs(step_s) * 1000:.0f} ms", step_s)
    why = f"the wall clock was stepped by {step_s:+.1f} s during the run, or the machine slept"
    return Finding("steady_clock", Verdict.UNKNOWN, why, step_s)
