"""Asks for a run of a job and does nothing to it, so that a plan can harm it with other faults."""

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
    """How long the proof may take: a worker picks the run up, and the run starts."""

    def before(self, stack: Reach) -> Json:
        """Note the key under which the run will be asked for."""
        stack.job(self.job)
        return {"key": uuid.uuid4().hex}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.job(self.job).trigger(before["key"], {})

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Say that the run has started."""
        run = stack.job(self.job).find(before["key"])
        return None if run is None or run.waits else f"{self.component}: run {run.name} ({run.id}) has started"

    def heal(self, stack: Reach, before: Json) -> None:
        stack.job(self.job).withdraw(before["key"])
