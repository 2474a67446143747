"""Makes a night's results.json, which other programs read. results.schema.json is the published contract.

codec.py turns values into JSON; the caller writes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from gameday.codec import encode
from gameday.model import Finding, Json, Measure, RunResult, Verdict, merge

__all__ = ["COUNTS", "MEASURES", "complete", "schema", "to_json", "verdict"]

MEASURES = ("impact", "restore", "drain", "mttr")
"""The measures that every result has, measured or not."""

COUNTS = ("lost", "doubled", "changed")
"""The kinds of damage that every result counts per hop; a hop that was not judged is absent."""

NOT_MEASURED = Measure(None, None, "the run ended before this could be measured")

SCHEMA = Path(__file__).with_name("results.schema.json")


def to_json(
    night: str, results: Sequence[RunResult], findings: Sequence[Finding] = (), runbooks: str | None = None
) -> Json:
    """Return {"night": night, "results": [RunResult…], "findings": [Finding…]} in the order given; valid by `schema()`.

    findings: those of the night, of no single run (the selftest, the digest of the whole history). runbooks: their
    folder, for the engineer.

    A run that ended early still has every measure and every kind of count, so that readers need no special case.
    """
    return {
        "night": night,
        "results": [encode(complete(result)) for result in results],
        "findings": [encode(finding) for finding in findings],
        **({} if runbooks is None else {"runbooks": runbooks}),
    }


def complete(result: RunResult) -> RunResult:
    """Return the result with all of MEASURES and COUNTS; those that it lacks become "not measured" and "not judged"."""
    measures = {**dict.fromkeys(MEASURES, NOT_MEASURED), **result.measures}
    counts: Mapping[str, Mapping[str, int]] = {**{kind: {} for kind in COUNTS}, **result.counts}
    return replace(result, measures=measures, counts=counts)


def verdict(results: Sequence[RunResult], findings: Sequence[Finding]) -> Verdict:
    """Return a night's verdict: the worst of its results and its own findings; skipped when nothing was run."""
    runs = [result.verdict for result in results]
    if runs and all(v is Verdict.SKIPPED for v in runs):
        return Verdict.SKIPPED
    return merge([*runs, *(f.verdict for f in findings if f.verdict is not Verdict.PASS)])


@cache
def schema() -> Json:
    """Return the JSON Schema (draft 2020-12) of results.json."""
    return json.loads(SCHEMA.read_text())
