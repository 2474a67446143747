"""Keeps the caller's tape in a folder. What the broker has is saved every second, extra requests before they are
published.

A request is a pure function of its number, so one that is not in the file yet is published again unchanged, under the
same id.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from failpoints import point
from pipelines.kept import File
from pipelines.router.tape import POISON, TENANTS

__all__ = ["FORMAT", "OUTCOMES", "Kept"]

FORMAT = 1
OUTCOMES = ("done", "refused", "unknown")
"""The outcomes of an attempt to publish: the broker has the message, has said that it has not, or it is unknown."""

SAVE = point("caller::before_save", "the tape goes to the disk; raise(OSError): it is full")


class Kept:
    """The tape, durable in a folder (tape.json): as tape.py has it, and "done": tenant -> the last request that the
    broker has taken, "outcomes": how many attempts ended so."""

    def __init__(self, folder: Path, seed: int) -> None:
        """Raises TapeError."""
        self._file = File(folder, "caller")
        settings = {"seed": seed, "format": FORMAT}
        self.tape = self._file.read(settings, "every request") or {
            **settings,
            "done": dict.fromkeys((*TENANTS, POISON), 0),
            "poison": [],
            "outcomes": dict.fromkeys(OUTCOMES, 0),
        }
        self.writing = threading.Lock()
        """Held to change the tape, or to read it as of one moment; never while waiting for the disk."""
        self._saving = threading.Lock()

    def save(self) -> None:
        """Return when the tape is on the disk. Raises OSError if that fails; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        with self._saving:
            with self.writing:
                text = json.dumps(self.tape)
            self._file.write(text)
