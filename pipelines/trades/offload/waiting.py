"""Prefect's engine for one run, which ends with its worker until it begins: python -m pipelines.trades.offload.waiting

A worker starts a run's process up to ten seconds before the run is due. When the worker is killed, a process that is
still waiting then would begin without it, break at the first line that it logs into the worker's closed pipe, and so
lose its slot of the schedule; ended, it is scheduled again by the next worker. A run that has begun goes on.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

__all__ = ["WORKER", "over"]

WORKER = "OFFLOAD_WORKER_PID"
"""In the environment of the worker, and of what it starts."""

PR_SET_PDEATHSIG = 1
NO_SIGNAL = 0


def over() -> None:
    """The run has begun: from here on it outlives its worker."""
    _die_with_parent(NO_SIGNAL)


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


if __name__ == "__main__":
    _die_with_parent(signal.SIGKILL)
    if os.getppid() != int(os.environ[WORKER]):
        sys.exit(1)  # killed before
    runpy.run_module("prefect.engine", run_name="__main__")
