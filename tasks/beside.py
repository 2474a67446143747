"""Runs a step at the same time as the others, in a thread that belongs to the same flow run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["beside"]

T = TypeVar("T")


def beside(function: Callable[..., T], *what: Any) -> Future[T]:
    """Call the function in a thread of its own that has the caller's context: so Prefect knows the flow run.

    The future's `result` raises what the function raises.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="beside")
    future = pool.submit(copy_context().run, function, *what)
    pool.shutdown(wait=False)
    return future
