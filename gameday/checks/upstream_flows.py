"""Did the log go on growing while the component was down?"""

from gameday.model import Evidence, Finding, Timed, Verdict
from gameday.timings import NS, outage

__all__ = ["upstream_flows"]

TELLING_S = 1.0
"""In a shorter outage a quiet topic may have nothing new: that is no proof of harm."""


def upstream_flows(evidence: Evidence) -> Finding:
    """Per topic: the log's end (samples end/<cursor>/<topic>/<partition>) rose between the component's last answer
    before and its first after the outage."""
    down_ns, up_ns = outage(evidence)
    if down_ns is None:
        return Finding("upstream_flows", Verdict.UNKNOWN, "the component was never seen silent, so there was no outage")
    until_ns = up_ns if up_ns is not None else max(s[-1].counts_ns for s in evidence.samples.values() if s)
    rises: dict[str, float] = {}
    seen: dict[str, int] = {}
    for name, samples in evidence.samples.items():
        if not name.startswith("end/") or name.count("/") < 2:  # the latter: it never answered
            continue
        topic = name.split("/", 2)[2].rpartition("/")[0]
        ends = [s.value for s in samples if s.value is not None and down_ns <= s.at_ns and s.counts_ns <= until_ns]
        rises[topic] = rises.get(topic, 0.0) + (ends[-1] - ends[0] if ends else 0.0)
        seen[topic] = max(seen.get(topic, 0), len(ends))
    lasted_s = (until_ns - down_ns) / NS
    if not rises or min(seen.values()) < 2:
        why = f"too few samples of the log's ends within the outage of {lasted_s:.2f} s"
        return Finding("upstream_flows", Verdict.UNKNOWN, why)
    figures = {topic: int(rise) for topic, rise in sorted(rises.items())}
    if still := [topic for topic, rise in figures.items() if rise <= 0]:
        verdict = Verdict.FAIL if lasted_s >= TELLING_S else Verdict.UNKNOWN
        why = f"{', '.join(still)} took nothing in {lasted_s:.2f} s of outage"
        return Finding("upstream_flows", verdict, why, figures, Timed(down_ns, until_ns))
    told = ", ".join(f"{topic} +{rise}" for topic, rise in figures.items())
    return Finding("upstream_flows", Verdict.PASS, f"in {lasted_s:.2f} s of outage: {told}", figures)
