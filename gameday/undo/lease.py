"""Decides which run holds the stack on this machine, and whether scheduled nights may start.

The holder keeps a flock for as long as its process lives; owner.json says which run that is. Only the lock decides:
owner.json is for people and messages. guardian.py is the holder.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from gameday import codec
from gameday.errors import Busy, GamedayError, TooLate
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, boot_ns

__all__ = ["Hold", "Holder", "Lease", "hold", "hold_reason", "holder", "release", "take", "take_to_mend"]

PATIENCE_S = 10.0
"""How long a process waits for a holder that owner.json doesn't name: one that is just taking the stack, or mending
what a dead run left."""

ORPHAN_S = 3.0
"""How long the guardian of a dead run may go on mending before it is killed. A frozen guardian is killed at once."""

EXPIRED_S = 15.0
"""How long a guardian may go on mending after its time to live before it is killed."""


@dataclass(frozen=True)
class Holder:
    """The run that holds the stack. *_us: wall clock, for messages; until_ns: CLOCK_BOOTTIME, for decisions."""

    run: str
    test: str
    owner: Process
    guardian: Process
    since_us: int
    until_us: int
    until_ns: int

    def __str__(self) -> str:
        return (
            f"run {self.run} ({self.test}) of process {self.owner.pid} since {self.since}, "
            f"until {_clock(self.until_us)} at the latest"
        )

    @property
    def since(self) -> str:
        """When it took the stack, as text."""
        return _clock(self.since_us)

    @property
    def orphaned(self) -> bool:
        """Whether no run needs its guardian any more: its owner is dead, or its time to live ended EXPIRED_S ago."""
        return not self.owner.alive or boot_ns() > self.until_ns + EXPIRED_S * 1e9


def holder(state: State) -> Holder | None:
    """Return the run that holds the stack. None: no run does; a dead guardian's lock is free too."""
    try:
        signed = codec.decode(Holder, codec.read_json(state.owner), str(state.owner))
    except GamedayError:
        if state.owner.exists():
            raise
        return None
    return signed if signed.guardian.alive else None


class Lease:
    """The lock. The kernel frees it at `release`, or when this process ends. Children don't inherit it."""

    def __init__(self, state: State, descriptor: int) -> None:
        self._state = state
        self._descriptor = descriptor
        self._signed = False

    def sign(self, run: str, test: str, owner: Process, ttl_s: float) -> Holder:
        """Write into owner.json that this process holds the stack, as the guardian of a run."""
        now_us = time.time_ns() // 1000
        until_ns = boot_ns() + int(ttl_s * 1e9)
        signed = Holder(run, test, owner, Process.me(), now_us, now_us + int(ttl_s * 1e6), until_ns)
        codec.write_json(self._state.owner, signed)
        self._signed = True
        return signed

    def release(self) -> None:
        """Give the stack back. Idempotent."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if self._signed:
                self._state.owner.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take(state: State, run: str, test: str, owner: Process, ttl_s: float) -> tuple[Lease, Holder]:
    """Take the stack for a run. The caller is the run's guardian, and has to mend what a dead run left first.

    Raises Busy when a living run holds it, with its name and since when. Kills a dead run's guardian that goes on for
    longer than ORPHAN_S.
    """
    lease = take_to_mend(state)
    try:
        return lease, lease.sign(run, test, owner, ttl_s)
    except BaseException:
        lease.release()
        raise


def take_to_mend(state: State) -> Lease:
    """Take the stack for a moment. Writes no owner.json, so this works on a full disk too. Raises Busy like take."""
    state.ensure()
    try:
        descriptor = os.open(state.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise GamedayError(f"the lock {state.lock} can't be opened: {e.strerror}. Remedy: check owner and mode") from e
    try:
        _wait(state, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return Lease(state, descriptor)


def _wait(state: State, descriptor: int) -> None:
    """Wait for the lock. Kills the guardian of a dead run; raises Busy at once when a living run holds the stack, and
    after PATIENCE_S when the holder has no name."""
    began = time.monotonic()

    def locked() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            current = holder(state)
            if current is None:
                return False
            if not current.orphaned:
                raise Busy(
                    f"the stack is held by {current}. Remedy: wait, or stop and undo that run with: gameday abort"
                ) from None
            if current.guardian.stopped or time.monotonic() - began > ORPHAN_S:
                current.guardian.send(signal.SIGKILL)
            return False
        return True

    try:
        until(locked, PATIENCE_S, what="the lock")
    except TooLate as e:
        raise Busy(
            f"{state.lock} is locked by a process that {state.owner} doesn't name, or that can't be seen from here. "
            f"Remedy: try again; if it stays locked, find out which process has that file open "
            f"(in another container, or on another machine?)"
        ) from e


# ---- a hold on scheduled nights ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """Keeps scheduled nights from starting. since_us, until_us: wall clock; until_us None: until `gameday release`."""

    by: str
    since_us: int
    until_us: int | None


def hold(state: State, until: datetime | None) -> Hold:
    """Keep scheduled nights from starting until a time, or (None) until `release`."""
    end_us = None if until is None else int(until.timestamp() * 1e6)
    written = Hold(os.environ.get("USER") or f"uid {os.getuid()}", time.time_ns() // 1000, end_us)
    codec.write_json(state.ensure().hold, written)
    return written


def hold_reason(state: State) -> str | None:
    """Say why no scheduled night may start. None: it may. A damaged hold.json is an error, never "it may"."""
    if not state.hold.exists():
        return None
    written = codec.decode(Hold, codec.read_json(state.hold), str(state.hold))
    if written.until_us is not None and written.until_us <= time.time_ns() // 1000:
        return None
    end = "gameday release" if written.until_us is None else _clock(written.until_us)
    return f"nights are held by {written.by} since {_clock(written.since_us)}, until {end}"


def release(state: State) -> None:
    """Let scheduled nights start again. Idempotent."""
    state.hold.unlink(missing_ok=True)


def _clock(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
