"""Digests of a stream that goes by its time: what is not there at the first look may only be late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Digest, Evidence, Followed, Group, Tally, Window
from tasks import verify
from tests.trades import TRADES, live, stack_of

A: Group = ("a", "b")
WINDOW = Window({A: 0}, {A: 9})


class Held:
    """A hop with so many records at each look, at last for good."""

    def __init__(self, name: str, *rows: int) -> None:
        self.name, self._rows, self.looks = name, list(rows), 0

    def heads(self) -> dict[Group, int]:
        return {A: 9}

    def rows(self, group: Group, lo: int, hi: int) -> dict[str, Any]:
        raise AssertionError("no rows are listed")

    def digest(self, window: Window) -> Sequence[Digest]:
        rows = self._rows[min(self.looks, len(self._rows) - 1)]
        self.looks += 1
        return [Digest("trades", self.name, "final", {A: Tally(rows, rows, 1, 9, rows, key_sum=rows)})]


def run_over(counted: bool, *hops: Held) -> Any:
    stream = replace(TRADES, counted=counted, gapless=False)
    here = {hop.name: hop for hop in hops}
    followed = Followed("trades", tuple(here), "table", gapless=False, window=WINDOW)
    evidence = Evidence("t", {}, "s", followed=(followed,))
    return SimpleNamespace(
        stack=stack_of(live(here, stream)),
        lasts=lambda: None,
        log=print,
        evidence=lambda: evidence,
        followed={"trades": followed},
    )


def agreed(run: Any) -> tuple[Digest, ...]:
    return verify._agreed(run, run.stack.streams["trades"], WINDOW, ["log", "table"], {})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(verify, "PASSED_WITHIN_S", 0.05)


def test_what_comes_late_is_not_lost() -> None:
    """It is looked at again, in the log too, until both agree."""
    log, table = Held("log", 8, 9, 9), Held("table", 7, 8, 9)
    found = agreed(run_over(False, log, table))
    assert [digest.groups[A].rows for digest in found] == [9, 9]


def test_what_never_comes_is_lost() -> None:
    """After as long as a hop may take to pass the window."""
    log, table = Held("log", 9), Held("table", 8)
    found = agreed(run_over(False, log, table))
    assert [digest.groups[A].rows for digest in found] == [9, 8]
    assert table.looks > 2


def test_where_a_number_counts_one_look_is_enough() -> None:
    """Heads have said that all is there."""
    log, table = Held("log", 9), Held("table", 8, 9)
    agreed(run_over(True, log, table))
    assert table.looks == 1
