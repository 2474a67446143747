"""What only one technology can tell: each hop's is kept, and the checks judge all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Baseline, Evidence, Json, Marks, Verdict, Window
from gameday.verdict import checks
from tasks import verify
from tests.trades import live, stack_of

NOTHING = Evidence("t", {}, "s")
GAPS = {"bronze": {"ingest_gap_s": {"trades": 31.0}}, "copy": {"ingest_gap_s": {"trades": 2.0}}}
NOT_FIRST = {"silver": {"not_first": 4}, "copy": {"not_first": 0}}
LATE = {
    "broker": {"late": {"rows": 1, "sample": [["binance", "BTC", 7, 1]]}},
    "mirror": {"late": {"rows": 0, "sample": []}},
}


class Telling:
    """A hop that tells these symptoms."""

    def __init__(self, symptoms: Mapping[str, Json]) -> None:
        self.told, self.tells = symptoms, tuple(symptoms)

    def symptoms(self, *_: Any) -> Mapping[str, Json]:
        return self.told


def gathered(hops: Mapping[str, Mapping[str, Json]], monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """The symptoms of a run over these hops."""
    stack = stack_of(live({name: Telling(symptoms) for name, symptoms in hops.items()}))
    baseline = Baseline(Marks(0, 0), 0.0, 1.0, {})
    run: Any = SimpleNamespace(stack=stack, baseline=baseline, acts=(), lasts=lambda: None, log=print, symptoms={})
    monkeypatch.setattr(verify, "_unknown", lambda live, sample: [f"{r[0]}/{r[1]} {r[2]}" for r in sample])
    return replace(NOTHING, symptoms=verify._symptoms(run, Window({}, {}), [*run.stack.hops], {}))


@pytest.mark.parametrize("turned", [False, True], ids=["as listed", "turned"])
@pytest.mark.parametrize(
    ("hops", "check", "why"),
    [
        (GAPS, checks.continuous, "the largest gap in ingestion is 31.0 s of 30 s (trades at bronze)"),
        (NOT_FIRST, checks.first_kept, "silver: 4 ids are kept from a later offset"),
        (LATE, checks.unchanged, "broker: 1 of 1 records re-sent from before the window are not the ledger's"),
    ],
)
def test_two_hops_that_tell_the_same_symptom_are_both_judged(
    hops: Mapping[str, Mapping[str, Json]], check: Any, why: str, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes last: what is wrong at one is not overwritten by what is right at the other."""
    ordered = dict(reversed(list(hops.items()))) if turned else hops
    found = check(gathered(ordered, monkeypatch))
    assert (found.verdict, found.why.startswith(why)) == (Verdict.FAIL, True), found.why
