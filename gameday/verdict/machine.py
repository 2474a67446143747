"""Tells whether the machine was too busy for a delay to say anything about the platform.

A check says whether its fail rests on time, and on which span (Finding.timed). This module compares that span with how
busy the machine was. A fail that rests on anything else (loss, doubling, change, position) is never excused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gameday.model import Evidence, Finding, Sample, Samples, Timed, Verdict

__all__ = ["SHORT", "Second", "busy", "excused", "seconds", "since_act"]

NS = 1_000_000_000

SHORT: Mapping[str, float] = {"cpu": 0.9, "memory": 0.1, "io": 0.25, "stolen": 0.1, "late": 0.1}
"""Figure -> the value from which on the machine counts as busy in one second.

cpu, memory, io: the share of the second in which some task waited for a processor, for memory, for a disk. stolen: the
share of the processors' time that went to other machines. late: by how many seconds the sampler was late. cpu and io
are measured (benchmarks/busy.py, docs/decisions.md); the others are chosen, well above the figures of any night so
far."""

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
    """About one second of the machine. figures: as in SHORT, those that are known."""

    from_ns: int
    to_ns: int
    figures: Mapping[str, float]

    @cached_property
    def lacks(self) -> tuple[str, ...]:
        """The figures by which the machine was busy; (): it was not."""
        return tuple(name for name, value in self.figures.items() if value >= SHORT[name])


def since_act(evidence: Evidence, over_s: float | None = None, to_ns: int | None = None) -> Timed | None:
    """Return the span from the first act to to_ns (None: to the run's end). None: nothing was injected, or the run has
    no end yet."""
    end_ns = to_ns or (evidence.ends.at_ns if evidence.ends else None)
    return None if evidence.inject_ns is None or end_ns is None else Timed(evidence.inject_ns, end_ns, over_s)


def excused(finding: Finding, samples: Samples) -> Finding:
    """Return the finding, with unknown in place of a fail if it rests on time alone and the machine was busy then."""
    if finding.verdict is not Verdict.FAIL or finding.timed is None:
        return replace(finding, timed=None)
    how_busy = busy(samples, finding.timed)
    if how_busy is None:
        return finding
    return replace(finding, verdict=Verdict.UNKNOWN, why=f"the machine was busy ({how_busy}): {finding.why}")


def busy(samples: Samples, timed: Timed) -> str | None:
    """Return how busy the machine was, in words, if that explains the delay; else None.

    It does if the machine was busy for at least as long as the delay; if nobody can tell how long that was, for half of
    the span.
    """
    span_s = (timed.to_ns - timed.from_ns) / NS
    needed_s = span_s / 2 if timed.over_s is None else timed.over_s
    short = [(s, over_s) for s in seconds(samples) if s.lacks and (over_s := _shared_s(s, timed)) > 0]
    short_s = sum(over_s for _, over_s in short)
    if not short or short_s < needed_s:
        return None
    names = [name for name in SHORT if any(name in s.lacks for s, _ in short)]
    figures = ", ".join(WORDS[name].format(_typical(name, [s for s, _ in short])) for name in names)
    return f"for {short_s:.1f} of {span_s:.1f} s: {figures}"


def seconds(samples: Samples) -> Iterator[Second]:
    """Yield the seconds of the run one by one, as far as the sampler looked at the machine."""
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
    """Return by how much a counter of seconds grew, as a share of the time; None: too few samples."""
    inside = [s.value for s in looks if from_ns <= s.at_ns <= to_ns]
    if len(inside) < 2 or inside[0] is None or inside[-1] is None:
        return None
    return min(1.0, (inside[-1] - inside[0]) / took_s)


def _shared_s(second: Second, timed: Timed) -> float:
    return max(0, min(second.to_ns, timed.to_ns) - max(second.from_ns, timed.from_ns)) / NS


def _typical(name: str, short: Sequence[Second]) -> float:
    """Return the worst value of the sampler's lateness, the mean of any other figure."""
    values = [s.figures[name] for s in short if name in s.figures]
    return max(values) if name == "late" else sum(values) / len(values)
