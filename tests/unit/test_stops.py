"""Stop conditions: what crosses a bound, what doesn't, and what of the thread that looks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from gameday.drivers import disk
from gameday.errors import DriverError
from gameday.stack import stops
from gameday.stack.config import StopConfig
from gameday.stack.stops import Stop
from gameday.system.polling import until


@dataclass
class Gauge:
    """A probe that answers what it is told to; None: nothing."""

    value: float | None = 0.0
    more: Mapping[str, float] = field(default_factory=dict)

    def read(self) -> Mapping[str, float]:
        if self.value is None:
            raise DriverError("no answer", definite=True)
        return {"": 1.0, ".free": self.value, **self.more}


def bound(**settings: object) -> StopConfig:
    return StopConfig.model_validate({"driver": "any", **settings})


def stop(probe: Gauge, **settings: object) -> Stop:
    return Stop("disk", probe, bound(**{"field": "free", **settings}))


def test_a_number_beyond_its_bound_is_told_with_both() -> None:
    """Above max, below min; at the bound is still within."""
    gauge = Gauge(5)
    low = stop(gauge, min=5)
    assert low.crossed() is None
    gauge.value = 4.5
    assert low.crossed() == "stop condition disk: 4.5 is below 5 (free)"
    assert stop(gauge, max=4).crossed() == "stop condition disk: 4.5 is above 4 (free)"
    assert stop(gauge, min=1, max=9).crossed() is None


def test_without_a_field_any_number_counts() -> None:
    """The worst slot of a consumer's lag is enough."""
    lag = Stop("lag", Gauge(0, {"trades/3": 70_000}), bound(max=50_000))
    assert lag.crossed() == "stop condition lag: 70,000 is above 50,000 (trades/3)"


def test_no_answer_crosses_nothing_and_is_an_error() -> None:
    """The server may be what is being broken; who starts a run wants to know."""
    with pytest.raises(DriverError, match="no answer"):
        stop(Gauge(None), min=1).crossed()


def test_a_misspelt_field_is_named() -> None:
    """With what the answer has, and where to mend it."""
    with pytest.raises(DriverError, match=r"no 'fre' in the answer, which has .*\.free.*stops\.disk\.field"):
        stop(Gauge(), field="fre", min=1).crossed()


def test_a_rise_is_judged_by_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look has nothing to compare with; a counter that starts anew has not risen."""
    clock = iter([0.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr("gameday.stack.stops.time.monotonic", lambda: next(clock))
    gauge = Gauge(1000)
    errors = stop(gauge, per_s=True, max=10)
    assert errors.crossed() is None
    gauge.value = 1020
    assert errors.crossed() == "stop condition disk: 20 a second is above 10 (free)"
    gauge.value = 3
    assert errors.crossed() is None
    gauge.value = 12
    assert errors.crossed() is None


def test_only_what_lasts_counts_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """for_s: one good answer in between begins the time anew."""
    clock = iter(float(n) for n in range(10))
    monkeypatch.setattr("gameday.stack.stops.time.monotonic", lambda: next(clock))
    gauge = Gauge(0)
    disk = stop(gauge, min=1, for_s=2)
    assert [disk.crossed() for _ in range(2)] == [None, None]
    gauge.value = 2
    assert disk.crossed() is None
    gauge.value = 0
    assert [bool(disk.crossed()) for _ in range(4)] == [False, False, True, True]


def test_the_watch_tells_the_first_crossing_once() -> None:
    """Through missing answers, and from a thread of its own."""
    gauge, told, seen = Gauge(None), [], threading.Event()

    def tell(why: str) -> None:
        told.append(why)
        seen.set()

    stops.watch([stop(gauge, min=1, rate_hz=50)], tell)
    gauge.value = 5
    gauge.value = 0.5
    assert seen.wait(5)
    assert told == ["stop condition disk: 0.5 is below 1 (free)"]
    until(lambda: not any(t.name == "stop disk" for t in threading.enumerate()), within_s=5)


def test_a_bound_without_a_number_is_refused() -> None:
    """Nothing would ever cross it."""
    with pytest.raises(ValidationError, match="needs max or min"):
        bound()


def test_the_disk_tells_what_is_left() -> None:
    """As shares and as bytes; a folder that isn't there is an error that names it."""
    found = disk.Probe("/").read()
    assert 0 <= found[".free_ratio"] <= 1
    assert 0 <= found[".free_inodes_ratio"] <= 1
    assert found[".free_bytes"] > 0
    with pytest.raises(DriverError, match="/no/such/folder"):
        disk.Probe("/no/such/folder").read()
