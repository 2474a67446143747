"""Shows what `gameday check` and `gameday init` found as a table. It has one row for each thing that gameday.toml
names, under its keys there, and one for each test with its parameter sets. The checks that can't judge are listed once
for all tests that can run.

What a server or a file says is shown as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from gameday.model import Json
from gameday.reports.words import plain

__all__ = ["down", "found"]

SECTIONS = {
    "component": "components",
    "hop": "hops",
    "cursor": "cursors",
    "stop": "stops",
    "channel": "channels",
    "host": "hosts",
    "watch": "watches",
}
"""The first word of a row -> its section in gameday.toml."""

TEST, CHECKS = "test ", "checks of "


def found(rows: Sequence[Mapping[str, Json]]) -> Table:
    """Return the table. rows: each {"what", "ok", "note"}, as tasks/survey.py and tasks/look.py make them."""
    table = Table("what", "found", "note", box=None, pad_edge=False)
    tests = dict.fromkeys(str(row["what"]) for row in rows if str(row["what"]).startswith(TEST))
    told: set[str] = set()
    silent: dict[str, list[str]] = {}
    for row in rows:
        what = str(row["what"])
        if what.startswith(CHECKS):
            if any(one["ok"] for one in rows if one["what"] == f"{TEST}{what.removeprefix(CHECKS)}"):
                silent.setdefault(str(row["note"]), []).append(what.removeprefix(CHECKS))
        elif what not in tests:
            table.add_row(_key(what), Text("yes") if row["ok"] else Text("no", "red"), _text(str(row["note"])))
        elif what not in told:
            told.add(what)
            sets = [one for one in rows if one["what"] == what]
            table.add_row(_text(what), _share(sets), _text(_sets([str(one["note"]) for one in sets])))
    for note, names in silent.items():
        table.add_row("checks", "", _text(f"of {', '.join(names)}: {note}"))
    return table


def down(seen: Mapping[str, Json]) -> str | None:
    """Return what `gameday status` says if no component of the stack runs or answers, with its open acts and holder.
    None: some component does. seen: as tasks/survey.py makes it."""
    components = seen["components"]
    if not components or any(one["ok"] or one["runs"].startswith(("pid", "for")) for one in components):
        return None
    first = components[0]
    why = str(first["runs"] if first["runs"] != "no" else first["answers"]).partition(". Remedy:")[0]
    one = len(components) == 1
    whole = "its one component neither runs nor" if one else f"none of its {len(components)} components runs or"
    held = [note for note in seen["notes"] if note.startswith(("open: ", "held by "))]
    return "; ".join(
        [plain(f"stack {seen['stack']} is down: {whole} answers ({first['name']}: {why})"), *map(plain, held)]
    )


def _key(what: str) -> Text:
    """Name the key in gameday.toml: hop log -> hops.log."""
    kind, _, name = what.partition(" ")
    return _text(f"{SECTIONS[kind]}.{name}" if name and kind in SECTIONS else what)


def _share(sets: Sequence[Mapping[str, Json]]) -> Text:
    fine = sum(bool(one["ok"]) for one in sets)
    if fine == len(sets):
        return Text("yes")
    return Text(f"{fine} of {len(sets)}" if fine else "skipped", "yellow")


def _sets(notes: Sequence[str]) -> str:
    """Return a line for each outcome: the parameter sets that have it, and the outcome."""
    by: dict[str, list[str]] = {}
    for note in notes:
        params, colon, outcome = note.partition(": ")
        by.setdefault(outcome if colon else note, []).append(params if colon else "")
    lines = [(" | ".join(filter(None, params)), outcome) for outcome, params in by.items()]
    return "\n".join(f"{params}: {outcome}" if params else outcome for params, outcome in lines)


def _text(text: str) -> Text:
    return Text(plain(text))
