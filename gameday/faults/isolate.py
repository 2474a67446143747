"""Cuts a component off from its networks, in both directions, until it is healed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import GamedayError
from gameday.faults import running, unserved
from gameday.model import Json
from gameday.ports import Isolate as CanIsolate
from gameday.ports import Reach

__all__ = ["Isolate"]


@dataclass(frozen=True)
class Isolate:
    """All its connections hang or end. The process runs on. Made for hosts whose links can't be cut one by one."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (CanIsolate,)
    undo: ClassVar[str] = "connect it to its networks again"

    def before(self, stack: Reach) -> Json:
        """Note its networks and which neighbours answer it now. Raises when none does: the cut could not be proved."""
        host, identity = self._host(stack), running(stack, self.component)
        attached = host.attached(self.component)
        reached = list(host.reached(self.component, attached))
        if not reached:
            raise GamedayError(
                f"{self.component} reaches nobody on {_names(attached)} as it is, so a cut could not be told from "
                f"that. Remedy: gameday status"
            )
        return {"identity": identity, "attached": attached, "reached": reached}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        self._host(stack).isolate(self.component, before["attached"])

    def proof(self, stack: Reach, before: Json) -> str | None:
        """From inside the component no neighbour answers any more."""
        host, attached = self._host(stack), before["attached"]
        if not self.holds(stack, before) or host.reached(self.component, attached):
            return None
        return f"{self.component}: off {_names(attached)}, where it reached {', '.join(before['reached'])} before"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether the same container is cut off now."""
        return self._host(stack).isolated(self.component, before["attached"])

    def heal(self, stack: Reach, before: Json) -> None:
        self._host(stack).rejoin(self.component, before["attached"])

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """None also when the container has ended or was made anew meanwhile: this undo did not do that."""
        if self._host(stack).identity(self.component) != before["identity"]:  # type: ignore[attr-defined]  # a Host too
            return None
        return unserved(stack, self.component)

    def _host(self, stack: Reach) -> CanIsolate:
        return stack.host(self.component)  # type: ignore[return-value]  # needs: Isolate


def _names(attached: Json) -> str:
    return ", ".join(network["name"] for network in attached["networks"])
