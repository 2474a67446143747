"""Waits until a state is reached, within a bound. No other module of gameday sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from gameday.errors import TooLate

__all__ = ["until"]

T = TypeVar("T")


def until(condition: Callable[[], T | None], within_s: float, every_s: float = 0.02, what: str = "") -> T:
    """Ask `condition` until its answer is truthy, and return that answer.

    Asks at once, then every `every_s`, and a last time when `within_s` has passed, so that a state reached at the very
    end counts. Raises TooLate, naming `what`, when the answer never is; an error of the condition passes through.
    """
    deadline = time.monotonic() + within_s
    while True:
        last = time.monotonic() >= deadline
        if answer := condition():
            return answer
        if last:
            raise TooLate(f"waited {within_s:g} s in vain for {what or 'a state'}")
        time.sleep(max(0.0, min(every_s, deadline - time.monotonic())))
