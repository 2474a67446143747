"""PostgreSQL: a probe, a table as a hop, a replication slot as a consumer's place in the log, positions that a table
holds, and a canary that writes by a statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.postgres.looks import Cursor, Lag, Mirror, Probe, TimeMirror

if TYPE_CHECKING:
    from gameday.drivers.postgres.table import Hop
    from gameday.drivers.postgres.writing import Canary

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Mirror", "Probe", "TimeMirror"]


def __getattr__(name: str) -> Any:
    """Import Hop and Canary on first use: a probe needs neither, and many commands only need probes."""
    if name == "Hop":
        from gameday.drivers.postgres.table import Hop

        return Hop
    if name == "Canary":
        from gameday.drivers.postgres.writing import Canary

        return Canary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
