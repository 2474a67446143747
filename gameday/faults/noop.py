"""Nothing at all: the machinery's own test, and the yardstick for what a run costs without harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gameday.model import Json

if TYPE_CHECKING:
    from gameday.stack.live import Stack

__all__ = ["Noop"]


@dataclass(frozen=True)
class Noop:
    """Does nothing, and its proof says so: it bites as soon as it was called."""

    component: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "nothing"

    def before(self, stack: Stack) -> Json:
        return {}

    def act(self, stack: Stack, before: Json, act_id: str) -> None:
        return

    def bit(self, stack: Stack, before: Json) -> str | None:
        return f"nothing was done to {self.component}, as asked"

    def heal(self, stack: Stack, before: Json) -> None:
        return
