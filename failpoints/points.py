"""Declares points. A point is declared once by name, hit by the code, and armed for the whole process or a scenario.

armed.py acts at an armed point, scenario.py arms in tests, server.py arms from outside.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from failpoints.armed import Armed, ArmError, Return, near
from failpoints.grammar import NAME, Chain, parse_chain
from failpoints.trail import Trail

__all__ = [
    "Point",
    "UnknownPoint",
    "arm",
    "carried",
    "carry",
    "configure",
    "disarm",
    "find",
    "known",
    "metrics",
    "point",
]

P = ParamSpec("P")
R = TypeVar("R")


class UnknownPoint(ArmError):
    """No point of this name is declared."""


# ---- the point ------------------------------------------------------------------------------------------------------


class Point:
    """One place in the code. `on` is None as long as nothing in this process is armed at it.

    Hit it with `if WRITE.on is not None: WRITE()` (the cheapest), `WRITE()`, `await WRITE.hit_async()`, as a context
    (hit on entering) or with the decorator `WRITE.before` (hit before each call).
    """

    __slots__ = ("_past", "_scenarios", "about", "armed", "declared", "loaded", "name", "on", "returns")

    def __init__(self, name: str, about: str, returns: Callable[[str], Any] | None, declared: str) -> None:
        self.name = name
        self.about = about
        self.returns = returns
        self.declared = declared
        self.on: Point | None = None
        self.armed: Armed | None = None
        """Armed for the whole process; what a scenario arms is in its context."""
        self.loaded = 0
        self._past = [0, 0]
        self._scenarios = 0

    def __repr__(self) -> str:
        return f"point({self.name!r})"

    # ---- hitting it ------------------------------------------------------------------------------------------

    def __call__(self) -> Return | None:
        """Hit the point. Return: the code returns its value (only if the point has returns=). Raises what is armed."""
        if self.on is None:
            return None
        carried = _carried.get()
        armed = self.armed if carried is None else carried.get(self.name, self.armed)
        step = None if armed is None else armed.decide()
        return None if step is None else step.act()

    async def hit_async(self) -> Return | None:
        """Hit the point in a coroutine: sleep, pause and yield let other tasks run."""
        if self.on is None:
            return None
        carried = _carried.get()
        armed = self.armed if carried is None else carried.get(self.name, self.armed)
        step = None if armed is None else armed.decide()
        return None if step is None else await step.act_async()

    def __enter__(self) -> Return | None:
        return self()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    async def __aenter__(self) -> Return | None:
        return await self.hit_async()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        return None

    def before(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or coroutine function: hit the point before each call, which `return` replaces."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def hit_and_await(*args: P.args, **kwargs: P.kwargs) -> Any:
                if self.on is not None and (instead := await self.hit_async()) is not None:
                    return instead.value
                return await cast("Callable[P, Awaitable[Any]]", function)(*args, **kwargs)

            return cast("Callable[P, R]", hit_and_await)

        @functools.wraps(function)
        def hit_and_call(*args: P.args, **kwargs: P.kwargs) -> R:
            if self.on is not None and (instead := self()) is not None:
                return cast("R", instead.value)
            return function(*args, **kwargs)

        return hit_and_call

    # ---- arming it (while holding _registry) -----------------------------------------------------------------

    def put(self, armed: Armed | None) -> None:
        """Replace what is armed for the whole process; threads that are paused there go on."""
        with _registry:
            old, self.armed = self.armed, armed
            if old is not None:
                self.retire(old)
            self.loaded += armed is not None
            self._switch()

    def lend(self, armed: Armed) -> None:
        """Arm for a scenario: only its context sees it."""
        with _registry:
            self._scenarios += 1
            self.loaded += 1
            self._switch()

    def take_back(self, armed: Armed) -> None:
        """End a scenario's arming."""
        with _registry:
            self._scenarios -= 1
            self.retire(armed)
            self._switch()

    def retire(self, armed: Armed) -> None:
        armed.close()
        self._past[0] += armed.hits
        self._past[1] += armed.fired

    def totals(self) -> tuple[int, int]:
        """Return hits while armed, and firings, since the process began. Scenarios count when they are over."""
        armed = self.armed
        now = (0, 0) if armed is None else (armed.hits, armed.fired)
        return self._past[0] + now[0], self._past[1] + now[1]

    def current(self) -> Armed | None:
        """Return what is armed for the whole process now. If its time is over, disarm it first."""
        armed = self.armed
        if armed is not None and armed.over:
            self.expire(armed)
            return None
        return armed

    def expire(self, armed: Armed) -> None:
        """Disarm it, because a hit or a look found that its time is over."""
        with _registry:
            if self.armed is armed:
                self.put(None)

    def _switch(self) -> None:
        self.on = self if self.armed is not None or self._scenarios else None


# ---- the registry ---------------------------------------------------------------------------------------------------

_registry = threading.RLock()
_points: dict[str, Point] = {}
_trail = Trail()
_carried: ContextVar[Mapping[str, Armed] | None] = ContextVar("failpoints", default=None)
"""What the scenarios of this context have armed. Tasks and asyncio.to_thread inherit it, plain threads don't."""


def point(name: str, about: str, returns: Callable[[str], Any] | None = None) -> Point:
    """Declare a point, once, where the code is imported. about: what a fault here stands for.

    returns: makes the value of `return(text)` from its text (int, str, json.loads); without it `return` can't be armed
    here. Raises ValueError when the name is taken or no name.
    """
    caller = sys._getframe(1)
    declared = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a point. Remedy: letters, digits and _ . : -, as in storage::write")
    with _registry:
        if name in _points:
            raise ValueError(f"point {name!r} is declared twice: {_points[name].declared} and {declared}")
        made = _points[name] = Point(name, about, returns, declared)
    return made


def known() -> Mapping[str, Point]:
    """Return every declared point by name."""
    with _registry:
        return dict(sorted(_points.items()))


def find(name: str) -> Point:
    """Return the point of that name. Raises UnknownPoint with near names."""
    found = _points.get(name)
    if found is None:
        raise UnknownPoint(f"no point {name!r} is declared here. {near(name, _points)}")
    return found


def arm(name: str, term: str | Chain, ttl_s: float | None = None, run: str = "") -> Armed:
    """Arm a point for the whole process, replacing what was armed. Raises ValueError (GrammarError, ArmError)."""
    at = find(name)
    made = Armed(at, parse_chain(term) if isinstance(term, str) else term, _trail, ttl_s, run, at.expire)
    at.put(made)
    return made


def disarm(name: str) -> None:
    """Disarm a point for the whole process, and release what is paused there. Idempotent."""
    find(name).put(None)


def configure(trail: Trail) -> None:
    """Set where evidence and claims of later arming go."""
    global _trail
    _trail = trail


def metrics() -> Iterator[str]:
    """Yield the counters of every point in Prometheus' text format, line by line."""
    rows = [(p.name, p.loaded, *p.totals()) for p in known().values()]
    for column, what in enumerate(("loaded", "evaluated", "fired"), start=1):
        yield f"# TYPE failpoint_{what}_total counter"
        for row in rows:
            yield f'failpoint_{what}_total{{point="{row[0]}"}} {row[column]}'


def carried() -> Mapping[str, Armed]:
    """Return what the scenarios of this context have armed."""
    return _carried.get() or {}


def carry(armed: Mapping[str, Armed]) -> Callable[[], None]:
    """Carry these in this context; return the function that ends it."""
    token = _carried.set(armed)

    def end() -> None:
        with contextlib.suppress(ValueError):  # another context by now; closed points take no hits there either
            _carried.reset(token)

    return end


def _after_fork() -> None:
    global _registry
    _registry = threading.RLock()
    for at in _points.values():
        for armed in (at.armed, (_carried.get() or {}).get(at.name)):
            if armed is not None:
                armed.renew()


os.register_at_fork(after_in_child=_after_fork)
