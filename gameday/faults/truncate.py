"""Makes a link end each connection after a number of bytes towards the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import ConfigError
from gameday.faults._link import Distortion
from gameday.model import Json
from gameday.ports import Reach

__all__ = ["Truncate"]


@dataclass(frozen=True)
class Truncate(Distortion):
    """after_bytes: how much a connection may send. A larger upload never arrives whole."""

    after_bytes: int = 2048
    toxic: ClassVar[str] = "limit_data"
    streams: ClassVar[tuple[str, ...]] = ("upstream",)

    def __post_init__(self) -> None:
        if self.after_bytes <= 0:
            raise ConfigError(f"truncate: after_bytes={self.after_bytes}. Remedy: more than 0")

    @property
    def attributes(self) -> Mapping[str, Json]:
        return {"bytes": self.after_bytes}

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The link's host has the limit in force. What it broke off shows as the victim's own failure."""
        if not self.holds(stack, before):
            return None
        return f"{self.component}: link {self.link} ends each connection after {self.after_bytes} bytes"
