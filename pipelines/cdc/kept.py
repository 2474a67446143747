"""Keeps the workload's tape in a folder. A transaction is on the disk before it is carried out.

The source says what it has, the file what was done. A source that has less than the file has lost transactions; one
that has more was written by another program.
"""

from __future__ import annotations

import json
from pathlib import Path

from failpoints import point
from pipelines.cdc.tape import POISON_SHARD, SHARDS
from pipelines.kept import File

__all__ = ["FORMAT", "Kept"]

FORMAT = 1
SAVE = point(
    "ledger::before_save",
    "the tape goes to the disk; raise(OSError): it is full, and nothing is promised until it isn't",
)


class Kept:
    """The tape, durable in a folder (tape.json). tape: see tape.py, and "done": shard -> the last transaction that is
    known to be committed; the file may have fewer, never more."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Raises TapeError."""
        self._file = File(folder, "workload")
        settings = {"seed": seed, "format": FORMAT}
        self.tape = self._file.read(settings, "every row") or {
            **settings,
            "shards": {shard: {"begun": 0, "segments": []} for shard in SHARDS},
            "done": dict.fromkeys([*SHARDS, str(POISON_SHARD)], 0),
            "bursts": [],
            "versions": [],
            "poison": [],
        }

    def save(self) -> None:
        """Return when the tape is on the disk. Raises OSError if that fails; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        self._file.write(json.dumps(self.tape))

    def close(self) -> None:
        """Let another workload have the folder."""
        self._file.close()
