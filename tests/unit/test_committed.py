"""What evidence waits for besides the records: positions of consumers, which a record without an answer holds back
until it is delivered again, and metrics that were sampled for as long as it takes to judge them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Marks, Sample
from tasks import verify


class Stood:
    """A cursor of one slot: it stands at each of these positions in turn, at last for good. Its log has 20 records."""

    def __init__(self, *positions: int) -> None:
        self._positions, self.looks = list(positions), 0

    def position(self) -> dict[str, int]:
        self.looks += 1
        return {"0": self._positions[min(self.looks, len(self._positions)) - 1]}

    def end(self) -> dict[str, int]:
        return {"0": 20}


def waited(cursor: Stood, end_at_recovery: int = 10) -> None:
    healed = Marks(0, 0, {}, {"c": {"0": 3}}, {"c": {"0": end_at_recovery}}, {})
    run: Any = SimpleNamespace(stack=SimpleNamespace(cursors={"c": cursor}), healed=healed, lasts=lambda: None)
    verify._await_committed(run)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(verify, "COMMITTED_WITHIN_S", 0.05)
    monkeypatch.setattr(verify, "SAMPLED_S", 0.03)
    monkeypatch.setattr(verify, "COUNTED_SPARE_S", 0.0)


def test_a_position_that_stands_at_an_unanswered_record_is_waited_for() -> None:
    """Until it has passed what the log held at recovery."""
    cursor = Stood(5, 5, 10)
    waited(cursor)
    assert cursor.looks == 3


def test_one_that_never_moves_is_judged_by_where_it_stands() -> None:
    """The wait has an end."""
    cursor = Stood(5)
    waited(cursor)
    assert cursor.looks > 3


def test_a_log_that_did_not_grow_is_not_waited_for() -> None:
    """Nobody commits what did not come."""
    cursor = Stood(5)
    waited(cursor, end_at_recovery=20)
    assert cursor.looks == 1


def looks_until(spans_s: list[float], rises: tuple[str, ...] = ("a",)) -> int:
    """How often the samples are looked at that reach back so far at each look."""
    looks = 0

    def now(_: float) -> Any:
        nonlocal looks
        looks += 1
        at_ns = int(spans_s[min(looks, len(spans_s)) - 1] * 1e9)
        sample = Sample(0, 0, 1.0)
        return SimpleNamespace(at_ns=at_ns, samples={"metrics/a/b{}": (sample,), "head/c": ()})

    stack = SimpleNamespace(contract=SimpleNamespace(rises=rises))
    run: Any = SimpleNamespace(stack=stack, now=now)
    verify._await_counted(run)
    return looks


def test_a_short_run_samples_its_metrics_for_long_enough() -> None:
    """And one that was long enough waits for nothing, nor does a contract without a rise."""
    assert looks_until([0.01, 0.02, 0.04]) == 3
    assert looks_until([1.0]) == 1
    assert looks_until([0.0], ()) == 0


def test_metrics_that_come_too_late_are_judged_as_they_are() -> None:
    """The wait has an end."""
    assert looks_until([0.0]) > 3
