"""NATS JetStream: a stream as a hop, a consumer's place in it, and whether its server and its streams serve; and what
publishes to a subject.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gameday.drivers.nats.consumers import Cursor, Lag, Probe, Serving
from gameday.drivers.nats.publishing import Canary

if TYPE_CHECKING:
    from gameday.drivers.nats.jetstream import Hop

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Probe", "Serving"]


def __getattr__(name: str) -> Any:
    """Hop, imported when it is asked for: it takes numpy, all else does without."""
    if name == "Hop":
        from gameday.drivers.nats.jetstream import Hop

        return Hop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
