"""Iceberg: a table that a job appends to in commits, judged commit by commit; and any table as a hop of the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.iceberg.archived import Archive

if TYPE_CHECKING:
    from gameday.drivers.iceberg.snapshot import Hop

__all__ = ["Archive", "Hop"]


def __getattr__(name: str) -> Any:
    """Hop, imported when it is asked for: it takes numpy, the archive doesn't."""
    if name != "Hop":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gameday.drivers.iceberg.snapshot import Hop

    return Hop
