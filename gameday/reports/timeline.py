"""Makes a run's timeline from its samples: how far behind each stream was, what answered, and when it broke, came back
and drained.

A pure function from evidence to rows and marks in seconds. svg.py draws them; timings.py computes the delays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gameday.model import FIRING, PENDING, Evidence, Group, Sample, Samples
from gameday.reports.words import interval, plain, value
from gameday.sampling import timings

__all__ = ["Mark", "Row", "Span", "Timeline", "timeline", "union"]

NS = 1e9
MARGIN_MIN_S = 3.0
MARGIN_SHARE = 0.35  # of the time from the fault to the last mark, shown before and after
GAP_S = 1.0  # a longer silence of the sampler itself is shown as "not asked"
GAP_PERIODS = 4.0
APART_S = 1.0  # a moment nearer to the fault gets no mark of its own
STREAMS_MAX = 24  # if there are more streams, the worst are shown
SPANS_TOLD_MAX = 5

Floats = npt.NDArray[np.float64]

Span = tuple[float, float]
"""From, to; seconds from the timeline's zero."""


@dataclass(frozen=True)
class Mark:
    """One moment of the run, seconds from its zero: it happened between low_s and high_s."""

    name: str
    low_s: float
    high_s: float
    text: str


@dataclass(frozen=True)
class Row:
    """One line of the picture.

    silent: no answer. unseen: not asked. lines: for a stream, the times and delays of each of its groups in seconds,
    NaN where there was no answer. struck: the fault's component, or a stream that the fault affects. pending,
    firing: of an alert.
    """

    name: str
    note: str
    silent: tuple[Span, ...]
    unseen: tuple[Span, ...]
    lines: tuple[tuple[Floats, Floats], ...] = ()
    worst_s: float = 0.0
    struck: bool = False
    pending: tuple[Span, ...] = ()
    firing: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """Everything to draw, in seconds from the first fault. words: the same in words, for screen readers."""

    title: str
    streams: tuple[Row, ...]
    bands: tuple[Row, ...]
    marks: tuple[Mark, ...]
    shown: Span
    bound_s: float
    caption: str
    words: tuple[str, ...]


def timeline(evidence: Evidence) -> Timeline | None:
    """Return the run's timeline; None when there are no samples."""
    zero_ns = _zero_ns(evidence)
    if zero_ns is None:
        return None
    streams, left_out = _streams(evidence, zero_ns)
    bands = _bands(evidence, zero_ns)
    marks = _marks(evidence)
    recorded = _recorded(evidence.samples, zero_ns)
    shown = _shown(evidence, recorded, [*streams, *bands], marks)
    return Timeline(
        title=f"Timeline of {evidence.test}: delay of each stream, answers of each component",
        streams=tuple(streams),
        bands=tuple(bands),
        marks=_with_target(marks, evidence, shown),
        shown=shown,
        bound_s=_bound_s(evidence),
        caption=_caption(evidence, shown, recorded),
        words=_words(marks, streams, bands, left_out),
    )


def _marks(evidence: Evidence) -> tuple[Mark, ...]:
    """Return a mark for each fault, impact, alert, heal of a held fault, restore and drain that is known."""
    if evidence.inject_ns is None:
        return ()
    zero_ns, clock_ns = evidence.inject_ns, evidence.clock_ns or evidence.inject_ns
    found = []
    for act in evidence.acts:
        at_s = (act.at_ns - zero_ns) / NS
        at_s = 0.0 if abs(at_s) < APART_S else at_s
        found.append(
            Mark("fault", at_s, at_s, plain(f"fault: {act.fault} {value(act.args.get('component', ''))}".rstrip()))
        )
    clock_s = (clock_ns - zero_ns) / NS
    if clock_s > APART_S and all(abs(mark.high_s - clock_s) > APART_S for mark in found):
        found.append(Mark("mended", clock_s, clock_s, f"mended {clock_s:.1f} s"))
    for name in ("impact", "alert", "restore", "drain"):
        measure = evidence.measures.get(name)
        if measure is not None and measure.high_s is not None:
            low_s = measure.high_s if measure.low_s is None else measure.low_s
            found.append(Mark(name, low_s, measure.high_s, f"{name} {interval(measure)}"))
    return tuple(sorted(found, key=lambda mark: mark.high_s))


# ---- what the rows hold ----------------------------------------------------------------------------------------------


def _zero_ns(evidence: Evidence) -> int | None:
    if evidence.inject_ns is not None:
        return evidence.inject_ns if any(evidence.samples.values()) else None
    return min((samples[0].at_ns for samples in evidence.samples.values() if samples), default=None)


def _recorded(samples: Samples, zero_ns: int) -> Span:
    held = [s for s in samples.values() if s]
    return (min(s[0].at_ns for s in held) - zero_ns) / NS, (max(s[-1].at_ns for s in held) - zero_ns) / NS


ALL = "all"
"""The row of a stream without groups."""


def _streams(evidence: Evidence, zero_ns: int) -> tuple[list[Row], int]:
    """Return the worst rows, and how many were left out. All groups of a stream that share their first field are one
    row. The last field of a shard's name doesn't count."""
    rows: list[Row] = []
    for one in (each := evidence.each()):
        by_first: dict[str, list[Group]] = {}
        struck = set(timings.affected(one))
        for group in timings.groups(one):
            told = group[:-1] if one.sharded else group
            by_first.setdefault(told[0] if told else ALL, []).append(group)
        stream = f"{one.stream} " if len(each) > 1 else ""
        rows += [
            replace(_stream(one, f"{stream}{first}", groups, zero_ns), struck=not struck.isdisjoint(groups))
            for first, groups in by_first.items()
        ]
    kept = rows
    if len(rows) > STREAMS_MAX:
        worst = sorted(rows, key=lambda row: (row.struck, row.worst_s, _length(row.silent)), reverse=True)[:STREAMS_MAX]
        kept = [row for row in rows if any(row is w for w in worst)]
    return kept, len(rows) - len(kept)


def _stream(evidence: Evidence, name: str, groups: Sequence[Group], zero_ns: int) -> Row:
    lines, delays = [], [0.0]
    silent: list[Span] = []
    unseen: list[Span] = []
    for group in groups:
        series = timings.delays(evidence.samples, group, evidence.visible, evidence.ledger)
        if len(series.at_ns):
            lines.append(((series.at_ns - zero_ns) / NS, series.low_s))
            delays.append(float(np.max(np.nan_to_num(series.low_s))))
        mute, gaps = _spans(evidence.samples.get(timings.series_of("head", evidence.visible, group), ()), zero_ns)
        silent, unseen = [*silent, *mute], [*unseen, *gaps]
    return Row(
        name=name,
        note=f"max {max(delays):.1f} s" if lines else "no samples",
        silent=union(silent),
        unseen=union(unseen),
        lines=tuple(lines),
        worst_s=max(delays),
    )


def _bands(evidence: Evidence, zero_ns: int) -> list[Row]:
    """Return one row per probe, the struck component's first; then one for each kind of watch, one for each alert."""
    by_name: dict[str, list[str]] = {}
    components = sorted({s.split("/")[1] for s in evidence.samples if s.startswith("component/")})
    for component in sorted(components, key=lambda name: name != evidence.component):
        probes = timings.probes(evidence.samples, component)
        for series in probes:
            probe = series.rpartition("/")[2]
            by_name[f"{component} · {probe}" if len(probes) > 1 else component] = [series]
    for series in sorted(evidence.samples):
        kind = series.partition("/")[0]
        if kind not in ("component", "head", "end", "position", "alert"):
            by_name.setdefault(kind, []).append(series)
    alerts = [s for s in sorted(evidence.samples) if timings.is_alert(s)]
    return [
        *(_band(evidence, name, series, zero_ns) for name, series in by_name.items()),
        *(_alert(evidence.samples[series], series, zero_ns) for series in alerts),
    ]


def _alert(samples: Sequence[Sample], series: str, zero_ns: int) -> Row:
    """Return the row of an alert of the platform: when it was pending and when it fired."""
    silent, unseen = _spans(samples, zero_ns)
    pending, firing = (_lasting(samples, value, zero_ns) for value in (PENDING, FIRING))
    return Row(
        name=series.replace("/", " ", 1),
        note=f"fired {_length(firing):.1f} s" if firing else "pending" if pending else "did not fire",
        silent=union(silent),
        unseen=union(unseen),
        pending=pending,
        firing=firing,
    )


def _lasting(samples: Sequence[Sample], value: float, zero_ns: int) -> tuple[Span, ...]:
    """Return when the samples had this value. A sample's value lasts until the next sample."""
    ends = [sample.at_ns for sample in samples[1:]] + [s.at_ns + s.took_ns for s in samples[-1:]]
    spans = [((s.at_ns - zero_ns) / NS, (end - zero_ns) / NS) for s, end in zip(samples, ends, strict=True)]
    return union(span for span, s in zip(spans, samples, strict=True) if s.value == value)


def _band(evidence: Evidence, name: str, series: Sequence[str], zero_ns: int) -> Row:
    parts = [_spans(evidence.samples[s], zero_ns) for s in series]
    silent = union(span for mute, _ in parts for span in mute)
    silent_s = _length(silent)
    return Row(
        name=name if len(series) == 1 else f"{name} ({len(series)} slots)",
        note=f"silent {silent_s:.{1 if silent_s >= 1 else 2}f} s" if silent else "answered",
        silent=silent,
        unseen=union(span for _, gaps in parts for span in gaps),
        struck=evidence.component is not None and name.partition(" ")[0] == evidence.component,
    )


def _spans(samples: Sequence[Sample], zero_ns: int) -> tuple[list[Span], list[Span]]:
    """Return the spans without an answer, and those without a question. The former last from the sending of the first
    bad sample to the next good answer."""
    silent: list[Span] = []
    unseen: list[Span] = []
    since: int | None = None
    sent = [s.at_ns for s in samples]
    period = float(np.median(np.diff(sent))) if len(sent) > 1 else 0.0
    gap_ns = max(GAP_S * NS, GAP_PERIODS * period)
    for before, sample in zip([*samples[:1], *samples], samples, strict=False):
        if sample.at_ns - before.at_ns > gap_ns:
            unseen.append(((before.at_ns - zero_ns) / NS, (sample.at_ns - zero_ns) / NS))
        if sample.value is None:
            since = sample.at_ns if since is None else since
        elif since is not None:
            silent.append(((since - zero_ns) / NS, (sample.counts_ns - zero_ns) / NS))
            since = None
    if since is not None:
        silent.append(((since - zero_ns) / NS, (samples[-1].at_ns + samples[-1].took_ns - zero_ns) / NS))
    return silent, unseen


def union(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans in order; those that touch or overlap are merged."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _length(spans: Iterable[Span]) -> float:
    return sum(high - low for low, high in spans)


def _bound_s(evidence: Evidence) -> float:
    return evidence.baseline.bound_s if evidence.baseline else timings.BOUND_BEFORE_BASELINE_S


def _shown(evidence: Evidence, recorded: Span, rows: Sequence[Row], marks: Sequence[Mark]) -> Span:
    """Return the part of the record to draw: all that was not well, and some of the healthy time before and after."""
    if evidence.inject_ns is None:
        return recorded
    bound_s = _bound_s(evidence)
    moments = [m.high_s for m in marks] + [
        edge for row in rows for span in (*row.silent, *row.pending, *row.firing) for edge in span
    ]
    for row in rows:
        for at, delay in row.lines:
            late = at[np.nan_to_num(delay) > bound_s]
            moments += [float(late[0]), float(late[-1])] if len(late) else []
    measures = evidence.measures.values()
    if any(m.high_s is None and m.low_s is not None for m in measures):
        moments.append(recorded[1])
    low, high = min(0.0, *moments), max(0.0, *moments)
    margin = max(MARGIN_MIN_S, MARGIN_SHARE * (high - low))
    return max(recorded[0], low - margin), min(recorded[1], high + margin)


def _with_target(marks: tuple[Mark, ...], evidence: Evidence, shown: Span) -> tuple[Mark, ...]:
    """Return the marks, with the target if it lies inside the picture."""
    target_s = _target_s(evidence)
    if target_s is None or target_s > shown[1]:
        return marks
    return tuple(
        sorted((*marks, Mark("target", target_s, target_s, f"target {target_s:.0f} s")), key=lambda mark: mark.high_s)
    )


def _target_s(evidence: Evidence) -> float | None:
    """Return when service must be back, in seconds from the picture's zero."""
    if evidence.clock_ns is None or evidence.inject_ns is None or not evidence.mttr_max_s:
        return None
    return (evidence.clock_ns - evidence.inject_ns) / NS + evidence.mttr_max_s


# ---- words -----------------------------------------------------------------------------------------------------------


def _words(marks: Sequence[Mark], streams: Sequence[Row], bands: Sequence[Row], left_out: int) -> tuple[str, ...]:
    """Describe the picture in words, for screen readers."""
    found = [mark.text if mark.name in ("fault", "mended") else f"{mark.text} after the fault" for mark in marks]
    found += [f"stream {row.name}: {row.note}{' behind' if row.lines else ''}" for row in streams]
    if left_out:
        found.append(f"{left_out} more streams were never further behind than these")
    for row in bands:
        spans = row.firing or row.silent
        at = "; ".join(f"{low:.2f} to {high:.2f} s" for low, high in spans[:SPANS_TOLD_MAX])
        more = len(spans) - SPANS_TOLD_MAX
        found.append(
            f"{row.name}: {row.note}"
            + (f" ({at}{f'; {more} more times' if more > 0 else ''})" if at else " throughout")
        )
        if row.unseen:
            found.append(f"{row.name}: not asked for {_length(row.unseen):.1f} s")
    return tuple(plain(text) for text in found)


def _caption(evidence: Evidence, shown: Span, recorded: Span) -> str:
    origin = "the fault" if evidence.inject_ns is not None else "the first sample"
    parts = [f"Seconds from {origin}."]
    if shown[0] - recorded[0] > 0.5 or recorded[1] - shown[1] > 0.5:
        parts.append(
            f"Shown: {shown[0]:.0f} to {shown[1]:.0f} s of a record from {recorded[0]:.0f} to {recorded[1]:.0f} s; "
            "outside, everything answered and no stream was late.".replace("-", "−")
        )
    each = evidence.each()
    bounds = ", ".join(f"{one.stream} {_bound_s(one):.1f} s" for one in each)
    which = f"the widest bound ({bounds})" if len(each) > 1 else "the bound"
    parts.append(f"Dashed: {_bound_s(evidence):.1f} s behind, {which} below which a stream is good.")
    target_s = _target_s(evidence)
    if target_s is not None and target_s > shown[1]:
        parts.append(f"The target for restore, {target_s:.0f} s, lies to the right of the picture.")
    return " ".join(parts)
