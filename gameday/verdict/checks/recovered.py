"""Was service restored, and the backlog drained, within the targets, and did it stay so?"""

from dataclasses import replace

from gameday.model import Evidence, Finding, Measure, Timed, Verdict, merge
from gameday.sampling import timings
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["recovered"]


@whole
def recovered(evidence: Evidence) -> Finding:
    """Compare the high bounds of mttr and drain with their targets.

    A missing measure is unknown, unless the platform is known to have been bad for longer than the target. A platform
    that failed again afterwards has not recovered. If the run waited for recovery in vain, it is no pass.

    A plan that asks for a run of a job, and besides at most arms points that end no process, need not harm anything:
    then it passes if nothing was silent or behind.
    """
    if _need_not_harm(evidence) and timings.unharmed(replace(evidence, acts=evidence.acts[:1])):
        return Finding("recovered", Verdict.PASS, "nothing was silent or behind because of it")
    judged = [
        _judge("MTTR", evidence.measures.get("mttr"), evidence.mttr_max_s),
        _judge("drain", evidence.measures.get("drain"), evidence.drain_max_s),
    ]
    if again := timings.relapse(evidence):
        judged.append((Verdict.FAIL, again.why))
    verdict = merge([v for v, _ in judged])
    if verdict is Verdict.PASS and evidence.recovered is False:
        judged.append((Verdict.UNKNOWN, "but the run waited for it in vain"))
        verdict = Verdict.UNKNOWN
    started_again = again is not None and again.silent_ns is None
    timed = None if started_again or verdict is not Verdict.FAIL else _timed(evidence, again)
    return Finding("recovered", verdict, ", ".join(why for _, why in judged), timed=timed)


def _need_not_harm(evidence: Evidence) -> bool:
    """Whether the plan ends with asking for a job, and the points that it armed before have ended no process."""
    before, after = evidence.baseline, evidence.ends
    armed = [str(act.args.get("component")) for act in evidence.acts if act.fault == "failpoint"]
    asked = sum(act.fault == "ask" for act in evidence.acts)
    if not evidence.acts or evidence.acts[-1].fault != "ask" or len(armed) + asked < len(evidence.acts):
        return False
    if not armed:
        return True
    if before is None or after is None:
        return False
    same = (before.marks.identities.get(one) == after.identities.get(one) is not None for one in armed)
    return all(same)


def _timed(evidence: Evidence, again: timings.Relapse | None) -> Timed | None:
    """Return the span that came too late, and by how much: the time since the act, or, if the platform fell silent
    again, that silence."""
    if again is not None and again.silent_ns is not None:
        return Timed(*again.silent_ns)
    clock_ns, inject_ns = evidence.clock_ns, evidence.inject_ns
    targets = (("mttr", clock_ns, evidence.mttr_max_s), ("drain", inject_ns, evidence.drain_max_s))
    over_s, to_ns = 0.0, 0
    for name, from_ns, max_s in targets:
        measure = evidence.measures.get(name)
        if measure is None or measure.high_s is None or from_ns is None:
            return since_act(evidence)  # it was never back, so nobody knows how late it would have been
        over_s, to_ns = max(over_s, measure.high_s - max_s), max(to_ns, from_ns + int(measure.high_s * timings.NS))
    return since_act(evidence, over_s, to_ns)


def _judge(name: str, measure: Measure | None, max_s: float) -> tuple[Verdict, str]:
    if measure is None:
        return Verdict.UNKNOWN, f"{name} was not measured"
    if measure.high_s is not None:
        verdict = Verdict.PASS if measure.high_s <= max_s else Verdict.FAIL
        return verdict, f"{name} {measure.high_s:.2f} s of {max_s:g} s"
    if measure.low_s is not None and measure.low_s > max_s:
        return Verdict.FAIL, f"{name} more than {measure.low_s:.1f} s of {max_s:g} s: {measure.why}"
    return Verdict.UNKNOWN, f"{name} unmeasured: {measure.why}"
