"""Decides which hits the chain at a point takes, and acts. points.py and others arm it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import difflib
import functools
import logging
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Protocol

from failpoints.grammar import Chain, Term, render_chain
from failpoints.trail import Trail

__all__ = ["ArmError", "Armed", "Failure", "Panic", "Return", "Step", "callback", "log", "near"]

KILLED_CODE = 128 + signal.SIGKILL
"""The exit code that a shell reports for a process that SIGKILL ended."""

EXIT_CODE = 1
NEVER = threading.Event()
"""It is never set: a thread sleeps by waiting for it."""

log = logging.getLogger("failpoints")
_callbacks: dict[str, Callable[[], object]] = {}


class Place(Protocol):
    """What a term needs of the point where it is armed."""

    @property
    def name(self) -> str: ...

    @property
    def returns(self) -> Callable[[str], Any] | None: ...


class ArmError(ValueError):
    """A term that makes no sense at its point; nothing was armed."""


class Failure(Exception):
    """Raised by `raise` if it names no other exception."""


class Panic(BaseException):
    """Raised by `panic`: it passes every `except Exception`, and ends its thread or task."""


class Return:
    """A firing `return(value)`: the code at the point returns `value` instead of going on."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Return({self.value!r})"


class Armed:
    """One chain at one point, with its counts. hits: since it was armed. fired: how often it acted, without `off`."""

    def __init__(
        self,
        point: Place,
        chain: Chain,
        trail: Trail,
        ttl_s: float | None = None,
        run: str = "",
        expire: Callable[[Armed], None] = lambda _: None,
    ) -> None:
        """expire: called by the first hit after the time to live. Raises ArmError when a term makes no sense here."""
        self.point = point
        self.chain = chain
        self.trail = trail
        self.run = run
        self.hits = 0
        self.fired = 0
        self._expire = expire
        self._until_s = float("inf") if ttl_s is None else monotonic() + ttl_s
        luck = random.Random(f"{trail.seed}:{point.name}").random
        self._steps = tuple(Step(self, index, term, luck) for index, term in enumerate(chain))
        self._gate = _Gate()
        self.renew()

    def __str__(self) -> str:
        return render_chain(self.chain)

    @property
    def over(self) -> bool:
        """Whether its time to live has ended, or it was disarmed."""
        return monotonic() >= self._until_s

    @property
    def left_s(self) -> float | None:
        """The rest of its time to live; None: it has none."""
        return None if self._until_s == float("inf") else max(0.0, self._until_s - monotonic())

    @property
    def paused(self) -> int:
        """How many threads and tasks wait here."""
        return self._gate.waiting

    def decide(self) -> Step | None:
        """Count a hit, return the step that acts. Its evidence is written before: without it, it doesn't act."""
        with self._lock:
            if monotonic() < self._until_s:
                self.hits = hit = self.hits + 1
                for step in self._steps:
                    if hit >= step.next_hit and (step.takes_all or step.takes(hit)):
                        return step if step.action != "off" and self._note(step) else None
                return None
        self._expire(self)  # without the lock: disarming takes it last
        return None

    def wait_fired(self, times: int, within_s: float) -> bool:
        """Wait until it has fired so often; False: not in time, or it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.fired >= times or self.over, min(within_s, self.left_s or within_s))
            return self.fired >= times

    def pause(self) -> None:
        """Wait here until released, disarmed or over."""
        self._gate.wait(self.left_s)

    async def pause_async(self) -> None:
        await self._gate.wait_async(self.left_s)

    def release(self) -> int:
        """Release what is paused here; return how many. It stays armed: the next hits may pause again."""
        gate, self._gate = self._gate, _Gate()
        return gate.open()

    def close(self) -> None:
        """Take no further hits, and release what is paused."""
        with self._changed:
            self._until_s = float("-inf")
            self._changed.notify_all()
        self._gate.open()

    def renew(self) -> None:
        """Make new locks: a fork may have copied them while another thread held them."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def _note(self, step: Step) -> bool:
        try:
            self.trail.write(self.point.name, self.hits, self.fired + 1, str(step.term), self.run)
        except OSError as e:
            log.error("%s did not fire at hit %d: its evidence can't be written: %s", self.point.name, self.hits, e)
            return False
        self.fired += 1
        self._changed.notify_all()
        return True


class Step:
    """One armed term: its hits, its random numbers, the rest of its count, and its act."""

    __slots__ = (
        "_armed", "_last", "_left", "_luck", "_ranges", "_share", "_what",
        "action", "next_hit", "takes_all", "term", "value",
    )  # fmt: skip

    def __init__(self, armed: Armed, index: int, term: Term, luck: Callable[[], float]) -> None:
        """luck: the next number of the point's own generator, 0 <= x < 1."""
        self._armed = armed
        self.term = term
        self.action = term.action
        self.value = _value(armed.point, term)
        self.takes_all = not term.hits and term.percent is None and term.count is None and not term.everywhere
        self._ranges = iter(term.hits or ((1, None),))
        self._advance()
        self._luck = luck
        self._share = None if term.percent is None else float(term.percent) / 100
        self._left = term.count
        self._what = f"{armed.point.name} {index} {armed}" if term.everywhere else ""
        if term.everywhere and armed.trail.claims is None:
            raise ArmError(f"{armed.point.name}: {term}: no folder of claims. Remedy: FAILPOINTS_CLAIMS=<folder>")

    def takes(self, hit: int) -> bool:
        """Whether it takes this hit. Hit numbers only rise, so the ranges are read once."""
        while hit > self._last:
            self._advance()
        if hit < self.next_hit or (self._share is not None and self._luck() >= self._share):
            return False
        if self._what:
            return self._claims()
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._end()
        return True

    def _advance(self) -> None:
        first, last = next(self._ranges, (math.inf, None))
        self.next_hit, self._last = first, math.inf if last is None else last

    def _end(self) -> None:
        """Take no further hits."""
        self.next_hit = self._last = math.inf

    def _claims(self) -> bool:
        try:
            mine = self._armed.trail.claim(self._what, self.term.count or 1, self._armed.run)
        except OSError as e:
            log.error("%s did not fire: no claim can be made: %s", self._armed.point.name, e)
            return False
        if not mine:
            self._end()
        return mine

    def act(self) -> Return | None:
        """Act, in the thread that hit the point."""
        match self.action:
            case "return":
                return Return(self.value)
            case "raise":
                raise self.value()
            case "panic":
                raise Panic(self.value or f"failpoint {self._armed.point.name}")
            case "sleep":
                NEVER.wait(self.value)
            case "delay":
                _spin(self.value)
            case "yield":
                os.sched_yield()
            case "pause":
                self._armed.pause()
            case "print":
                sys.stderr.write(f"{self.value or f'failpoint {self._armed.point.name}'}\n")
            case "exit":
                os._exit(self.value)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
                os._exit(KILLED_CODE)  # process 1 of a container can't SIGKILL itself
            case "call":
                self.value()
        return None

    async def act_async(self) -> Return | None:
        """Act, in a coroutine."""
        match self.action:
            case "sleep":
                await asyncio.sleep(self.value)
            case "yield":
                await asyncio.sleep(0)
            case "pause":
                await self._armed.pause_async()
            case _:
                return self.act()
        return None


class _Gate:
    """Is closed until it is opened, once. Threads and tasks wait at it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._futures: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._threads = 0

    @property
    def waiting(self) -> int:
        return self._threads + len(self._futures)

    def wait(self, within_s: float | None) -> None:
        with self._lock:
            self._threads += 1
        try:
            self._opened.wait(within_s)
        finally:
            with self._lock:
                self._threads -= 1

    async def wait_async(self, within_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._opened.is_set():
                return
            self._futures[future] = loop
        try:
            await asyncio.wait((future,), timeout=within_s)
        finally:
            with self._lock:
                self._futures.pop(future, None)

    def open(self) -> int:
        """Release all; return how many they were."""
        with self._lock:
            self._opened.set()
            let_go = self._threads + len(self._futures)
            for future, loop in self._futures.items():
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    loop.call_soon_threadsafe(_resolve, future)
        return let_go


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _spin(seconds: float) -> None:
    """Keep the processor busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


# ---- a term's argument -----------------------------------------------------------------------------------------------


def _value(at: Place, term: Term) -> Any:
    """Return the argument as its action needs it. Raises ArmError."""
    argument = term.argument
    match term.action:
        case "return":
            return _returned(at, argument or "")
        case "raise":
            return _raised(at, argument)
        case "call":
            return _called(at, argument or "")
        case "sleep" | "delay":
            return float(argument or 0) / 1000
        case "exit":
            return EXIT_CODE if argument is None else int(argument)
    return argument


def _returned(at: Place, text: str) -> Any:
    if at.returns is None:
        raise ArmError(f"{at.name}: return means nothing there. Remedy: another action, or declare it with returns=")
    try:
        return at.returns(text)
    except (ValueError, TypeError, ArithmeticError) as e:
        raise ArmError(f"{at.name}: return({text}): {e}") from e


def _raised(at: Place, argument: str | None) -> Callable[[], Exception]:
    """Read `raise(OSError: disk full)`: a built-in exception, or module.Class of an imported module."""
    path, _, message = (argument or "").partition(":")
    module, _, name = path.strip().rpartition(".")
    message = message.strip() or f"failpoint {at.name}"
    kind = Failure if not path else getattr(sys.modules.get(module) if module else builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise ArmError(f"{at.name}: raise({argument}): {path!r} is no exception that is built in or imported")
    try:
        kind(message)
    except Exception as e:
        raise ArmError(f"{at.name}: raise({argument}): {path}({message!r}) can't be made: {e}") from e
    return functools.partial(kind, message)


def _called(at: Place, name: str) -> Callable[[], object]:
    if name not in _callbacks:
        raise ArmError(f"{at.name}: call({name}): no such callback. {near(name, _callbacks)}")
    return _callbacks[name]


def callback(name: str, function: Callable[[], object]) -> None:
    """Offer a function to `call(name)`. Only what the program offers can be called."""
    _callbacks[name] = function


def near(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"
