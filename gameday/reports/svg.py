"""Draws a timeline as SVG, without a library, for a page that may load nothing.

A pure function from a Timeline to markup. timeline.py says what is shown; templates/site.css has colours and type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape

from gameday.reports.shapes import element, nice, short
from gameday.reports.timeline import GAP_PERIODS, Mark, Row, Span, Timeline, union
from gameday.reports.words import plain

__all__ = ["NARROW", "WIDE", "Layout", "draw"]

TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)

# Sizes of the picture, in its own units
CHARACTER_WIDTH = 6.2  # of the labels' type, a little more than the mean
SCALE_WIDTH = 34.0  # left of the rows, for the figures of their scale
SPAN_MIN = 1.5
BRIDGE_S = 0.5  # between samples further apart than this no line is drawn
FLAT = 0.35  # a line that moves less than this counts as level


@dataclass(frozen=True)
class Layout:
    """Sizes in the picture's own units, which are CSS pixels at its natural width."""

    width: float
    left: float
    right: float
    stacked: bool  # row names stand above the rows, because there is no room beside them
    ticks: int
    stream_height: float = 40.0
    band_height: float = 9.0
    label_height: float = 15.0
    gap: float = 8.0

    @property
    def plot(self) -> float:
        return self.width - self.left - self.right


WIDE = Layout(width=980, left=168, right=118, stacked=False, ticks=10)
NARROW = Layout(width=344, left=4, right=8, stacked=True, ticks=5)


def draw(timeline: Timeline, layout: Layout, key: str) -> Markup:
    """Return the timeline as an SVG element.

    key: a prefix for its ids, unique on the page. The page defines the pattern #hatch.
    """
    canvas = _Canvas(layout, timeline.shown)
    labels = _place(canvas, timeline.marks)
    top = bottom = (max((label.level for label in labels), default=-1) + 1) * layout.label_height + 8
    scale_s = nice(max([timeline.bound_s, *(row.worst_s for row in timeline.streams)]))
    for row in timeline.streams:
        bottom = _draw_stream(canvas, row, bottom, scale_s, timeline.bound_s)
    bottom += 4
    for row in timeline.bands:
        bottom = _draw_band(canvas, row, bottom)
    _draw_labels(canvas, labels, bottom)
    height = _draw_axis(canvas, bottom)
    behind = _Canvas(layout, timeline.shown)
    _draw_tints(behind, timeline.marks, top, bottom)
    told = [
        element("title", {"id": f"{key}-title"}, escape(plain(timeline.title))),
        element("desc", {"id": f"{key}-desc"}, escape(". ".join(timeline.words) + ".")),
    ]
    size = {"viewBox": f"0 0 {layout.width:g} {height:g}", "width": f"{layout.width:g}", "height": f"{height:g}"}
    aria = {"role": "img", "aria-labelledby": f"{key}-title {key}-desc"}
    return element(
        "svg", {"class_": "timeline", **size, **aria}, Markup("\n").join([*told, *behind.parts, *canvas.parts])
    )


@dataclass(frozen=True)
class _Label:
    """Where a mark's text stands. level: its line above the rows. flip: it stands left of the mark's own line."""

    mark: Mark
    x: float
    level: int
    flip: bool


@dataclass
class _Canvas:
    """The scale of seconds, and the parts drawn so far."""

    layout: Layout
    shown: Span
    parts: list[Markup] = field(default_factory=list)

    def x(self, seconds: float) -> float:
        low, high = self.shown
        share = (seconds - low) / ((high - low) or 1.0)
        return self.layout.left + self.layout.plot * min(1.0, max(0.0, share))

    def add(self, tag: str, text: str | None = None, **attributes: str | float) -> None:
        self.parts.append(element(tag, attributes, None if text is None else escape(plain(text))))


def _place(canvas: _Canvas, marks: Sequence[Mark]) -> list[_Label]:
    """Place each label as high as possible, so that it covers no other label and its line, which goes down, crosses
    none. A label below all others covers none, so the search ends.
    """
    labels: list[_Label] = []
    taken: list[tuple[int, float, float]] = []
    for mark in marks:
        x, width = canvas.x(mark.high_s), CHARACTER_WIDTH * len(mark.text) + 8
        flip = x + width > canvas.layout.width
        low, high = (x - width, x) if flip else (x, x + width)
        level = 0
        while any((low < b and high > a and at == level) or (a < x < b and at > level) for at, a, b in taken):
            level += 1
        labels.append(_Label(mark, x, level, flip))
        taken.append((level, low, high))
    return labels


def _draw_labels(canvas: _Canvas, labels: Sequence[_Label], bottom: float) -> None:
    for label in labels:
        y = 12.0 + label.level * canvas.layout.label_height
        canvas.add("line", x1=label.x, x2=label.x, y1=y - 10, y2=bottom, class_=f"mark-line {label.mark.name}")
        side = {"x": label.x - 4, "text_anchor": "end"} if label.flip else {"x": label.x + 4}
        canvas.add("text", label.mark.text, y=y, class_=f"mark {label.mark.name}", **side)


def _draw_tints(canvas: _Canvas, marks: Sequence[Mark], top: float, bottom: float) -> None:
    """Tint behind the rows: out of service (impact to restore), catching up (restore to drain), and the intervals of
    the marks."""
    at = {mark.name: mark.high_s for mark in marks}
    spans = [
        ("out", at.get("impact", at.get("fault")), at.get("restore")),
        ("behind", at.get("restore"), at.get("drain")),
    ]
    spans += [("edge", mark.low_s, mark.high_s) for mark in marks]
    for name, low_s, high_s in spans:
        if low_s is not None and high_s is not None and canvas.x(high_s) - canvas.x(low_s) >= 1:
            x = canvas.x(low_s)
            canvas.add("rect", x=x, y=top, width=canvas.x(high_s) - x, height=bottom - top, class_=f"tint {name}")


def _draw_name(canvas: _Canvas, row: Row, y: float, height: float) -> float:
    """Write the row's name and note, beside it or above it. Return the y where the row itself begins."""
    layout = canvas.layout
    name = {"class_": "row struck" if row.struck else "row"}
    if layout.stacked:
        canvas.add("text", _cut(row.name, 34), x=layout.left, y=y + 11, **name)
        canvas.add(
            "text", _cut(row.note, 26), x=layout.width - layout.right, y=y + 11, text_anchor="end", class_="note"
        )
        return y + layout.label_height
    y_text = y + height / 2 + 4
    canvas.add("text", _cut(row.name, 22), x=layout.left - SCALE_WIDTH, y=y_text, text_anchor="end", **name)
    canvas.add("text", _cut(row.note, 21), x=layout.width - layout.right + 8, y=y_text, class_="note")
    return y


def _draw_stream(canvas: _Canvas, row: Row, y: float, scale_s: float, bound_s: float) -> float:
    layout, height = canvas.layout, canvas.layout.stream_height
    y = _draw_name(canvas, row, y, height)
    base = y + height
    left, right = layout.left, layout.width - layout.right
    _draw_spans(canvas, row, y, height, "tall")
    canvas.add("line", x1=left, x2=right, y1=base, y2=base, class_="base")
    bound_y = base - height * bound_s / scale_s
    canvas.add("line", x1=left, x2=right, y1=bound_y, y2=bound_y, class_="bound")
    for points in _segments(canvas, row, base, height / scale_s):
        first, last = short(points[0][0]), short(points[-1][0])
        path = " ".join(f"{short(x)},{short(at)}" for x, at in points)
        canvas.add("polygon", points=f"{first},{base:g} {path} {last},{base:g}", class_="area")
        canvas.add("polyline", points=path, class_="delay")
    if layout.stacked:
        canvas.add("text", f"{scale_s:g} s", x=left + 2, y=y + 9, class_="scale")
    else:
        canvas.add("text", f"{scale_s:g} s", x=left - 5, y=y + 9, text_anchor="end", class_="scale")
        canvas.add("text", "0", x=left - 5, y=base, text_anchor="end", class_="scale")
    return base + layout.gap


def _draw_band(canvas: _Canvas, row: Row, y: float) -> float:
    layout, height = canvas.layout, canvas.layout.band_height
    y = _draw_name(canvas, row, y, height)
    middle = y + height / 2
    canvas.add("line", x1=layout.left, x2=layout.width - layout.right, y1=middle, y2=middle, class_="answered")
    _draw_spans(canvas, row, y, height)
    return y + height + layout.gap


def _draw_spans(canvas: _Canvas, row: Row, y: float, height: float, form: str = "flat") -> None:
    """Draw the spans: pending, firing, not asked, not answered. None is narrower than SPAN_MIN."""
    kinds = {"pending": row.pending, "firing": row.firing, "unseen": row.unseen, "silent": row.silent}
    for name, spans in kinds.items():
        fill = {"fill": "url(#hatch)"} if name == "silent" else {}
        inside = [(low, high) for low, high in spans if high >= canvas.shown[0] and low <= canvas.shown[1]]
        wide = ((canvas.x(low), max(canvas.x(high), canvas.x(low) + SPAN_MIN)) for low, high in inside)
        for low, high in union(wide):
            canvas.add("rect", x=low, y=y, width=high - low, height=height, class_=f"{name} {form}", **fill)


def _segments(canvas: _Canvas, row: Row, base: float, per_s: float) -> list[list[tuple[float, float]]]:
    """Return the row's greatest delay in each pixel column, without points that add nothing. A segment ends where
    nothing was known."""
    columns = int(canvas.layout.plot) + 1
    greatest = np.full(columns, -np.inf)
    low, high = canvas.shown
    period = 0.0
    for at, delay in row.lines:
        seen = ~np.isnan(delay) & (at >= low) & (at <= high)
        np.maximum.at(greatest, ((at[seen] - low) / ((high - low) or 1.0) * (columns - 1)).astype(int), delay[seen])
        period = max(period, float(np.median(np.diff(at))) if len(at) > 1 else 0.0)
    reach = max(2.0, max(BRIDGE_S, GAP_PERIODS * period) / ((high - low) or 1.0) * columns)
    found: list[list[tuple[float, float]]] = []
    last = -math.inf
    for column in np.flatnonzero(np.isfinite(greatest)).tolist():
        point = (canvas.layout.left + column, base - greatest[column] * per_s)
        if column - last > reach:
            found.append([])
        segment = found[-1]
        if len(segment) > 1 and abs(segment[-1][1] - point[1]) < FLAT and abs(segment[-2][1] - point[1]) < FLAT:
            segment[-1] = point
        else:
            segment.append(point)
        last = column
    return found


def _draw_axis(canvas: _Canvas, y: float) -> float:
    """Draw the seconds below the rows. Return the picture's height."""
    layout, (low, high) = canvas.layout, canvas.shown
    step = next((t for t in TICKS_S if (high - low) / t <= layout.ticks), TICKS_S[-1])
    canvas.add("line", x1=layout.left, x2=layout.width - layout.right, y1=y, y2=y, class_="axis")
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        x = canvas.x(number * step)
        canvas.add("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis")
        text = f"{number * step:g} s".replace("-", "−")
        half = CHARACTER_WIDTH * len(text) / 2
        x = min(max(x, half), layout.width - half)  # the outermost stay inside the picture
        canvas.add("text", text, x=x, y=y + 16, text_anchor="middle", class_="scale")
    return math.ceil(y + 22)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
