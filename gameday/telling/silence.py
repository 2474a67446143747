"""A silence over one alert of one component while a run tests it: nobody is paged by a test.

It is short, prolonged again and again by the run's own process, and made anew when it is gone, as after a kill of
Alertmanager. Whatever ends that, the silence lapses LASTS_S later by itself, and what is still broken pages after all:
so it needs no journal and no undo.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping

from gameday.errors import DriverError
from gameday.ports import Alerts

__all__ = ["Silence"]

LASTS_S = 30.0
RENEW_S = 10.0
"""Two can fail before it lapses."""

LOOK_S = 0.4
"""How often it is looked for: one that is gone is there again within a second, before the alerts' server has grouped
and sent what fires."""


class Silence:
    """One silence, made at once. Raises DriverError when it can't be."""

    def __init__(
        self, alerts: Alerts, alert: str, labels: Mapping[str, str], why: str, *, lasts_s: float = LASTS_S
    ) -> None:
        self._alerts, self._alert, self._labels, self._why, self._lasts_s = alerts, alert, labels, why, lasts_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._absent_s = 0.0
        self._lost = False
        self.id = self._prolonged(None)
        self._seen_s = self._renewed_s = time.monotonic()
        threading.Thread(target=self._keep, name="silence", daemon=True).start()

    @property
    def absent_s(self) -> float:
        """For how long, at most, it was not in force since it was made, in seconds: from when it was last seen until
        it was seen again."""
        with self._lock:
            return self._absent_s + (time.monotonic() - self._seen_s if self._lost else 0.0)

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
        while self.id is not None and not self._over.wait(LOOK_S * min(1.0, self._lasts_s / LASTS_S)):
            with self._lock:
                if not self._over.is_set():
                    self._look(self.id)

    def _look(self, known: str) -> None:
        """Make it anew where it is gone, prolong it where it is time. While nobody answers, nobody is paged either:
        whether it is still there shows afterwards."""
        with contextlib.suppress(DriverError):
            now_s = time.monotonic()
            if self._alerts.silenced(known):
                self._absent_s += now_s - self._seen_s if self._lost else 0.0
                self._seen_s, self._lost = now_s, False
                if now_s - self._renewed_s < self._lasts_s * RENEW_S / LASTS_S:
                    return
            else:
                self._lost = True
            self.id = self._prolonged(known)
            self._renewed_s = now_s

    def _prolonged(self, known: str | None) -> str | None:
        return self._alerts.silence(self._alert, self._labels, self._lasts_s, known, self._why)
