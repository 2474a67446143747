"""The brokers as the router uses them: they deliver requests until they are acknowledged, and have dead letters.

One file per broker, over its maintained client. `caps` says, as measured, what a broker promises; programs ask for no
more. Every call ends in its time. A Delivery is handled, and answered with ack, nak or dead, before the next fetch.
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
"""For one call, except a fetch, which has its own time."""

KEPT_S = 600
"""How long a broker keeps a message, handled or not."""

ID, REASON, ATTEMPTS = "Request-Id", "Dead-Reason", "Dead-Attempts"
"""Headers: ID of each message, the others of dead letters."""


class Unconnected(Exception):
    """The broker is away, or refuses; trying again may help."""


class Unpublished(Exception):
    """The message may not be published. definite: the broker said that it has not taken it; else it may have."""

    def __init__(self, why: str, definite: bool) -> None:
        super().__init__(why)
        self.definite = definite


@dataclass(frozen=True)
class Caps:
    """What a broker promises.

    once: how it deduplicates requests that are published twice: by ids that it remembers for a while ("window"), or
    only within the producer's session. delay: whether a negative answer can ask for a delay. dead: who writes a dead
    letter, the router or the broker, which doesn't know our reasons. counted: whether the count of deliveries of
    answered requests outlives a kill of the broker.
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
    """attempt: how often the broker has delivered it, by its own count. held: the broker's own object. about: the
    message's headers; those of a dead letter have the reason."""

    id: str
    payload: bytes
    attempt: int
    held: Any = field(repr=False, compare=False)
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Info:
    """pending: requests that are not delivered yet. unanswered: those that are delivered and not answered; None: the
    broker doesn't report them."""

    connected: bool
    pending: int
    unanswered: int | None


class Backend(Protocol):
    """One broker, and one consumer of its group. Not for several threads at once."""

    caps: Caps

    def connect(self) -> None:
        """Make the missing streams and group, and begin. From then on it reconnects by itself. Raises Unconnected. A
        program that only publishes never fetches."""
        ...

    def publish(self, to: str, id: str, payload: bytes) -> None:
        """Return once the broker has it. Raises Unpublished; a retry must give the same id."""
        ...

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        """Return the next requests; [] if none came in time, or the broker is away. A request that was delivered as
        often as it may becomes a dead letter instead."""
        ...

    def ack(self, delivery: Delivery) -> bool:
        """Whether the broker has said that it will not hand it out again; if not, it may."""
        ...

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        """Have it delivered again, after delay_s if caps.delay. Returns as ack does."""
        ...

    def dead(self, delivery: Delivery, why: str) -> bool:
        """Write a dead letter, and end the request. Returns as ack does."""
        ...

    def info(self) -> Info: ...
