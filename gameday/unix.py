"""Unix sockets in deep folders: their addresses hold fewer bytes than paths may have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["reachable"]

PATH_BYTES_MAX = 100
"""A unix socket's path holds 108 bytes; longer ones are reached through their folder's descriptor."""


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """The socket's path in a form short enough for the kernel. OSError when a long one's folder is not there."""
    if len(os.fsencode(path)) <= PATH_BYTES_MAX:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)
