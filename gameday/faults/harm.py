"""Has a job of the platform break something, which stays broken until the job mends it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import ConfigError
from gameday.model import Json
from gameday.ports import Harms, Reach

__all__ = ["Harm"]


@dataclass(frozen=True)
class Harm:
    """component: the one that is struck. job: its name under [jobs]; it knows what is broken and how to mend it."""

    component: str
    job: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "have the job mend it, where it is broken"
    bites_within_s: ClassVar[float] = 30.0

    def before(self, stack: Reach) -> Json:
        """Note the key under which the job will be asked, and what was there. Raises if it is broken already."""
        return {"key": uuid.uuid4().hex, "met": self._job(stack).met()}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        self._job(stack).trigger(before["key"], {})

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Say what is broken, in the job's words."""
        broken = self._job(stack).broken(before["key"])
        return None if broken is None else f"{self.component}: {broken}"

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it is broken now."""
        return self._job(stack).broken(before["key"]) is not None

    def heal(self, stack: Reach, before: Json) -> None:
        self._job(stack).withdraw(before["key"])

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """Say what is still broken."""
        return self._job(stack).broken(before["key"])

    def _job(self, stack: Reach) -> Harms:
        job = stack.job(self.job)
        if not isinstance(job, Harms):
            raise ConfigError(
                f"jobs.{self.job} breaks nothing that it could mend. Remedy: a driver that offers met and broken "
                "(gameday.ports.Harms), or the fault Ask"
            )
        return job
