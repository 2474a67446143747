"""The probes that the sampler asks: each part of a stack that is sampled, as a Probe."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gameday import codec
from gameday.errors import DriverError
from gameday.ports import Alerts, Holds, Hop, Inside, Probe

__all__ = ["INSIDE_EVERY_S", "AlertState", "Heads", "OfItsOwn", "OrInside", "ProbeSpec", "Slots", "port_of"]

INSIDE_EVERY_S = 0.5
"""The least time between two commands inside a container. Each costs 50 ms of processor time on both sides."""


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """One probe of the sampler: the prefix of its series, how often it is asked, how long an answer may take."""

    series: str
    probe: Probe
    rate_hz: float
    timeout_s: float


@dataclasses.dataclass(frozen=True)
class Heads:
    """A hop's heads as a probe."""

    hop: Hop

    def read(self) -> Mapping[str, float]:
        return {codec.key_of(group): float(head) for group, head in self.hop.heads().items()}


@dataclasses.dataclass(frozen=True)
class Slots:
    """A cursor's position or end as a probe."""

    ask: Any

    def read(self) -> Mapping[str, float]:
        return {slot: float(offset) for slot, offset in self.ask().items()}


@dataclasses.dataclass
class OrInside:
    """A probe that, if there is no answer, runs a command inside the component: one at a time, INSIDE_EVERY_S apart.

    The command's answer is a series of its own, .inside: a component that is cut off serves nobody, even if it is well.
    """

    probe: Probe
    host: Inside
    role: str
    command: tuple[str, ...]
    timeout_s: float
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _due: float = 0.0

    def read(self) -> Mapping[str, float]:
        try:
            return self.probe.read()
        except DriverError:
            with self._lock:
                mine = time.monotonic() >= self._due
                if mine:  # the next command waits until this one has ended
                    self._due = time.monotonic() + self.timeout_s + INSIDE_EVERY_S
            if not mine:
                raise
        try:
            self.host.run(self.role, self.command, self.timeout_s)
        finally:
            self._due = time.monotonic() + INSIDE_EVERY_S
        return {".inside": 1.0}


@dataclasses.dataclass
class OfItsOwn:
    """A probe whose answers count only while the component itself holds the port.

    If another process held the port from the start, such as a proxy, nobody can tell. Then every answer counts, and
    `gameday check` says so.
    """

    probe: Probe
    host: Holds
    role: str
    port: int
    known: bool | None = None
    """Whether the component was seen to hold its port; None: nobody has looked yet."""

    def read(self) -> Mapping[str, float]:
        values = self.probe.read()
        if self.known is not False:
            own = self.host.holds(self.role, self.port)
            if own is None and self.known is None:
                self.known = False
            elif not own:
                raise DriverError(f"who answers at port {self.port} is not {self.role}", definite=True)
            else:
                self.known = True
        return values


def port_of(settings: Mapping[str, Any]) -> int | None:
    """Return the port that a probe asks, from its url, address or dsn; None: it names none."""
    text = next((str(settings[key]) for key in ("url", "address", "dsn") if key in settings), "")
    try:
        return urlsplit(text if "//" in text else f"//{text}").port
    except ValueError:
        return None


@dataclasses.dataclass(frozen=True)
class AlertState:
    """One alert as a probe."""

    alerts: Alerts
    name: str
    labels: Mapping[str, str]

    def read(self) -> Mapping[str, float]:
        return self.alerts.state(self.name, self.labels)
