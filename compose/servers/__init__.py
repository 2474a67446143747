"""The servers of the embedded stack, one a file: `get` what it needs, and the process that runs it.

What is downloaded or built lies in SHARE, once for all stacks of one virtual environment; a stack's own folder holds
data, configuration and log.
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
"""Where every server listens that isn't told otherwise; in a container of its own it is told "0.0.0.0"."""

Report: TypeAlias = Callable[[str], None]
"""Takes one line of progress."""


@contextmanager
def shared() -> Iterator[None]:
    """Hold SHARE while something is put there: who comes meanwhile waits, and then finds it."""
    SHARE.mkdir(parents=True, exist_ok=True)
    held = os.open(SHARE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)
