"""The canary: a process that writes numbered records into the platform, the way its producers do, while a run lasts.
And the run's handle on that process.

Attempts are made at fixed times of the monotonic clock, whatever the answers are; while too many are under way, a tick
makes none. Each attempt is in the run's file before it is sent, and its outcome afterwards. If the process is killed at
any moment, the file has attempts of unknown outcome, and nothing false. [canary] in gameday.toml says what a record is
and where it is written; the ledger (drivers/canary.py) interprets the outcomes.

Run as `python -m gameday.sampling.canary --config FILE --state FOLDER --run ID`. It ends on SIGTERM, when its stdin
closes, or when it has written as many records as it may.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gameday.errors import GamedayError, TooLate, masked
from gameday.model import Outcome, Sent
from gameday.ports import Canary
from gameday.records.attempts import Attempt, Book, Reader, now_us, values
from gameday.stack.config import CanaryConfig
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from gameday.system.polling import until

__all__ = ["Flight", "fly"]

UNDER_WAY_MAX = 4
"""How many attempts of a group may be open at the same time: gameday must not make a slow server slower."""

BEGUN_WITHIN_S = 30.0
"""How long the first attempt may take to be done: the process needs a second, a Kafka client some more."""

LATER_S = 3.0
"""What its end may take beyond the time that attempts have."""

CLEAN_UP = b"c"
"""What the run writes to its stdin when it has all its evidence."""

ENDED, EXHAUSTED, UNCLEAN = 0, 4, 5
"""Exit codes: ended by the run; it has written all that it may; its clean-up is not done."""


class Flight:
    """The run's handle on its canary. The canary ends with the run, because its stdin is a pipe of the run."""

    def __init__(self, process: subprocess.Popen[bytes], attempts: Path, log: Path, config: CanaryConfig) -> None:
        self._process = process
        self._attempts = attempts
        self._log = log
        self._config = config

    @classmethod
    def launch(cls, stack: Stack, run_id: str) -> Flight:
        """Start it, and return at once."""
        config = stack.config.canary
        assert config is not None
        log = stack.state.run(run_id) / "canary.log"
        command = [sys.executable, "-m", "gameday.sampling.canary", "--config", str(stack.path.resolve())]
        command += ["--state", str(stack.state.root), "--run", run_id]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=ROOT, start_new_session=True
            )
        return cls(process, stack.state.attempts(run_id), log, config)

    def await_done(self) -> None:
        """Wait until a record of each group is done.

        Raises:
            GamedayError: none was in time; the text says how the attempts ended.
        """
        wanted = set(self._config.groups or ("",))
        reader = Reader(self._attempts)

        def done() -> bool:
            reader.update()
            return not self.alive or wanted <= {a.group for a in reader.attempts if a.outcome is Outcome.DONE}

        with contextlib.suppress(TooLate):
            until(done, within_s=BEGUN_WITHIN_S, every_s=0.1, what="the canary's first record")
            if self.alive:
                return
        if not self.alive:
            raise GamedayError(f"the canary ended: {self.end}")
        ended = [a for a in reader.attempts if a.outcome not in (None, Outcome.DONE)]
        last = f"; the last one is {ended[-1].outcome}: {ended[-1].why}" if ended else ""
        raise GamedayError(
            f"the platform took no record of the canary's within {BEGUN_WITHIN_S:g} s ({len(reader.attempts)} "
            f"attempts{last}). Remedy: look at [canary] in gameday.toml"
        )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def end(self) -> str:
        """Why it has ended, and what to do about it."""
        code = self._process.poll()
        if code == EXHAUSTED:
            most = f"it has written all {self._config.most:,} records that it may"
            return f"{most}. Remedy: a greater canary.at_most, or a smaller canary.rate_hz"
        return f"exit code {code}. Its log, {self._log}, ends: {self._told()}"

    def stop(self, clean_up: bool) -> str | None:
        """End the process, and wait until it is gone.

        clean_up: whether to do the user's clean-up, if there is one.

        Returns: why the clean-up was not done; None: it was, or there is none.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                if clean_up:
                    self._process.stdin.write(CLEAN_UP)
                self._process.stdin.close()
        try:
            self._process.wait(2 * self._config.timeout_s + 2 * LATER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if clean_up and self._config.clean_up is not None and self._process.poll() != ENDED:
            return f"the canary's records are still there: {self._told()}"
        return None

    def _told(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-3:]) or "(empty)"


# ---- the process -------------------------------------------------------------------------------------------


def fly(config: CanaryConfig, writer: Canary, book: Book, stop: Sequence[int]) -> bool:
    """Attempt a record of each group at each tick, until one of the file descriptors `stop` has something to read or is
    closed.

    It returns when no attempt is under way any more, or their time is over; the attempts that are left stay without an
    outcome. False: as many records were written as may be.
    """
    groups = config.groups or ("",)
    free = {group: threading.BoundedSemaphore(UNDER_WAY_MAX) for group in groups}
    numbers = dict.fromkeys(groups, now_us() // 1000)  # no two runs share one: none writes a thousand a second
    left, told = config.most, False
    period_s = 1 / config.rate_hz
    due_s = time.monotonic()
    pool = ThreadPoolExecutor(UNDER_WAY_MAX * len(groups))

    def send(group: str, place: int, known: Mapping[str, str]) -> None:
        try:
            book.end(place, _sent(writer, known))
        finally:
            free[group].release()

    while left > 0 and not told:
        for group in groups:
            if left <= 0 or not free[group].acquire(blocking=False):
                continue
            numbers[group] += 1
            left -= 1
            at_us = now_us() // 1000 * 1000  # many a column holds no more, and cut short it would have been changed
            attempt = Attempt(numbers[group], group, str(uuid.uuid4()), at_us)
            pool.submit(send, group, book.begin(attempt), values(attempt, config.prefix))
        due_s += period_s * (max(0.0, time.monotonic() - due_s) // period_s + 1)
        told = bool(select.select(stop, [], [], max(0.0, due_s - time.monotonic()))[0])
    ended = threading.Thread(target=pool.shutdown, daemon=True)
    ended.start()
    ended.join(config.timeout_s + LATER_S)
    return told


def _sent(writer: Canary, known: Mapping[str, str]) -> Sent:
    """Make one attempt and return its outcome. If the driver raises, that is unknown."""
    try:
        sent = writer.send(known)
    except Exception as e:  # noqa: BLE001 - whatever the error is, the record may have arrived
        return Sent(Outcome.UNKNOWN, masked(repr(e)))
    return Sent(sent.outcome, masked(sent.why)[:500])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write for one run, and return the exit code: 2 or 3 with a message if the stack can't be made."""
    parser = argparse.ArgumentParser(prog="python -m gameday.sampling.canary", description="Write one run's canary.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--state", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--run", required=True, metavar="ID")
    options = parser.parse_args(arguments)
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run heals first
    try:
        stack = open_stack(options.config, State(options.state))
        config, writer, cleaner = stack.config.canary, stack.canary, stack.canary_clean_up
        if config is None or writer is None:
            raise GamedayError(f"{options.config} has no [canary]")
        book = Book(stack.state.attempts(options.run))
        _newest(stack.state, options.run)
    except GamedayError as e:
        _say(str(e))
        return e.exit_code
    if not fly(config, writer, book, (sys.stdin.fileno(), ended)):
        return EXHAUSTED
    wanted = bool(select.select([sys.stdin], [], [], 0)[0]) and os.read(sys.stdin.fileno(), 1) == CLEAN_UP
    if not wanted or cleaner is None:
        return ENDED
    sent = _sent(cleaner, {})
    _say(f"clean-up: {sent.outcome} {sent.why}")
    return ENDED if sent.outcome is Outcome.DONE else UNCLEAN


def _newest(state: State, run: str) -> None:
    """Let the link `canary` in the state folder point to this run's file."""
    link = state.canary.with_name(f"{state.canary.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(state.attempts(run).relative_to(state.root))
    link.replace(state.canary)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode(errors="backslashreplace"))


if __name__ == "__main__":
    code = main()
    os._exit(code)  # an attempt that hangs in a client library must not keep the process
