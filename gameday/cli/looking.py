"""Commands that only look: how the stack is, whether gameday.toml fits it, which tests there are."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from gameday.cli.shared import EXIT_NO_VERDICT, AsJson, configuration, opened_stack, out, quiet_prefect

__all__ = ["check", "list_", "status"]


def status(as_json: AsJson = False) -> None:
    """Components, links, streams with their lag, open injections, and who holds the stack."""
    from gameday.reports.found import down
    from tasks.survey import survey

    seen = survey(opened_stack())
    if as_json:
        out.print_json(json.dumps(seen))
    elif (told := down(seen)) is not None:
        out.print(f"{told}. Remedy: gameday up, or start it as you do (docker compose up -d); gameday check says more")
    else:
        _print_status(seen)
    if not seen["well"]:
        raise typer.Exit(EXIT_NO_VERDICT)


def check(
    as_json: AsJson = False,
    looking: Annotated[
        bool,
        typer.Option("--look", help="Also read each hop's newest records, and hold the hops against each other."),
    ] = False,
) -> None:
    """The configuration against the running stack: what was found, what may be touched, what each test would skip and
    why. Exit 3 when something wasn't found or, with --look, is not as it is declared; or when no test can run."""
    quiet_prefect(None)  # only a channel that refers to a block of Prefect's needs it
    from flows import definitions
    from gameday.reports.found import found
    from tasks.survey import requirements

    stack = opened_stack()
    rows = requirements(stack, definitions())
    if looking:
        from tasks.look import look

        rows += look(stack)
    if as_json:
        out.print_json(json.dumps(rows))
    else:
        out.print(found(rows))
    tests = [row["ok"] for row in rows if row["what"].startswith("test ")]
    if not any(tests) or not all(row["ok"] for row in rows if not row["what"].startswith("test ")):
        raise typer.Exit(EXIT_NO_VERDICT)


def list_(as_json: AsJson = False) -> None:
    """The failure tests: their questions, parameters and targets."""
    from flows import definitions
    from tasks.definition import described, parameter_sets, question, required

    config, _ = configuration()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "question": question(test),
            "parameters": described(test),
            "mttr_max_s": test(**dict.fromkeys(required(test), "")).mttr_max_s,
            "nightly": parameter_sets(test, config),
        }
        for name, test in definitions().items()
    ]
    if as_json:
        out.print_json(json.dumps(rows))
        return
    table = Table("test", "question", "parameter sets", "MTTR target", box=None, pad_edge=False)
    for row in rows:
        sets = "\n".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in row["nightly"])
        table.add_row(row["name"], row["question"], sets, f"{row['mttr_max_s']:g} s")
    out.print(table)


def _print_status(seen: dict[str, Any]) -> None:
    from gameday.verdict.causes import Cause

    components = Table("component", "runs", "answers", "may be broken", box=None, pad_edge=False)
    for row in seen["components"]:
        components.add_row(row["name"], row["runs"], row["answers"], "yes" if row["opt_in"] else "no")
    out.print(components)
    if seen["streams"]:
        out.print()
        streams = Table("stream", "ledger", "visible", "behind", box=None, pad_edge=False)
        several = len({row["stream"] for row in seen["streams"]}) > 1
        for row in seen["streams"]:
            named = (row["stream"] if several or not row["group"] else "", row["group"])
            figures = (str(row[name]) for name in ("ledger", "visible", "behind"))
            streams.add_row(" ".join(filter(None, named)), *figures)
        out.print(streams)
    if seen["links"]:
        out.print()
        links = Table("link", "state", box=None, pad_edge=False)
        for row in seen["links"]:
            links.add_row(row["name"], _link(row))
        out.print(links)
    out.print()
    for line in seen["notes"]:
        out.print(line)
    for cause in seen["diagnosis"]:
        out.print(f"likely: {Cause(**cause).text}")


def _link(row: dict[str, Any]) -> str:
    """A link's state in words."""
    if "trouble" in row:
        return str(row["trouble"])
    toxics = ", ".join(str(toxic["name"]) for toxic in row["toxics"])
    return ("whole" if row["enabled"] else "cut") + (f", with {toxics}" if toxics else "")
