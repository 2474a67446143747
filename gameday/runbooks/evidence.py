"""What a runbook's evidence block says, and putting it there: between its markers, and nowhere else.

Pure. Where the texts come from and go to is tasks/writeback.py's.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from statistics import median

from gameday.errors import GamedayError
from gameday.model import Json, RunResult, Verdict

__all__ = ["BEGIN", "END", "RUNS", "block", "diff", "filled"]

BEGIN, END = b"<!-- gameday:evidence -->", b"<!-- /gameday:evidence -->"

RUNS = 30
"""How many runs of one parameter set the figures are of."""

VERDICTS = 5
"""How many of the last verdicts are shown."""

WHY_CHARS_MAX = 160


def filled(text: bytes, content: str, name: str) -> bytes:
    """The text with this content between its markers; every byte outside them as it was. name: the file's, for errors.
    Half a surrogate pair, as a platform may send it, becomes a question mark.

    Raises GamedayError, and so changes nothing, unless there is exactly one marker of each kind, in their order.
    """
    begins, ends = text.count(BEGIN), text.count(END)
    if (begins, ends) != (1, 1) or text.index(BEGIN) > text.index(END):
        raise GamedayError(
            f"{name} has {begins} times {BEGIN.decode()!r} and {ends} times {END.decode()!r}: it stays as it is. "
            f"Remedy: one of each, the first above the second"
        )
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    newline = b"\r\n" if rest.startswith(b"\r\n") else b"\n"
    lines = newline.join(content.encode(errors="replace").split(b"\n"))
    return before + BEGIN + newline + lines + newline + END + after


def diff(path: str, before: bytes, after: bytes) -> bytes:
    """What `git apply` and `patch -p1` take; b"" when nothing changed. path: relative to where they will be called."""
    old, new = f"a/{path}".encode(), f"b/{path}".encode()
    lines = difflib.diff_bytes(difflib.unified_diff, _lines(before), _lines(after), old, new)
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)


def _lines(text: bytes) -> list[bytes]:
    """Lines as git sees them: they end at a newline, and at nothing else."""
    *whole, last = text.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def block(runs: Sequence[RunResult]) -> str:
    """The content for one runbook: its test's runs on one stack, newest first. A row for each parameter set, and what
    the newest run of each found otherwise than the text says.
    """
    sets: dict[str, list[RunResult]] = {}
    for run in runs:
        of_set = sets.setdefault(_shown(run.params), [])
        if len(of_set) < RUNS:
            of_set.append(run)
    if not sets:
        return "No run has been recorded yet."
    rows = [_row(params, found) for params, found in sorted(sets.items())]
    head = f"| parameters | last proven | MTTR, median | worst of {RUNS} | time to alert | last verdicts |"
    drift = [line for params, found in sorted(sets.items()) for line in _drift(params, found[0])]
    proved = "Every step came out as this text says, in the newest run of each."
    return "\n".join(
        [
            f"On stack `{runs[0].stack}`, as of {runs[0].started[:10]}:",
            "",
            head,
            "|---|---|---|---|---|---|",
            *rows,
            "",
            *(drift or [proved if any(found[0].steps for found in sets.values()) else "No step was carried out."]),
        ]
    )


def _row(params: str, runs: Sequence[RunResult]) -> str:
    """One parameter set's runs, newest first."""
    proven = next((r.started[:10] for r in runs if r.verdict is Verdict.PASS and not _failed(r)), "never")
    mttr = _figures(runs, "mttr")
    alert = _figures(runs, "alert")
    last = " ".join(str(r.verdict) for r in runs[:VERDICTS])
    return f"| {params} | {proven} | {_median(mttr)} | {_worst(mttr)} | {_median(alert)} | {last} |"


def _figures(runs: Sequence[RunResult], measure: str) -> list[float]:
    """The high bounds of what was measured."""
    found = [r.measures[measure].high_s for r in runs if measure in r.measures]
    return [value for value in found if value is not None]


def _median(values: Sequence[float]) -> str:
    return f"{median(values):.1f} s" if values else "–"


def _worst(values: Sequence[float]) -> str:
    return f"{max(values):.1f} s" if values else "–"


def _failed(run: RunResult) -> bool:
    return any(step.ok is False for step in run.steps)


def _drift(params: str, run: RunResult) -> list[str]:
    """The steps that came out otherwise, or could not be carried out, as a list's lines."""
    told = {False: "came out otherwise", None: "was not carried out"}
    return [
        f"- {params}, {step.kind}, “{_cell(step.title)}” {told[step.ok]}: {_cell(step.why)}"
        for step in run.steps
        if step.ok is not True
    ]


def _shown(params: Mapping[str, Json]) -> str:
    return _cell(", ".join(f"{name}={value}" for name, value in sorted(params.items()))) or "none"


def _cell(text: str) -> str:
    """On one line, no cell's end, no comment's, and no tag."""
    line = " ".join(text.split())
    line = line if len(line) <= WHY_CHARS_MAX else line[: WHY_CHARS_MAX - 1] + "…"
    return line.replace("|", "\\|").replace("<", "&lt;")
