"""Makes a link swallow everything in both directions: connections stay open, and neither end learns of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gameday.faults._link import Distortion
from gameday.model import Json
from gameday.ports import Reach
from gameday.system.vantage import PATIENCE_S

__all__ = ["Blackhole"]


@dataclass(frozen=True)
class Blackhole(Distortion):
    """Its heal closes the open connections: Toxiproxy can't deliver what it has swallowed."""

    toxic: ClassVar[str] = "timeout"

    @property
    def attributes(self) -> Mapping[str, Json]:
        return {"timeout": 0}

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The server reacts to a direct connection, and not to one through the link."""
        past = self.reaction_s(stack, before["upstream"])
        if past is None or self.reaction_s(stack, before["listen"]) is not None:
            return None
        return (
            f"{self.component}: link {self.link} answers nothing within {PATIENCE_S:g} s, "
            f"past it {past * 1000:.0f} ms are enough"
        )
