"""A Kafka broker that is one of several, where compose's own is a node without others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from compose.servers import kafka
from compose.service import Service

__all__ = ["one_of_several"]

OWN = """
node.id={node}
controller.quorum.voters={voters}
offsets.topic.replication.factor={replicas}
default.replication.factor={replicas}
broker.session.timeout.ms=9000
broker.heartbeat.interval.ms=2000
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
"""
"""What makes one broker one of several, beside compose's own settings: the last of two lines counts. Sessions and the
waits of a quorum are Kafka's own: compose's are those of a node without others."""


def one_of_several(made: Service, name: str, node: int, voters: Sequence[str], more: str = "") -> Service:
    """made: by compose.servers.kafka.process. node: its number, from 1 on. voters: where the controller of each broker
    is, host:port. more: settings."""
    folder = Path(made.folder)
    named = ",".join(f"{number}@{at}" for number, at in enumerate(voters, start=1))
    with (folder / "server.properties").open("a") as properties:
        properties.write(OWN.format(node=node, voters=named, replicas=len(voters)) + more)
    meta = folder / "data" / "meta.properties"
    lines = [line for line in meta.read_text().splitlines() if not line.startswith(("node.id", "directory.id"))]
    meta.write_text("\n".join([*lines, f"node.id={node}", f"directory.id={kafka._id(name)}"]) + "\n")
    return dataclasses.replace(made, name=name)
