"""Has what every page of the site shares: escaped templates, names of nights, and writing a file in one step.

html.py says what a night's page shows, site.py what the index and a test's history show.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gameday.codec import dumps
from gameday.errors import GamedayError
from gameday.model import Finding, RunResult, Verdict
from gameday.reports import words
from gameday.state import runbook_of

__all__ = [
    "SIGNS",
    "TEMPLATES",
    "anchor",
    "day",
    "history",
    "lead",
    "listed",
    "segment",
    "stale",
    "stem",
    "title",
    "web",
    "when",
    "worse",
    "write",
]

TEMPLATES = Path(__file__).with_name("templates")

SIGNS = {Verdict.PASS: "✓", Verdict.SKIPPED: "–", Verdict.UNKNOWN: "?", Verdict.INVALID: "∅", Verdict.FAIL: "✕"}
"""The sign beside the verdict's word, so that no meaning depends on colour."""

STEM = re.compile(r"[a-z][a-z0-9_]{0,99}")

VERBS = {
    Verdict.FAIL: "failed",
    Verdict.INVALID: "proved nothing, for the fault did not take effect",
    Verdict.UNKNOWN: "ended without a verdict",
    Verdict.SKIPPED: "skipped",
    Verdict.PASS: "passed",
}


def write(out: Path, template: str, **given: Any) -> Path:
    """Render a template into the file, in one step: nobody ever opens half a report. Return the file."""
    text = _environment().get_template(template).render(**given)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, out)
    except OSError as e:
        raise GamedayError(f"{out} can't be written: {e.strerror}. Remedy: check space and rights there") from e
    return out


def title(night: str) -> str:
    """Return a night's title. An id that begins with a time becomes a date: Night of 19 February 2026, 02:00 UTC."""
    began = _began(night)
    return f"Night of {began.day} {began:%B %Y, %H:%M} UTC" if began else f"Night {night}"


def lead(results: Sequence[RunResult], findings: Sequence[Finding]) -> str:
    """Describe a night in one or two sentences."""
    if not results:
        return "No failure test was run."
    by_verdict = {v: sum(r.verdict is v for r in results) for v in sorted(Verdict, reverse=True)}
    if by_verdict[Verdict.PASS] == len(results):
        told = f"All {len(results)} runs passed: the platform recovered, and nothing was lost, doubled or changed."
        if len(results) == 1:
            told = "The run passed: the platform recovered, and nothing was lost, doubled or changed."
    else:
        told = f"Of {len(results)} {'run' if len(results) == 1 else 'runs'}, " + listed(
            f"{number} {VERBS[verdict]}" for verdict, number in by_verdict.items() if number
        ) + "."  # fmt: skip
    wrong = [f.check for f in findings if f.verdict not in (Verdict.PASS, Verdict.SKIPPED)]
    if wrong:
        told += f" The night's own checks found trouble: {', '.join(wrong)}."
    slower = sorted({result.test for result in results if worse(result)})
    if slower:
        told += f" Worse than its own history: {listed(slower)}."
    led_astray = sorted({result.test for result in results if stale(result)})
    return f"{told} Stale runbook: {listed(led_astray)}." if led_astray else told


def listed(parts: Iterable[str]) -> str:
    """Join as in a sentence: a, b and c."""
    found = list(parts)
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def worse(result: RunResult) -> list[str]:
    """Name the measures that were worse than their own history."""
    return [trend.measure for trend in result.trends if trend.worse]


def stale(result: RunResult) -> bool:
    """Whether a step of the runbook failed when it was carried out, so that the runbook misleads its reader."""
    return any(step.ok is False for step in result.steps)


def stem(test: str) -> str | None:
    """Return the test's name if it can name a page; None: gameday gives no such names."""
    return test if STEM.fullmatch(test) else None


def segment(name: str) -> str:
    """Return a folder's name as one segment of a relative link."""
    return quote(name, safe="")


def anchor(result: RunResult) -> str:
    """Return the anchor of a history (test, parameters, stack) on its test's page. It is the same every night."""
    told = dumps([dict(result.params), result.stack]).encode("utf-8", "replace")
    return f"h-{sha256(told).hexdigest()[:10]}"


def history(result: RunResult, up: str) -> str | None:
    """Return the relative link to the run's history. up: the path from the linking page to the index's folder."""
    name = stem(result.test)
    return f"{up}tests/{name}.html#{anchor(result)}" if name else None


def web(address: str | None) -> str | None:
    """Return the address if a page may link to it (http and https only), else None."""
    return address if address and address.startswith(("http://", "https://")) else None


def _began(night: str) -> datetime | None:
    try:
        return datetime.strptime(night.partition("-")[0], "%Y%m%dT%H%M%S")
    except ValueError:
        return None


def day(started: str) -> str:
    """Return an ISO time as "19 Feb". A text that is no time is cut short."""
    try:
        at = datetime.fromisoformat(started)
    except ValueError:
        return started[:10]
    return f"{at.day} {at:%b}"


def when(night: str) -> str:
    """Return a night's id as "19 Feb 2026, 02:00". An id that doesn't begin with a time stays as it is."""
    began = _began(night)
    return f"{began.day} {began:%b %Y, %H:%M}" if began else night


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda given: words.plain(given) if type(given) is str else given,
    )
    environment.filters.update(count=words.count, when=when, day=day, segment=segment)
    shared: Mapping[str, Any] = {
        "signs": SIGNS,
        "NONE": words.NONE,
        "css": Markup((TEMPLATES / "site.css").read_text()),
        "Verdict": Verdict,
        "worse": worse,
        "stale": stale,
        "runbook_of": runbook_of,
    }
    environment.globals.update(shared)
    return environment
