"""The caller's tape in a folder: what it was told is on the disk every second, and what was asked for besides before it
is published.

A request is a pure function of its number, so one that the file knows nothing of yet is published again as it was,
under the same id.
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
"""What came of an attempt to publish: the broker has the message, has said that it has not, or nobody knows."""

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
        """For who changes the tape, or needs it as of one moment. Nobody holds it while the disk is waited for."""
        self._saving = threading.Lock()

    def save(self) -> None:
        """Return when the tape is on the disk. Raises OSError where it can't be; then the file is as it was."""
        if SAVE.on is not None:
            SAVE()
        with self._saving:
            with self.writing:
                text = json.dumps(self.tape)
            self._file.write(text)
