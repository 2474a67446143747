"""Apache Kafka, and what speaks its protocol: the log as a hop, a consumer group's place in it, and whether its leaders
serve. What a consumer made of the log is that consumer's driver's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.kafka.probes import Cursor, Lag, Probe, Serving

if TYPE_CHECKING:
    from gameday.drivers.kafka.log import Hop

__all__ = ["Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Hop, imported when it is asked for: reading the log takes a client library and numpy, all else neither."""
    if name != "Hop":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gameday.drivers.kafka.log import Hop

    return Hop
