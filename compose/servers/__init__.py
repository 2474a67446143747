"""The servers of the embedded stack, one per file: `get` fetches what it needs, and a process runs it.

Downloads and builds are in SHARE, once for all stacks of one virtual environment; a stack's own folder holds data,
configuration and log.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

__all__ = ["LOOPBACK", "SHARE", "Report", "shared"]

SHARE = Path(sys.prefix) / "share" / "gameday"

LOOPBACK = "127.0.0.1"
"""The address on which servers listen by default; in a container it is "0.0.0.0"."""

Report: TypeAlias = Callable[[str], None]
"""Takes one line of progress."""


@contextmanager
def shared() -> Iterator[None]:
    """Hold SHARE while something is put there: other processes wait, and then find it."""
    SHARE.mkdir(parents=True, exist_ok=True)
    held = os.open(SHARE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
