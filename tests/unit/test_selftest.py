"""The selftest itself: it catches all that it plants, and notices when a check goes blind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict import checks, selftest
from gameday.verdict.selftest import EVERY_CHECK, PLANTS, Plant


def test_every_planted_fault_is_caught_and_the_clean_history_passes() -> None:
    """What the night begins with."""
    found = selftest.run()
    assert {f.check: f.why for f in found if f.verdict is not Verdict.PASS} == {}
    assert len(found) == len(PLANTS) + 1


def test_every_check_has_something_planted_for_it() -> None:
    """A check that no plant makes fail could be blind without anyone noticing."""
    failed = {name for plant in PLANTS for name, verdict in plant.caught.items() if verdict is Verdict.FAIL}
    failed |= {
        "steady_clock",
        "started_once",
        "redelivered",
    }  # at worst nothing is proved: they say nothing of the platform
    assert failed == {check.__name__ for check in EVERY_CHECK}
    public = {name for name in checks.__all__ if name not in ("INTACT", "EXPORTED", "counts", "guilty")}
    assert failed == public


def test_plants_have_names_of_their_own() -> None:
    """A miss names one plant."""
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)


@pytest.mark.parametrize("blind", EVERY_CHECK, ids=lambda check: check.__name__)
def test_a_blind_check_is_noticed(blind: Callable[[Evidence], Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one check replaced by one that always passes, some plant is missed."""
    name = blind.__name__

    def always(evidence: Evidence) -> Finding:
        return Finding(name, Verdict.PASS, "fine")

    monkeypatch.setattr(selftest, "EVERY_CHECK", tuple(always if c is blind else c for c in EVERY_CHECK))
    mine = tuple(plant for plant in PLANTS if name in plant.caught)
    monkeypatch.setattr(selftest, "PLANTS", mine)
    assert any(f.verdict is not Verdict.PASS and "missed" in f.why for f in selftest.run())


def test_a_check_that_complains_about_the_clean_history_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crying wolf is as bad as being blind."""

    def never(evidence: Evidence) -> Finding:
        return Finding("order", Verdict.FAIL, "all is lost")

    monkeypatch.setattr(selftest, "EVERY_CHECK", (never,))
    monkeypatch.setattr(selftest, "PLANTS", ())
    (found,) = selftest.run()
    assert (found.check, found.verdict) == ("clean", Verdict.FAIL)
    assert "order says fail: all is lost" in found.why


def test_a_plant_that_names_the_wrong_hop_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Being caught at the wrong place sends the engineer to the wrong log."""
    right = next(p for p in PLANTS if p.name == "a record dropped at bronze")
    monkeypatch.setattr(selftest, "PLANTS", (Plant(right.name, right.spoil, right.caught, hop="broker"),))
    assert "does not name broker" in selftest.run()[-1].why
