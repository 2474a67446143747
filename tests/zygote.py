"""Processes that have gameday's modules already: importing Prefect takes seconds, a fork none.

Each child has its own stdout, stderr and environment, and ends as an interpreter does; what it carries out is a text.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from gameday.state import ROOT

__all__ = ["Child", "Zygote"]

STARTS_WITHIN_S = 60
ENDS_WITHIN_S = 60

PARENT = """
import gc, json, os, signal, socket, sys
import flows.nightly, gameday.cli, tasks.run, tasks.survey

gc.collect()
gc.freeze()  # what is never looked at again stays shared with the children
parent = socket.socket(fileno=int(sys.argv[1]))
parent.sendall(b'"ready"')
while True:
    data, descriptors, _, _ = socket.recv_fds(parent, 1 << 20, 2)
    if not data:
        sys.exit()
    job = json.loads(data)
    if (child := os.fork()) == 0:
        break
    for descriptor in descriptors:
        os.close(descriptor)
    parent.sendall(json.dumps(child).encode())
    _, status = os.waitpid(child, 0)
    parent.sendall(json.dumps(os.waitstatus_to_exitcode(status)).encode())
parent.close()
os.environ.clear()
os.environ.update(job["env"])
encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
for stream, descriptor in zip((sys.stdout, sys.stderr), descriptors):  # the very streams that loggers have already
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)
    how = {"errors": errors or "strict"} if stream is sys.stdout else {}
    stream.reconfigure(encoding=encoding, line_buffering=os.isatty(stream.fileno()) or stream is sys.stderr, **how)
for number in job["ignored"]:
    signal.signal(number, signal.SIG_IGN)
sys.argv = job["argv"]
exec(job["code"], {"__name__": "child"})
"""


class Zygote:
    """The process that forks, one child after the other."""

    def __enter__(self) -> Self:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-c", PARENT, str(theirs.fileno())]
            # as in an interactive shell: a background job of another one would ignore them
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,  # a stream that began as a file would stay one
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=_all_signals,
            )
        self._socket.settimeout(STARTS_WITHIN_S)
        self._socket.recv(100)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._process.kill()
        self._process.communicate()

    def start(
        self,
        code: str,
        *arguments: str,
        env: Mapping[str, str],
        stdout: int,
        stderr: int,
        ignored: tuple[int, ...] = (),
    ) -> Child:
        """Carry it out in a child; the one before has to have ended. ignored: signals that it ignores from the
        beginning."""
        job = {"code": code, "argv": ["gameday", *arguments], "env": dict(env), "ignored": list(ignored)}
        socket.send_fds(self._socket, [json.dumps(job).encode()], [stdout, stderr])
        self._socket.settimeout(ENDS_WITHIN_S)
        return Child(int(json.loads(self._socket.recv(100))), self._socket)


class Child:
    """One child, from its start to its end."""

    def __init__(self, pid: int, parent: socket.socket) -> None:
        self.pid = pid
        self._parent = parent

    def wait(self) -> int:
        """Its exit code, negative for a signal. One that doesn't end in time is killed."""
        try:
            return int(json.loads(self._parent.recv(100)))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            self._parent.recv(100)
            raise


def _all_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
