"""Stops or kills a component, and keeps it down until it is healed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from gameday.faults import GRACE_S, one_of, running, unserved, who
from gameday.model import Json
from gameday.ports import Host, Kill, Reach
from gameday.system.polling import until

__all__ = ["Stop"]

STAYS_S = 0.3
"""How long it must stay down to count as down: three times the supervisor's wait before its first revival."""


@dataclass(frozen=True)
class Stop:
    """how: graceful lets it end by itself within grace_s; sigkill kills it outright. No autorestart until the heal."""

    component: str
    how: str = "graceful"
    grace_s: float = GRACE_S
    needs: ClassVar[tuple[type, ...]] = (Host, Kill)
    undo: ClassVar[str] = "start it"

    def __post_init__(self) -> None:
        one_of("stop", self.how, ("graceful", "sigkill"))

    def before(self, stack: Reach) -> Json:
        return {"identity": running(stack, self.component)}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        host = stack.host(self.component)
        if self.how == "sigkill":
            host.kill(self.component, before["identity"])  # type: ignore[attr-defined]  # needs: Kill
        host.stop(self.component, self.grace_s if self.how == "graceful" else 0.0)

    def proof(self, stack: Reach, before: Json) -> str | None:
        """No process of it runs, and none is started within STAYS_S."""
        end = time.monotonic() + STAYS_S

        def verdict() -> str | None:
            if not self.holds(stack, before):
                return "up"
            return "down" if time.monotonic() >= end else None

        if until(verdict, 2 * STAYS_S + 10, every_s=0.05, what=f"{self.component} to stay down") == "up":
            return None
        return f"{self.component}: {who(before['identity'])} is gone, and stayed away for {STAYS_S:g} s"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it is down now."""
        return stack.host(self.component).identity(self.component) is None

    def heal(self, stack: Reach, before: Json) -> None:
        stack.host(self.component).start(self.component)

    def unserved(self, stack: Reach, before: Json) -> str | None:
        return unserved(stack, self.component)
