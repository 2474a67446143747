"""The end of a night: every hop that keeps its history, held against the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gameday import codec
from gameday.errors import DriverError
from gameday.model import Digest, Finding, Group, Tally, Verdict, Window
from gameday.reports import results
from gameday.state import State
from tasks.closing import close_night
from tests.trades import TRADES, live, stack_of

A: Group = ("binance", "BTCUSDT")
B: Group = ("kraken", "BTC/USD")


class Table:
    """Groups with the ids 1 to so many, as the ledger or as another hop. without: ids that it lacks, of A."""

    def __init__(self, name: str, without: tuple[int, ...] = (), **groups: int) -> None:
        self.name, self.ids = name, {group: groups[group[0]] for group in (A, B) if group[0] in groups}
        self.without = without

    def heads(self) -> Mapping[Group, int]:
        return self.ids

    def digest(self, window: Window) -> list[Digest]:
        found = {}
        for group, head in self.ids.items():
            if group in window.hi:
                ids = range(max(1, window.lo[group] + 1), min(head, window.hi[group]) + 1)
                found[group] = tally([i for i in ids if group != A or i not in self.without])
        return [Digest("trades", self.name, "final", {g: t for g, t in found.items() if t.rows})]

    def rows(self, *_: Any) -> Any:
        raise AssertionError("only digests are compared")


def tally(ids: list[int]) -> Tally:
    return Tally(len(ids), len(ids), min(ids, default=0), max(ids, default=0), 7 * sum(ids))


class Ledger(Table):
    """A table that knows every record, and so what its bars should be: ten of A, of a sum that tells their content."""

    whole = True


class Gold:
    """Ten bars of A with this sum, made from silver."""

    def __init__(self, content: int) -> None:
        self.content = content

    def heads(self) -> Mapping[Group, int]:
        return {A: 10, B: 5}

    def derived(self, _: Window, ledger: Table) -> list[Digest]:
        right = [bars(ledger.name, 77)] if isinstance(ledger, Ledger) else []
        return [*right, bars("silver", 77), bars("gold", self.content)]


def bars(hop: str, content: int) -> Digest:
    return Digest("bars", hop, "final", {(*A, "1m"): Tally(10, 10, 60, 600, content)})


def night(tmp_path: Path, ledger: type[Table] = Ledger, **hops: Any) -> Finding:
    """What a night's end says of these hops of one stream."""
    first = ledger("exchange", binance=10, kraken=5)
    trades = live({"exchange": first, **hops}, visible="silver")
    return closed(tmp_path, stack_of(trades, state=State(tmp_path)))


def closed(tmp_path: Path, stack: Any) -> Finding:
    """What a night's end says of a stack; it leaves its results to the next."""
    here: Any = SimpleNamespace(findings=[])
    close_night.fn(here, stack)
    (found,) = here.findings
    number = len(list(stack.state.nights.glob("*"))) if stack.state.nights.exists() else 0
    path = stack.state.night(f"night-{number}") / "results.json"
    codec.write_json(path, results.to_json(path.parent.name, [], [found]))
    return replace(found)


def told(tmp_path: Path, silver: Table) -> tuple[Verdict, str]:
    """What a night's end says of this silver, beside a bronze that keeps only what is recent."""
    found = night(tmp_path, bronze=Table("bronze", binance=1), silver=silver)
    return found.verdict, found.why


def test_what_users_query_is_held_against_the_ledger(tmp_path: Path) -> None:
    """A table that keeps only its newest records is not judged; what silver doesn't show yet isn't either."""
    verdict, why = told(tmp_path, Table("silver", binance=9, kraken=5))
    assert (verdict, why) == (
        Verdict.PASS,
        "all 14 records are right, from the first on; bronze is judged from the next night on",
    )


def test_a_group_that_is_missing_altogether_is_lost(tmp_path: Path) -> None:
    """It has no head there: that is no reason to leave it out."""
    verdict, why = told(tmp_path, Table("silver", binance=10))
    assert (verdict, "5 trades fewer" in why) == (Verdict.FAIL, True), why


SILVER = Table("silver", binance=10, kraken=5)


@pytest.mark.parametrize(("content", "verdict"), [(77, Verdict.PASS), (78, Verdict.FAIL)])
def test_what_is_made_from_records_is_judged_from_the_first_on(tmp_path: Path, content: int, verdict: Verdict) -> None:
    """A closed bar that was changed long before any run's window is found, and the hop that differs is guilty."""
    found = night(tmp_path, silver=SILVER, gold=Gold(content))
    assert found.verdict is verdict
    assert (verdict is Verdict.PASS) or found.why.startswith("gold has at least 1 bar unlike exchange's"), found.why


@pytest.mark.parametrize(("content", "verdict"), [(77, Verdict.PASS), (78, Verdict.FAIL)])
def test_without_a_ledger_bars_are_held_against_their_source(tmp_path: Path, content: int, verdict: Verdict) -> None:
    """All else is left to the runs, and that is told."""
    found = night(tmp_path, Table, silver=SILVER, gold=Gold(content))
    right = "gold: all as its source gives it, from the first on; the others are not judged here: exchange keeps only"
    expected = right if verdict is Verdict.PASS else "gold has at least 1 bar unlike silver's"
    assert (found.verdict, found.why.startswith(expected)) == (verdict, True), found.why


def test_a_table_is_judged_back_to_the_place_that_the_last_night_noted(tmp_path: Path) -> None:
    """What it lost since is told every night, until it is mended."""
    early = Table("silver", binance=5, kraken=3)
    assert night(tmp_path, bronze=Table("bronze", binance=5, kraken=3), silver=early).verdict is Verdict.PASS
    for _ in range(2):
        found = night(tmp_path, bronze=Table("bronze", (7,), binance=10, kraken=5), silver=SILVER)
        assert (found.verdict, found.why) == (
            Verdict.FAIL,
            "bronze has 1 trade fewer than exchange: binance/BTCUSDT (1)",
        )
    found = night(tmp_path, bronze=Table("bronze", binance=10, kraken=5), silver=SILVER)
    assert found.why == "all 15 records are right, from the first on; bronze is right since the last night"


def test_a_table_that_has_forgotten_the_last_nights_place_is_not_judged(tmp_path: Path) -> None:
    """It keeps less than lies between two nights: what is older than that is no loss. It is told."""
    early = Table("silver", binance=5, kraken=3)
    night(tmp_path, bronze=Table("bronze", binance=5, kraken=3), silver=early)
    forgot = Table("bronze", tuple(range(8)), binance=10, kraken=5)
    found = night(tmp_path, bronze=forgot, silver=SILVER)
    assert found.verdict is Verdict.PASS
    assert "bronze is right since the last night in 1 of 2 streams; where the others were it forgot" in found.why


def test_a_hop_that_does_not_answer_hides_nothing_of_the_others(tmp_path: Path) -> None:
    """Gold is damaged, bronze is away: that is a fail. With nothing else wrong it is unknown."""

    class Away(Table):
        def digest(self, window: Window) -> list[Digest]:
            raise DriverError("bronze is away", definite=True)

    away = Away("bronze", binance=10, kraken=5)
    assert night(tmp_path, bronze=away, silver=SILVER, gold=Gold(78)).verdict is Verdict.FAIL
    found = night(tmp_path, bronze=away, silver=SILVER, gold=Gold(77))
    assert (found.verdict, "bronze is away" in found.why) == (Verdict.UNKNOWN, True)


def test_an_id_below_the_first_is_too_many(tmp_path: Path) -> None:
    """Nobody made a trade 0; the archive, silver and gold are asked for what lies below, too."""

    class Below(Table):
        def digest(self, window: Window) -> list[Digest]:
            (digest,) = super().digest(window)
            more = tally([*([0] if window.lo[A] < 0 else []), *range(1, 11)])
            return [replace(digest, groups={**digest.groups, A: more})]

    found = night(tmp_path, silver=Below("silver", binance=10, kraken=5))
    assert (found.verdict, found.why) == (Verdict.FAIL, "silver has 1 trade too many: binance/BTCUSDT (1)")


class Orders(Table):
    """The same of another stream."""

    def digest(self, window: Window) -> list[Digest]:
        return [replace(digest, stream="orders") for digest in super().digest(window)]


class OrdersLedger(Orders):
    whole = True


def two(tmp_path: Path, silver: Table, ledger: Table, sink: Table, **more: Any) -> Finding:
    """What a night's end says of trades and orders."""
    trades = live({"exchange": Ledger("exchange", binance=10, kraken=5), "silver": silver})
    orders = live({"source": ledger, **more, "sink": sink}, replace(TRADES, name="orders"))
    return closed(tmp_path, stack_of(trades, orders, state=State(tmp_path)))


SINK = Orders("sink", binance=7, kraken=5)
SOURCE = OrdersLedger("source", binance=7, kraken=5)


def test_every_stream_is_judged_from_the_first_record_on(tmp_path: Path) -> None:
    """Against its own ledger; which one is not right is told."""
    found = two(tmp_path, SILVER, SOURCE, SINK)
    assert (found.verdict, found.why) == (
        Verdict.PASS,
        "trades: all 15 records are right, from the first on; orders: all 12 records are right, from the first on",
    )
    found = two(tmp_path, SILVER, SOURCE, Orders("sink", (3,), binance=7, kraken=5))
    assert (found.verdict, found.why) == (
        Verdict.FAIL,
        "orders: sink has 1 order fewer than source: binance/BTCUSDT (1)",
    )
    found = two(tmp_path, Table("silver", (3,), binance=10, kraken=5), SOURCE, SINK)
    assert (found.verdict, found.why.split(":")[0]) == (Verdict.FAIL, "trades")


def test_a_stream_whose_ledger_is_away_keeps_its_place(tmp_path: Path) -> None:
    """The other one is judged; the next night goes on where the last but one had noted the table."""

    class Away(OrdersLedger):
        def heads(self) -> Mapping[Group, int]:
            raise DriverError("source is away", definite=True)

    staged = Orders("staged", binance=7, kraken=5)
    assert two(tmp_path, SILVER, SOURCE, SINK, staged=staged).verdict is Verdict.PASS
    found = two(tmp_path, SILVER, Away("source"), SINK, staged=staged)
    assert (found.verdict, found.why.startswith("orders: the whole history could not")) == (Verdict.UNKNOWN, True)
    found = two(tmp_path, SILVER, SOURCE, SINK, staged=staged)
    assert found.why.endswith("staged is right since the last night"), found.why


def test_a_stream_without_a_tape_is_told_beside_the_others(tmp_path: Path) -> None:
    """That the other one was judged makes no pass of it."""
    found = two(tmp_path, SILVER, Orders("source", binance=7, kraken=5), SINK)
    assert found.verdict is Verdict.PASS
    assert found.why.endswith("orders: not judged here: source keeps only its newest records")
