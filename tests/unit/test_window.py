"""What a run is judged by: from before its baseline, where the ledger knows what was there, to the ledger's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gameday.model import Baseline, Columns, Commit, Digest, Followed, Group, Marks, Tally, Window
from gameday.run import Run
from tasks.verify import MARGIN_S, archived, window
from tests.trades import TRADES, live, stack_of

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

    whole = True


def run(ledger: Any) -> Run:
    heads: dict[str, Mapping[Group, int]] = {"exchange": {A: 1000, NEW: 20}, "silver": {A: 990, NEW: 15}}
    return over(ledger, heads, (A, NEW), {A: 2.5, NEW: 1.0})


def over(
    ledger: Any, heads: Mapping[str, Mapping[Group, int]], groups: tuple[Group, ...], rates: Mapping[Group, float]
) -> Run:
    """A run over a ledger and hops that stood there at the baseline, with those of another stream."""
    hops = {hop: ledger for hop in heads}
    other = live({"others-log": Log(), "others-table": Log()}, replace(TRADES, name="others"))
    marks = Marks(0, 0, {**heads, "others-log": {A: 1}, "others-table": {A: 1}})
    return cast(
        "Run",
        SimpleNamespace(
            baseline=Baseline(marks, 0.3, 1.0, {}),
            followed={"trades": Followed("trades", tuple(heads), "silver", groups=groups, rates=rates)},
            stack=stack_of(live(hops), other),
            lasts=lambda: None,
            log=print,
        ),
    )


def window_of(run: Run) -> Window:
    return window(run, run.stack.streams["trades"])


@pytest.mark.parametrize(
    ("ledger", "lo"),
    [(Tape(), {A: 990 - int(2.5 * MARGIN_S), NEW: 0}), (Log(), {A: 990, NEW: 15})],
    ids=["tape", "log"],
)
def test_a_run_looks_a_margin_back_where_the_ledger_knows_all(ledger: Any, lo: Mapping[Group, int]) -> None:
    """From the slowest hop's head at baseline; a record just below it, that the test has harmed, is looked at too."""
    assert window_of(run(ledger)) == Window(lo, {A: 2000, NEW: 40})


@pytest.mark.parametrize(("ledger", "margin"), [(Tape(), int(2.5 * MARGIN_S)), (Log(), 0)], ids=["tape", "log"])
def test_the_archive_is_looked_at_a_margin_back_too(ledger: Any, margin: int) -> None:
    """Below the heads of the commit before the run: a row just below them, that the test has harmed, counts."""
    commits = [Commit("1", 0, {}, {A: 900, NEW: 10}), Commit("2", 0, {}, {A: 1500, NEW: 30})]
    lo = {A: 900 - margin, NEW: 0 if margin else 10}
    assert archived(run(ledger), commits) == Window(lo, {A: 1500, NEW: 30})


LISTED: Group = ("kraken", "XRP/USD")


class Reaching(Log):
    """A log that did not look back to all of its groups at the baseline."""

    def heads(self) -> Mapping[Group, int]:
        return {A: 2000, LISTED: 1_000_050}

    def heads_before(self, position: Mapping[str, int]) -> Mapping[Group, int]:
        raise NotImplementedError

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        return {A: 1001, LISTED: 1_000_041}


class Silent(Reaching):
    def firsts(self, since_us: int) -> Mapping[Group, int]:
        return {A: 1001}


class Listing(Tape):
    """An exchange that has listed a group since, whose first id is a million."""

    def heads(self) -> Mapping[Group, int]:
        return {A: 2000, LISTED: 1_000_050}

    def digest(self, asked: Window) -> Sequence[Digest]:
        assert asked == Window({LISTED: 0}, {LISTED: 1_000_050})
        return (Digest("trades", "exchange", "final", {LISTED: Tally(51, 51, 1_000_000, 1_000_050, 7)}),)


@pytest.mark.parametrize(
    ("ledger", "lo"),
    [(Reaching(), 1_000_040), (Silent(), 1_000_050), (Listing(), 999_999)],
    ids=["log", "none", "tape"],
)
def test_a_group_that_is_new_begins_where_the_log_stood_at_the_baseline(ledger: Any, lo: int) -> None:
    """Never at zero: a log has forgotten what was there, and an exchange numbers as it likes."""
    assert window_of(run(ledger)).lo[LISTED] == lo


def test_a_hop_that_did_not_know_a_group_says_nothing_of_where_it_stood() -> None:
    """A log tells of the groups in its newest records; bronze had the quiet one all the same."""
    heads: dict[str, Mapping[Group, int]] = {"broker": {A: 1000}, "bronze": {A: 990, LISTED: 1_000_040}}
    assert window_of(over(Reaching(), heads, (A,), {})).lo == {A: 990, LISTED: 1_000_040}


class UnderWay(Reaching):
    """A log that has had two records of a group just before the baseline."""

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        return {LISTED: 1_000_041} if since_us == -int(MARGIN_S * 1e6) else {}


@pytest.mark.parametrize(("shown", "lo"), [({}, 1_000_040), ({LISTED: 1_000_042}, 1_000_042)], ids=["not yet", "seen"])
def test_the_first_records_of_a_group_that_were_under_way_are_judged(shown: Mapping[Group, int], lo: int) -> None:
    """The log had them at the baseline, and the table nothing of that group yet: they could be lost unseen."""
    heads = {"broker": {A: 1000, LISTED: 1_000_042}, "silver": {A: 990, **shown}}
    assert window_of(over(UnderWay(), heads, (A, LISTED), {})).lo == {A: 990, LISTED: lo}
