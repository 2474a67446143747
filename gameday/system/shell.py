"""Runs one shell command, bounded in time and output. No process of it outlives its end.

The command's text names variables and holds no values: every user of the machine can read a process's arguments, so
these must hold no secret.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gameday.errors import DriverError
from gameday.system.process import yield_session

__all__ = ["LATE", "OUTPUT_BYTES_MAX", "Ended", "run"]

OUTPUT_BYTES_MAX = 1 << 16
"""More than a person reads. A command that prints more is ended."""

LATE = "it was not over in time"
"""Why a command was ended: it took too long."""

PIECE_BYTES = 1 << 14
LOOK_EVERY_S = 0.1
SPARE_S = 1.0
"""How long after the bound `timeout` ends the command, in case this process was killed before it could."""

NICENESS = 5
"""Commands that look at the platform must not slow it down."""


@dataclass(frozen=True)
class Ended:
    """How a command ended. output: what it printed, stderr too. status: its exit status; None: it was ended, and `why`
    says why."""

    output: str
    status: int | None
    why: str
    took_s: float


def run(
    text: str, env: Mapping[str, str], folder: Path, within_s: float, watch: Callable[[], object] = lambda: None
) -> Ended:
    """Run a text with sh. Its environment is env and nothing else.

    Ends it with its process group after within_s, or at OUTPUT_BYTES_MAX; processes that it left in the background end
    too. watch: called every LOOK_EVERY_S; what it raises ends the command.
    """
    began = time.monotonic()
    bounded = ["timeout", "-s", "KILL", f"{within_s + SPARE_S:.3f}", "sh", "-u", "-c", text]
    command = ["nice", "-n", str(NICENESS), *bounded]  # set by this process, it could come after `timeout` started sh
    try:
        process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as e:
        raise DriverError(f"no shell in {folder}: {e}. Remedy: sh and timeout on the PATH", definite=True) from e
    assert process.stdout is not None
    ended = os.pidfd_open(process.pid)
    try:
        yield_session(NICENESS, process.pid)
        output, why = _follow(process.stdout.fileno(), ended, began + within_s, watch)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so no other process has its number
        process.wait()
        os.close(ended)
        process.stdout.close()
    shown = output[:OUTPUT_BYTES_MAX].decode(errors="replace")
    return Ended(shown, None if why else process.returncode, why, round(time.monotonic() - began, 3))


def _follow(out: int, ended: int, deadline: float, watch: Callable[[], object]) -> tuple[bytes, str]:
    """Read the output until the command's end. Returns it, and why the command must be ended ("": it has ended)."""
    os.set_blocking(out, False)
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(ended, select.POLLIN)
    output, over = bytearray(), False
    while not over:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return bytes(output), LATE
        watch()
        ready = {descriptor for descriptor, _ in poll.poll(min(left_s, LOOK_EVERY_S) * 1000)}
        over = ended in ready  # then all that it printed is in the pipe, even if another process holds that open
        while out in ready and (piece := _piece(out)):
            output += piece
            if len(output) > OUTPUT_BYTES_MAX:
                return bytes(output), f"it printed more than {OUTPUT_BYTES_MAX >> 10} KiB"
        if out in ready and piece == b"":
            poll.unregister(out)
            ready.discard(out)
    return bytes(output), ""


def _piece(out: int) -> bytes | None:
    """Read a piece of the output. b"": there will be no more; None: nothing for now."""
    try:
        return os.read(out, PIECE_BYTES)
    except BlockingIOError:
        return None
