"""Did the run that was struck end, and say why?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.streams import whole

__all__ = ["job_failed_cleanly"]

ENDED = ("Failed", "Crashed", "Cancelled", "TimedOut", "Completed")
MESSAGE_CHARS_MAX = 1000
"""The longest message that still counts as one. A traceback is longer, and doesn't fit into an alert."""


@whole
def job_failed_cleanly(evidence: Evidence) -> Finding:
    """Fail if a run that the test asked for has not ended, or has failed without a short message.

    A run that was killed has the state Crashed, in the orchestrator's own words.
    """
    if not evidence.struck:
        return Finding("job_failed_cleanly", Verdict.UNKNOWN, "there is nothing to judge: no run was struck")
    for run in evidence.struck:
        if run.state not in ENDED:
            return Finding("job_failed_cleanly", Verdict.FAIL, f"run {run.name} is left {run.state}", run.id)
        if run.state != "Completed" and (not run.message or len(run.message) > MESSAGE_CHARS_MAX):
            why = f"run {run.name} is {run.state} with {len(run.message)} characters of message"
            return Finding("job_failed_cleanly", Verdict.FAIL, why, run.message)
    told = "; ".join(f"{run.name} is {run.state}: {run.message[:200]}" for run in evidence.struck)
    return Finding("job_failed_cleanly", Verdict.PASS, told, [run.id for run in evidence.struck])
