"""Writes the report as a static site into the state folder's nights/: an index, a page per night, a page per test.

Everything is read from the nights' results.json, so the next index lacks what was deleted. The site needs no server,
and all its links are relative. html.py makes a night's own page, plot.py its trends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gameday.codec import decode, read_json
from gameday.errors import GamedayError
from gameday.model import Evidence, Finding, RunResult, Verdict
from gameday.reports import page, plot, words
from gameday.reports.results import complete, verdict
from gameday.state import RUNBOOKS, State

__all__ = ["NIGHTS_MAX", "refresh", "write"]

NIGHTS_MAX = 90
"""How many nights the index and the tests' pages reach back. It bounds the work at a night's end."""
STRIP_RUNS = 30
ROWS_OPEN = 14  # rows of a history's table that show at first; the older ones unfold

PLOTTED = ("mttr", "drain", "alert")


@dataclass(frozen=True)
class _Night:
    """One night as it was published. trouble: why its results can't be read; then there are none."""

    id: str
    results: tuple[RunResult, ...] = ()
    findings: tuple[Finding, ...] = ()
    trouble: str | None = None
    runbooks: str = RUNBOOKS


@dataclass
class _History:
    """The runs of one (test, parameters, stack), oldest first, each with its night and its number in that night."""

    runs: list[RunResult] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)

    @property
    def newest(self) -> RunResult:
        return self.runs[-1]


def write(
    state: State,
    night: str,
    runs: Sequence[tuple[RunResult, Evidence | None]],
    *,
    findings: Sequence[Finding] = (),
    prefect: str | None = None,
    links: Mapping[str, str] | None = None,
    diagnoses: Mapping[str, Sequence[str]] | None = None,
    runbooks: str = RUNBOOKS,
) -> Path:
    """Write a night's page (see `html.render`), then the index and the pages of its tests. Return the night's page.

    The night's results.json must exist: the other pages are made from it.
    """
    from gameday.reports import html  # its timelines import numpy, which the index doesn't need

    out = html.render(
        night,
        runs,
        state.report(night),
        findings=findings,
        prefect=prefect,
        links=links,
        diagnoses=diagnoses,
        runbooks=runbooks,
    )
    _around(state, {result.test for result, _ in runs})
    return out


def refresh(state: State) -> Path:
    """Write the index and every test's page anew, after some nights were deleted. Return the index."""
    return _around(state, None)


def _around(state: State, touched: set[str] | None) -> Path:
    """Write the index and the touched tests' pages. touched: None: all, also those of nights that were deleted."""
    nights, older = _nights(state)
    histories = _histories(nights)
    if touched is None:
        touched = {path.stem for path in state.history("x").parent.glob("*.html")} | {key[0] for key in histories}
    for test in touched:
        if page.stem(test):
            runbooks = next((n.runbooks for n in nights if any(r.test == test for r in n.results)), RUNBOOKS)
            _write_test(state, test, [h for key, h in histories.items() if key[0] == test], runbooks)
    return _write_index(state, nights, older, histories)


# ---- what is there ---------------------------------------------------------------------------------------------------


def _nights(state: State) -> tuple[list[_Night], int]:
    """Return the newest nights, newest first, and how many older ones there are."""
    paths = state.published()[::-1]
    return [_read(path) for path in paths[:NIGHTS_MAX]], max(0, len(paths) - NIGHTS_MAX)


def _read(path: Path) -> _Night:
    night = path.parent.name
    try:
        told = read_json(path)
        if not isinstance(told, dict):
            raise GamedayError(f"{path} is no JSON object. Remedy: it was changed by hand; restore it or delete it")
        results = decode(tuple[RunResult, ...], told.get("results"), str(path))
        findings = decode(tuple[Finding, ...], told.get("findings", []), str(path))
        runbooks = decode(str, told.get("runbooks", RUNBOOKS), str(path))
    except GamedayError as e:
        return _Night(night, trouble=str(e))
    return _Night(night, tuple(complete(result) for result in results), findings, runbooks=runbooks)


def _histories(nights: Sequence[_Night]) -> dict[tuple[str, str], _History]:
    """Return (test, anchor) -> its history. Those that ran last come first."""
    found: dict[tuple[str, str], _History] = {}
    for night in nights:
        for number, result in enumerate(night.results, 1):
            history = found.setdefault((result.test, page.anchor(result)), _History())
            history.runs.append(result)
            history.places.append((night.id, number))
    for history in found.values():
        order = sorted(range(len(history.runs)), key=lambda n: history.runs[n].started)
        history.runs = [history.runs[n] for n in order]
        history.places = [history.places[n] for n in order]
    return found


# ---- the index -------------------------------------------------------------------------------------------------------


def _write_index(
    state: State, nights: Sequence[_Night], older: int, histories: Mapping[tuple[str, str], _History]
) -> Path:
    newest = nights[0] if nights else None
    tests = [_row(history) for _, history in sorted(histories.items(), key=lambda item: _order(item[1]))]
    return page.write(
        state.index,
        "index.html.j2",
        stacks=sorted({result.stack for night in nights for result in night.results}),
        newest=newest and _night(newest),
        lead=_lead(newest),
        attention=sorted((row for row in tests if row["attention"]), key=lambda row: -row["verdict"]),
        tests=tests,
        nights=[_night(night) for night in nights],
        older=older,
        strip_runs=STRIP_RUNS,
    )


def _lead(newest: _Night | None) -> str:
    if newest is None:
        return "There is no night yet: gameday run --all."
    return newest.trouble or page.lead(newest.results, newest.findings)


def _order(history: _History) -> tuple[str, int, str]:
    """Sort by test, and within one by how often it ran, most often first."""
    return history.newest.test, -len(history.runs), words.label(history.newest)


def _row(history: _History) -> dict[str, Any]:
    """Return what the index shows of a history."""
    result = history.newest
    night, number = history.places[-1]
    passes = [run for run in history.runs if run.verdict is Verdict.PASS]
    usual = next((t for t in result.trends if t.measure == "mttr"), None)
    return {
        "result": result,
        "link": page.history(result, ""),
        "run": f"{page.segment(night)}/report.html#run-{number}",
        "verdict": result.verdict,
        "why": words.brief(result.why),
        "worse": [words.measure(name) for name in page.worse(result)],
        "stale": page.stale(result),
        "attention": result.verdict not in (Verdict.PASS, Verdict.SKIPPED)
        or bool(page.worse(result))
        or page.stale(result),
        "strip": plot.strip(history.runs, STRIP_RUNS),
        "spark": plot.spark(history.runs, "mttr", STRIP_RUNS),
        "mttr": words.interval(result.measures["mttr"]) if result.measures["mttr"].measured else None,
        "target": f"{result.mttr_max_s:g} s",
        "median": words.seconds(usual.median_s) if usual else None,
        "passed": page.day(passes[-1].started) if passes else None,
    }


def _night(night: _Night) -> dict[str, Any]:
    """Return what the index shows of a night."""
    by_verdict = [(v, sum(r.verdict is v for r in night.results)) for v in sorted(Verdict, reverse=True)]
    calm = (Verdict.PASS, Verdict.SKIPPED)
    link = f"{page.segment(night.id)}/report.html"
    wrong = [(words.label(r), f"{link}#run-{n}") for n, r in enumerate(night.results, 1) if r.verdict not in calm]
    wrong += [(f.check, link) for f in night.findings if f.verdict not in calm]
    return {
        "id": night.id,
        "link": link,
        "title": page.title(night.id),
        "when": page.when(night.id),
        "verdict": verdict(night.results, night.findings),
        "counts": [(v, number) for v, number in by_verdict if number],
        "runs": len(night.results),
        "took_min": sum(r.took_s for r in night.results) / 60,
        "wrong": wrong,
        "slower": sum(bool(page.worse(r)) for r in night.results),
        "trouble": night.trouble,
    }


# ---- a test ----------------------------------------------------------------------------------------------------------


def _write_test(state: State, test: str, histories: Sequence[_History], runbooks: str) -> Path:
    ordered = sorted(histories, key=_order)
    return page.write(
        state.history(test),
        "test.html.j2",
        test=test,
        runbooks=runbooks,
        stacks=sorted({history.newest.stack for history in ordered}),
        nights_max=NIGHTS_MAX,
        histories=[_history(n, history) for n, history in enumerate(ordered, 1)],
        open_rows=ROWS_OPEN,
    )


def _history(number: int, history: _History) -> dict[str, Any]:
    result = history.newest
    targets = {"mttr": result.mttr_max_s, "drain": result.drain_max_s}
    plots = []
    for name in PLOTTED:
        key = f"h{number}-{name}"
        wide = plot.trend(history.runs, name, targets.get(name), plot.WIDE, f"{key}-wide")
        if wide is not None:
            narrow = plot.trend(history.runs, name, targets.get(name), plot.NARROW, f"{key}-narrow")
            plots.append({"name": words.measure(name), "wide": wide, "narrow": narrow})
    carried = next((run for run in reversed(history.runs) if run.steps), None)
    return {
        **_row(history),
        "anchor": page.anchor(result),
        "label": words.label(result),
        "counts": [(v, n) for v in sorted(Verdict) if (n := sum(run.verdict is v for run in history.runs))],
        "usual": [
            {"name": words.measure(t.measure), "median": words.seconds(t.median_s), "p95": words.seconds(t.p95_s),
             "runs": t.runs, "worse": t.worse}
            for t in result.trends
        ],
        "strip": plot.strip(history.runs, len(history.runs)),
        "plots": plots,
        "steps": carried.steps if carried else (),
        "carried": carried and page.day(carried.started),
        "alerts": any("alert" in run.measures for run in history.runs),
        "runs": [
            _run(run, night, place)
            for run, (night, place) in reversed(list(zip(history.runs, history.places, strict=True)))
        ],
    }  # fmt: skip


def _run(result: RunResult, night: str, number: int) -> dict[str, Any]:
    return {
        "link": f"../{page.segment(night)}/report.html#run-{number}",
        "when": f"{page.day(result.started)}, {result.started[11:16]}",
        "verdict": result.verdict,
        "measures": {name: _told(result, name) for name in PLOTTED},
        "worse": page.worse(result),
        "stale": page.stale(result),
        "damage": {kind: words.damage(result, kind) for kind in result.counts},
        "why": words.brief(result.why),
    }


def _told(result: RunResult, name: str) -> str | None:
    measure = result.measures.get(name)
    return words.interval(measure) if measure is not None and measure.low_s is not None else None
