"""Streams, durable consumers and the newest messages of a NATS with JetStream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from gameday.drivers._log import message_of
from gameday.drivers.nats.jetstream import raw
from gameday.drivers.nats.server import Refused, Server, Session
from gameday.stack.init.seen import Broker, Group, Topic

__all__ = ["jetstream"]

ASK_WITHIN_S = 20.0
"""For all of it."""

READ_WITHIN_S = 10.0
"""Of that, for consumers and messages: what came by then is told."""

NEWEST = 200
"""Messages of each stream."""

STREAMS_MAX = 1_000
STREAMS_READ_MAX = 24
"""Streams whose messages are read: those with consumers, and those with the most messages."""

OWN = ("KV_", "OBJ_")
"""Streams that are a store's: of keys and values, or of objects."""


def jetstream(url: str) -> tuple[Broker, list[str]]:
    """What is there, and what could not be looked at. Raises DriverError where no server answers, or it has no
    JetStream."""
    server, troubles = Server(url), list[str]()

    async def look(session: Session) -> Broker:
        until = time.monotonic() + READ_WITHIN_S
        found, known = await _streams(session)
        if known > len(found):
            troubles.append(f"{server}: of {known:,} streams {len(found):,} were looked at")
        logs = [one for one in found if not one["config"]["name"].startswith(OWN)]
        if stores := [one["config"]["name"] for one in found if one["config"]["name"].startswith(OWN)]:
            troubles.append(f"{server}: {', '.join(stores[:3])}: stores of keys or objects, and no logs")
        logs.sort(key=lambda one: (-one["state"].get("consumer_count", 0), -one["state"]["messages"]))
        chosen = [one for one in logs if one["state"]["messages"]][:STREAMS_READ_MAX]
        topics: list[Topic] = []
        groups: list[Group] = []
        for one in chosen:
            if time.monotonic() >= until:
                troubles.append(f"{server}: {one['config']['name']} and what follows were not read in time")
                break
            try:
                topics.append(await _topic(session, one))
                groups += await _consumers(session, one["config"]["name"])
            except Refused as e:
                troubles.append(f"{server}: stream {one['config']['name']}: {e}")
        unread = sum(1 for one in logs if one["state"]["messages"]) - len(topics)
        return Broker(url, topics, groups, {}, unread, len(groups), len(groups), "nats")

    return server.ask(look, ASK_WITHIN_S, "the streams"), troubles


async def _streams(session: Session) -> tuple[list[Any], int]:
    """As many as STREAMS_MAX, and how many there are."""
    found: list[Any] = []
    while len(found) < STREAMS_MAX:
        page = await session.api("STREAM.LIST", {"offset": len(found)})
        found += page.get("streams") or []
        if not page.get("streams") or len(found) >= page["total"]:
            return found, len(found)
    return found, page["total"]


async def _topic(session: Session, stream: Any) -> Topic:
    config, state = stream["config"], stream["state"]
    name, last, age_ns = config["name"], int(state["last_seq"]), int(config.get("max_age") or 0)
    numbers = range(max(1, int(state["first_seq"]), last - NEWEST + 1), last + 1)
    read = await asyncio.gather(*(session.message(name, seq=number) for number in numbers))
    messages = [message_of(raw((name, 0), one)) for one in read if one is not None]
    return Topic(
        name,
        held=int(state["messages"]),
        cleanup="" if config.get("retention", "limits") == "limits" else str(config["retention"]),
        retention_ms=age_ns // 1_000_000 if age_ns else -1,
        messages=messages,
        subject=(messages[-1].key or b"").decode(errors="replace") if messages else "",
    )


async def _consumers(session: Session, stream: str) -> Sequence[Group]:
    """The durable ones, of the first page that the server tells."""
    told = await session.api(f"CONSUMER.LIST.{stream}", {"offset": 0})
    return [
        Group(one["name"], {stream: int(one["num_pending"]) + int(one["num_ack_pending"])})
        for one in told.get("consumers") or []
        if one["config"].get("durable_name")
    ]
