"""A night, or a history, as a table: for the terminal, readable at 80 columns, and as Markdown.

Colour is only ever added to a word; whether there is any is the console's business (none when it is not a terminal).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gameday.model import RunResult, Verdict
from gameday.reports.words import NONE, against, brief, count, damage, day, label, parameters, plain

__all__ = ["history", "markdown", "render"]

STYLES = {
    Verdict.PASS: "green",
    Verdict.SKIPPED: "dim",
    Verdict.UNKNOWN: "yellow",
    Verdict.INVALID: "magenta",
    Verdict.FAIL: "bold red",
}


def render(results: Sequence[RunResult]) -> Table:
    """Test, verdict, MTTR against target, lost, doubled, changed (at the worst hop), note; one row a run."""
    table = _table("Test", "Verdict", "MTTR", ">Lost", ">Doubled", ">Changed", "Note")
    for result in results:
        table.add_row(
            _name(result),
            _verdict(result.verdict),
            _against(result).replace(" of ", "\nof "),
            *(_damage(result, kind) for kind in ("lost", "doubled", "changed")),
            Text(plain(brief(result.why))),
        )
    return table


def history(results: Sequence[RunResult]) -> Table:
    """The runs of many nights, in the order given: when, test, verdict, MTTR against target, note."""
    table = _table("Run (UTC)", "Test", "Verdict", "MTTR", "Note")
    for result in results:
        table.add_row(
            f"{day(result.started)}\n{result.started.partition('T')[2][:8]}",
            _name(result),
            _verdict(result.verdict),
            _against(result).replace(" of ", "\nof "),
            Text(plain(brief(result.why))),
        )
    return table


def markdown(results: Sequence[RunResult]) -> str:
    """Test | Run Date | Result | MTTR | Notes, one line a run, ending with a newline."""
    lines = ["| Test | Run Date | Result | MTTR | Notes |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        cells = (label(result), day(result.started), str(result.verdict).upper(), _against(result), brief(result.why))
        lines.append(f"| {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(lines) + "\n"


def _table(*columns: str) -> Table:
    """Without vertical lines and with single blanks between columns: 80 columns are few."""
    table = Table(box=None, padding=(0, 1, 1, 0), pad_edge=False, header_style="bold", expand=False)
    for name in columns:
        last = name == columns[-1]
        table.add_column(
            name.lstrip(">"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=not last,
            overflow="fold",
            min_width=16 if last else None,
        )
    return table


def _name(result: RunResult) -> Text:
    """The test, and its parameters on lines of their own."""
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
    """Text that stays inside its cell: one line, no column separator, no markup of its own."""
    for mark in ("\\", "|", "`", "*", "<", "["):
        text = text.replace(mark, f"\\{mark}")
    return plain(" ".join(text.split()))
