"""A run of a job is started with a failpoint armed in its own environment, and in no other run's."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gameday.model import Json
from gameday.ports import Reach

__all__ = ["Strike"]

ENTRIES = "entries"
"""In the run's folder: what its process arms, read when it is about to listen. Gone: nothing."""


@dataclass(frozen=True)
class Strike:
    """component: the worker that runs the job. job: its name under [jobs]. point, term: as the failpoints library takes
    them; the scope is [global], which spares a retry of the same run. Its proof is the run's own line of evidence."""

    component: str
    job: str
    point: str
    term: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "withdraw the run, or disarm its point"
    bites_within_s: ClassVar[float] = 120.0
    """A run has to be picked up, to start and to get there."""

    def before(self, stack: Reach) -> Json:
        """The key under which the run is asked for, and the folder of its socket and its evidence."""
        stack.job(self.job)
        key = uuid.uuid4().hex
        folder = stack.state.points(key)
        folder.mkdir(mode=0o700, parents=True)
        return {"key": key, "folder": str(folder)}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        folder = Path(before["folder"])
        (folder / ENTRIES).write_text(f"{self.point}={self.term.removesuffix('[global]')}[global]")
        environment = {
            "FAILPOINTS_ENABLE": "1",
            "FAILPOINTS_FILE": str(folder / ENTRIES),
            "FAILPOINTS_SOCKET": str(folder / "socket"),
            "FAILPOINTS_EVIDENCE": str(folder / "evidence"),
            "FAILPOINTS_CLAIMS": str(folder / "claims"),
            "FAILPOINTS_RUN": act_id,
        }
        stack.job(self.job).trigger(before["key"], environment)

    def proof(self, stack: Reach, before: Json) -> str | None:
        """That it fired, in which run's process."""
        firings = stack.run_points(before["folder"]).firings(self.point)
        run = stack.job(self.job).find(before["key"]) if firings else None  # else it were asked many times a second
        if run is None:
            return None
        first = firings[0]
        return (
            f"{self.component}: {self.point} fired {first['action']} in run {run.name} ({run.id}), pid {first['pid']}"
        )

    def struck_ns(self, stack: Reach, before: Json) -> int:
        at_us = stack.run_points(before["folder"]).firings(self.point)[0]["at_us"]
        return time.monotonic_ns() - (time.time_ns() - int(at_us) * 1000)

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it has fired, and may have ended the run's process by that, or is armed there still."""
        points = stack.run_points(before["folder"])
        return bool(points.firings(self.point)) or points.listed().get(self.point, {}).get("term") is not None

    def heal(self, stack: Reach, before: Json) -> None:
        """A run that hasn't started never does; one that is about to listen arms nothing; one that listens is disarmed,
        and goes on if it was paused."""
        (Path(before["folder"]) / ENTRIES).unlink(missing_ok=True)
        stack.job(self.job).withdraw(before["key"])
        points = stack.run_points(before["folder"])
        if points.listed().get(self.point, {}).get("term") is not None:
            points.disarm(self.point)
