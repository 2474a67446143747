"""The workload's tape in a folder: what was promised is on the disk before it is carried out.

What the source has is told by the source; the file is the other side of it. A source that has less than the file says
was done has lost transactions, and one that has more was written by somebody else.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from failpoints import point
from pipelines.cdc.tape import POISON_SHARD, SHARDS

__all__ = ["FORMAT", "Kept", "TapeError"]

FORMAT = 1
SAVE = point(
    "ledger::before_save",
    "the tape goes to the disk; raise(OSError): it is full, and nothing is promised until it isn't",
)


class TapeError(Exception):
    """The state folder can't serve this tape; the message names the remedy."""


class Kept:
    """The tape, durable in a folder (tape.json). tape: as tape.py has it, and "done": shard -> the last transaction
    that is known to be committed; the file may know of fewer, never of more."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._file = folder / "tape.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "tape.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise TapeError(f"{folder} can't be used: {e.strerror}. Remedy: --state with a folder of your own") from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise TapeError(f"another workload uses {folder}. Remedy: stop it, or --state with another folder") from e
        self.tape = self._load(seed)

    def save(self) -> None:
        """Return when the tape is on the disk. Raises OSError where it can't be; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        new = self._file.with_suffix(".new")
        with open(new, "w") as f:
            f.write(json.dumps(self.tape))
            f.flush()
            os.fsync(f.fileno())
        os.replace(new, self._file)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another workload have the folder."""
        os.close(self._lock)

    def _load(self, seed: int) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {
                "format": FORMAT,
                "seed": seed,
                "shards": {shard: {"begun": 0, "segments": []} for shard in SHARDS},
                "done": dict.fromkeys([*SHARDS, str(POISON_SHARD)], 0),
                "bursts": [],
                "versions": [],
                "poison": [],
            }
        except (OSError, ValueError) as e:
            raise TapeError(
                f"{self._file} can't be read: {e}. Remedy: restore it, or start an empty stack (its history is lost)"
            ) from e
        if (kept["seed"], kept["format"]) != (seed, FORMAT):
            raise TapeError(
                f"{self._file} has seed {kept['seed']} and format {kept['format']}, not seed {seed} and format "
                f"{FORMAT}: every row would change. Remedy: the same --seed and program, or --state with another folder"
            )
        return kept
