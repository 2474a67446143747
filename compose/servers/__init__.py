"""The servers of the embedded stack, one a file: `get` what it needs, and the process that runs it.

What is downloaded or built lies in SHARE, once for all stacks of one virtual environment; a stack's own folder holds
data, configuration and log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

__all__ = ["LOOPBACK", "SHARE", "Report"]

SHARE = Path(sys.prefix) / "share" / "gameday"

LOOPBACK = "127.0.0.1"
"""Where every server listens that isn't told otherwise; in a container of its own it is told "0.0.0.0"."""

Report: TypeAlias = Callable[[str], None]
"""Takes one line of progress."""
