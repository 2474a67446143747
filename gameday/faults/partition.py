"""Cuts a link: open connections end and new ones are refused, until it is healed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.faults._link import LinkFault
from gameday.model import Json
from gameday.ports import Reach

__all__ = ["Partition"]


@dataclass(frozen=True)
class Partition(LinkFault):
    """Cuts both directions at once. What was in flight is lost, and both ends learn of it."""

    undo: ClassVar[str] = "join the link"

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        self.host(stack).cut(self.link)

    def proof(self, stack: Reach, before: Json) -> str | None:
        """A connection through the link, as the victim makes it, is refused."""
        try:
            self.reaction_s(stack, before["listen"])
        except ConnectionRefusedError:
            return f"{self.component}: link {self.link} is cut, {before['listen']} refuses connections"
        return None

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it is cut now."""
        return not self.state(stack)["enabled"]

    def heal(self, stack: Reach, before: Json) -> None:
        self.host(stack).join(self.link)
