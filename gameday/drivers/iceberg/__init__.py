"""Reads Iceberg: a table to which a job appends, commit by commit (archived.py); any table as a hop (snapshot.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.iceberg.archived import Archive

if TYPE_CHECKING:
    from gameday.drivers.iceberg.snapshot import Hop

__all__ = ["Archive", "Hop"]


def __getattr__(name: str) -> Any:
    """Import Hop when it is asked for: it imports numpy, which the archive doesn't need."""
    if name != "Hop":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gameday.drivers.iceberg.snapshot import Hop

    return Hop
