"""`gameday watch`: hold the hops against each other, continuously, without breaking anything."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gameday.cli.shared import EXIT_FAIL, EXIT_NO_VERDICT, opened_stack, out, say
from gameday.reports.words import plain
from gameday.system import console

if TYPE_CHECKING:
    from tasks.watch import Watch

__all__ = ["watch"]

LOOK_WITHIN_S = 0.5
"""How long the next look is waited for, until the view is drawn again."""

ONCE_WITHIN_S = 300.0
"""For `--once`: a look at a stream has a bound of its own, which is shorter."""

CAUSES_WITHIN_S = 30.0


def watch(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Look until there is a verdict, print all, and end.")] = False,
) -> None:
    """Hold the hops of each stream against each other, again and again: what differs, since when, at which hop. Breaks
    nothing, and takes no lease. Exit 0 when all is well, 1 when something is lost, doubled or changed, 3 when not all
    could be judged; Ctrl-C ends it with the same."""
    from tasks.watch import Watch

    watching = Watch(opened_stack())
    live = sys.stdout is not None and sys.stdout.isatty() and not as_json and not once
    view = Live(console=out, auto_refresh=False, transient=True) if live else None
    if not as_json:
        _greet(watching)
    watching.start()
    try:
        with view or nullcontext():
            _once(watching) if once else _follow(watching, as_json, view)
    except KeyboardInterrupt:
        if once:
            raise
    finally:
        watching.stop()
    if once and as_json:
        out.print(json.dumps(watching.told()))
    elif not as_json:
        for line in _summary(watching):
            out.print(line)
    if watching.damaged:
        raise typer.Exit(EXIT_FAIL)
    if not watching.well:
        raise typer.Exit(EXIT_NO_VERDICT)


def _once(watching: Watch) -> None:
    """Until there is a verdict."""
    deadline_s = time.monotonic() + ONCE_WITHIN_S
    while not watching.settled and time.monotonic() < deadline_s:
        watching.events(LOOK_WITHIN_S)
    watching.explain(CAUSES_WITHIN_S)


def _follow(watching: Watch, as_json: bool, view: Live | None) -> None:
    """Tell what the looks bring, for as long as somebody reads it."""
    from tasks.watch import event_of

    during = ""
    while not console.gone():
        events = watching.events(LOOK_WITHIN_S)
        if watching.during != during:
            _run(watching.during or during, "begins" if watching.during else "ends", as_json)
            during = watching.during
        for event in events:
            if as_json:
                out.print(json.dumps(event_of(event)))
            else:
                say(event.text)
        if watching.explain():
            _causes(watching, as_json)
        if view is not None:
            view.update(_view(watching), refresh=True)


def _run(run: str, event: str, as_json: bool) -> None:
    """That a failure test begins, or ends."""
    from tasks.watch import now

    if as_json:
        out.print(json.dumps({"at": now(), "event": event, "kind": "run", "run": run}))
    else:
        say(f"{'a failure test runs' if event == 'begins' else 'the failure test is over'}: {run}")


def _causes(watching: Watch, as_json: bool) -> None:
    from tasks.watch import now

    if as_json:
        found = [cause.told for cause in watching.causes]
        out.print(json.dumps({"at": now(), "event": "diagnosis", "diagnosis": found}))
        return
    for cause in watching.causes:
        say(f"likely: {cause.text}")


def _greet(watching: Watch) -> None:
    names = [one.name for one in watching.streams]
    say(f"watching {', '.join(dict.fromkeys(names)) or 'nothing'} of stack {watching.stack.name}; nothing is changed")
    for name, why in watching.without.items():
        say(f"{name} is not watched: {why}")


def _view(watching: Watch) -> Group:
    """The table at the bottom of the terminal."""
    table = Table("stream", "hop", "records looked at", "behind", "state", box=None, pad_edge=False)
    for one in watching.streams:
        look = watching.last.get(one)
        for hop, figures in look.hops.items() if look else ():
            issues = watching.known.of(one.name, hop)
            behind = figures.get("behind_s")
            table.add_row(
                *(plain(one.name), plain(hop)),
                f"{figures['records']:,}" if "records" in figures else "",
                "" if not behind else f"{behind:.0f} s",
                Text(", ".join(dict.fromkeys(one.trouble.kind for one in issues)), "red") if issues else Text("well"),
            )
        if look is None:
            table.add_row(plain(one.name), "", "", "", "the first look is under way")
    lines: list[Any] = [Text(""), table]
    if watching.during:
        lines.append(Text(plain(f"a failure test runs: {watching.during}"), "yellow"))
    return Group(*lines)


def _summary(watching: Watch) -> Iterator[str]:
    """How it stands at the end."""
    from gameday.verdict.known import text_of

    for issue in watching.known.listed:
        yield f"since {issue.since}: {text_of(issue)}"
    for cause in watching.causes:
        yield f"likely: {cause.text}"
    if watching.well:
        for name in dict.fromkeys(one.name for one in watching.streams):
            yield f"{name}: every hop has what it should, as of {watching.verified[name]}"
    elif not watching.streams:
        yield "no stream can be watched"
    elif not watching.known.issues:
        yield "not every stream was looked at"
