"""A broker as the router uses it: requests that are handed out until they are acknowledged, and dead letters.

One file a broker, over its maintained client. What one can't do is in its `caps`, as it was measured, and nobody asks
for it. Every call ends in its time. A Delivery is handled, and answered with ack, nak or dead, before the next fetch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = [
    "ATTEMPTS",
    "ID",
    "KEPT_S",
    "REASON",
    "WITHIN_S",
    "Backend",
    "Caps",
    "Delivery",
    "Info",
    "Names",
    "Unconnected",
    "Unpublished",
]

WITHIN_S = 5.0
"""For one call, but a fetch that is told how long."""

KEPT_S = 600
"""How long a broker keeps a message, handled or not."""

ID, REASON, ATTEMPTS = "Request-Id", "Dead-Reason", "Dead-Attempts"
"""Headers: of each message, and of dead letters."""


class Unconnected(Exception):
    """The broker is away, or refuses; trying again may help."""


class Unpublished(Exception):
    """definite: the broker said that it has not taken it; else it may have."""

    def __init__(self, why: str, definite: bool) -> None:
        super().__init__(why)
        self.definite = definite


@dataclass(frozen=True)
class Caps:
    """What a broker promises.

    once: what keeps a request that is published twice from being there twice: ids that are remembered for a while
    ("window"), or its own producer's session alone. delay: whether a negative answer can ask for a delay. dead: who
    writes a dead letter, the router or the broker, which knows no reasons of ours. counted: whether the count of
    deliveries outlives a kill of the broker, of those that were answered.
    """

    once: Literal["window", "session"]
    delay: bool
    dead: Literal["router", "broker"]
    counted: bool


@dataclass(frozen=True)
class Names:
    """Streams or topics, and the group that shares the requests."""

    requests: str
    dead: str
    group: str = "routers"


@dataclass(frozen=True)
class Delivery:
    """attempt: how often it has been handed out by now, as the broker counts. held: the broker's own. about: the
    message's headers, of a dead letter why it is one."""

    id: str
    payload: bytes
    attempt: int
    held: Any = field(repr=False, compare=False)
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """pending: requests that nobody was given. unanswered: those that somebody was, where the broker can tell."""

    connected: bool
    pending: int
    unanswered: int | None


class Backend(Protocol):
    """One broker, and one consumer of its group. Not for several threads at once."""

    caps: Caps

    def connect(self) -> None:
        """Make what is missing of streams and group, and begin. From then on it connects again by itself. Raises
        Unconnected; who only publishes never fetches."""
        ...

    def publish(self, to: str, id: str, payload: bytes) -> None:
        """Return once the broker has it. Raises Unpublished; who does it again gives the same id."""
        ...

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        """The next requests; [] where none came in time, or the broker is away. One that was handed out as often as it
        may is dead-lettered in place of being handed out once more."""
        ...

    def ack(self, delivery: Delivery) -> bool:
        """Whether the broker has said that it will not hand it out again; if not, it may."""
        ...

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        """Have it handed out again, after delay_s where caps.delay. The same answer."""
        ...

    def dead(self, delivery: Delivery, why: str) -> bool:
        """A dead letter, and no more of it. The same answer."""
        ...

    def info(self) -> Info: ...
