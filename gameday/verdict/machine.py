"""The machine is a suspect: what came too late while it had no time left says nothing about the platform.

Checks say of a fail that it rests on time, and on which (Finding.timed); here it is held against how short of time the
machine was just then. What a fail rests on besides (loss, doubling, change, position) is never excused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gameday.model import Evidence, Finding, Sample, Samples, Timed, Verdict

__all__ = ["SHORT", "Second", "busy", "excused", "seconds", "since_act"]

NS = 1_000_000_000

SHORT: Mapping[str, float] = {"cpu": 0.9, "memory": 0.1, "io": 0.25, "stolen": 0.1, "late": 0.1}
"""Figure -> from when on the machine is short of time, each of one second: the share of it in which some task waited
for a processor, for memory, for a disk; the share of the processors that went to other machines; and how late the
sampler was. cpu and io are measured (benchmarks/busy.py, docs/decisions.md); the others are chosen, well above what any
night has had."""

SECOND_NS = NS

WORDS: Mapping[str, str] = {
    "cpu": "tasks waited for a processor {:.0%} of the time",
    "memory": "tasks waited for memory {:.0%} of the time",
    "io": "tasks waited for a disk {:.0%} of the time",
    "stolen": "other machines took {:.0%} of its processors",
    "late": "the sampler was up to {:.2f} s late",
}


@dataclass(frozen=True)
class Second:
    """About one second of the machine's. figures: as in SHORT, those that it tells."""

    from_ns: int
    to_ns: int
    figures: Mapping[str, float]

    @cached_property
    def lacks(self) -> tuple[str, ...]:
        """By which figures it was short of time; (): it was not."""
        return tuple(name for name, value in self.figures.items() if value >= SHORT[name])


def since_act(evidence: Evidence, over_s: float | None = None, to_ns: int | None = None) -> Timed | None:
    """The time from the first act to to_ns (None: to the run's end). None: the run did not come to that."""
    end_ns = to_ns or (evidence.ends.at_ns if evidence.ends else None)
    return None if evidence.inject_ns is None or end_ns is None else Timed(evidence.inject_ns, end_ns, over_s)


def excused(finding: Finding, samples: Samples) -> Finding:
    """The finding; unknown in place of a fail that rests on time alone, where the machine had none left."""
    if finding.verdict is not Verdict.FAIL or finding.timed is None:
        return replace(finding, timed=None)
    told = busy(samples, finding.timed)
    if told is None:
        return finding
    return replace(finding, verdict=Verdict.UNKNOWN, why=f"the machine was busy ({told}): {finding.why}")


def busy(samples: Samples, timed: Timed) -> str | None:
    """How short of time the machine was, in words, where that explains what came too late: it was so for at least as
    long as that, or where nobody can tell how long, for half of the time that it is about. None: it does not."""
    span_s = (timed.to_ns - timed.from_ns) / NS
    wanted_s = span_s / 2 if timed.over_s is None else timed.over_s
    short = [(s, over_s) for s in seconds(samples) if s.lacks and (over_s := _shared_s(s, timed)) > 0]
    short_s = sum(over_s for _, over_s in short)
    if not short or short_s < wanted_s:
        return None
    names = [name for name in SHORT if any(name in s.lacks for s, _ in short)]
    told = ", ".join(WORDS[name].format(_typical(name, [s for s, _ in short])) for name in names)
    return f"for {short_s:.1f} of {span_s:.1f} s: {told}"


def seconds(samples: Samples) -> Iterator[Second]:
    """Second by second, as far as the sampler came to look."""
    looks = {name: [s for s in samples.get(f"machine/{name}", ()) if s.value is not None] for name in SHORT}
    moments = [s.at_ns for s in looks["late"]]
    begin = 0
    for end, at_ns in enumerate(moments):
        if at_ns - moments[begin] < SECOND_NS:
            continue
        from_ns, took_s = moments[begin], (at_ns - moments[begin]) / NS
        figures = {
            name: share
            for name in SHORT
            if name != "late" and (share := _share(looks[name], from_ns, at_ns, took_s)) is not None
        }
        figures["late"] = max(s.value or 0.0 for s in looks["late"][begin + 1 : end + 1])
        yield Second(from_ns, at_ns, figures)
        begin = end


def _share(looks: Sequence[Sample], from_ns: int, to_ns: int, took_s: float) -> float | None:
    """By how much a sum grew, of what it could have grown at most; None: it was not told then."""
    inside = [s.value for s in looks if from_ns <= s.at_ns <= to_ns]
    if len(inside) < 2 or inside[0] is None or inside[-1] is None:
        return None
    return min(1.0, (inside[-1] - inside[0]) / took_s)


def _shared_s(second: Second, timed: Timed) -> float:
    return max(0, min(second.to_ns, timed.to_ns) - max(second.from_ns, timed.from_ns)) / NS


def _typical(name: str, short: Sequence[Second]) -> float:
    """Of the sampler's lateness the worst, of shares the mean."""
    values = [s.figures[name] for s in short if name in s.figures]
    return max(values) if name == "late" else sum(values) / len(values)
