"""A component is killed behind its supervisor's back: reviving it is left to the platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.faults import revive, running, stopped, unserved, who
from gameday.model import Json
from gameday.ports import Host, Reach
from gameday.ports import Kill as CanKill

__all__ = ["Kill"]


@dataclass(frozen=True)
class Kill:
    """SIGKILL, once. Nothing holds the component down: who revives it, and how fast, is what a test wants to know."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (Host, CanKill)
    undo: ClassVar[str] = "start it, unless the platform did"

    def before(self, stack: Reach) -> Json:
        return {"identity": running(stack, self.component)}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.host(self.component).kill(self.component, before["identity"])  # type: ignore[attr-defined]  # needs: Kill

    def proof(self, stack: Reach, before: Json) -> str | None:
        """That very identity is gone; whether another runs already is the platform's business."""
        now = stack.host(self.component).identity(self.component)
        return None if now == before["identity"] else f"{self.component}: {who(before['identity'])} is gone"

    def heal(self, stack: Reach, before: Json) -> None:
        """Start it, if the platform didn't. What somebody has stopped meanwhile stays so."""
        revive(stack, self.component)

    def unserved(self, stack: Reach, before: Json) -> str | None:
        return None if stopped(stack, self.component) else unserved(stack, self.component)
