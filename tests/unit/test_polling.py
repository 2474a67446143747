"""Waiting for states."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from gameday.errors import GamedayError
from gameday.system.polling import until


def test_returns_the_first_truthy_answer() -> None:
    """The condition's own answer comes back, as soon as it is truthy."""
    answers: Iterator[int | None] = iter([None, 0, 7, 8])
    assert until(lambda: next(answers), within_s=5, every_s=0.001) == 7


def test_asks_at_least_once_without_time() -> None:
    """A state that already is needs no time at all."""
    assert until(lambda: "up", within_s=0) == "up"


def test_names_what_it_waited_for() -> None:
    """A time-out says what was waited for, and for how long."""
    with pytest.raises(GamedayError, match=r"0\.02 s in vain for the broker's answer"):
        until(lambda: None, within_s=0.02, every_s=0.005, what="the broker's answer")


def test_is_bounded() -> None:
    """The wait ends at its bound, not a whole interval later."""
    began = time.monotonic()
    with pytest.raises(GamedayError):
        until(lambda: False, within_s=0.05, every_s=10)
    assert time.monotonic() - began < 2


def test_errors_of_the_condition_pass_through() -> None:
    """What the condition raises is not a time-out."""
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 // 0, within_s=5)
