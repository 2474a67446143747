"""Sends events to PagerDuty's Events API v2: a fail opens an incident, the next pass of the same test closes it.

An incident's key is stack, test and parameters, so a test that fails every night is one incident.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import SecretStr

from gameday.drivers._post import post, web_address
from gameday.model import Json, Message
from gameday.system.tls import PLAIN, Tls

__all__ = ["Channel", "event"]

SUMMARY_CHARACTERS_MAX = 1_024
KEY_CHARACTERS_MAX = 255
"""Both are the API's."""

DETAIL_CHARACTERS_MAX = 4_000
LINKS_MAX = 10
"""An event may have 512 KB, which is too much to read on a telephone."""


@dataclass(frozen=True)
class Channel:
    """routing_key: that of the service's integration "Events API v2". base_url: https://events.eu.pagerduty.com in the
    EU."""

    routing_key: SecretStr
    base_url: str = "https://events.pagerduty.com"
    tls: Tls = PLAIN
    takes: ClassVar[frozenset[str]] = frozenset({"trigger", "resolve"})

    def __post_init__(self) -> None:
        web_address(self.base_url, "base_url")

    def send(self, message: Message, below: str | None, within_s: float) -> str | None:
        """Send one event; the API answers 202. An event that is sent twice is still one incident."""
        sent = {"routing_key": self.routing_key.get_secret_value(), **event(message)}
        post("PagerDuty", f"{self.base_url.rstrip('/')}/v2/enqueue", sent, {}, within_s, self.tls)
        return None


def event(message: Message) -> Json:
    """Return the event without its routing key."""
    key = {"event_action": message.kind, "dedup_key": _key(message.about)}
    if message.kind == "resolve":
        return key
    web = [{"href": url, "text": label} for label, url in message.links if url.startswith(("http://", "https://"))]
    facts = {name: value[:DETAIL_CHARACTERS_MAX] for name, value in message.facts}
    damaged = any((message.data or {}).get(kind) for kind in ("lost", "doubled", "changed"))
    return {
        **key,
        "client": "gameday",
        "links": web[:LINKS_MAX],
        "payload": {
            "summary": f"{message.title}: {message.text}"[:SUMMARY_CHARACTERS_MAX],
            "source": message.stack,
            "severity": "critical" if damaged else "error",
            "timestamp": datetime.fromtimestamp(message.at_us / 1e6, UTC).isoformat(timespec="milliseconds"),
            "component": (message.data or {}).get("component") or message.stack,
            "group": message.stack,
            "class": (message.data or {}).get("test") or message.about,
            "custom_details": {"night": message.night, **facts, **dict(message.links)},
        },
    }


def _key(about: str) -> str:
    """Return the incident's key. A key that is too long is cut and ends with its hash."""
    if len(about) <= KEY_CHARACTERS_MAX:
        return about
    return f"{about[: KEY_CHARACTERS_MAX - 65]}/{hashlib.sha256(about.encode()).hexdigest()}"
