"""Freezes a component: it keeps its sockets and answers nothing."""

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
    """Freezes every process of the component. The heal lets them go on where they were."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (CanPause,)
    undo: ClassVar[str] = "let it go on"

    def before(self, stack: Reach) -> Json:
        """Raises GamedayError when it is frozen already: the proof would be false, and the undo would end what somebody
        else did."""
        identity = running(stack, self.component)
        if stack.host(self.component).paused(self.component):  # type: ignore[attr-defined]  # needs: Pause
            raise GamedayError(f"{self.component} is paused already. Remedy: gameday heal, gameday status")
        return {"identity": identity}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.host(self.component).pause(self.component)  # type: ignore[attr-defined]  # needs: Pause

    def proof(self, stack: Reach, before: Json) -> str | None:
        return f"{self.component}: {who(before['identity'])} is frozen" if self.holds(stack, before) else None

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether the same process is frozen now."""
        host = stack.host(self.component)
        same = host.identity(self.component) == before["identity"]
        return same and bool(host.paused(self.component))  # type: ignore[attr-defined]  # needs: Pause

    def heal(self, stack: Reach, before: Json) -> None:
        stack.host(self.component).resume(self.component)  # type: ignore[attr-defined]  # needs: Pause

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """None also when another process runs than the one that was frozen: this undo did not start that one."""
        if stack.host(self.component).identity(self.component) != before["identity"]:
            return None
        return unserved(stack, self.component)
