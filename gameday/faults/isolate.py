"""A component is cut off from its networks: it reaches nobody, and nobody reaches it, until it is healed."""

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
    """All its connections hang or end at once, for hosts whose links can't be cut one by one. The process runs on."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (CanIsolate,)
    undo: ClassVar[str] = "connect it to its networks again"

    def before(self, stack: Reach) -> Json:
        """How it is connected, and which neighbours answer it now: without any, nothing could be proved."""
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
        """Seen from inside the component, none of the neighbours answers any more."""
        host, attached = self._host(stack), before["attached"]
        if not self.holds(stack, before) or host.reached(self.component, attached):
            return None
        return f"{self.component}: off {_names(attached)}, where it reached {', '.join(before['reached'])} before"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether that very container is cut off now."""
        return self._host(stack).isolated(self.component, before["attached"])

    def heal(self, stack: Reach, before: Json) -> None:
        self._host(stack).rejoin(self.component, before["attached"])

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """A container that was made anew, or ended, meanwhile is not this undo's."""
        if self._host(stack).identity(self.component) != before["identity"]:  # type: ignore[attr-defined]  # a Host too
            return None
        return unserved(stack, self.component)

    def _host(self, stack: Reach) -> CanIsolate:
        return stack.host(self.component)  # type: ignore[return-value]  # needs: Isolate


def _names(attached: Json) -> str:
    return ", ".join(one["name"] for one in attached["networks"])
