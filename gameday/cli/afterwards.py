"""What is there after a run: the history, the reports; and the proof that the checks see what they must."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gameday.cli.shared import EXIT_NO_VERDICT, AsJson, out
from gameday.errors import ConfigError, GamedayError, NotUp
from gameday.model import Verdict
from gameday.state import State

__all__ = ["history", "report", "selftest"]


def history(
    name: Annotated[str | None, typer.Argument(help="One failure test.")] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="How many runs, newest first.")] = 30,
    every: Annotated[bool, typer.Option("--all", help="Of every stack that shares this Postgres.")] = False,
) -> None:
    """How the tests went: MTTR and verdict of the last 30 runs, median, p95, trend. With NAME, or as Markdown or JSON,
    also run by run."""
    from gameday.past import history as past
    from gameday.reports import results, table
    from gameday.stack.reading import load
    from gameday.verdict import trend

    config = load()
    dsn = config.history.get_secret_value()
    past.import_missing(dsn, State.default())
    test, stack = name.replace("-", "_") if name else None, None if every else config.name
    listed = past.runs(dsn, test=test, stack=stack, limit=limit) if name or as_json or markdown else []
    if as_json:
        out.print_json(json.dumps(results.to_json("history", listed)))
        return
    found = past.histories(dsn, trend.HISTORY_MAX, test=test, stack=stack)
    if markdown:
        typer.echo(f"{table.markdown(listed)}\n{table.histories_markdown(found)}", nl=False)
        return
    if listed:
        out.print(table.history(listed))
    out.print(table.histories(found) if found else "no runs yet. Remedy: gameday run --all")


def report(
    night: Annotated[str | None, typer.Argument(help="One night: its id or how that begins, or last.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Where the report is: the index of all nights, or the page of one."""
    import webbrowser

    from gameday.reports import site

    state = State.default()
    known = [path.parent.name for path in state.published()]
    if not known:
        raise NotUp("there is no report yet. Remedy: gameday run --all")
    index = site.refresh(state)
    found = index if night is None else state.report(_night(night, known))
    out.print(str(found))
    if open_ and not webbrowser.open(found.as_uri()):
        raise GamedayError(f"no browser could be opened. Remedy: open {found} yourself")


def selftest(as_json: AsJson = False) -> None:
    """Prove the checks against planted faults."""
    from gameday.verdict import selftest as proof

    findings = proof.run()
    if as_json:
        out.print_json(json.dumps([{"check": f.check, "verdict": str(f.verdict), "why": f.why} for f in findings]))
    else:
        for f in findings:
            out.print(f"{f.verdict!s:8} {f.check}: {f.why}")
    if any(f.verdict is not Verdict.PASS for f in findings):
        raise typer.Exit(EXIT_NO_VERDICT)


def _night(wanted: str, known: list[str]) -> str:
    """The one night that is meant."""
    found = known[-1:] if wanted == "last" else [name for name in known if name.startswith(wanted)]
    if wanted in found:
        return wanted
    if len(found) != 1:
        told = f"more than one night: {', '.join(found[-5:])}" if found else f"no night; the newest is {known[-1]}"
        raise ConfigError(f"{wanted!r} is {told}. Remedy: gameday report shows them all")
    return found[0]
