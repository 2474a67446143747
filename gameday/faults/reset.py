"""Makes a link break every connection: new ones are reset, open ones end at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import GamedayError
from gameday.faults._link import Distortion
from gameday.model import Json
from gameday.ports import Reach
from gameday.system.vantage import RESETS

__all__ = ["Reset"]


@dataclass(frozen=True)
class Reset(Distortion):
    """No client reaches the server, although the link's port still listens."""

    toxic: ClassVar[str] = "reset_peer"
    streams: ClassVar[tuple[str, ...]] = ("upstream",)

    @property
    def attributes(self) -> Mapping[str, Json]:
        return {"timeout": 0}

    def before(self, stack: Reach) -> Json:
        """Note the same as for every link. Raises also when the server itself resets connections: that would look like
        the fault."""
        noted: Json = super().before(stack)
        if noted["manner"] == RESETS:
            raise GamedayError(
                f"link {self.link} resets connections as it is, so a reset could not be told from that. Remedy: "
                f"another fault, such as partition"
            )
        return noted

    def proof(self, stack: Reach, before: Json) -> str | None:
        """A connection through the link, as the victim makes it, is reset."""
        try:
            self.reaction_s(stack, before["listen"])
        except ConnectionResetError:
            return f"{self.component}: link {self.link} resets connections"
        return None
