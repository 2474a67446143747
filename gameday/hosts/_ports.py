"""Remembers which process listens where on this machine, for the hosts whose components are its processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gameday.system.process import Process, listening

__all__ = ["Ports"]

SEEN_S = 0.05
"""How long a look at the listening sockets is used: one period of a probe."""

NOBODY = frozenset({"nobody"})
"""Stands for the sockets of a port on which nobody listens: no component holds it."""


@dataclass
class Ports:
    """The listening sockets as last seen. owners: component -> its process, and the sockets of all its processes."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    owners: dict[str, tuple[Process, frozenset[str]]] = field(default_factory=dict)
    _looked_s: float = -SEEN_S
    _found: Mapping[int, frozenset[str]] = field(default_factory=dict)

    def recent(self, port: int) -> frozenset[str]:
        """Return the sockets that listened on a port at most SEEN_S ago: all probes of a tick share one look."""
        with self.lock:
            if time.monotonic() - self._looked_s >= SEEN_S:
                self._found, self._looked_s = listening(), time.monotonic()
            return self._found.get(port, NOBODY)
