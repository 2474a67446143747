"""Shows a night, or a history, as a table: for the terminal, readable at 80 columns, and as Markdown.

Colour is only added to words, so nothing is lost without it. The console leaves it out when it is no terminal.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gameday.model import RunResult, Verdict
from gameday.reports import words
from gameday.reports.words import NONE, against, brief, count, damage, day, label, parameters, plain
from gameday.verdict import trend

__all__ = ["histories", "histories_markdown", "history", "markdown", "render"]

STYLES = {
    Verdict.PASS: "green",
    Verdict.SKIPPED: "dim",
    Verdict.UNKNOWN: "yellow",
    Verdict.INVALID: "magenta",
    Verdict.FAIL: "bold red",
}


LETTERS = {
    Verdict.PASS: ".",
    Verdict.SKIPPED: "-",
    Verdict.UNKNOWN: "?",
    Verdict.INVALID: "!",
    Verdict.FAIL: "F",
}
"""The verdict's sign, below the bar of its run."""


def render(results: Sequence[RunResult]) -> Table:
    """Return one row per run: test, verdict, MTTR with its target and its usual value, lost, doubled, changed (at the
    worst hop), note."""
    table = _table("Test", "Verdict", "MTTR", ">Lost", ">Doubled", ">Changed", "Note")
    for result in results:
        table.add_row(
            _name(result),
            _verdict(result.verdict),
            "\n".join(filter(None, (_against(result).replace(" of ", "\nof "), words.usual(result)))),
            *(_damage(result, kind) for kind in ("lost", "doubled", "changed")),
            Text(_note(result)),
        )
    return table


def history(results: Sequence[RunResult]) -> Table:
    """Return the runs of many nights, in the order given: when, test, verdict, MTTR with its target, note."""
    table = _table("Run (UTC)", "Test", "Verdict", "MTTR", "Note")
    for result in results:
        table.add_row(
            f"{day(result.started)}\n{result.started.partition('T')[2][:8]}",
            _name(result),
            _verdict(result.verdict),
            _against(result).replace(" of ", "\nof "),
            Text(_note(result)),
        )
    return table


def histories(found: Sequence[Sequence[RunResult]]) -> Table:
    """Return one row per test and its parameters: MTTR and verdict of each run, the newest to the right; median and p95
    of the passes; whether the last run was slower than they. found: newest first, none empty."""
    stacks = {runs[0].stack for runs in found}
    table = _table("Test", "MTTR and verdicts", "Usually", "Trend", last_min=11)
    for runs in found:
        course, verdicts = _course(runs)
        stack = f"\n  stack={runs[0].stack}" if len(stacks) > 1 else ""
        table.add_row(
            _name(runs[0]) + Text(plain(stack)),
            Text(f"{course}\n") + Text("").join(Text(LETTERS[v], STYLES[v]) for v in verdicts),
            "{}\np95 {}".format(*_usually(runs)),
            Text(words.trend(runs[0]) or f"{len(_passes(runs))} passes", "bold red" if _slower(runs[0]) else ""),
        )
    return table


def histories_markdown(found: Sequence[Sequence[RunResult]]) -> str:
    """Return Test | MTTR | Verdicts | Median | p95 | Trend, one line per history, ending with a newline."""
    lines = ["| Test | MTTR | Verdicts | Median | p95 | Trend |", "| --- | --- | --- | --- | --- | --- |"]
    for runs in found:
        course, verdicts = _course(runs)
        letters = "".join(LETTERS[v] for v in verdicts)
        cells = (
            label(runs[0]),
            course,
            letters,
            *_usually(runs),
            words.trend(runs[0]) or f"{len(_passes(runs))} passes",
        )
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(lines) + "\n"


def markdown(results: Sequence[RunResult]) -> str:
    """Return Test | Run Date | Result | MTTR | Notes, one line per run, ending with a newline."""
    lines = ["| Test | Run Date | Result | MTTR | Notes |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        cells = (label(result), day(result.started), str(result.verdict).upper(), _against(result), brief(result.why))
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(lines) + "\n"


def _course(runs: Sequence[RunResult]) -> tuple[str, list[Verdict]]:
    """Return the sparkline and the verdicts, the oldest first."""
    oldest_first = list(reversed(runs))
    mttr = [r.measures["mttr"].high_s if "mttr" in r.measures else None for r in oldest_first]
    return words.sparkline(mttr), [r.verdict for r in oldest_first]


def _passes(runs: Sequence[RunResult]) -> list[float]:
    """Return the MTTR of each run that recovered as promised."""
    good = [r for r in runs if r.verdict is Verdict.PASS or _slower(r)]
    return [s for r in good if "mttr" in r.measures and (s := r.measures["mttr"].high_s) is not None]


def _usually(runs: Sequence[RunResult]) -> tuple[str, str]:
    """Median and p95."""
    passes = _passes(runs)
    if not passes:
        return NONE, NONE
    return f"{statistics.median(passes):.1f} s", f"{trend.p95(passes):.1f} s"


def _slower(result: RunResult) -> bool:
    return any(t.worse for t in result.trends)


def _note(result: RunResult) -> str:
    """Return the reason, and a slow-down if that is not the reason."""
    told = words.trend(result) if _slower(result) and result.verdict is Verdict.PASS else ""
    return plain(brief("; ".join(filter(None, (result.why, told)))))


def _table(*columns: str, last_min: int = 16) -> Table:
    """Return a table without vertical lines and with single blanks between columns, to fit into 80 columns."""
    table = Table(box=None, padding=(0, 1, 1, 0), pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        last = name == columns[-1]
        table.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=not last,
            overflow="fold",
            min_width=last_min if last else None,
        )
    return table


def _name(result: RunResult) -> Text:
    """Return the test, and its parameters on lines of their own."""
    return Text(plain("\n".join((result.test, *(f"  {parameters({k: v})}" for k, v in result.params.items())))))


def _verdict(verdict: Verdict) -> Text:
    return Text(str(verdict), STYLES[verdict])


def _damage(result: RunResult, kind: str) -> Text:
    number = damage(result, kind)
    return Text(NONE if number is None else count(number), "bold red" if number else "")


def _against(result: RunResult) -> str:
    mttr = result.measures.get("mttr")
    return against(mttr, result.mttr_max_s) if mttr else NONE


def _cell(text: str) -> str:
    """Escape a text so that it stays in its cell: one line, no column separator, no markup."""
    for mark in ("\\", "|", "`", "*", "<", "["):
        text = text.replace(mark, f"\\{mark}")
    return plain(" ".join(text.split()))
