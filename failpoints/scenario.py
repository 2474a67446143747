"""Arms points in tests for a block of code. No other code sees them, and they are always disarmed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from failpoints import points
from failpoints.armed import Armed, ArmError
from failpoints.grammar import parse, render
from failpoints.points import Point
from failpoints.trail import Trail, count

__all__ = ["Handle", "Scenario", "scenario"]

P = ParamSpec("P")
R = TypeVar("R")


def scenario(text: str, *, seed: int | str = 0, everywhere: bool = False, must_fire: bool = True) -> Scenario:
    """Arm these entries for a `with` block. See Scenario."""
    return Scenario(text, str(seed), everywhere, must_fire)


class Handle:
    """One armed point of a scenario."""

    def __init__(self, armed: Armed, evidence: Path) -> None:
        self._armed = armed
        self._evidence = evidence
        self._elsewhere: int | None = None

    @property
    def hits(self) -> int:
        """The number of hits in this process since it was armed."""
        return self._armed.hits

    @property
    def fired(self) -> int:
        """The number of firings, here and in child processes that were given the scenario's environment."""
        elsewhere = self._elsewhere
        return self._armed.fired + (count(self._evidence, self._armed.point.name) if elsewhere is None else elsewhere)

    def settle(self) -> None:
        """Keep the evidence's count, before the evidence is deleted."""
        self._elsewhere = count(self._evidence, self._armed.point.name)

    def assert_fired(self, times: int | None = None) -> None:
        """Raise AssertionError unless it fired: exactly so often, or (None) at all."""
        fired = self.fired
        if fired != times if times is not None else not fired:
            wanted = "at all" if times is None else f"{times} times"
            name = self._armed.point.name
            raise AssertionError(
                f"{name}={self._armed} fired {fired} times, not {wanted}; it was hit {self._armed.hits} times here"
            )

    def wait_fired(self, times: int = 1, within_s: float = 10.0) -> None:
        """Wait until it has fired so often in this process. Raises AssertionError when that is too late."""
        if not self._armed.wait_fired(times, within_s):
            self.assert_fired(times)

    def release(self) -> int:
        """Release what is paused there; return how many."""
        return self._armed.release()


class Scenario:
    """Arms points inside its `with` block only. Leaving the block disarms them and releases what is paused.

    The block sees them, as do tasks started in it, asyncio.to_thread, and what `run` calls in a plain thread or pool;
    other scenarios don't. everywhere: every thread of the process sees them, for code that starts its own; only one
    such scenario at a time can have a point. For a child process: `environment`.

    Leaving it without an error raises AssertionError when a point never fired, because such a test tests nothing.
    must_fire=False is for terms that only may fire (a probability).
    """

    def __init__(self, text: str, seed: str, everywhere: bool, must_fire: bool) -> None:
        self._entries = parse(text)
        self._seed, self._everywhere, self._must_fire = seed, everywhere, must_fire
        self._handles: dict[str, Handle] = {}
        self._armed: list[tuple[Point, Armed]] = []
        self._end: Callable[[], None] = lambda: None

    def __getitem__(self, name: str) -> Handle:
        return self._handles[name]

    def __enter__(self) -> Scenario:
        if self._armed:
            raise RuntimeError("a scenario can be entered once at a time")
        try:
            self._arm()
        except BaseException:
            self._clean()
            raise
        return self

    def _arm(self) -> None:
        needs_claims = any(term.everywhere for chain in self._entries.values() for term in chain)
        trail = Trail(claims=self._folder / "claims" if needs_claims else None, seed=self._seed)
        if trail.claims is not None:
            trail.claims.mkdir(exist_ok=True)
        self._armed = [(at := points.find(n), Armed(at, chain, trail)) for n, chain in self._entries.items()]
        evidence = self._folder / "evidence.jsonl"
        self._handles = {at.name: Handle(armed, evidence) for at, armed in self._armed}
        if self._everywhere:
            if taken := [at.name for at, _ in self._armed if at.current() is not None]:
                self._armed = []
                raise ArmError(f"armed for the whole process already: {', '.join(taken)}")
            for at, armed in self._armed:
                at.put(armed)
        else:
            for at, armed in self._armed:
                at.lend(armed)
            self._end = points.carry({**points.carried(), **{at.name: armed for at, armed in self._armed}})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._disarm()
            if error is None and self._must_fire:
                for handle in self._handles.values():
                    handle.assert_fired()
        finally:
            self._clean()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it inside the scenario, from a thread that has not inherited it: Thread(target=s.run, args=(work,))."""
        if self._everywhere:
            return function(*args, **kwargs)
        end = points.carry({**points.carried(), **{at.name: armed for at, armed in self._armed}})
        try:
            return function(*args, **kwargs)
        finally:
            end()

    def environment(self) -> dict[str, str]:
        """What a child process needs, besides os.environ, to be in the scenario when it calls failpoints.listen()."""
        return {
            "FAILPOINTS_ENABLE": "1",
            "FAILPOINTS": render(self._entries),
            "FAILPOINTS_SEED": self._seed,
            "FAILPOINTS_EVIDENCE": str(self._folder / "evidence.jsonl"),
            "FAILPOINTS_CLAIMS": str(self._folder / "claims"),
        }

    def _disarm(self) -> None:
        self._end()
        for at, armed in self._armed:
            if not self._everywhere:
                at.take_back(armed)
            elif at.armed is armed:
                at.put(None)
        self._armed = []

    def _clean(self) -> None:
        for handle in self._handles.values():
            handle.settle()
        shutil.rmtree(self._folder, ignore_errors=True)
        del self._folder

    @cached_property
    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="failpoints-"))
