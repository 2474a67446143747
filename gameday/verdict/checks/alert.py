"""Did the platform's own alert do what the test demands: fire in time, or stay silent?"""

from dataclasses import replace
from itertools import pairwise

from gameday.model import ELSEWHERE, FIRING, INACTIVE, NOT_WATCHED, Evidence, Finding, Sample, Verdict
from gameday.sampling.timings import NS
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["alert"]

QUIET_S = 3.0
"""For how long before the first act the alert must have been seen inactive."""

UNSEEN_MAX_S = 3.0
"""The longest gap between two samples of the alert. In a longer gap it may have fired unseen."""


@whole
def alert(evidence: Evidence) -> Finding:
    """Fail if the alert does not fire within alert_within_s of the impact, or, where it must stay silent, if it fires.

    It must have been inactive before the first act. "It stayed silent" counts only if the alert was seen all the time
    and its rule was evaluated since the act. If it was not seen, or an alert of that name was active under other
    labels, the finding is unknown.
    """
    name, within_s = evidence.alert, evidence.alert_within_s
    if name is None or evidence.inject_ns is None:
        return Finding("alert", Verdict.UNKNOWN, "no alert is named" if name is None else "nothing was injected")
    if f"alert/{name}" not in evidence.samples:
        if trouble := evidence.symptoms.get("alert.trouble"):
            return Finding("alert", Verdict.UNKNOWN, f"{name} was not seen: {trouble}")
        return Finding("alert", Verdict.SKIPPED, NOT_WATCHED)
    answers = [s for s in evidence.samples[f"alert/{name}"] if s.value is not None]
    before = [s for s in answers if evidence.inject_ns - QUIET_S * NS <= s.counts_ns <= evidence.inject_ns]
    after = [s for s in answers if s.at_ns >= evidence.inject_ns]
    if not before or not after:
        why = evidence.symptoms.get("alert.trouble") or "too few answers before and after the act"
        return Finding("alert", Verdict.UNKNOWN, f"{name} was not seen: {why}")
    if any(s.value != INACTIVE for s in before):
        return Finding("alert", Verdict.UNKNOWN, f"{name} was active before the act, so nothing is shown of it")
    if elsewhere := _elsewhere(evidence, name):
        why = f"{name} was active under other labels than gameday.toml names: {elsewhere}"
        return Finding("alert", Verdict.UNKNOWN, f"{why}. Remedy: [alerts.labels], as the rule has them")
    finding = _silent(evidence, name, after) if within_s is None else _fires(evidence, name, within_s, after)
    absent_s = evidence.symptoms.get("silence.absent_s")
    if not absent_s:
        return finding
    return replace(finding, why=f"{finding.why}; its silence was absent for up to {absent_s:g} s, so it may have paged")


def _elsewhere(evidence: Evidence, name: str) -> str:
    """Return the labels under which alerts of this name were active during the run, other than the configured ones."""
    prefix, since_ns = f"alert/{name}{ELSEWHERE}", (evidence.inject_ns or 0) - QUIET_S * NS
    return "; ".join(
        series.removeprefix(prefix)
        for series, samples in sorted(evidence.samples.items())
        if series.startswith(prefix) and any(s.value is not None and s.counts_ns >= since_ns for s in samples)
    )


def _fires(evidence: Evidence, name: str, within_s: float, after: list[Sample]) -> Finding:
    fired, resolved = evidence.measures["alert"], evidence.measures["resolve"]
    if fired.high_s is None:
        if trouble := _unseen(evidence, after):
            return Finding("alert", Verdict.UNKNOWN, f"{name} was not seen to fire, but {trouble}")
        why = f"{name} stayed silent: the on-call engineer would not have known"
        return Finding("alert", Verdict.FAIL, why, timed=since_act(evidence))
    took_s = fired.high_s - (evidence.measures["impact"].low_s or 0.0)
    figures = {"alert_s": fired.high_s, "resolve_s": resolved.high_s}
    verdict = Verdict.PASS if took_s <= within_s else Verdict.FAIL
    over = resolved.why if resolved.high_s is None else f"over {resolved.high_s:.1f} s after the end of the harm"
    why = f"{name} fired {took_s:.1f} s after the impact, of {within_s:g} s; {over}"
    timed = since_act(evidence, took_s - within_s, (evidence.inject_ns or 0) + int(fired.high_s * NS))
    return Finding("alert", verdict, why, figures, timed)


def _silent(evidence: Evidence, name: str, after: list[Sample]) -> Finding:
    first = next((s for s in after if s.value == FIRING), None)
    if first is not None:
        after_s = (first.counts_ns - (evidence.inject_ns or 0)) / NS
        why = f"{name} fired {after_s:.1f} s after the act, and should page nobody"
        return Finding("alert", Verdict.FAIL, why, timed=since_act(evidence, to_ns=first.counts_ns))
    if trouble := _unseen(evidence, after):
        return Finding("alert", Verdict.UNKNOWN, f"{name} was not seen to fire, but {trouble}")
    return Finding("alert", Verdict.PASS, f"{name} stayed silent")


def _unseen(evidence: Evidence, after: list[Sample]) -> str | None:
    """Return why not having seen the alert fire proves nothing; None: it was seen well enough."""
    asked = [s.at_ns for s in evidence.samples[f"alert/{evidence.alert}"]]
    end_ns = max(asked[-1], evidence.ends.at_ns if evidence.ends else 0)
    at = [evidence.inject_ns or 0, *(s.at_ns for s in after), end_ns]
    gap_s = max(b - a for a, b in pairwise(at)) / NS
    if gap_s > UNSEEN_MAX_S:
        return f"for {gap_s:.1f} s there was no answer"
    judged = [s.value for s in evidence.samples.get(f"alert/{evidence.alert}.evaluated", ()) if s.at_ns >= at[0]]
    known = [value for value in judged if value is not None]
    return None if known and known[-1] > known[0] else "its rule was not judged anew"
