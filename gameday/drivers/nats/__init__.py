"""Drivers of NATS JetStream: a stream as a hop, a consumer's position, whether the server and the streams serve, and a
canary that publishes to a subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.nats.consumers import Cursor, Lag, Probe, Serving
from gameday.drivers.nats.publishing import Canary

if TYPE_CHECKING:
    from gameday.drivers.nats.jetstream import Hop

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Import Hop when it is asked for: only it needs numpy."""
    if name == "Hop":
        from gameday.drivers.nats.jetstream import Hop

        return Hop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
