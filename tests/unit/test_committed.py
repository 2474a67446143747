"""A record that was delivered and not acknowledged holds a consumer's position back until it is delivered again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gameday.model import Marks
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
