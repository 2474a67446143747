"""The workload's tape in a folder: what was promised is on the disk before it is carried out.

What the source has is told by the source; the file is the other side of it. A source that has less than the file says
was done has lost transactions, and one that has more was written by somebody else.
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
    """The tape, durable in a folder (tape.json). tape: as tape.py has it, and "done": shard -> the last transaction
    that is known to be committed; the file may know of fewer, never of more."""

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
        """Return when the tape is on the disk. Raises OSError where it can't be; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        self._file.write(json.dumps(self.tape))

    def close(self) -> None:
        """Let another workload have the folder."""
        self._file.close()
