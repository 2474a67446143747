"""Drivers of Apache Kafka, and of servers that speak its protocol: the log as a hop, a consumer group's position,
whether the leaders serve, and a canary that writes to a topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.kafka.probes import Cursor, Lag, Probe, Serving

if TYPE_CHECKING:
    from gameday.drivers.kafka.log import Hop
    from gameday.drivers.kafka.producing import Canary

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Import Hop and Canary when they are asked for: only they need the client library and numpy."""
    if name == "Hop":
        from gameday.drivers.kafka.log import Hop

        return Hop
    if name == "Canary":
        from gameday.drivers.kafka.producing import Canary

        return Canary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
