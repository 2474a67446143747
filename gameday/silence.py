"""A silence over one alert of one component while a run tests it: nobody is paged by a test.

It is short, and prolonged again and again by the run's own process. Whatever ends that, the silence lapses LASTS_S
later by itself, and what is still broken pages after all: so it needs no journal and no undo.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from gameday.errors import DriverError
from gameday.ports import Alerts

__all__ = ["Silence"]

LASTS_S = 30.0
RENEW_S = 10.0
"""Two can fail before it lapses."""


class Silence:
    """One silence, made at once. Raises DriverError when it can't be."""

    def __init__(
        self, alerts: Alerts, alert: str, labels: Mapping[str, str], why: str, *, lasts_s: float = LASTS_S
    ) -> None:
        self._alerts, self._alert, self._labels, self._why, self._lasts_s = alerts, alert, labels, why, lasts_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.id = self._prolonged(None)
        threading.Thread(target=self._keep, name="silence", daemon=True).start()

    def lapse(self) -> None:
        """Prolong it no more."""
        with self._lock:
            self._over.set()

    def end(self) -> None:
        """End it now; a silence that can't be ended lapses."""
        self.lapse()
        if self.id is not None:
            with contextlib.suppress(DriverError):
                self._alerts.unsilence(self.id)

    def _keep(self) -> None:
        while self.id is not None and not self._over.wait(self._lasts_s * RENEW_S / LASTS_S):
            with self._lock, contextlib.suppress(DriverError):
                if not self._over.is_set():
                    self.id = self._prolonged(self.id)

    def _prolonged(self, known: str | None) -> str | None:
        return self._alerts.silence(self._alert, self._labels, self._lasts_s, known, self._why)
