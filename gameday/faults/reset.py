"""A link breaks every connection: new ones are reset, open ones end at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gameday.faults._link import Distortion
from gameday.model import Json

if TYPE_CHECKING:
    from gameday.stack import Stack

__all__ = ["Reset"]


@dataclass(frozen=True)
class Reset(Distortion):
    """The server is reached by nobody, although somebody listens."""

    toxic: ClassVar[str] = "reset_peer"
    streams: ClassVar[tuple[str, ...]] = ("upstream",)

    @property
    def attributes(self) -> Mapping[str, Json]:
        return {"timeout": 0}

    def bit(self, stack: Stack, before: Json) -> str | None:
        """Connecting as the victim does is reset."""
        try:
            self.reaction_s(stack, before["listen"])
        except ConnectionResetError:
            return f"{self.component}: link {self.link} resets connections"
        return None
