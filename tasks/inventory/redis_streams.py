"""Streams, consumer groups and the newest entries of a Redis or a Valkey."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import orjson
from redis.exceptions import ResponseError

from gameday.drivers._log import message_of
from gameday.drivers.redis_streams.entries import raw
from gameday.drivers.redis_streams.talk import Server, Talk
from gameday.stack.init.seen import Broker, Group, Topic

__all__ = ["redis"]

ASK_WITHIN_S = 25.0
"""For all of it."""

SCAN_WITHIN_S = 8.0
"""Of that, for finding streams among all keys: there may be millions."""

READ_WITHIN_S = 10.0
SCANNED_AT_ONCE = 1_000
NEWEST = 200
STREAMS_MAX = 1_000
STREAMS_READ_MAX = 24
LEFT_COUNTED = 1_001
"""Where the server can't tell how many entries a group has left, as many are counted."""


def redis(url: str) -> tuple[Broker, list[str]]:
    """What is there, and what could not be looked at. Raises DriverError where no server answers."""
    server, troubles = Server(url), list[str]()

    def look(talk: Talk) -> Broker:
        names, whole = _names(talk)
        if not whole:
            troubles.append(f"{server}: it has too many keys to look at all of them; {len(names)} streams were found")
        known = [(name, talk.stream(name)) for name in names]
        held = [(name, told) for name, told in known if told["length"]]
        held.sort(key=lambda one: (-one[1]["groups"], -one[1]["length"], one[0]))
        topics: list[Topic] = []
        groups: list[Group] = []
        until = time.monotonic() + READ_WITHIN_S
        for name, told in held[:STREAMS_READ_MAX]:
            if time.monotonic() >= until:
                troubles.append(f"{server}: {name} and what follows were not read in time")
                break
            try:
                topics.append(_topic(talk, name, told))
                groups += _groups(talk, name, told)
            except (ValueError, ResponseError) as e:
                troubles.append(f"{server}: stream {name}: {e}")
        return Broker(url, topics, groups, {}, len(held) - len(topics), len(groups), len(groups), "redis_streams")

    return server.ask(look, ASK_WITHIN_S, "the streams"), troubles


def _names(talk: Talk) -> tuple[list[str], bool]:
    """Of the streams, as many as SCAN_WITHIN_S and STREAMS_MAX allow, and whether these are all."""
    found: dict[str, None] = {}
    cursor, end = b"0", time.monotonic() + SCAN_WITHIN_S
    while time.monotonic() < end and len(found) < STREAMS_MAX:
        cursor, keys = talk("SCAN", cursor, "COUNT", SCANNED_AT_ONCE, "TYPE", "stream")
        found |= dict.fromkeys(key.decode(errors="replace") for key in keys)
        if cursor == b"0":
            return sorted(found), True
    return sorted(found), False


def _topic(talk: Talk, name: str, told: dict[str, Any]) -> Topic:
    entries = talk("XREVRANGE", name, "+", "-", "COUNT", NEWEST)[::-1]
    field = _field(entries)
    messages = [message_of(raw((name, 0), field, *entry)) for entry in entries]
    return Topic(name, held=int(told["length"]), messages=messages, field=field)


def _field(entries: Sequence[Any]) -> str:
    """The one field that holds an object of JSON in all entries; "": there is none, or several."""
    found: set[bytes] | None = None
    for _, fields in entries:
        mine = {name for name, text in zip(fields[::2], fields[1::2], strict=True) if _is_object(text)}
        found = mine if found is None else found & mine
    return next(iter(found)).decode(errors="replace") if found is not None and len(found) == 1 else ""


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _groups(talk: Talk, stream: str, told: dict[str, Any]) -> list[Group]:
    found = []
    for group in talk("XINFO", "GROUPS", stream) if told["groups"] else ():
        its = {key.decode(): value for key, value in zip(group[::2], group[1::2], strict=True)}
        left = its.get("lag")
        if left is None:
            given = its["last-delivered-id"].decode()
            left = len(talk("XRANGE", stream, f"({given}", "+", "COUNT", LEFT_COUNTED))
        found.append(Group(its["name"].decode(errors="replace"), {stream: int(left) + int(its["pending"])}))
    return found
