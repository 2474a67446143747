"""Probes how busy this machine is: how long tasks have waited for a processor, for memory or for a disk (PSI), and how
much of its processors' time went to other machines (steal).

All are sums since the machine's start, in seconds: the difference of two readings is for the span between them. A
kernel without PSI has none of the waits. The sampler itself measures whether it is late.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gameday.errors import DriverError

__all__ = ["Probe"]

RESOURCES = ("cpu", "memory", "io")

STEAL_FIELD = 8
"""Where the line "cpu" of /proc/stat has steal: user, nice, system, idle, iowait, irq, softirq, steal."""

TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Probe:
    """proc: where the kernel's files are."""

    proc: Path = Path("/proc")

    def read(self) -> Mapping[str, float]:
        """Return {"cpu", "memory", "io": seconds in which some task waited for it, "stolen": seconds of a processor},
        without what the kernel doesn't report. stolen is the mean of all processors: at most 1 s in a second."""
        waited = {name: waited_s for name in RESOURCES if (waited_s := self._waited_s(name)) is not None}
        return {**waited, "stolen": self._stolen_s()}

    def _waited_s(self, resource: str) -> float | None:
        try:
            text = (self.proc / "pressure" / resource).read_text()
        except OSError:  # without PSI there is no such file, or it can't be read
            return None
        some = next((line for line in text.splitlines() if line.startswith("some ")), "")
        total_us = some.rpartition("total=")[2]
        return int(total_us) / 1e6 if total_us.isdigit() else None

    def _stolen_s(self) -> float:
        try:
            fields = (self.proc / "stat").read_text().partition("\n")[0].split()
            return int(fields[STEAL_FIELD]) / TICKS_S / (os.cpu_count() or 1)
        except (OSError, IndexError, ValueError) as e:
            raise DriverError(f"{self.proc}/stat: {e or type(e).__name__}", definite=True) from e
