"""Which requests had to become dead letters in a run, by a caller's tape and a store in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from compose.router.letters import DEAD, ENDED, Letters
from pipelines.router import tape as tapes

BASELINE_US = 10**15
DAY_US = 86_400_000_000


def asked(n: int, at_us: int | None) -> dict[str, Any]:
    """A request that was asked for besides; None: a tape of an earlier version does not tell when."""
    made = {"n": n, "kind": "raises", "id": tapes.asked(1, n, "raises")["id"], "done": True}
    return made if at_us is None else {**made, "at_us": at_us}


class Store:
    """Dead letters of the tenant `poison`, of which `comes` is there from the second look on."""

    def __init__(self, *there: int, comes: int | None = None) -> None:
        self.there, self.comes = {tapes.asked(1, n, "raises")["id"]: n for n in there}, comes

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def execute(self, sql: str, given: Any = None) -> Any:
        rows: list[tuple[Any, ...]] = []
        if sql == ENDED:
            rows = [(sum(id_ in self.there for id_ in given[0]),)]
            if self.comes is not None:
                self.there[tapes.asked(1, self.comes, "raises")["id"]] = self.comes
        if sql == DEAD:
            rows = [(id_, "poison", n, "no rule", 5, BASELINE_US + 1) for id_, n in self.there.items()]
        return SimpleNamespace(fetchall=lambda: rows, fetchone=lambda: rows[0])


def told(monkeypatch: pytest.MonkeyPatch, store: Store, *poison: dict[str, Any], within_s: float = 5.0) -> Any:
    monkeypatch.setattr("compose.router.letters.psycopg.connect", lambda *_, **__: store)
    monkeypatch.setattr(Letters, "_tape", lambda _: {"seed": 1, "poison": list(poison)})
    return Letters("postgresql://none", "http://none", 5, False, ends_within_s=within_s).told(BASELINE_US)


def test_what_an_earlier_run_asked_for_is_not_expected_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store forgets an outcome after a day, and the tape never: each run after that said that it was not dead."""
    old = [asked(1, BASELINE_US - DAY_US), asked(2, None)]
    found = told(monkeypatch, Store(3), *old, asked(3, BASELINE_US + 1))
    assert found["expected"] == [tapes.asked(1, 3, "raises")["id"]]
    assert [(one["id"], one["expected"]) for one in found["letters"]] == [(tapes.asked(1, 3, "raises")["id"], True)]


def test_a_letter_of_an_earlier_run_that_comes_late_is_no_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It should be dead, whoever asked for it."""
    found = told(monkeypatch, Store(1), asked(1, BASELINE_US - 1))
    assert (found["expected"], [one["expected"] for one in found["letters"]]) == ([], [True])


def test_what_was_asked_for_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose dead letter could not be written comes again after the broker's wait, when all else has drained."""
    monkeypatch.setattr("compose.router.letters.LOOK_EVERY_S", 0.0)
    found = told(monkeypatch, Store(1, comes=2), asked(1, BASELINE_US + 1), asked(2, BASELINE_US + 1))
    assert [one["id"] for one in found["letters"]] == found["expected"]


def test_one_that_does_not_end_is_expected_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded, and what has not come by then is missing."""
    found = told(monkeypatch, Store(), asked(1, BASELINE_US + 1), within_s=0.0)
    assert (found["expected"], found["letters"]) == ([tapes.asked(1, 1, "raises")["id"]], [])
