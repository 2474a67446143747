"""Reaches unix sockets in deep folders, and locks a folder without leaving a file behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gameday.errors import Busy

__all__ = ["alone", "reachable"]

PATH_BYTES_MAX = 100
"""A unix socket's path holds 108 bytes. Longer paths go through their folder's descriptor."""


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """Yield the socket's path in a form short enough for the kernel. Raises OSError when a long path has no folder."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)


@contextmanager
def alone(folder: Path, who: str) -> Iterator[None]:
    """Hold a lock on the folder itself. Raises Busy when another process has it; `who` names that process there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Busy(f"{who} works on {folder}. Remedy: await its end") from e
        yield
    finally:
        os.close(descriptor)
