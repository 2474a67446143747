"""Probes how much room a file system of this machine has left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from gameday.errors import DriverError

__all__ = ["Probe"]


@dataclass(frozen=True)
class Probe:
    """Probes the file system that holds `path`, as a user without privileges sees it."""

    path: str
    timeout_s: float = 1.0

    def read(self) -> Mapping[str, float]:
        """{"": 1.0, ".free_bytes", ".free_ratio", ".free_inodes_ratio"}; 1.0 where it has no inodes to count."""
        try:
            found = os.statvfs(self.path)
        except OSError as e:
            raise DriverError(f"the file system of {self.path}: {e.strerror}", definite=True) from e
        return {
            "": 1.0,
            ".free_bytes": float(found.f_bavail * found.f_frsize),
            ".free_ratio": found.f_bavail / max(1, found.f_blocks),
            ".free_inodes_ratio": found.f_favail / found.f_files if found.f_files else 1.0,
        }
