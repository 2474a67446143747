"""Prefect's engine for one run, which ends with its worker until it begins: python -m pipelines.trades.offload.waiting

A worker starts a run's process up to ten seconds before the run is due. When the worker is killed, a process that is
still waiting then would begin without it, and be ended as running by the next worker: its slot of the schedule would be
lost. Ended while it waits, it is scheduled again. A run that has begun goes on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import runpy
import signal
import sys
from collections.abc import Sequence

__all__ = ["COMMAND", "WORKER", "import_less", "name_of", "over"]

COMMAND = [sys.executable, "-m", "pipelines.trades.offload.waiting"]

WORKER = "OFFLOAD_WORKER_PID"
"""In the environment of the worker, and of what it starts."""

GC_THRESHOLDS = (100_000, 50, 100)
"""New objects between two looks of the collector. What the imports make stays, and with Python's own thresholds it is
looked through again and again: a tenth of the imports' time.
"""

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
NAME_BYTES_MAX = 15
"""What the kernel keeps of a process's name."""

NO_SIGNAL = 0


def name_of(run_id: str) -> bytes:
    """What a run's process is called (/proc/PID/comm), so that it is known from another with its number."""
    return run_id.replace("-", "")[:NAME_BYTES_MAX].encode()


def over() -> None:
    """The run has begun: from here on it outlives its worker."""
    _die_with_parent(NO_SIGNAL)


def import_less() -> None:
    """Make the imports of this process cheaper: they are most of what a run takes that has to do them."""
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
    ctypes.CDLL(None).prctl(PR_SET_NAME, name_of(os.environ["PREFECT__FLOW_RUN_ID"]), 0, 0, 0)
    _die_with_parent(signal.SIGKILL)
    if os.getppid() != int(os.environ[WORKER]):
        sys.exit(1)  # killed before
    import_less()
    sys.modules.pop("prefect.engine", None)  # a forked run has it, and runpy would warn
    runpy.run_module("prefect.engine", run_name="__main__")
