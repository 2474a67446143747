"""Was service restored, and the backlog drained, within the targets, and did it stay?"""

from gameday import timings
from gameday.model import Evidence, Finding, Measure, Verdict, merge

__all__ = ["recovered"]


def recovered(evidence: Evidence) -> Finding:
    """Compares the high bounds of mttr and drain with their targets. Unmeasured is unknown, unless what was bad is
    known to have been bad beyond the target. What went again has not recovered, and what the run waited for in
    vain is no pass."""
    judged = [
        _judge("MTTR", evidence.measures.get("mttr"), evidence.mttr_max_s),
        _judge("drain", evidence.measures.get("drain"), evidence.drain_max_s),
    ]
    if again := timings.relapse(evidence):
        judged.append((Verdict.FAIL, again))
    verdict = merge([v for v, _ in judged])
    if verdict is Verdict.PASS and evidence.recovered is False:
        judged.append((Verdict.UNKNOWN, "but the run waited for it in vain"))
        verdict = Verdict.UNKNOWN
    return Finding("recovered", verdict, ", ".join(why for _, why in judged))


def _judge(name: str, measure: Measure | None, max_s: float) -> tuple[Verdict, str]:
    if measure is None:
        return Verdict.UNKNOWN, f"{name} was not measured"
    if measure.high_s is not None:
        verdict = Verdict.PASS if measure.high_s <= max_s else Verdict.FAIL
        return verdict, f"{name} {measure.high_s:.2f} s of {max_s:g} s"
    if measure.low_s is not None and measure.low_s > max_s:
        return Verdict.FAIL, f"{name} more than {measure.low_s:.1f} s of {max_s:g} s: {measure.why}"
    return Verdict.UNKNOWN, f"{name} unmeasured: {measure.why}"
