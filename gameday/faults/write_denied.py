"""Takes the right to write from a user of an object store. The user reads as before; every write is refused."""

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
    """Changes the bucket's policy while the store runs. The undo removes only the act's own statement: what others
    change in the policy meanwhile stays."""

    component: str
    needs: ClassVar[tuple[type, ...]] = (Rights,)
    undo: ClassVar[str] = "give the right back"

    def before(self, stack: Reach) -> Json:
        rights = stack.rights(self.component)
        if rights.denied():
            raise GamedayError(f"{self.component}: the right to write is withdrawn already. Remedy: gameday heal")
        status = rights.refusals()
        if (status["read"], status["write"]) != (OK, OK):
            raise GamedayError(
                f"{self.component}: its user's reads answer {status['read']}, its writes {status['write']} as it is, "
                f"so the proof could not show that the right is gone. Remedy: components.{self.component}.rights"
            )
        return {"policy": rights.policy()}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.rights(self.component).deny_writes()

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Asked as that user, the store allows a read and refuses a write."""
        status = stack.rights(self.component).refusals()
        if (status["read"], status["write"]) != (OK, FORBIDDEN):
            return None
        return f"{self.component}: its user's reads answer {status['read']}, its writes {status['write']}"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether the right is withdrawn now."""
        return stack.rights(self.component).denied()

    def heal(self, stack: Reach, before: Json) -> None:
        stack.rights(self.component).allow_writes(before["policy"])
