"""What a benchmark says and returns that has measured nothing: a table of zeros would look like a good one."""

from __future__ import annotations

import sys

__all__ = ["NOTHING", "nothing"]

NOTHING = 3
"""The exit code, as `gameday` ends where there is no verdict."""


def nothing(why: object) -> int:
    """Say so on stderr; returns the exit code."""
    print(f"nothing was measured: {why}", file=sys.stderr)
    return NOTHING
