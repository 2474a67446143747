"""Formats a result's names, seconds, counts and times of day, the same for every report."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from gameday.model import Json, Measure, RunResult
from gameday.reports.results import COUNTS
from gameday.verdict.trend import COMPARED

__all__ = [
    "NONE",
    "against",
    "brief",
    "clock",
    "count",
    "damage",
    "day",
    "dispositions",
    "interval",
    "label",
    "measure",
    "named",
    "parameters",
    "plain",
    "seconds",
    "sparkline",
    "trend",
    "usual",
    "value",
]

NONE = "—"
"""Stands for what was not measured or judged: never a 0."""


LEVELS = "▁▂▃▄▅▆▇█"

NOTE_CHARACTERS_MAX = 160

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 and C1 controls, line separators, bidirectional controls and lone surrogates."""


def label(result: RunResult) -> str:
    """Return the run's name with its parameters: broker_restart(how=sigkill)."""
    return named(result.test, result.params)


def named(test: str, params: Mapping[str, Json]) -> str:
    """Return a test's name with its parameters."""
    return f"{test}({parameters(params)})" if params else test


def parameters(params: Mapping[str, Json]) -> str:
    """Format as how=sigkill, shop=berlin: text without quotes, everything else as JSON."""
    return ", ".join(f"{name}={value(given)}" for name, given in params.items())


def value(given: Json) -> str:
    """Format one parameter or argument as a reader would write it."""
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)


def interval(measure: Measure) -> str:
    """Format as 3.1–3.2 s: rounded outwards, so that it holds the true value; one figure when both ends agree.

    If it had not happened by the end of the samples, it is "over 40.2 s".
    """
    if measure.high_s is None:
        return "not measured" if measure.low_s is None else f"over {_rounded(measure.low_s, 1, math.floor)} s"
    places = 2 if abs(measure.high_s) < 1 else 1
    if measure.low_s is None:
        return f"at most {_rounded(measure.high_s, places, math.ceil)} s"
    low = _rounded(measure.low_s, places, math.floor)
    high = _rounded(measure.high_s, places, math.ceil)
    return f"{low} s" if low == high else f"{low}–{high} s"


def seconds(given: float) -> str:
    """Format as 3.2 s, below a second as 0.41 s."""
    return f"{given:.{2 if abs(given) < 1 else 1}f} s"


def measure(name: str) -> str:
    """Return a measure's name as it is written in text."""
    return "MTTR" if name == "mttr" else name


def against(measure: Measure, target_s: float) -> str:
    """Format as 3.1–3.2 s of 120 s."""
    known = measure.low_s is not None or measure.high_s is not None
    return f"{interval(measure)} of {target_s:g} s" if known else NONE


def usual(result: RunResult) -> str:
    """Format the median MTTR of the passes before: usually 3.2 s; "" when there were none."""
    return next((f"usually {t.median_s:.1f} s" for t in result.trends if t.measure == "mttr"), "")


def trend(result: RunResult) -> str:
    """Say "slower: MTTR, drain" or "as usual"; "" if there were too few passes to judge."""
    worse = [COMPARED[t.measure] for t in result.trends if t.worse]
    if worse:
        return f"slower: {', '.join(worse)}"
    return "as usual" if any(t.p is not None for t in result.trends) else ""


def sparkline(seconds: Sequence[float | None]) -> str:
    """Draw one bar per run, its height from 0 to the highest: ▅▅▆█. A run that was not measured is a dot."""
    highest = max((s for s in seconds if s is not None), default=0.0)
    return "".join(
        "·" if s is None else LEVELS[round((len(LEVELS) - 1) * s / highest) if highest else 0] for s in seconds
    )


def plain(text: str) -> str:
    """Remove control characters except line ends: what a platform answers must not control a terminal."""
    return CONTROL.sub("", text)


def brief(text: str) -> str:
    """Shorten a reason to fit into a table's note; the whole reason is in the report."""
    return text if len(text) <= NOTE_CHARACTERS_MAX else f"{text[:NOTE_CHARACTERS_MAX].rpartition(' ')[0]} …"


def count(number: int) -> str:
    """Format as 1 234 567, with narrow no-break spaces."""
    return f"{number:,}".replace(",", "\u202f")


def damage(result: RunResult, kind: str) -> int | None:
    """Count the records that were lost, doubled or changed at the worst hop; None: no hop was judged."""
    return max(result.counts.get(kind, {}).values(), default=None)


def dispositions(result: RunResult) -> Mapping[str, str]:
    """Return lost, doubled, changed -> "broker 13, bronze 13", "0", or "not judged"."""
    return {kind: _per_hop(result.counts.get(kind, {})) for kind in COUNTS}


def day(started: str) -> str:
    """Return the date of an ISO time: 2026-02-19."""
    return started.partition("T")[0]


def clock(at_us: int) -> str:
    """Format microseconds since 1970 as 02:04:11.250 (UTC)."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%H:%M:%S.%f")[:-3]


def _per_hop(counts: Mapping[str, int]) -> str:
    if not counts:
        return "not judged"
    return ", ".join(f"{hop} {count(number)}" for hop, number in counts.items() if number) or "0"


def _rounded(seconds: float, places: int, towards: Callable[[float], int]) -> str:
    scaled = round(seconds * 10**places, 6)  # 0.3 * 10 is 3.0000000000000004, and its ceiling is not 3
    return f"{towards(scaled) / 10**places:.{places}f}"
