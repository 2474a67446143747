"""What is asked many times a second: does the broker answer, how far are the log and a consumer, are records served.

Each takes `client`: the settings of librdkafka's by which one reaches the brokers (TLS, SASL).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gameday.drivers.kafka.secured import security
from gameday.drivers.kafka.wire import EARLIEST, LATEST, Cluster, Slot
from gameday.errors import DriverError
from gameday.model import Position
from gameday.stack.config import Brokers

__all__ = ["Cursor", "Lag", "Probe", "Serving"]

ASK_WITHIN_S = 0.9
"""For one reading of a cursor: less than the deadline of the probe that asks."""


@dataclass(frozen=True)
class Probe:
    """An ApiVersions request on a fresh connection to the broker at `address`, host:port."""

    address: Brokers
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """{"": 1.0}. Raises DriverError when no well-formed answer without error is there within timeout_s."""
        with Cluster(self.address, self.timeout_s, self.client) as cluster:
            cluster.answers()
        return {"": 1.0}


@dataclass(frozen=True)
class Cursor:
    """A consumer group's committed offsets, and the log's ends. Slots are "topic/partition"; one never committed is
    absent. brokers: "host:port,…"."""

    brokers: Brokers
    group: str
    topics: Sequence[str]
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def position(self) -> Position:
        """The next offset that the group will read."""
        with Cluster(self.brokers, ASK_WITHIN_S, self.client) as cluster:
            return _position(cluster.committed(self.group, cluster.leaders(self.topics)))

    def end(self) -> Position:
        """The offset that the next record will get."""
        with Cluster(self.brokers, ASK_WITHIN_S, self.client) as cluster:
            return _position(cluster.offsets(cluster.leaders(self.topics), LATEST))


@dataclass(frozen=True)
class Lag:
    """A Probe: how many records a consumer group has not committed yet."""

    brokers: Brokers
    group: str
    topics: Sequence[str]
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """ "topic/partition" -> records; from the log's start where the group has committed nothing."""
        with Cluster(self.brokers, self.timeout_s, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            starts, ends = (cluster.offsets(leaders, at) for at in (EARLIEST, LATEST))
            behind = {**starts, **cluster.committed(self.group, leaders)}
        return {slot: float(offset) for slot, offset in _position({s: ends[s] - behind[s] for s in ends}).items()}


@dataclass(frozen=True)
class Serving:
    """A Probe: every partition has a leader, and the leader hands out the partition's last record."""

    brokers: Brokers
    topics: Sequence[str]
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """ "topic/partition" -> its leader's id. Raises DriverError unless all of them serve within timeout_s; one that
        holds no record serves by saying so."""
        with Cluster(self.brokers, self.timeout_s, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            lows, ends = (cluster.offsets(leaders, at) for at in (EARLIEST, LATEST))
            last = {slot: end - 1 for slot, end in ends.items() if end > lows[slot]}
            served = cluster.fetch(leaders, last)
        if dead := [f"{topic}/{p}" for topic, p in last if not served.get((topic, p))]:
            raise DriverError(f"brokers {self.brokers}: no record came from {', '.join(dead)}", definite=True)
        return {slot: float(leader) for slot, leader in _position(leaders).items()}


def _position(found: Mapping[Slot, int]) -> Position:
    return {f"{topic}/{partition}": value for (topic, partition), value in found.items()}
