"""Stops or kills a component, and starts it again at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.faults import GRACE_S, one_of, running, stopped, unserved, who
from gameday.model import Json
from gameday.ports import Host, Kill, Reach

__all__ = ["Restart"]


@dataclass(frozen=True)
class Restart:
    """how: graceful lets it end by itself within grace_s; sigkill kills it outright. Both start it again at once."""

    component: str
    how: str = "graceful"
    grace_s: float = GRACE_S
    needs: ClassVar[tuple[type, ...]] = (Host, Kill)
    undo: ClassVar[str] = "start it, unless it runs"

    def __post_init__(self) -> None:
        one_of("restart", self.how, ("graceful", "sigkill"))

    def before(self, stack: Reach) -> Json:
        return {"identity": running(stack, self.component)}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        host = stack.host(self.component)
        if self.how == "sigkill":
            host.kill(self.component, before["identity"])  # type: ignore[attr-defined]  # needs: Kill
        host.stop(self.component, self.grace_s if self.how == "graceful" else 0.0)
        host.start(self.component)

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The process that ran before is gone, and one that was started later runs."""
        old, new = before["identity"], stack.host(self.component).identity(self.component)
        if new is None or new == old or new["started_us"] <= old["started_us"]:
            return None
        return f"{self.component}: {who(old)} is gone, {who(new)} was started in its place"

    def heal(self, stack: Reach, before: Json) -> None:
        stack.host(self.component).start(self.component)

    def settled(self, stack: Reach, before: Json) -> bool:
        """Whether there is nothing to undo: the act has started it again, so a person stopped what is stopped now."""
        return stopped(stack, self.component)

    def unserved(self, stack: Reach, before: Json) -> str | None:
        return None if stopped(stack, self.component) else unserved(stack, self.component)
