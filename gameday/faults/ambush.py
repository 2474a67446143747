"""Asks for a run of a job, and kills the engine when the object store shows how far it has got. Needs no failpoints."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from gameday.faults import one_of, revive, running, stopped, unserved, who
from gameday.model import Json
from gameday.ports import UNDER_WAY_MAX_S, Host, Kill, Reach, Store

__all__ = ["Ambush"]


@dataclass(frozen=True)
class Ambush:
    """component: the engine, which is killed by SIGKILL; the run's own process lives on. job: its name under [jobs].
    moment: "written": a new data file is there that no commit names; "committed": one that a commit names.

    The kill is part of `proof`, because only then the run has got that far. The run goes on between the look and the
    kill, so the proof says what was there after the engine's death. Nothing is killed while another run is under way:
    the new files could be that run's.
    """

    component: str
    job: str
    moment: str = "written"
    needs: ClassVar[tuple[type, ...]] = (Host, Kill, Store)
    undo: ClassVar[str] = "withdraw the run, or start the engine, unless the platform did"
    bites_within_s: ClassVar[float] = 300.0
    """How long the proof may take: a worker picks the run up, the run starts, reads its batch and writes it."""

    def __post_init__(self) -> None:
        one_of("ambush", self.moment, ("written", "committed"))

    def before(self, stack: Reach) -> Json:
        """Note the key under which the run will be asked for, and a folder with the list of what is stored already."""
        identity, key = running(stack, self.component), uuid.uuid4().hex
        stack.job(self.job)
        folder = stack.state.points(key)
        folder.mkdir(mode=0o700, parents=True)
        (folder / "known.json").write_text(json.dumps(sorted(stack.export()[0].stored())))  # type: ignore[attr-defined]  # needs: Store
        return {"key": key, "folder": str(folder), "identity": identity}

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        stack.job(self.job).trigger(before["key"], {})

    def proof(self, stack: Reach, before: Json) -> str | None:
        host, folder, archive = stack.host(self.component), Path(before["folder"]), cast("Store", stack.export()[0])
        known, stored = folder / "known.json", set(archive.stored())
        if not self._alone(stack, before["key"]):  # asked after the store: all stored files may be another run's
            known.write_text(json.dumps(sorted(stored)))
            return None
        fresh = stored - set(json.loads(known.read_text()))
        named = set(archive.named()) if fresh else set()
        seen = fresh - named if self.moment == "written" else fresh & named
        if not seen or host.identity(self.component) != before["identity"]:
            return None
        host.kill(self.component, before["identity"])  # type: ignore[attr-defined]  # needs: Kill
        (folder / "struck").write_text(str(time.monotonic_ns()))
        run = stack.job(self.job).find(before["key"])
        if run is None or run.state == "Completed":
            return None  # too late: its work was done. A run that has failed did so because of the kill
        what = f"{'' if seen <= set(archive.named()) else 'not '}committed {min(seen).rpartition('/')[2]}"
        return f"{self.component}: {who(before['identity'])} was killed in run {run.name}, which had {what}"

    def struck_ns(self, stack: Reach, before: Json) -> int:
        return int((Path(before["folder"]) / "struck").read_text())

    def heal(self, stack: Reach, before: Json) -> None:
        stack.job(self.job).withdraw(before["key"])
        revive(stack, self.component)

    def unserved(self, stack: Reach, before: Json) -> str | None:
        return None if stopped(stack, self.component) else unserved(stack, self.component)

    def _alone(self, stack: Reach, key: str) -> bool:
        """Say whether the run that was asked for is the only one under way."""
        job = stack.job(self.job)
        run = job.find(key)
        if run is None or run.started_us is None or run.ended_us is not None:
            return False
        runs = job.runs(run.started_us - int(UNDER_WAY_MAX_S * 1e6))
        return all(other.id == run.id or other.waits or other.ended_us is not None for other in runs)
