"""The end of a night: the whole history of what users query, held against the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from gameday.model import Digest, Group, Tally, Verdict, Window
from tasks.closing import close_night

A: Group = ("binance", "BTCUSDT")
B: Group = ("kraken", "BTC/USD")


class Table:
    """Groups with the ids 1 to so many, as the ledger or as another hop."""

    def __init__(self, name: str, **groups: int) -> None:
        self.name, self.ids = name, {group: groups[group[0]] for group in (A, B) if group[0] in groups}

    def heads(self) -> Mapping[Group, int]:
        return self.ids

    def digest(self, window: Window) -> list[Digest]:
        kept = {g: min(n, window.hi[g]) for g, n in self.ids.items() if g in window.hi}
        return [Digest("trades", self.name, "final", {g: Tally(n, n, 1, n, 7 * n) for g, n in kept.items()})]

    def rows(self, *_: Any) -> Any:
        raise AssertionError("only digests are compared")

    bars = rows


def told(silver: Table) -> tuple[Verdict, str]:
    """What a night's end says of this silver, beside a bronze that keeps only what is recent."""
    ledger = Table("exchange", binance=10, kraken=5)
    stream = SimpleNamespace(hops=["exchange", "bronze", "silver"], visible="silver")
    hops = {"exchange": ledger, "bronze": Table("bronze", binance=1), "silver": silver}
    stack: Any = SimpleNamespace(
        name="s", config=SimpleNamespace(stream=stream), hops=hops, ledger=ledger, archive=None
    )
    here: Any = SimpleNamespace(findings=[])
    close_night.fn(here, stack)
    (found,) = here.findings
    return found.verdict, found.why


def test_what_users_query_is_held_against_the_ledger() -> None:
    """A table that keeps only its newest records is not judged; what silver doesn't show yet isn't either."""
    assert told(Table("silver", binance=9, kraken=5)) == (
        Verdict.PASS,
        "all 14 records are right, from the first on",
    )


def test_a_group_that_is_missing_altogether_is_lost() -> None:
    """It has no head there: that is no reason to leave it out."""
    verdict, why = told(Table("silver", binance=10))
    assert (verdict, "5 trades fewer" in why) == (Verdict.FAIL, True), why
