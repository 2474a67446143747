"""The sampler: a process that asks every probe many times a second. And the run's two handles on that process.

Ticks come at fixed times of the monotonic clock, whatever the answers are. Each probe has workers of its own, and at
most IN_FLIGHT_MAX open questions. A reading without an answer at its deadline is written as unanswered, even if its
thread never returns. One worker of each probe sleeps until the next tick and asks. Only if a reading is still
unanswered at the next tick does the loop send another worker, so a healthy probe costs one wake-up a reading.

timings.py and conditions.py interpret the samples. Run as `python -m gameday.sampling.sampler --config FILE --state
FOLDER --run ID`; it ends on SIGTERM or when its stdin closes.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gameday import codec, samplelog
from gameday.drivers.machine import Probe as Machine
from gameday.errors import DriverError, GamedayError, TooLate, masked
from gameday.model import Sample, Shards
from gameday.stack.live import Stack, open_stack
from gameday.stack.probes import ProbeSpec
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.system.process import yield_cpu

__all__ = ["Sampler", "Tail"]

START_WITHIN_S = 40.0
"""How long it may take until every probe has been asked once; more than the longest deadline of a probe."""

STOP_WITHIN_S = 5.0
KEEP_S = 120.0
"""How far back a Tail remembers."""

IN_FLIGHT_MAX = 2
"""How many questions of one probe may be open at the same time: gameday must not make a slow server slower."""

TELLING_MAX = 4
"""The same where an answer has a value that counts, such as heads. A tick that joins an open question is a gap there,
and a busy server takes longer than two periods."""

SECOND_AFTER = 0.5
"""The second question is asked when the first has waited for this share of its deadline. If both were asked at once and
neither was answered, the whole deadline would be unseen."""

OVERDUE_S = 0.5
"""A reading that has not ended this long after its deadline is lost, because its driver broke its bound. Another takes
its place."""

WORKERS_MAX = 8
"""How many workers one probe may have, the lost ones included."""

MACHINE_RATE_HZ = 4.0
MACHINE_WITHIN_S = 1.0

NICENESS = -5
"""The sampler's niceness, where the system permits it: a busy machine must not look like a slow platform. The sampler
has a session of its own for that."""

LOOK_EVERY_NS_MAX = 20_000_000
"""The time between two looks of the loop at all probes. It is less than half of any period, so that the loop sees each
open reading before its probe's next tick."""

NEVER_NS = 1 << 63

SWITCH_INTERVAL_S = 0.0005
"""Python's default of 5 ms lets one busy thread delay every tick by a tenth of a period."""


class Sampler:
    """The run's handle on its sampler. The sampler ends with the run, because its stdin is a pipe of the run."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log

    @classmethod
    def start(cls, stack: Stack, run_id: str, shards: Mapping[str, Shards] = {}) -> Sampler:
        """Start it, and return once every probe has its first reading; see launch and await_begun."""
        sampler = cls.launch(stack, run_id, shards=shards)
        sampler.await_begun()
        return sampler

    @classmethod
    def launch(
        cls,
        stack: Stack,
        run_id: str,
        archive: bool = False,
        alert: tuple[str, str] | None = None,
        shards: Mapping[str, Shards] = {},
    ) -> Sampler:
        """Start it and return at once: it takes a second until it samples, in which others can start too.

        archive, alert, shards: see Stack.probes.
        """
        folder, log = stack.state.samples(run_id), stack.state.run(run_id) / "sampler.log"
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with log.open("ab") as output:
            command = [sys.executable, "-m", "gameday.sampling.sampler", "--config", str(stack.path.resolve())]
            command += ["--state", str(stack.state.root), "--run", run_id, *(["--archive"] if archive else [])]
            command += ["--alert", *alert] if alert else []
            command += ["--shards", codec.dumps(shards)] if shards else []
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=ROOT, start_new_session=True
            )
        return cls(process, folder, log)

    def await_begun(self) -> None:
        """Wait until every probe has its first reading.

        Raises:
            GamedayError: the sampler does not start; the text has the end of its log.
        """
        tail = Tail(self._folder)

        def begun() -> bool:
            return not self.alive or (tail.update() and tail.begun)

        ended = f"Its log, {self._log}, ends:"
        try:
            until(begun, within_s=START_WITHIN_S, what="the first reading of every probe")
        except BaseException as e:
            self.stop()
            if isinstance(e, TooLate):
                raise GamedayError(f"the sampler did not begin: {e}. {ended} {_end(self._log)}") from e
            raise
        if not self.alive:
            raise GamedayError(f"the sampler ended at once ({self.end}). {ended} {_end(self._log)}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def end(self) -> str:
        """How it ended, negative for a signal."""
        return f"exit code {self._process.poll()}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End the process, and wait until it is gone."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Tail:
    """The newest samples of a run that is being sampled, read as they come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, tuple[samplelog.Parser, int]] = {}
        self._known: dict[Path, tuple[int, int]] = {}

    @property
    def begun(self) -> bool:
        """Whether every probe has its first reading."""
        return bool(self._files) and all(parser.readings for parser, _ in self._files.values())

    def gone(self) -> Path | None:
        """Return the first file that was removed or replaced; None: all files are as they should be."""
        for path, known in self._known.items():
            try:
                found = path.stat()
            except OSError:
                return path
            if (found.st_dev, found.st_ino) != known:
                return path
        return None

    def update(self) -> bool:
        """Read what was written since the last call; False while there is nothing at all."""
        for path in sorted(self._folder.glob("*.jsonl")):
            parser, offset = self._files.get(path) or (samplelog.Parser(), 0)
            with path.open("rb") as file:
                if path not in self._known:
                    found = os.fstat(file.fileno())
                    self._known[path] = found.st_dev, found.st_ino
                file.seek(offset)
                data = file.read()
            parser.feed(data)
            self._files[path] = (parser, offset + len(data))
        return bool(self._files)

    def recent(self, seconds: float) -> dict[str, list[Sample]]:
        """Every series' samples sent within the last `seconds` (at most KEEP_S), in the order sent."""
        if seconds > KEEP_S:
            raise ValueError(f"asked for the last {seconds:g} s, but only {KEEP_S:g} s are kept")
        self.update()
        now = time.monotonic_ns()
        since, forget = now - int(seconds * 1e9), now - int(KEEP_S * 1e9)
        found: dict[str, list[Sample]] = {}
        for parser, _ in self._files.values():
            for name, samples in parser.series.items():
                del samples[: bisect.bisect_left(samples, forget, key=samplelog.sent)]
                found[name] = samples[bisect.bisect_left(samples, since, key=samplelog.sent) :]
        return found


def _end(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-3:]) or "(empty)"


# ---- the process -------------------------------------------------------------------------------------------


@dataclass
class Lateness:
    """How late the sampler itself was: the longest delay of one of its ticks since the last question."""

    worst_ns: int = 0

    def note(self, late_ns: int) -> None:
        """Note a tick's delay. Every worker calls it at every tick; a lock would cost more than it would if one of two
        calls at the same time is lost."""
        if late_ns > self.worst_ns:
            self.worst_ns = late_ns

    def taken_s(self) -> float:
        worst_ns, self.worst_ns = self.worst_ns, 0
        return worst_ns / 1e9


@dataclass(frozen=True)
class Suspect:
    """The machine as a probe: its own figures, and how late the sampler was on it ("late", in seconds)."""

    lateness: Lateness
    machine: Machine = field(default_factory=Machine)

    def read(self) -> Mapping[str, float]:
        return {**self.machine.read(), "late": self.lateness.taken_s()}


class Lane:
    """One probe: its file, its workers, its open readings.

    At most one worker has the turn at any time: it sleeps until the next tick, and sends the reading that is due then.
    While that reading is open the turn is free. It goes to the same worker again, or to another one (by `tend`) if the
    next tick comes first. So a reading that hangs costs its own probe a worker, and the other probes nothing.

    A tick that finds too many readings open joins them: it counts as asked, and is answered together with the next of
    them, or never. That holds only for answers that say no more than that there is one. Any other value may be older
    than the tick, so such a tick is a gap.
    """

    def __init__(self, spec: ProbeSpec, path: Path, first_ns: int, lateness: Lateness) -> None:
        self.spec = spec
        self.period_ns = int(1e9 / spec.rate_hz)
        self.timeout_ns = int(spec.timeout_s * 1e9)
        self._due_ns = first_ns
        self._lateness = lateness
        self._lock = threading.Lock()
        self._workers = 0
        self._idle: list[threading.Lock] = []
        self._taken = False
        self._over = False
        self._number = 0
        self._flying: dict[int, int] = {}
        self._asked: dict[int, int] = {}
        """The readings that a worker is busy with: those of _flying that have not merely joined, and late ones."""
        self._bare = True
        """Whether an answer says no more than that there is one, and counters of the same moment."""
        self._complaints: set[str] = set()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._write(samplelog.opening(spec.series))

    def tend(self, now_ns: int) -> int:
        """Write every reading whose deadline has passed as unanswered, and give a free turn that is due to another
        worker. A later answer to such a reading is dropped.

        Returns: when this must be called again at the latest.
        """
        if self._taken and not self._flying:  # the usual case, which needs no lock
            return NEVER_NS
        with self._lock:
            late = [(n, at) for n, at in self._flying.items() if now_ns - at > self.timeout_ns]
            for number, at_ns in late:
                del self._flying[number]
                self._write(samplelog.reading(at_ns, now_ns - at_ns, None))
            if not self._taken and self._due_ns <= now_ns:
                self._send_another(now_ns)
            again_ns = [at + self.timeout_ns + 1 for at in self._flying.values()]
            return min(again_ns + [self._due_ns] * (not self._taken), default=NEVER_NS)

    def close(self) -> None:
        """Stop writing. Sleeping workers end; a worker that hangs in a driver can't be ended."""
        with self._lock:
            self._over = True
            for bell in self._idle:
                bell.release()

    def _open(self, now_ns: int) -> list[int]:
        """Return when the readings were sent that still keep a connection, if drivers keep their bounds."""
        lost_ns = self.timeout_ns + int(OVERDUE_S * 1e9)
        return [at for at in self._asked.values() if now_ns - at <= lost_ns]

    @property
    def _open_max(self) -> int:
        return IN_FLIGHT_MAX if self._bare else TELLING_MAX

    def _send_another(self, now_ns: int) -> None:
        """Give the turn to an idle worker or a new one. If too many readings are open, this tick joins them."""
        sent = self._open(now_ns)
        early = self._bare and any(now_ns - at < SECOND_AFTER * self.timeout_ns for at in sent)
        if len(sent) < self._open_max and not early:
            if self._idle:
                self._taken = True
                self._idle.pop().release()
                return
            if self._workers < WORKERS_MAX:
                self._taken = True
                self._workers += 1
                threading.Thread(target=self._work, name=self.spec.series, daemon=True).start()
                return
        self._move_on(now_ns)
        self._flying[self._number] = now_ns

    def _move_on(self, now_ns: int) -> None:
        """Move to the next tick that is not past yet. A missed tick is a gap; two are never sent at once."""
        self._due_ns += self.period_ns * ((now_ns - self._due_ns) // self.period_ns + 1)
        self._number += 1

    def _work(self) -> None:
        """Run one worker. It has the turn when it begins, and whenever its bell was rung."""
        bell = threading.Lock()
        bell.acquire()
        while True:
            while (wait_ns := self._due_ns - time.monotonic_ns()) > 0:
                bell.acquire(timeout=wait_ns / 1e9)  # it is rung only at the end
            begun = self._begin()
            if begun is None:
                return
            number, at_ns = begun
            line, values = self._ask(at_ns)
            if not self._end(number, line, values, bell):
                bell.acquire()

    def _begin(self) -> tuple[int, int] | None:
        """Return number and time of the reading that is sent now; None: no more are sent."""
        with self._lock:
            if self._over:
                return None
            at_ns = time.monotonic_ns()
            self._lateness.note(at_ns - self._due_ns)
            self._move_on(at_ns)
            self._flying[self._number] = self._asked[self._number] = at_ns
            self._taken = False
            return self._number, at_ns

    def _end(self, number: int, line: bytes, values: Mapping[str, float] | None, bell: threading.Lock) -> bool:
        """Write a reading's answer, and those of the ticks that joined it, unless its deadline has passed.

        Returns: whether its worker has the turn again.
        """
        with self._lock:
            now_ns = time.monotonic_ns()
            del self._asked[number]
            if self._flying.pop(number, None) is not None and not self._over:
                self._write(line)
                self._settle_joined(values, now_ns)
            if self._taken or len(self._open(now_ns)) >= self._open_max:
                self._idle.append(bell)
                return self._over
            self._taken = True
            return True

    def _settle_joined(self, values: Mapping[str, float] | None, now_ns: int) -> None:
        """Write one reading's answer for the ticks that joined it."""
        if values is not None:
            self._bare = all(suffix[:1] in ("", ".") for suffix in values)
        for joined in [n for n in self._flying if n not in self._asked]:
            at_ns = self._flying.pop(joined)
            if values is None or self._bare:
                self._write(samplelog.reading(at_ns, now_ns - at_ns, values))

    def _ask(self, at_ns: int) -> tuple[bytes, Mapping[str, float] | None]:
        """Ask once, and return the reading's line and values; None: no answer in time, or a wrong one."""
        try:
            values = self.spec.probe.read()
            took_ns = time.monotonic_ns() - at_ns
            if took_ns <= self.timeout_ns:
                return samplelog.reading(at_ns, took_ns, values), values
        except DriverError as e:
            self._complain(str(e))
        except Exception as e:  # noqa: BLE001 - whatever the driver raises, the component gave no answer
            self._complain(f"{type(e).__name__}: {e}")
        return samplelog.reading(at_ns, time.monotonic_ns() - at_ns, None), None

    def _complain(self, text: str) -> None:
        """Log each kind of error once: an outage must not write twenty lines a second."""
        kind = text[:60]
        if kind not in self._complaints and len(self._complaints) < 20:
            self._complaints.add(kind)
            _say(masked(f"{self.spec.series}: {text}")[:500])

    def _write(self, line: bytes) -> None:
        os.write(self._fd, line)


def sample(specs: Sequence[ProbeSpec], folder: Path, stop: Sequence[int], lateness: Lateness) -> None:
    """Ask all probes until one of the file descriptors `stop` has something to read or is closed.

    Args:
        folder: where the samples go. It appears in one piece, with every probe's file in it.
        lateness: where each tick notes how late it was.
    """
    building = folder.with_name(folder.name + ".new")
    building.mkdir(mode=0o700)
    begin_ns = time.monotonic_ns() + 50_000_000
    lanes = []
    for number, spec in enumerate(specs):  # spread over the period, so that probes don't wait for each other
        offset_ns = int(1e9 / spec.rate_hz * number / len(specs))
        lanes.append(Lane(spec, building / f"{number}.jsonl", begin_ns + offset_ns, lateness))
    building.rename(folder)
    every_ns = min((LOOK_EVERY_NS_MAX, *(lane.period_ns // 2 for lane in lanes)))
    try:
        while True:
            now_ns = time.monotonic_ns()
            again_ns = min((now_ns + every_ns, *(lane.tend(now_ns) for lane in lanes)))
            if select.select(stop, [], [], max(0.0, (again_ns - time.monotonic_ns()) / 1e9))[0]:
                return
    finally:
        for lane in lanes:
            lane.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample one run until SIGTERM or the end of stdin, and return the exit code: 2 or 3 with a message if the stack
    can't be made."""
    parser = argparse.ArgumentParser(prog="python -m gameday.sampling.sampler", description="Sample one run's probes.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument("--state", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--run", required=True, metavar="ID")
    parser.add_argument("--archive", action="store_true", help="sample the archive and its mirror too")
    parser.add_argument("--alert", nargs=2, metavar=("NAME", "COMPONENT"), help="sample this alert of the platform's")
    parser.add_argument("--shards", default="{}", metavar="JSON", help="how streams of many groups are sampled")
    options = parser.parse_args(arguments)
    try:
        shards = {name: codec.decode(Shards, told) for name, told in json.loads(options.shards).items()}
        stack = open_stack(options.config, State(options.state))
        specs = list(stack.probes(options.archive, options.alert, shards))
    except GamedayError as e:
        _say(str(e))
        return e.exit_code
    lateness = Lateness()
    specs.append(ProbeSpec("machine", Suspect(lateness), MACHINE_RATE_HZ, MACHINE_WITHIN_S))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    yield_cpu(NICENESS)
    gc.collect()
    gc.freeze()
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run heals, and is watched, first
    sample(specs, stack.state.samples(options.run), (sys.stdin.fileno(), ended), lateness)
    return 0


def _say(text: str) -> None:
    """Write one line to stderr. Errors are ignored: a full disk must not look like a silent platform."""
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    code = main()
    os._exit(code)  # a worker hung in a client library must not keep the process
