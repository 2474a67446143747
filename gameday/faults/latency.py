"""Makes a link slow: what passes it towards the client arrives late."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import ConfigError
from gameday.faults._link import Distortion
from gameday.model import Json
from gameday.ports import Reach
from gameday.system.vantage import PATIENCE_S

__all__ = ["Latency"]


@dataclass(frozen=True)
class Latency(Distortion):
    """Adds latency_ms to every answer, also on connections that are open already."""

    latency_ms: int = 500
    toxic: ClassVar[str] = "latency"
    streams: ClassVar[tuple[str, ...]] = ("downstream",)

    def __post_init__(self) -> None:
        if self.latency_ms <= 0:
            raise ConfigError(f"latency: latency_ms={self.latency_ms}. Remedy: more than 0")

    @property
    def attributes(self) -> Mapping[str, Json]:
        return {"latency": self.latency_ms}

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Through the link a reaction takes longer than directly, by 0.9 of latency_ms (at most half of PATIENCE_S)."""
        past = self.reaction_s(stack, before["upstream"])
        through = self.reaction_s(stack, before["listen"])
        late_s = PATIENCE_S if through is None else through
        if past is None or late_s - past < min(0.9 * self.latency_ms / 1000, PATIENCE_S / 2):
            return None
        return f"{self.component}: link {self.link} takes {late_s * 1000:.0f} ms, past it {past * 1000:.0f} ms"
