"""Prefect's engine for one run, which ends with its worker until it begins: python -m pipelines.trades.offload.waiting

A worker starts a run's process up to ten seconds before the run is due. When the worker is killed, a process that is
still waiting then would begin without it, break at the first line that it logs into the worker's closed pipe, and so
lose its slot of the schedule; ended, it is scheduled again by the next worker. A run that has begun goes on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import runpy
import signal
import sys
from collections.abc import Sequence

__all__ = ["WORKER", "import_less", "over"]

WORKER = "OFFLOAD_WORKER_PID"
"""In the environment of the worker, and of what it starts."""

GC_THRESHOLDS = (100_000, 50, 100)
"""New objects between two looks of the collector. What the imports make stays, and with Python's own thresholds it is
looked through again and again: a tenth of the imports' time.
"""

PR_SET_PDEATHSIG = 1
NO_SIGNAL = 0


def over() -> None:
    """The run has begun: from here on it outlives its worker."""
    _die_with_parent(NO_SIGNAL)


def import_less() -> None:
    """Make the imports of this process cheaper: a run is mostly that."""
    sys.meta_path.insert(0, _WithoutPandas)
    gc.set_threshold(*GC_THRESHOLDS)


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


class _WithoutPandas:
    """Pandas counts as not installed. pyarrow imports it when it is there, which takes longer than a run's own work;
    the offload never hands it anything.
    """

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    _die_with_parent(signal.SIGKILL)
    if os.getppid() != int(os.environ[WORKER]):
        sys.exit(1)  # killed before
    import_less()
    runpy.run_module("prefect.engine", run_name="__main__")
