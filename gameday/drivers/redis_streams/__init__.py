"""Drivers of streams in Redis and Valkey: a stream as a hop, a consumer group's position, whether the server serves,
and a canary that adds to a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.redis_streams.adding import Canary
from gameday.drivers.redis_streams.groups import Cursor, Lag, Probe, Serving

if TYPE_CHECKING:
    from gameday.drivers.redis_streams.entries import Hop

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Import Hop when it is asked for: only it needs numpy."""
    if name == "Hop":
        from gameday.drivers.redis_streams.entries import Hop

        return Hop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
