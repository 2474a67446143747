"""Stop conditions: bounds of the stack's own that end any run, whatever its test. guardian.py ends the run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gameday.errors import DriverError
from gameday.ports import Probe
from gameday.system.polling import until

__all__ = ["Bound", "Stop", "watch"]


class Bound(Protocol):
    """The settings of one bound, as in config.StopConfig."""

    rate_hz: float
    field: str | None
    max: float | None
    min: float | None
    per_s: bool
    for_s: float


@dataclass
class Stop:
    """One bound, and what has been seen of it. Asked by one thread only."""

    name: str
    probe: Probe
    bound: Bound
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict)
    _beyond_s: float | None = None

    def crossed(self) -> str | None:
        """Ask once, and return how the bound is crossed, in words with the number; None: it isn't.

        Raises:
            DriverError: no answer, or an answer without the field.
        """
        now_s = time.monotonic()
        beyond = self._worst(self._numbers(self.probe.read(), now_s))
        if beyond is None:
            self._beyond_s = None
            return None
        self._beyond_s = now_s if self._beyond_s is None else self._beyond_s
        return f"stop condition {self.name}: {beyond}" if now_s - self._beyond_s >= self.bound.for_s else None

    def _numbers(self, answer: Mapping[str, float], now_s: float) -> dict[str, float]:
        """Return the numbers that are judged, by suffix: as they are, or their rise a second since the last look. A
        counter that fell was restarted."""
        wanted = None if self.bound.field is None else f".{self.bound.field}"
        if wanted is not None and wanted not in answer:
            raise DriverError(
                f"stop condition {self.name}: there is no {self.bound.field!r} in the answer, which has "
                f"{', '.join(sorted(answer))}. Remedy: see stops.{self.name}.field",
                definite=True,
            )
        numbers = {name: value for name, value in answer.items() if wanted in (None, name)}
        if not self.bound.per_s:
            return numbers
        before, self._seen = self._seen, {name: (now_s, value) for name, value in numbers.items()}
        return {
            name: max(0.0, value - before[name][1]) / (now_s - before[name][0])
            for name, value in numbers.items()
            if name in before and now_s > before[name][0]
        }

    def _worst(self, numbers: Mapping[str, float]) -> str | None:
        each = " a second" if self.bound.per_s else ""
        for name, value in sorted(numbers.items()):
            where = f" ({name.removeprefix('.')})" if name else ""
            if self.bound.max is not None and value > self.bound.max:
                return f"{value:,.6g}{each} is above {self.bound.max:,.6g}{where}"
            if self.bound.min is not None and value < self.bound.min:
                return f"{value:,.6g}{each} is below {self.bound.min:,.6g}{where}"
        return None


def watch(stops: Iterable[Stop], tell: Callable[[str], None]) -> None:
    """Ask each bound at its own rate, in a thread of its own, for as long as the process lives; call `tell` at the
    first crossing."""
    for stop in stops:
        threading.Thread(target=_watch, args=(stop, tell), name=f"stop {stop.name}", daemon=True).start()


def _watch(stop: Stop, tell: Callable[[str], None]) -> None:
    def look() -> str | None:
        try:
            return stop.crossed()
        except DriverError:
            return None

    tell(until(look, math.inf, every_s=1 / stop.bound.rate_hz, what=f"stop condition {stop.name}"))
