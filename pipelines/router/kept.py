"""The caller's tape in a folder: what it was told is on the disk every second, and what was asked for besides before it
is published.

A request is a pure function of its number, so one that the file knows nothing of yet is published again as it was,
under the same id.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from failpoints import point
from pipelines.router.tape import POISON, TENANTS

__all__ = ["FORMAT", "OUTCOMES", "Kept", "TapeError"]

FORMAT = 1
OUTCOMES = ("done", "refused", "unknown")
"""What came of an attempt to publish: the broker has the message, has said that it has not, or nobody knows."""

SAVE = point("caller::before_save", "the tape goes to the disk; raise(OSError): it is full")


class TapeError(Exception):
    """The state folder can't serve this tape; the message names the remedy."""


class Kept:
    """The tape, durable in a folder (tape.json): as tape.py has it, and "done": tenant -> the last request that the
    broker has taken, "outcomes": how many attempts ended so."""

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
            raise TapeError(f"another caller uses {folder}. Remedy: stop it, or --state with another folder") from e
        self.tape = self._load(seed)
        self.writing = threading.Lock()
        """For who changes the tape, or needs it as of one moment. Nobody holds it while the disk is waited for."""
        self._saving = threading.Lock()

    def save(self) -> None:
        """Return when the tape is on the disk. Raises OSError where it can't be; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        new = self._file.with_suffix(".new")
        with self._saving:
            with self.writing:
                text = json.dumps(self.tape)
            with open(new, "w") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            os.replace(new, self._file)
            folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _load(self, seed: int) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            zero = dict.fromkeys((*TENANTS, POISON), 0)
            outcomes = dict.fromkeys(OUTCOMES, 0)
            return {"format": FORMAT, "seed": seed, "done": zero, "poison": [], "outcomes": outcomes}
        except (OSError, ValueError) as e:
            raise TapeError(
                f"{self._file} can't be read: {e}. Remedy: restore it, or start an empty stack (its history is lost)"
            ) from e
        if (kept["seed"], kept["format"]) != (seed, FORMAT):
            raise TapeError(
                f"{self._file} has seed {kept['seed']} and format {kept['format']}, not seed {seed} and format "
                f"{FORMAT}: every request would change. Remedy: the same --seed and program, or another --state"
            )
        return kept
