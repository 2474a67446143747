"""Did the wall clock run steadily? Times that servers tell are placed by it."""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.streams import whole

__all__ = ["STEP_MAX_S", "steady_clock"]

STEP_MAX_S = 1.0
"""How far the wall clock may move against the monotonic clock. NTP slews by at most 500 us a second: 0.3 s in ten
minutes."""


@whole
def steady_clock(evidence: Evidence) -> Finding:
    """Compare the wall clock with the monotonic clock, at the baseline and at the end.

    If the wall clock was stepped, or the machine slept (the monotonic clock doesn't count that), the run is unknown.
    """
    if evidence.baseline is None or evidence.ends is None:
        return Finding("steady_clock", Verdict.UNKNOWN, "there is nothing to judge: the run did not reach its end")
    began, ended = evidence.baseline.marks, evidence.ends
    step_s = (ended.at_us - began.at_us) / 1e6 - (ended.at_ns - began.at_ns) / 1e9
    if abs(step_s) <= STEP_MAX_S:
        return Finding("steady_clock", Verdict.PASS, f"the wall clock kept to {abs(step_s) * 1000:.0f} ms", step_s)
    why = f"the wall clock was stepped by {step_s:+.1f} s during the run, or the machine slept"
    return Finding("steady_clock", Verdict.UNKNOWN, why, step_s)
