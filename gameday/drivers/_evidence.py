"""Reads the file to which each firing of a failpoint appends a line, for the drivers of failpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gameday.errors import DriverError
from gameday.model import Json

__all__ = ["firings"]


def firings(evidence: str, point: str) -> Sequence[Json]:
    """Return every firing of this point, oldest first. Leaves out a line that is not whole yet. Raises DriverError."""
    try:
        lines = Path(evidence).read_bytes().split(b"\n")[:-1]
        return [found for line in lines if (found := json.loads(line))["point"] == point]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise DriverError(f"the evidence {evidence} can't be read: {e!r}", definite=True) from e
