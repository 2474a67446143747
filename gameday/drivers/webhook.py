"""Sends each message as one POST of plain JSON, to any server. docs/channels.md describes the body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import SecretStr

from gameday.drivers._post import post, web_address
from gameday.model import Json, Message
from gameday.system.tls import PLAIN, Tls

__all__ = ["Channel", "body"]

SCHEMA = 1


@dataclass(frozen=True)
class Channel:
    """url: the server's address. headers: sent with each message, such as Authorization."""

    url: SecretStr
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    tls: Tls = PLAIN
    takes: ClassVar[frozenset[str]] = frozenset({"announce", "fail", "night"})

    def __post_init__(self) -> None:
        web_address(self.url.get_secret_value(), "the webhook's url")

    def send(self, message: Message, below: str | None, within_s: float) -> str | None:
        """Send one message. Any 2xx counts as taken. A message may arrive twice, with the same id."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        post("the webhook", self.url.get_secret_value(), body(message), headers, within_s, self.tls)
        return None


def body(message: Message) -> Json:
    """Write the message as JSON."""
    return {
        "schema": SCHEMA,
        "id": message.id,
        "kind": message.kind,
        "stack": message.stack,
        "night": message.night,
        "about": message.about,
        "at": datetime.fromtimestamp(message.at_us / 1e6, UTC).isoformat(timespec="milliseconds"),
        "verdict": None if message.verdict is None else str(message.verdict),
        "title": message.title,
        "text": message.text,
        "facts": [{"name": name, "value": value} for name, value in message.facts],
        "links": dict(message.links),
        "data": message.data,
    }
