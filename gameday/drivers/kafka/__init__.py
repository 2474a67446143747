"""Apache Kafka, and what speaks its protocol: the log as a hop, a consumer group's place in it, and whether its leaders
serve; and what writes to a topic. What a consumer made of the log is that consumer's driver's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.kafka.probes import Cursor, Lag, Probe, Serving

if TYPE_CHECKING:
    from gameday.drivers.kafka.log import Hop
    from gameday.drivers.kafka.producing import Canary

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Hop and Canary, imported when they are asked for: they take a client library and numpy, all else neither."""
    if name == "Hop":
        from gameday.drivers.kafka.log import Hop

        return Hop
    if name == "Canary":
        from gameday.drivers.kafka.producing import Canary

        return Canary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
