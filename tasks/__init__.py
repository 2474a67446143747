"""The steps of a failure test, each a Prefect task, and the decorator that makes a flow of a failure test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gameday.plan import FailureTest
from tasks.definition import only_looked_at

__all__ = ["failure_test"]


def failure_test(function: Callable[..., FailureTest]) -> Any:
    """Make the Prefect flow of a failure test (see tasks.run.as_flow).

    Inside of `tasks.definition.looking` the function stays as it is, because importing Prefect takes seconds.
    """
    if only_looked_at.get():
        return function
    from tasks.run import as_flow

    return as_flow(function)
