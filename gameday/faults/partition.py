"""A link is cut: connections over it end, new ones are refused, until it is healed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gameday.faults._link import LinkFault
from gameday.model import Json

if TYPE_CHECKING:
    from gameday.stack.live import Stack

__all__ = ["Partition"]


@dataclass(frozen=True)
class Partition(LinkFault):
    """Both directions at once: what was in flight is lost, and both ends learn of it."""

    undo: ClassVar[str] = "join the link"

    def act(self, stack: Stack, before: Json, act_id: str) -> None:
        self.host(stack).cut(self.link)

    def bit(self, stack: Stack, before: Json) -> str | None:
        """Connecting as the victim does is refused."""
        try:
            self.reaction_s(stack, before["listen"])
        except ConnectionRefusedError:
            return f"{self.component}: link {self.link} is cut, {before['listen']} refuses connections"
        return None

    def holds(self, stack: Stack, before: Json) -> bool:
        """Whether it is cut now."""
        return not self.state(stack)["enabled"]

    def heal(self, stack: Stack, before: Json) -> None:
        self.host(stack).join(self.link)
