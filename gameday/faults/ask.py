"""A run of a job is asked for, and nothing is done to it: what it meets is another fault's doing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import ClassVar

from gameday.model import Json
from gameday.ports import Reach

__all__ = ["Ask"]


@dataclass(frozen=True)
class Ask:
    """component: the worker that runs the job. job: its name under [jobs]."""

    component: str
    job: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "withdraw the run, if it hasn't started"
    bites_within_s: ClassVar[float] = 120.0
    """A run has to be picked up, and to start."""

    def before(self, stack: Reach) -> Json:
        """The key under which the run is asked for."""
        stack.job(self.job)
        return {"key": uuid.uuid4().hex}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.job(self.job).trigger(before["key"], {})

    def proof(self, stack: Reach, before: Json) -> str | None:
        """That it has started."""
        run = stack.job(self.job).find(before["key"])
        return None if run is None or run.waits else f"{self.component}: run {run.name} ({run.id}) has started"

    def heal(self, stack: Reach, before: Json) -> None:
        stack.job(self.job).withdraw(before["key"])
