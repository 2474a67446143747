"""PostgreSQL: a server that answers, a table as a hop, a replication slot as a consumer's place in the log, and
positions that rest in a table; and what writes by a statement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.postgres.looks import Cursor, Lag, Mirror, Probe, TimeMirror

if TYPE_CHECKING:
    from gameday.drivers.postgres.table import Hop
    from gameday.drivers.postgres.writing import Canary

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Mirror", "Probe", "TimeMirror"]


def __getattr__(name: str) -> Any:
    """Hop and Canary, imported when they are asked for: a probe needs neither, and a command that looks no more than
    probes."""
    if name == "Hop":
        from gameday.drivers.postgres.table import Hop

        return Hop
    if name == "Canary":
        from gameday.drivers.postgres.writing import Canary

        return Canary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
