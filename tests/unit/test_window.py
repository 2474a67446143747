"""What a run is judged by: from before its baseline, where the ledger knows what was there, to the ledger's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gameday.model import Baseline, Columns, Commit, Digest, Group, Marks, Window
from gameday.run import Run
from tasks.verify import MARGIN_S, archived, window

A: Group = ("binance", "BTCUSDT")
NEW: Group = ("binance", "ETHUSDT")


class Log:
    """A first hop on the platform's side."""

    def heads(self) -> Mapping[Group, int]:
        return {A: 2000, NEW: 40}

    def digest(self, _: Window) -> Sequence[Digest]:
        raise NotImplementedError

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        raise NotImplementedError


class Tape(Log):
    """A ledger that knows all from the first on."""

    def bars(self, held: Columns, window: Window) -> Digest:
        raise NotImplementedError


def run(ledger: Any) -> Run:
    heads: dict[str, Mapping[Group, int]] = {"exchange": {A: 1000, NEW: 20}, "silver": {A: 990, NEW: 15}}
    baseline = Baseline(Marks(0, 0, heads), 0.3, 1.0, {A: 2.5, NEW: 1.0})
    stack = SimpleNamespace(ledger=ledger)
    return cast("Run", SimpleNamespace(baseline=baseline, groups=(A, NEW), stack=stack, lasts=lambda: None))


@pytest.mark.parametrize(
    ("ledger", "lo"),
    [(Tape(), {A: 990 - int(2.5 * MARGIN_S), NEW: 0}), (Log(), {A: 990, NEW: 15})],
    ids=["tape", "log"],
)
def test_a_run_looks_a_margin_back_where_the_ledger_knows_all(ledger: Any, lo: Mapping[Group, int]) -> None:
    """From the slowest hop's head at baseline; a record just below it, that the test has harmed, is looked at too."""
    assert window(run(ledger)) == Window(lo, {A: 2000, NEW: 40})


@pytest.mark.parametrize(("ledger", "margin"), [(Tape(), int(2.5 * MARGIN_S)), (Log(), 0)], ids=["tape", "log"])
def test_the_archive_is_looked_at_a_margin_back_too(ledger: Any, margin: int) -> None:
    """Below the heads of the commit before the run: a row just below them, that the test has harmed, counts."""
    commits = [Commit("1", 0, {}, {A: 900, NEW: 10}), Commit("2", 0, {}, {A: 1500, NEW: 30})]
    lo = {A: 900 - margin, NEW: 0 if margin else 10}
    assert archived(run(ledger), commits) == Window(lo, {A: 1500, NEW: 30})
