"""Kills a component without telling its supervisor. The platform has to revive it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.faults import revive, running, stopped, unserved, who
from gameday.model import Json
from gameday.ports import Host, Reach, Revived

__all__ = ["Kill"]


@dataclass(frozen=True)
class Kill:
    """SIGKILL, once. gameday does not keep the component down: the test measures whether and how fast it is revived."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (Host, Revived)
    undo: ClassVar[str] = "start it, unless the platform did"

    def before(self, stack: Reach) -> Json:
        return {"identity": running(stack, self.component)}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.host(self.component).kill(self.component, before["identity"])  # type: ignore[attr-defined]  # needs: Revived

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The process that ran before is gone. A new one may run already."""
        now = stack.host(self.component).identity(self.component)
        return None if now == before["identity"] else f"{self.component}: {who(before['identity'])} is gone"

    def heal(self, stack: Reach, before: Json) -> None:
        """Start it, unless the platform did. A component that a person has stopped meanwhile stays stopped."""
        revive(stack, self.component)

    def unserved(self, stack: Reach, before: Json) -> str | None:
        return None if stopped(stack, self.component) else unserved(stack, self.component)
