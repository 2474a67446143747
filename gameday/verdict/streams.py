"""One finding of a check over all streams of a stack. Each is judged by itself, by its own evidence; what is not right
names its stream.

What is about the platform as a whole is asked once: such a check is marked with `whole`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gameday.model import Check, Evidence, Finding, Verdict, merge
from gameday.verdict import machine

__all__ = ["judged", "merged", "whole"]


def whole(check: Check) -> Check:
    """Mark a check that judges the platform, or all streams together: it is given the evidence of the whole run."""
    check.whole = True  # type: ignore[attr-defined]
    return check


def judged(check: Check, evidence: Evidence, untold: Callable[[str | None], Mapping[str, str]]) -> Finding:
    """The check's finding. What came too late is no fail while the machine had no time left.

    Args: untold: a stream's name, or None for all of them -> the checks that can't be judged there, and why
    (Stack.untold).
    """
    if len(evidence.followed) < 2 or getattr(check, "whole", False):
        return _judged(check, evidence, untold(None))
    found = {one.stream: _judged(check, one, untold(one.stream)) for one in evidence.each()}
    return merged(check.__name__, found)


def merged(name: str, found: Mapping[str, Finding]) -> Finding:
    """What was found of each stream as one finding: the worst verdict, and of which streams it is.

    What is the same of all of them is told once.
    """
    first, *others = found.values()
    if all(other == first for other in others):
        return first
    verdicts = [one.verdict for one in found.values()]
    verdict = Verdict.SKIPPED if set(verdicts) == {Verdict.SKIPPED} else merge(verdicts)
    telling = {stream: one for stream, one in found.items() if one.verdict is verdict}
    if verdict is Verdict.PASS:  # and what was not judged is no pass of its own
        telling |= {stream: one for stream, one in found.items() if one.verdict is Verdict.SKIPPED}
    why = "; ".join(f"{stream}: {one.why}" for stream, one in telling.items())
    timed = [one.timed for one in telling.values()]
    return Finding(
        name,
        verdict,
        why,
        {stream: one.evidence for stream, one in found.items()},
        timed[0] if all(timed) else None,
    )


def _judged(check: Check, evidence: Evidence, untold: Mapping[str, str]) -> Finding:
    name = check.__name__
    if name in untold:
        return Finding(name, Verdict.SKIPPED, f"not judged here: {untold[name]}")
    try:
        found: object = check(evidence)
    except Exception as e:  # noqa: BLE001 - what it would have found is not known, and the other checks are judged
        return Finding(name, Verdict.UNKNOWN, f"the check failed: {type(e).__name__}: {e}. Remedy: mend it")
    if not isinstance(found, Finding):
        return Finding(name, Verdict.UNKNOWN, f"the check returned {found!r:.60}, no Finding. Remedy: mend it")
    return machine.excused(found, evidence.samples)
