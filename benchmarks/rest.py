"""What the embedded stack costs while nothing is asked of it: python -m benchmarks.rest [--seconds 120] [--json FILE]

Prints the processor time of each supervised process, with all that it started, as shares of one core over that time,
and their sum; beside it how long ten million additions take here, so that figures of two machines can be compared. The
stack must be up, and is left as it is. Exit code 3, without figures, when it isn't, when a run holds it, or when a
process was down or started anew meanwhile: then the stack was not at rest.

Not covered: what the kernel does on behalf of nobody (writing back, interrupts), memory, disk, and gameday's own
processes during a run (benchmarks/sampler.py). Others on the same cores make the same work dearer: measure alone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._measured import ended, nothing
from compose import supervisor
from gameday.errors import DriverError, GamedayError, NotUp
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, descendants
from gameday.undo import lease

__all__ = ["Look", "additions_s", "cpu_s", "main", "measure"]

SECONDS = 120.0
STATUS_S = 15.0
LOOK_EVERY_S = 1.0
"""How often it is looked whether all live."""

ADDITIONS = 10_000_000
ROUNDS = 3
"""Of the additions, the best of which counts: the others were disturbed."""

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
UTIME, CSTIME = 11, 14
"""Places in /proc/PID/stat after the command's closing bracket: utime, stime, and those of its ended children."""

SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class Look:
    """The processor time of each process until at_s, and which process it is."""

    at_s: float
    used_s: Mapping[str, float]
    lives: Mapping[str, Process]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    state = State.default()
    try:
        look(state)  # before the additions: whoever has no stack need not wait for them
        machine_s = additions_s()
        found = measure(lambda: look(state), options.seconds)
    except GamedayError as e:
        return nothing(e)
    for name, share in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{name:20} {share:6.3f}")
    print(f"{'sum':20} {sum(found.values()):6.3f} of one core, over {options.seconds:g} s")
    print(f"{ADDITIONS:,} additions take {machine_s:.2f} s here")
    if options.json is not None:
        options.json.write_text(json.dumps({"additions_s": machine_s, "seconds": options.seconds, "shares": found}))
    return 0


def measure(looked: Callable[[], Look], seconds: float) -> dict[str, float]:
    """Process -> the share of one core that it took in so many seconds. Raises NotUp unless all lived throughout."""
    first = looked()

    def over() -> bool:
        if ended := sorted(name for name, process in first.lives.items() if not process.alive):
            raise NotUp(f"{', '.join(ended)} ended meanwhile. Remedy: wait until the stack is at rest")
        return time.monotonic() - first.at_s >= seconds

    until(over, within_s=seconds + STATUS_S, every_s=min(LOOK_EVERY_S, seconds), what="the end of the measurement")
    last = looked()
    if last.lives != first.lives:
        raise NotUp("a process was started anew meanwhile. Remedy: wait until the stack is at rest")
    took_s = last.at_s - first.at_s
    return {name: (last.used_s[name] - used_s) / took_s for name, used_s in first.used_s.items()}


def look(state: State) -> Look:
    """Look at every supervised process. Raises NotUp when one doesn't serve, or when a run holds the stack."""
    if (held := lease.holder(state)) is not None:
        raise NotUp(f"the stack is not at rest: {held} holds it. Remedy: await its end, or gameday abort")
    try:
        status = supervisor.ask(state, STATUS_S, op="status")
    except DriverError as e:
        raise NotUp(f"the stack is not up: {e}. Remedy: gameday up") from e
    told = status["processes"]
    if down := sorted(name for name, process in told.items() if not process["ready"]):
        raise NotUp(f"the stack is not up: {', '.join(down)} does not serve. Remedy: gameday up")
    boot = status["boot_id"]
    lives = {name: Process(p["pid"], p["start_ticks"], boot) for name, p in told.items()}
    me = Process.of(status["pid"])
    if me is None:
        raise NotUp("the stack is not up: its supervisor has ended. Remedy: gameday up")
    at_s = time.monotonic()
    used_s = {name: cpu_s((p.pid, *(below.pid for below in descendants(p.pid)))) for name, p in lives.items()}
    used_s[SUPERVISOR] = cpu_s((me.pid,), ended_children=False)
    return Look(at_s, used_s, {**lives, SUPERVISOR: me})


def cpu_s(pids: Iterable[int], ended_children: bool = True) -> float:
    """Processor time of these processes until now, in seconds; none of one that is gone.

    ended_children: with the time of the children that each has awaited, so that nothing is lost when one ends.
    """
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, fields[UTIME : CSTIME + 1 if ended_children else UTIME + 2]))
    return ticks / TICKS_PER_S


def additions_s() -> float:
    """How long ten million additions take in this Python now, in seconds; the reference machine needs 0.6."""
    found = []
    for _ in range(ROUNDS):
        began, total = time.perf_counter(), 0
        for n in range(ADDITIONS):
            total += n
        found.append(time.perf_counter() - began)
    return min(found)


if __name__ == "__main__":
    ended(main)
