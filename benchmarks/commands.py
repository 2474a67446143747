"""How long a person, or a runbook's step, waits for a command that only looks: python -m benchmarks.commands [TIMES]

Carries out each command TIMES times (10 when left out) against a running stack, in turns, so that what else happens on
the machine meets all of them. Prints each one's seconds of wall clock and of processor time, its children's included,
and how many times it takes as long as `python -c pass` did in the same run. Exit code 3 when the stack is down, or held
by a run: `abort` is among the commands.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from benchmarks._measured import ended, nothing
from gameday.errors import GamedayError
from gameday.stack.live import open_stack
from gameday.undo import lease

TIMES = 10
GAMEDAY = str(Path(sys.executable).with_name("gameday"))
NOTHING = "python -c pass"

COMMANDS = {
    NOTHING: [sys.executable, "-c", "pass"],
    **{
        f"gameday {words}": [GAMEDAY, *words.split()]
        for words in (
            "status",
            "status --json",
            "check",
            "list",
            "history",
            "report",
            "failpoints list",
            "heal --dry-run",
            "abort",
        )
    },
}


def main() -> int:
    """Carry them out in turns."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    if why := _not_ready():
        return nothing(why)
    wall_s, processor_s, statuses = defaultdict(list), defaultdict(list), defaultdict(set)
    for _ in range(times):
        for name, command in COMMANDS.items():
            began_s, used_s = time.monotonic(), _children_s()
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            wall_s[name].append(time.monotonic() - began_s)
            processor_s[name].append(_children_s() - used_s)
            statuses[name].add(done.returncode)
    least_s = statistics.median(wall_s[NOTHING])
    print(f"{'command':24} {'min':>6} {'median':>6} {'max':>6} s  {'processor':>9} s  {'x nothing':>9}  exit")
    for name, took_s in wall_s.items():
        median_s = statistics.median(took_s)
        print(
            f"{name:24} {min(took_s):6.2f} {median_s:6.2f} {max(took_s):6.2f} s  "
            f"{statistics.median(processor_s[name]):9.2f} s  {median_s / least_s:9.0f}  "
            f"{', '.join(map(str, sorted(statuses[name])))}"
        )
    return 0


def _not_ready() -> str:
    """Why there is nothing to measure; "" when there is."""
    try:
        stack = open_stack()
        for live in stack.streams.values():
            live.ledger.heads()
            live.visible.heads()
    except GamedayError as e:
        return str(e)
    holder = lease.holder(stack.state)
    return "" if holder is None else f"run {holder.run} holds the stack"


def _children_s() -> float:
    """Seconds of processor time that ended children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    ended(main)
