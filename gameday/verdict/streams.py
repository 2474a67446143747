"""Makes one finding of a check over all streams of a stack. Each stream is judged alone, by its own evidence, and the
finding names the streams that are not right.

A check about the platform as a whole is marked with `whole` and is called once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gameday.model import Check, Evidence, Finding, Verdict, merge
from gameday.verdict import machine

__all__ = ["judged", "merged", "whole"]


def whole(check: Check) -> Check:
    """Mark a check that judges the platform, or all streams together. It gets the evidence of the whole run."""
    check.whole = True  # type: ignore[attr-defined]
    return check


def judged(check: Check, evidence: Evidence, untold: Callable[[str | None], Mapping[str, str]]) -> Finding:
    """Return the check's finding. Something that came too late is unknown, not a fail, if the machine was busy.

    untold: takes a stream's name, or None for all streams, and returns the checks that can't be judged there, each with
    the reason (Stack.untold).
    """
    if len(evidence.followed) < 2 or getattr(check, "whole", False):
        return _judged(check, evidence, untold(None))
    findings = {one.stream: _judged(check, one, untold(one.stream)) for one in evidence.each()}
    return merged(check.__name__, findings)


def merged(name: str, findings: Mapping[str, Finding]) -> Finding:
    """Merge the findings of all streams into one: the worst verdict, with the streams that have it.

    If all streams have the same finding, it is returned as it is.
    """
    first, *others = findings.values()
    if all(other == first for other in others):
        return first
    verdicts = [one.verdict for one in findings.values()]
    verdict = Verdict.SKIPPED if set(verdicts) == {Verdict.SKIPPED} else merge(verdicts)
    telling = {stream: one for stream, one in findings.items() if one.verdict is verdict}
    if verdict is Verdict.PASS:  # a stream that was not judged is named too
        telling |= {stream: one for stream, one in findings.items() if one.verdict is Verdict.SKIPPED}
    why = "; ".join(f"{stream}: {one.why}" for stream, one in telling.items())
    timed = [one.timed for one in telling.values()]
    return Finding(
        name,
        verdict,
        why,
        {stream: one.evidence for stream, one in findings.items()},
        timed[0] if all(timed) else None,
    )


def _judged(check: Check, evidence: Evidence, untold: Mapping[str, str]) -> Finding:
    name = check.__name__
    if name in untold:
        return Finding(name, Verdict.SKIPPED, f"not judged here: {untold[name]}")
    try:
        result: object = check(evidence)
    except Exception as e:  # noqa: BLE001 - this check's answer is unknown; the other checks are still judged
        return Finding(name, Verdict.UNKNOWN, f"the check failed: {type(e).__name__}: {e}. Remedy: mend the check")
    if not isinstance(result, Finding):
        return Finding(name, Verdict.UNKNOWN, f"the check returned {result!r:.60}, no Finding. Remedy: mend the check")
    return machine.excused(result, evidence.samples)
