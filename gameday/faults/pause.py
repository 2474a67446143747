"""A component is frozen: it keeps its sockets and answers nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import GamedayError
from gameday.faults import running, unserved, who
from gameday.model import Json
from gameday.ports import Pause as CanPause
from gameday.ports import Reach

__all__ = ["Pause"]


@dataclass(frozen=True)
class Pause:
    """Every process of the component is frozen until the heal lets them go on where they were."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (CanPause,)
    undo: ClassVar[str] = "let it go on"

    def before(self, stack: Reach) -> Json:
        """Raises when it is frozen already: that would prove the fault, and its undo would end what another did."""
        identity = running(stack, self.component)
        if stack.host(self.component).paused(self.component):  # type: ignore[attr-defined]  # needs: Pause
            raise GamedayError(f"{self.component} is paused already. Remedy: gameday heal, gameday status")
        return {"identity": identity}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.host(self.component).pause(self.component)  # type: ignore[attr-defined]  # needs: Pause

    def proof(self, stack: Reach, before: Json) -> str | None:
        return f"{self.component}: {who(before['identity'])} is frozen" if self.holds(stack, before) else None

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether that very process is frozen now."""
        host = stack.host(self.component)
        same = host.identity(self.component) == before["identity"]
        return same and bool(host.paused(self.component))  # type: ignore[attr-defined]  # needs: Pause

    def heal(self, stack: Reach, before: Json) -> None:
        stack.host(self.component).resume(self.component)  # type: ignore[attr-defined]  # needs: Pause

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """Another process than the one that was frozen is not this undo's."""
        if stack.host(self.component).identity(self.component) != before["identity"]:
            return None
        return unserved(stack, self.component)
