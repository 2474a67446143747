"""The streams of Redis and Valkey: one as a hop, a consumer group's place in it, and whether the server serves; and
what adds to a stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.redis_streams.adding import Canary
from gameday.drivers.redis_streams.groups import Cursor, Lag, Probe, Serving

if TYPE_CHECKING:
    from gameday.drivers.redis_streams.entries import Hop

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Hop, imported when it is asked for: it takes numpy, all else does without."""
    if name == "Hop":
        from gameday.drivers.redis_streams.entries import Hop

        return Hop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
