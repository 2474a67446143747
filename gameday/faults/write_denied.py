"""A user of an object store may no longer write: it reads as before, and every write is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import GamedayError
from gameday.model import Json
from gameday.ports import Reach, Rights

__all__ = ["WriteDenied"]

OK, FORBIDDEN = 200, 403


@dataclass(frozen=True)
class WriteDenied:
    """The right is withdrawn by the bucket's policy while the store runs. Its undo takes away only what the act put
    there: what others make of the policy meanwhile stays."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (Rights,)
    undo: ClassVar[str] = "give the right back"

    def before(self, stack: Reach) -> Json:
        rights = stack.rights(self.component)
        if rights.denied():
            raise GamedayError(f"{self.component}: the right to write is withdrawn already. Remedy: gameday heal")
        met = rights.refusals()
        if (met["read"], met["write"]) != (OK, OK):
            raise GamedayError(
                f"{self.component}: its user's reads answer {met['read']}, its writes {met['write']} as it is, so a "
                f"right that is withdrawn could not be told from that. Remedy: components.{self.component}.rights"
            )
        return {"policy": rights.policy()}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.rights(self.component).deny_writes()

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The user itself may read, and may not write."""
        met = stack.rights(self.component).refusals()
        if (met["read"], met["write"]) != (OK, FORBIDDEN):
            return None
        return f"{self.component}: its user's reads answer {met['read']}, its writes {met['write']}"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether the right is withdrawn now."""
        return stack.rights(self.component).denied()

    def heal(self, stack: Reach, before: Json) -> None:
        stack.rights(self.component).allow_writes(before["policy"])
