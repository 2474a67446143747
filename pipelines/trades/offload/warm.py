"""Forks each run from one process that has imported what a run needs: imports are most of a run's time.

This process has nothing of a run: no connection, no setting, no module that reads a run's environment, and no Python
thread. A run is a process of its own, and a child of the worker: the warm process forks twice, and the worker, a
subreaper, adopts the orphan. So the worker sees a run's end, and runs outlive a warm process that dies.

`python -m pipelines.trades.offload.warm FD` serves; FD is its end of the worker's socket. It ends with the worker.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from pipelines.trades.offload import waiting

__all__ = ["IMPORTED", "Run", "Warm"]

IMPORTED = (
    "prefect.flow_engine",
    "prefect._internal.metrics",
    "prefect._internal.control_listener",
    "pyarrow.parquet",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "clickhouse_connect",
    "confluent_kafka",
    "psycopg.types.json",
    "boto3",
    "structlog",
)
"""Third-party modules that a run imports. Each run imports our own modules anew, because they read its environment."""

FORK_WITHIN_S = 120.0
"""How long to wait for a run's process: the warm process may have to import everything first, on a busy machine."""

TRIES = 2
"""How often to try: the warm process may have died; if a new one dies too, there is another cause."""

PR_SET_CHILD_SUBREAPER = 36


class Warm:
    """The worker's handle on the warm process, which is started when it is needed and doesn't run."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def begin(self) -> socket.socket:
        """Start it, unless it lives. Return the socket for orders to fork."""
        if self._process is None or self._process.poll() is not None or self._orders is None:
            if self._orders is not None:
                self._orders.close()
            self._orders, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # no pool of threads for nothing
                )
        return self._orders

    async def run(self, module: str, env: Mapping[str, str], folder: str) -> Run:
        """Run `python -m module` in a new process, with only this environment, in this folder. Raises OSError if that
        fails."""
        order = json.dumps({"module": module, "env": dict(env), "folder": folder}).encode() + b"\n"
        for _ in range(TRIES):
            mine, theirs = socket.socketpair()
            with mine:
                mine.setblocking(False)
                try:
                    with theirs:
                        socket.send_fds(self.begin(), [b"f"], [theirs.fileno()])
                    async with asyncio.timeout(FORK_WITHIN_S):
                        if pid := await asyncio.get_running_loop().sock_recv(mine, 32):
                            await asyncio.get_running_loop().sock_sendall(mine, order)
                            return Run(int(pid))
                except (TimeoutError, ConnectionError):
                    pass
                self._end()
        raise OSError("the process that runs are forked from ends, or hangs. Remedy: this log has its last words")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Run:
    """A run's process, a child of this one. returncode: None until it was awaited; negative for a signal."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    async def wait(self) -> None:
        """Wait until it has ended. Cancelling this kills it."""
        ended = asyncio.Event()
        handle = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, ended.set)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            loop.remove_reader(handle)
            os.close(handle)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def main() -> None:
    """Import, then fork for each order. Each fork returns from `_forked`, and carries out its run."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    waiting.import_less()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # objects that are not collected any more stay shared with the runs
    channel = _forked(orders)
    orders.close()
    with channel, channel.makefile() as lines:
        line = lines.readline()
    if not line.endswith("\n"):
        sys.exit(1)  # nobody knows of this process
    order = json.loads(line)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.path[0] = order["folder"]
    sys.argv = [order["module"]]
    sys.modules.pop(waiting.__name__, None)  # runpy warns of a module that is there already
    _settings_anew()
    runpy.run_module(order["module"], run_name="__main__")


def _forked(orders: socket.socket) -> socket.socket:
    """Fork at each order. Return only in the new process, with its channel to the worker, which knows its pid."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
        if not data:
            sys.exit()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)
            channel = socket.socket(fileno=descriptors[0])
            _until_ended(between)
            channel.sendall(str(os.getpid()).encode())
            return channel
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(between, 0)


def _until_ended(pid: int) -> None:
    """Wait for its end: from then on its children are the worker's."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([handle], [], [])
    os.close(handle)


def _settings_anew() -> None:
    """Reload Prefect's settings, which are read from the environment when it is imported."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    refresh_global_settings_context()
    setup_logging()


if __name__ == "__main__":
    main()
