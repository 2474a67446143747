"""Does nothing. It tests gameday itself, and shows what a run costs without any harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gameday.model import Json
from gameday.ports import Reach

__all__ = ["Noop"]


@dataclass(frozen=True)
class Noop:
    """Does nothing, and its proof says so at once."""

    component: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "nothing"

    def before(self, stack: Reach) -> Json:
        return {}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        return

    def proof(self, stack: Reach, before: Json) -> str | None:
        return f"nothing was done to {self.component}, as asked"

    def heal(self, stack: Reach, before: Json) -> None:
        return
