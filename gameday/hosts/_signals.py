"""Kills, freezes and resumes components whose processes are this machine's, by signals. The host says which processes
a component has.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence

from gameday.errors import DriverError, GamedayError, TooLate
from gameday.model import Json
from gameday.system.polling import until
from gameday.system.process import Process

__all__ = ["Signals"]

FREEZE_WITHIN_S = 2.0
"""How long to wait until every process of a component is frozen (or runs again); the kernel takes microseconds."""

LOOK_EVERY_S = 0.002


class Signals:
    """Makes a host offer Kill and Pause."""

    def identity(self, component: str) -> Json | None:
        raise NotImplementedError

    def _family(self, component: str) -> Callable[[], Sequence[Process]]:
        """Return a function that lists all live processes of the component, parents first."""
        raise NotImplementedError

    def kill(self, component: str, identity: Json) -> None:
        """Kill the main process only. Its children, and whoever started it, react as they would to a crash."""
        wanted, now = Process.parse(identity), self.identity(component)
        if now is None or Process.parse(now) != wanted:
            who = "nobody" if now is None else f"pid {now['pid']}"
            raise DriverError(
                f"{component} is not the process that was to be killed (pid {wanted.pid}): {who} runs now",
                definite=True,
            )
        self._send(component, wanted, signal.SIGKILL)

    def pause(self, component: str) -> None:
        """Freeze all processes of the component, and wait until they are frozen. Raises when none runs."""
        if self.identity(component) is None:
            raise DriverError(f"{component} does not run, so it can't be paused", definite=True)
        family = self._family(component)

        def frozen() -> bool:
            running = [process for process in family() if not process.stopped]
            for process in running:  # parents first: a frozen one starts no more children
                self._send(component, process, signal.SIGSTOP)
            return not running

        _await(frozen, f"all processes of {component} to freeze")

    def resume(self, component: str) -> None:
        family = self._family(component)

        def running() -> bool:
            frozen = [process for process in family() if process.stopped]
            for process in reversed(frozen):
                self._send(component, process, signal.SIGCONT)
            return not frozen

        _await(running, f"all processes of {component} to run again")

    def paused(self, component: str) -> bool:
        """Whether any process of the component is frozen."""
        return any(process.stopped for process in self._family(component)())

    def _send(self, component: str, process: Process, number: signal.Signals) -> None:
        """Send a signal to exactly this process, unless it has ended meanwhile."""
        try:
            process.send(number)
        except GamedayError as e:
            raise DriverError(f"{component}: {e}", definite=True) from e


def _await(condition: Callable[[], bool], what: str) -> None:
    try:
        until(condition, FREEZE_WITHIN_S, every_s=LOOK_EVERY_S, what=what)
    except TooLate as e:
        raise DriverError(str(e), definite=False) from e
