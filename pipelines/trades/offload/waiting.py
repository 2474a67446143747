"""Prefect's engine for one run, which ends with its worker until it begins: python -m pipelines.trades.offload.waiting

A worker starts a run's process up to ten seconds before the run is due. If the worker is killed meanwhile, the waiting
process would begin without it, and the next worker would end it as running: its slot of the schedule would be lost. So
it ends while it waits, and is scheduled again. A run that has begun goes on.
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
"""A variable in the environment of the worker and its processes."""

GC_THRESHOLDS = (100_000, 50, 100)
"""How many new objects start a garbage collection. Objects of imports stay, and with Python's own thresholds they are
searched again and again: a tenth of the imports' time.
"""

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
NAME_BYTES_MAX = 15
"""How much the kernel keeps of a process's name."""

NO_SIGNAL = 0


def name_of(run_id: str) -> bytes:
    """Return the name of a run's process (/proc/PID/comm), which distinguishes it from a later process with its pid."""
    return run_id.replace("-", "")[:NAME_BYTES_MAX].encode()


def over() -> None:
    """Note that the run has begun: from here on it outlives its worker."""
    _die_with_parent(NO_SIGNAL)


def import_less() -> None:
    """Make the imports of this process cheaper: they are most of the work of a run that has to do them."""
    sys.meta_path.insert(0, _WithoutPandas)
    gc.set_threshold(*GC_THRESHOLDS)


def _die_with_parent(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


class _WithoutPandas:
    """Makes pandas count as not installed. pyarrow imports it if it exists, which takes longer than a run's own work;
    the offload doesn't use it.
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
