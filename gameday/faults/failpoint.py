"""Arms a failpoint inside the component's own code. It strikes when the code reaches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import ConfigError, GamedayError
from gameday.faults import running
from gameday.model import Json
from gameday.ports import Points, Reach

__all__ = ["Failpoint"]

TTL_S = 300.0
"""After so long the point disarms itself, even when gameday is dead."""


@dataclass(frozen=True)
class Failpoint:
    """term: what happens at which hits, such as "3@kill" (failpoints/README.md).

    The first proof is that the point is armed. A plan waits for its firing with fired(point); a run in which it never
    fires is invalid. When the point ends its process, the platform has to revive it; the new process has it unarmed.
    """

    component: str
    point: str
    term: str
    ttl_s: float = TTL_S
    needs: ClassVar[tuple[type, ...]] = (Points,)
    undo: ClassVar[str] = "disarm the point"

    def before(self, stack: Reach) -> Json:
        identity = running(stack, self.component)
        points = stack.points(self.component)
        listed = points.listed()
        if self.point not in listed:
            declared = ", ".join(listed) or "nothing: no process listens there, is FAILPOINTS_ENABLE=1 set?"
            raise ConfigError(f"{self.component} declares no point {self.point!r}. It declares {declared}")
        if (armed := listed[self.point]["term"]) is not None:
            raise GamedayError(
                f"{self.point} of {self.component} is armed already: {armed}. "
                f"Remedy: gameday failpoints disarm {self.component} {self.point}"
            )
        return {"identity": identity, "fired": len(points.firings(self.point))}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.points(self.component).arm(self.point, self.term, self.ttl_s, act_id)

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Say how often it fired, at which hit, in which process. Before its first firing: that it is armed."""
        firings = stack.points(self.component).firings(self.point)[before["fired"] :]
        if firings:
            first = firings[0]
            return (
                f"{self.component}: {self.point} fired {len(firings)} times, first {first['action']} at hit "
                f"{first['hit']} in pid {first['pid']} for {first['run']}"
            )
        return f"{self.component}: {self.point} is armed, and has not fired yet" if self._armed(stack) else None

    def fired(self, stack: Reach, before: Json) -> int:
        return len(stack.points(self.component).firings(self.point)) - int(before["fired"])

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it is still armed. When it has ended its process, its effect is complete: that counts as held."""
        if stack.host(self.component).identity(self.component) == before["identity"]:
            return self._armed(stack)
        return self.fired(stack, before) > 0

    def heal(self, stack: Reach, before: Json) -> None:
        """Disarm it, and let threads go on that are paused at it. A dead or a new process has nothing armed."""
        if self._armed(stack):
            stack.points(self.component).disarm(self.point)

    def _armed(self, stack: Reach) -> bool:
        return stack.points(self.component).listed().get(self.point, {}).get("term") is not None
