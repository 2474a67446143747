"""Asks for a run of a job with a failpoint armed in its environment alone. No other run is harmed."""

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
"""A file in the run's folder: what the run's process arms when it begins to listen. Without it, it arms nothing."""


@dataclass(frozen=True)
class Strike:
    """component: the worker that runs the job. job: its name under [jobs]. point, term: as the failpoints library takes
    them. The scope is [global], so that a retry of the same run is not struck again. The proof is the line of evidence
    that the run itself wrote."""

    component: str
    job: str
    point: str
    term: str
    needs: ClassVar[tuple[type, ...]] = ()
    undo: ClassVar[str] = "withdraw the run, or disarm its point"
    bites_within_s: ClassVar[float] = 120.0
    """How long the proof may take: a worker picks the run up, and the run starts and reaches the point."""

    def before(self, stack: Reach) -> Json:
        """Note the key under which the run will be asked for, and the folder for its socket and its evidence."""
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
        """Say that it fired, and in which run's process."""
        firings = stack.run_points(before["folder"]).firings(self.point)
        run = stack.job(self.job).find(before["key"]) if firings else None  # a proof is asked many times a second
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
        """Whether it has fired (which may have ended the run's process), or is still armed."""
        points = stack.run_points(before["folder"])
        return bool(points.firings(self.point)) or points.listed().get(self.point, {}).get("term") is not None

    def heal(self, stack: Reach, before: Json) -> None:
        """Withdraw the run, so that it never starts if it hasn't yet. A process that begins to listen now arms nothing.
        One that listens already is disarmed, and goes on if it was paused."""
        (Path(before["folder"]) / ENTRIES).unlink(missing_ok=True)
        stack.job(self.job).withdraw(before["key"])
        points = stack.run_points(before["folder"])
        if points.listed().get(self.point, {}).get("term") is not None:
            points.disarm(self.point)
