"""Draws a history as SVG, without a library, like svg.py: one measure of each run with its target, and the verdicts.

Pure functions from results, oldest first, to markup. templates/site.css has the colours and the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gameday.model import Measure, RunResult, Verdict
from gameday.reports import words
from gameday.reports.page import day, listed
from gameday.reports.shapes import element, nice, short

__all__ = ["NARROW", "WIDE", "Layout", "spark", "strip", "trend"]

RUN_WIDTH_MAX = 44.0  # a few runs don't spread over the whole picture
BREAK_AT = 2.5  # a target more than so many times the highest measure is drawn beyond a break of the scale
INTERVAL_MIN = 2.0
CHARACTER_WIDTH = 6.4
LABEL_HEIGHT = 13.0
DATES_APART = 76.0
CELL_WIDTH, CELL_HEIGHT = 6.0, 18.0
SPARK_WIDTH, SPARK_HEIGHT = 108.0, 20.0


@dataclass(frozen=True)
class Layout:
    """Sizes in the picture's own units, which are CSS pixels at its natural width."""

    width: float
    left: float
    right: float
    height: float
    beside: bool  # whether the lines' names stand beside the plot; else they stand on their lines

    @property
    def plot(self) -> float:
        return self.width - self.left - self.right


WIDE = Layout(width=980, left=46, right=112, height=112, beside=True)
NARROW = Layout(width=344, left=36, right=10, height=104, beside=False)


@dataclass(frozen=True)
class _Scale:
    """Runs go across, seconds go up. top: y of the highest value. target_y: None: the measure has no target."""

    layout: Layout
    runs: int
    high_s: float
    top: float
    base: float
    target_y: float | None
    broken: bool

    @property
    def step(self) -> float:
        return min(self.layout.plot / max(1, self.runs), RUN_WIDTH_MAX)

    def x(self, number: int) -> float:
        return self.layout.left + self.step * (number + 0.5)

    def y(self, seconds: float) -> float:
        return self.base - (self.base - self.top) * min(1.0, max(0.0, seconds / self.high_s))


def trend(results: Sequence[RunResult], name: str, target_s: float | None, layout: Layout, key: str) -> Markup | None:
    """Draw the interval of a measure for each run. None: no run measured it.

    results: those of one history, oldest first. key: a prefix for the ids, unique on the page.
    """
    held = [result.measures.get(name) for result in results]
    if not any(_reached(measure) is not None for measure in held):
        return None
    usual = next((t for r in reversed(results) for t in r.trends if t.measure == name), None)
    scale = _scale(held, usual.median_s if usual else 0.0, target_s, layout, len(results))
    parts = [
        _shape("title", escape(f"{words.measure(name)} of {_runs(len(results))}, oldest first"), id=f"{key}-title"),
        _shape("desc", escape(words.plain(_told(results, name, target_s))), id=f"{key}-desc"),
        *_grid(scale),
        *_dates(scale, results),
    ]
    lines = [("target", scale.target_y, f"target {target_s:g} s")] if target_s and scale.target_y is not None else []
    if usual is not None:
        lines.append(("median", scale.y(usual.median_s), f"median {words.seconds(usual.median_s)}"))
    parts += _lines(scale, lines)
    good = [
        (scale.x(n), scale.y(high))
        for n, (result, measure) in enumerate(zip(results, held, strict=True))
        if result.verdict is Verdict.PASS and measure is not None and (high := measure.high_s) is not None
    ]
    if len(good) > 1:
        parts.append(_shape("polyline", points=" ".join(f"{short(x)},{short(y)}" for x, y in good), class_="way"))
    for n, (result, measure) in enumerate(zip(results, held, strict=True)):
        parts += _point(scale, n, result, name, measure)
    size = _size(layout.width, scale.base + 22)
    return _shape(
        "svg", Markup("\n").join(parts), class_="trend", **size, role="img", aria_labelledby=f"{key}-title {key}-desc"
    )


def strip(results: Sequence[RunResult], cells: int) -> Markup:
    """Draw the newest verdicts, oldest left, one cell per run. They differ in form and height, not only in colour."""
    shown = results[-cells:]
    parts = [Markup("<title>{}</title>").format(_counted(shown))]
    for n, result in enumerate(shown, cells - len(shown)):
        parts.append(_cell(n * CELL_WIDTH, result))
    size = _size(cells * CELL_WIDTH, CELL_HEIGHT)
    return _shape("svg", Markup("").join(parts), class_="strip", **size, role="img", aria_label=_counted(shown))


def spark(results: Sequence[RunResult], name: str, runs: int) -> Markup | None:
    """Draw the measure over the newest runs, on a scale of its own. None: fewer than two runs measured it."""
    reached = [_reached(result.measures.get(name)) for result in results[-runs:]]
    known = [(n, value) for n, value in enumerate(reached) if value is not None]
    if len(known) < 2:
        return None
    high = nice(max(value for _, value in known))
    step = (SPARK_WIDTH - 6) / max(1, runs - 1)
    start = runs - len(reached)
    points = [(3 + (start + n) * step, SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 5) * value / high) for n, value in known]
    told = (
        f"{words.measure(name)} of {_runs(len(known))}: {words.seconds(min(v for _, v in known))} to "
        f"{words.seconds(max(v for _, v in known))}, last {words.seconds(known[-1][1])}"
    )
    parts = [
        Markup("<title>{}</title>").format(told),
        _shape("line", x1=0.0, x2=SPARK_WIDTH, y1=SPARK_HEIGHT - 1.5, y2=SPARK_HEIGHT - 1.5, class_="base"),
        _shape("polyline", points=" ".join(f"{short(x)},{short(y)}" for x, y in points), class_="way"),
        _shape("circle", cx=points[-1][0], cy=points[-1][1], r=2.0, class_="last"),
    ]
    size = _size(SPARK_WIDTH, SPARK_HEIGHT)
    return _shape("svg", Markup("").join(parts), class_="spark", **size, role="img", aria_label=told)


def _size(width: float, height: float) -> dict[str, str | float]:
    return {"viewBox": f"0 0 {width:g} {height:g}", "width": width, "height": height}


def _shape(tag: str, body: Markup | None = None, **attributes: str | float) -> Markup:
    return element(tag, attributes, body)


# ---- scale -----------------------------------------------------------------------------------------------------------


def _scale(
    held: Sequence[Measure | None], median_s: float, target_s: float | None, layout: Layout, runs: int
) -> _Scale:
    """Return a scale that is linear from zero. A target far above all runs lies beyond a break, else all runs would lie
    on the axis."""
    most = max([median_s, *(reached for m in held if (reached := _reached(m)) is not None)]) or 0.1
    broken = bool(target_s) and (target_s or 0) > BREAK_AT * most
    top = 34.0 if broken else 20.0
    base = top + layout.height
    inside = most if broken or not target_s else max(most, target_s)
    scale = _Scale(layout, runs, nice(inside), top, base, None, broken)
    target_y = None if not target_s else 12.0 if broken else scale.y(target_s)
    return _Scale(layout, runs, nice(inside), top, base, target_y, broken)


def _grid(scale: _Scale) -> list[Markup]:
    left, right = scale.layout.left, scale.layout.left + scale.layout.plot
    parts = []
    for part in range(5):
        seconds, y = scale.high_s * part / 4, scale.y(scale.high_s * part / 4)
        parts.append(_shape("line", x1=left, x2=right, y1=y, y2=y, class_="axis" if not part else "grid"))
        if part % 2 == 0:
            parts.append(
                _shape(
                    "text",
                    escape(f"{seconds:g} s" if part else "0"),
                    x=left - 6,
                    y=y + 4,
                    text_anchor="end",
                    class_="scale",
                )
            )
    if scale.broken:
        y = (scale.top + 12.0) / 2
        for shift in (-2.0, 2.0):
            points = f"{short(left - 5)},{short(y + 2 + shift)} {short(left + 5)},{short(y - 2 + shift)}"
            parts.append(_shape("polyline", points=points, class_="break"))
        parts.append(_shape("line", x1=left, x2=left, y1=12.0, y2=y - 3, class_="axis"))
        parts.append(_shape("line", x1=left, x2=left, y1=y + 3, y2=scale.base, class_="axis"))
    else:
        parts.append(_shape("line", x1=left, x2=left, y1=scale.top, y2=scale.base, class_="axis"))
    return parts


def _dates(scale: _Scale, results: Sequence[RunResult]) -> list[Markup]:
    """Draw the days below the runs, as many as there is room for."""
    parts, free = [], -1.0
    for n, result in enumerate(results):
        x, text = scale.x(n), day(result.started)
        if x < free or x + CHARACTER_WIDTH * len(text) / 2 > scale.layout.width:
            continue
        free = x + DATES_APART
        parts.append(_shape("line", x1=x, x2=x, y1=scale.base, y2=scale.base + 4, class_="axis"))
        parts.append(
            _shape("text", escape(words.plain(text)), x=x, y=scale.base + 16, text_anchor="middle", class_="scale")
        )
    return parts


def _lines(scale: _Scale, lines: Sequence[tuple[str, float, str]]) -> list[Markup]:
    """Draw the named lines across the plot. Their names stand beside them and don't overlap. Without room there, the
    target's name stands on its line, the median's above the plot."""
    left, right = scale.layout.left, scale.layout.left + scale.layout.plot
    parts, taken = [], -LABEL_HEIGHT
    for name, y, text in sorted(lines, key=lambda line: line[1]):
        parts.append(_shape("line", x1=left, x2=right, y1=y, y2=y, class_=name))
        if scale.layout.beside:
            taken = max(y + 4, taken + LABEL_HEIGHT)
            x, at, side = right + 8, taken, "start"
        else:
            x, at, side = (left, 9.0, "start") if name == "median" else (right, y - 3, "end")
        parts.append(_shape("text", escape(text), x=x, y=at, text_anchor=side, class_=f"name {name}"))
    return parts


def _point(scale: _Scale, n: int, result: RunResult, name: str, measure: Measure | None) -> list[Markup]:
    """Draw a run's interval, and a sign for its verdict at the end that is compared with the target. Draw nothing if
    the run had no such measure, such as an alert before the platform had it."""
    if measure is None:
        return []
    reached = _reached(measure)
    x, size = scale.x(n), min(3.6, max(2.0, scale.step * 0.4))
    told = Markup("<title>{}</title>").format(words.plain(_line(result, name)))
    if reached is None:
        sign = Markup("{}{}").format("·" if result.verdict is Verdict.SKIPPED else "?", told)
        return [_shape("text", sign, x=x, y=scale.base - 4, text_anchor="middle", class_="unmeasured")]
    low_s = reached if measure.low_s is None else measure.low_s
    y, low_y = scale.y(reached), max(scale.y(low_s), scale.y(reached) + INTERVAL_MIN)
    parts = []
    if any(t.measure == name and t.worse for t in result.trends):
        parts.append(_shape("circle", cx=x, cy=y, r=size + 3.5, class_="worse"))
    if measure.high_s is None:
        up = f"{short(x - size)},{short(y - 3)} {short(x)},{short(y - 8)} {short(x + size)},{short(y - 3)}"
        parts.append(_shape("polyline", points=up, class_=f"beyond {result.verdict}"))
    parts.append(_shape("line", x1=x, x2=x, y1=y, y2=low_y, class_=f"held {result.verdict}"))
    if result.verdict is Verdict.FAIL:
        d = size
        for points in (f"{short(x - d)},{short(y - d)} {short(x + d)},{short(y + d)}",
                       f"{short(x - d)},{short(y + d)} {short(x + d)},{short(y - d)}"):  # fmt: skip
            parts.append(_shape("polyline", told, points=points, class_="dot fail"))
    else:
        parts.append(_shape("circle", told, cx=x, cy=y, r=size, class_=f"dot {result.verdict}"))
    return parts


def _cell(x: float, result: RunResult) -> Markup:
    """Draw a verdict. pass: low, filled. fail: full height. unknown, invalid: hollow, half height. skipped: a dash."""
    height = {Verdict.PASS: 8.0, Verdict.FAIL: CELL_HEIGHT, Verdict.SKIPPED: 2.0}.get(result.verdict, 12.0)
    hollow = result.verdict in (Verdict.UNKNOWN, Verdict.INVALID)
    inset = 0.75 if hollow else 0.0
    return _shape(
        "rect",
        Markup("<title>{}</title>").format(words.plain(_line(result, "mttr"))),
        x=x + inset,
        y=CELL_HEIGHT - height + inset,
        width=CELL_WIDTH - 2 - 2 * inset,
        height=height - 2 * inset,
        class_=str(result.verdict),
    )


# ---- words -----------------------------------------------------------------------------------------------------------


def _reached(measure: Measure | None) -> float | None:
    """Return the seconds to compare with the target: the interval's high end, else its low end."""
    if measure is None:
        return None
    return measure.low_s if measure.high_s is None else measure.high_s


def _line(result: RunResult, name: str) -> str:
    measure = result.measures.get(name)
    told = words.interval(measure) if measure else "not measured"
    return f"{day(result.started)} {result.started[11:16]}: {result.verdict}, {words.measure(name)} {told}"


def _runs(number: int) -> str:
    return f"{number} run{'s' if number != 1 else ''}"


def _counted(results: Sequence[RunResult]) -> str:
    """Describe the verdicts: 12 runs, newest pass: 11 pass and 1 fail."""
    if not results:
        return "no runs"
    counts = [(v, sum(r.verdict is v for r in results)) for v in Verdict]
    return f"{_runs(len(results))}, newest {results[-1].verdict}: " + listed(f"{n} {v}" for v, n in counts if n)


def _told(results: Sequence[RunResult], name: str, target_s: float | None) -> str:
    """Describe the picture in words, for screen readers."""
    known = [r for r in (_reached(result.measures.get(name)) for result in results) if r is not None]
    parts = [f"from {words.seconds(min(known))} to {words.seconds(max(known))}, newest {_line(results[-1], name)}"]
    if target_s:
        over = sum(r > target_s for r in known)
        parts.append(f"target {target_s:g} s, missed {'never' if not over else f'by {_runs(over)}'}")
    slow = [day(r.started) for r in results if any(t.measure == name and t.worse for t in r.trends)]
    if slow:
        parts.append(f"worse than its own history on {listed(slow)}")
    return "; ".join(parts) + "."
