"""Who holds the stack: a flock that its holder keeps for its life, and owner.json that says who that is.

The lock is the truth, owner.json explains it. What a holder does with the stack is guardian.py's. Also the hold on
scheduled nights.
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
"""How long a taker waits for one who isn't named in owner.json: just taking the stack, or mending after a dead run."""

ORPHAN_S = 3.0
"""How long the guardian of a dead run may go on mending before it is displaced; a frozen one is displaced at once."""

EXPIRED_S = 15.0
"""How long a guardian may outlive its time to live, mending, before it is displaced."""


@dataclass(frozen=True)
class Holder:
    """The run that holds the stack. *_us: wall clock, to be shown; until_ns: CLOCK_BOOTTIME, to be judged."""

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
        """When it took the stack, to be shown."""
        return _clock(self.since_us)

    @property
    def orphaned(self) -> bool:
        """Whether nobody waits for its guardian any more: its owner is dead, or its time is long over."""
        return not self.owner.alive or boot_ns() > self.until_ns + EXPIRED_S * 1e9


def holder(state: State) -> Holder | None:
    """Who holds the stack; None: no run does (or its guardian is dead, which frees the stack)."""
    try:
        found = codec.decode(Holder, codec.read_json(state.owner), str(state.owner))
    except GamedayError:
        if state.owner.exists():
            raise
        return None
    return found if found.guardian.alive else None


class Lease:
    """The lock, held until `release` or this process's end, whatever ends it. Not inherited by children."""

    def __init__(self, state: State, descriptor: int) -> None:
        self._state = state
        self._descriptor = descriptor
        self._signed = False

    def sign(self, run: str, test: str, owner: Process, ttl_s: float) -> Holder:
        """Say in owner.json who holds the stack: this process, as the guardian of a run."""
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
    """Take the stack for a run; the caller is its guardian, and first mends what a dead run left.

    Raises Busy, naming who holds it since when. A dead run's guardian that isn't done within ORPHAN_S is killed.
    """
    lease = take_to_mend(state)
    try:
        return lease, lease.sign(run, test, owner, ttl_s)
    except BaseException:
        lease.release()
        raise


def take_to_mend(state: State) -> Lease:
    """Take the stack for a moment, unnamed in owner.json: that works on a full disk too. Raises Busy like take."""
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
    """Lock, displacing the guardian of a dead run, waiting for a nameless holder, refusing when a run lives."""
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
            f"{state.lock} is locked by someone who isn't named in {state.owner}, or can't be seen from here. "
            f"Remedy: try again; if it stays so, look for who has that file open (another container or machine?)"
        ) from e


# ---- a hold on scheduled nights ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """No scheduled night runs until then. Wall clock; until_us None: until it is released."""

    by: str
    since_us: int
    until_us: int | None


def hold(state: State, until: datetime | None) -> Hold:
    """Hold scheduled nights from now on, until then, or (None) until `release`."""
    end_us = None if until is None else int(until.timestamp() * 1e6)
    made = Hold(os.environ.get("USER") or f"uid {os.getuid()}", time.time_ns() // 1000, end_us)
    codec.write_json(state.ensure().hold, made)
    return made


def hold_reason(state: State) -> str | None:
    """Why no scheduled night may start; None: it may. A damaged hold.json is an error, never read as "may start"."""
    if not state.hold.exists():
        return None
    found = codec.decode(Hold, codec.read_json(state.hold), str(state.hold))
    if found.until_us is not None and found.until_us <= time.time_ns() // 1000:
        return None
    end = "gameday release" if found.until_us is None else _clock(found.until_us)
    return f"nights are held by {found.by} since {_clock(found.since_us)}, until {end}"


def release(state: State) -> None:
    """Let scheduled nights start again. Idempotent."""
    state.hold.unlink(missing_ok=True)


def _clock(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
