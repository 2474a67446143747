"""Asks many times a second: does the broker answer, how far are the log and a consumer, are records served.

Each class takes `client`: librdkafka's settings for reaching the brokers (TLS, SASL).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gameday.drivers.kafka.secured import security
from gameday.drivers.kafka.wire import EARLIEST, LATEST, Cluster, Slot
from gameday.errors import DriverError
from gameday.model import Kept, Position
from gameday.stack.config import Brokers

__all__ = ["Cursor", "Lag", "Probe", "Serving"]

KEPT_WITHIN_S = 5.0

ASK_WITHIN_S = 0.9
"""For one reading of a cursor: less than the probe's deadline."""


@dataclass(frozen=True)
class Probe:
    """Sends an ApiVersions request on a new connection to the broker at `address`, host:port."""

    address: Brokers
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0}. Raises DriverError without a well-formed answer, free of errors, within timeout_s."""
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
        """Return the next offset that the group will read."""
        with Cluster(self.brokers, ASK_WITHIN_S, self.client) as cluster:
            return _position(cluster.committed(self.group, cluster.leaders(self.topics)))

    def end(self) -> Position:
        """Return the offset that the next record will get."""
        with Cluster(self.brokers, ASK_WITHIN_S, self.client) as cluster:
            return _position(cluster.offsets(cluster.leaders(self.topics), LATEST))

    def kept(self) -> Mapping[str, Kept]:
        """Return what the topics keep for the group. A topic's retention by time is read; one by bytes shows only in
        what it has deleted."""
        with Cluster(self.brokers, KEPT_WITHIN_S, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            starts = cluster.offsets(leaders, EARLIEST)  # before the positions: what was read meanwhile is not deleted
            positions = cluster.committed(self.group, leaders)
            ends = cluster.offsets(leaders, LATEST)
            settings = cluster.configs(self.topics, ("cleanup.policy", "retention.ms"))
            keeps_ms = {
                topic: ms for topic in self.topics if (ms := _retention_ms(settings.get(topic, {}))) is not None
            }
            now_ms = time.time_ns() // 1_000_000
            expired = dict(positions)
            for topic, ms in keeps_ms.items():
                mine = {slot: leader for slot, leader in leaders.items() if slot[0] == topic and slot in positions}
                young = cluster.offsets(mine, max(0, now_ms - ms))
                expired |= {slot: ends[slot] if first < 0 else first for slot, first in young.items()}
            unread = {slot: max(at, starts[slot]) for slot, at in positions.items()}
            made_ms = cluster.stamps(leaders, {slot: at for slot, at in unread.items() if at < ends[slot]})
        return {
            f"{topic}/{partition}": Kept(
                position=at,
                start=starts[topic, partition],
                end=ends[topic, partition],
                expired=max(at, expired[topic, partition]),
                unread_s=max(0, now_ms - made_ms[topic, partition]) / 1000 if (topic, partition) in made_ms else None,
                retention_s=keeps_ms[topic] / 1000 if topic in keeps_ms else None,
            )
            for (topic, partition), at in positions.items()
        }


@dataclass(frozen=True)
class Lag:
    """Probes how many records a consumer group has not committed yet."""

    brokers: Brokers
    group: str
    topics: Sequence[str]
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """Return "topic/partition" -> records; from the log's start if the group has committed nothing."""
        with Cluster(self.brokers, self.timeout_s, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            starts, ends = (cluster.offsets(leaders, at) for at in (EARLIEST, LATEST))
            behind = {**starts, **cluster.committed(self.group, leaders)}
        return {slot: float(offset) for slot, offset in _position({s: ends[s] - behind[s] for s in ends}).items()}


@dataclass(frozen=True)
class Serving:
    """Probes that every partition has a leader, and that the leader returns the partition's last record."""

    brokers: Brokers
    topics: Sequence[str]
    timeout_s: float
    client: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        security(self.client)

    def read(self) -> Mapping[str, float]:
        """Return "topic/partition" -> its leader's id. Raises DriverError unless all partitions serve within timeout_s;
        an empty one serves by saying so."""
        with Cluster(self.brokers, self.timeout_s, self.client) as cluster:
            leaders = cluster.leaders(self.topics)
            lows, ends = (cluster.offsets(leaders, at) for at in (EARLIEST, LATEST))
            last = {slot: end - 1 for slot, end in ends.items() if end > lows[slot]}
            served = cluster.fetch(leaders, last)
        if dead := [f"{topic}/{p}" for topic, p in last if not served.get((topic, p))]:
            raise DriverError(f"brokers {self.brokers}: no record came from {', '.join(dead)}", definite=True)
        return {slot: float(leader) for slot, leader in _position(leaders).items()}


def _retention_ms(settings: Mapping[str, str]) -> int | None:
    """Return how long a topic keeps a record; None: it deletes nothing by age, or this user may not ask."""
    ms = settings.get("retention.ms", "-1")
    return int(ms) if "delete" in settings.get("cleanup.policy", "") and not ms.startswith("-") else None


def _position(found: Mapping[Slot, int]) -> Position:
    return {f"{topic}/{partition}": value for (topic, partition), value in found.items()}
