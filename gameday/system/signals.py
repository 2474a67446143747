"""Handles the signals that end a process: raises an exception where a run may be interrupted, waits while a result is
written.

SIGTERM, SIGHUP (a terminal that is closed) and SIGQUIT mean the same as Ctrl-C: undo, keep the result, end. A signal
that was ignored when the process began (nohup) stays ignored.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["ENDING", "Gate", "Stopped", "hidden", "name_of", "obey"]

ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)

EXIT_STOPPED = 3
"""The exit code of a command that a signal ended: no verdict."""


class Stopped(SystemExit):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_STOPPED)
        self.signal = signal.Signals(number)

    def __str__(self) -> str:
        return self.signal.name


def obey() -> None:
    """From now on the first signal that would end this process raises Stopped in its main thread.

    Later ones change nothing, because the process is ending. Handlers that other code has set stay.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _first)


def name_of(interrupt: BaseException) -> str:
    """Name an interrupt in a message: a signal by its name, also when Prefect has raised an error of its own."""
    number = getattr(interrupt, "signal", None)
    if isinstance(number, int):
        return signal.Signals(number).name
    return f"{type(interrupt).__name__}: {interrupt}".rstrip(": ")


def hidden(error: BaseException | None) -> BaseException | None:
    """Return the interrupt that an exception is or hides. None: there is none.

    A library's clean-up can fail because of an interrupt. Its error is then what arrives.
    """
    while isinstance(error, Exception):
        error = error.__cause__ or error.__context__
    return error


_stopped = False


def _first(number: int, _frame: FrameType | None) -> None:
    global _stopped
    if not _stopped:
        _stopped = True
        raise Stopped(number)


class Gate:
    """While it is shut, ENDING signals wait. Inside `opened` they do what they did before.

    The first signal that passes shuts it, so that a second one interrupts no clean-up. A signal that still waits at the
    block's end passes there. Outside the main thread, where no signal arrives, the gate does nothing.
    """

    def __init__(self) -> None:
        self._open = self._over = False
        self._waiting: list[int] = []
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        try:
            for number in ENDING:
                before = signal.getsignal(number)
                if before is not None and before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._arrived)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._restore()
        if self._waiting and (error is None or isinstance(error, Exception)):
            self._let_through(self._waiting.pop(0), None)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the gate. A signal that waits passes at once."""
        self._open = True
        try:
            if self._waiting:
                self._arrived(self._waiting.pop(0), None)
            yield
        finally:
            self._open = False

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._over:  # it arrived while the handlers were put back: our handler was still set, and lets it pass
            self._let_through(number, frame)
            return
        if not self._open:
            self._waiting.append(number)
            return
        self._open = False
        self._let_through(number, frame)
        self._open = True  # the earlier handler did not raise

    def _let_through(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            _first(number, frame)

    def _restore(self) -> None:
        self._over = True
        for number, before in self._before.items():
            if signal.getsignal(number) == self._arrived:
                signal.signal(number, before)
