"""Keeps a ledger's file in a folder: JSON that is written whole, or stays as it was.

One process at a time has the folder. The program decides what the file holds and when it is written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["File", "TapeError"]


class TapeError(Exception):
    """The state folder can't serve this tape; the message names the remedy."""


class File:
    """tape.json in a folder that only this process has until `close`."""

    def __init__(self, folder: Path, program: str) -> None:
        """Make the folder, and lock it. program: what uses it, for the message.

        Raises:
            TapeError: the folder can't be used, or another process has it.
        """
        self._path = folder / "tape.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "tape.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise TapeError(f"{folder} can't be used: {e.strerror}. Remedy: --state with a folder of your own") from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise TapeError(f"another {program} uses {folder}. Remedy: stop it, or --state with another folder") from e

    def read(self, settings: Mapping[str, object], changes: str) -> dict[str, Any] | None:
        """Return what the file holds; None: there is no file yet.

        settings: those with which it must have been written, because they determine the records. changes: what would
        change otherwise, for the message.

        Raises:
            TapeError: the file can't be read, or was written with other settings.
        """
        try:
            kept: dict[str, Any] = json.loads(self._path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise TapeError(
                f"{self._path} can't be read: {e}. Remedy: restore it, or start an empty stack (its history is lost)"
            ) from e
        if {name: kept[name] for name in settings} != settings:
            raise TapeError(
                f"{self._path} was recorded with {_words(kept, settings)}, not {_words(settings, settings)}: {changes} "
                "would change. Remedy: the same settings and program, or --state with another folder"
            )
        return kept

    def write(self, text: str) -> None:
        """Return when the text is on the disk. Raises OSError if that fails; then the file is as it was."""
        new = self._path.with_suffix(".new")
        with open(new, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)


def _words(values: Mapping[str, object], names: Iterable[str]) -> str:
    return " and ".join(f"{name} {values[name]}" for name in names)
