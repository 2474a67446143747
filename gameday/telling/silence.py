"""Silences one alert of one component while a run tests it, so that a test pages nobody.

The silence is short. The run's own process prolongs it again and again, and makes it anew when it is gone, as after a
kill of Alertmanager. When that process ends for any reason, the silence lapses LASTS_S later, and what is still broken
pages after all. So it needs no journal and no undo.
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
"""Two renewals can fail before the silence lapses."""

LOOK_S = 0.4
"""How often the process checks that the silence is there. One that is gone is made anew within a second, before the
alerts' server has grouped and sent what fires."""


class Silence:
    """One silence, made at once and prolonged until `lapse` or `end`. Raises DriverError when it can't be made."""

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
        """For how long, at most, it was not in force since it was made, in seconds.

        Counts from the moment when it was last seen until it was seen again.
        """
        with self._lock:
            return self._absent_s + (time.monotonic() - self._seen_s if self._lost else 0.0)

    def lapse(self) -> None:
        """Stop prolonging it."""
        with self._lock:
            self._over.set()

    def end(self) -> None:
        """End it now. When the server can't be reached, it lapses by itself."""
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
        """Make it anew when it is gone, and prolong it when that is due.

        While the alerts' server doesn't answer, it pages nobody either; the next look shows whether the silence is
        still there.
        """
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
