"""Nights in a row on the embedded stack, and what they measured: python -m benchmarks.nights [NIGHTS [TEST ...]]

Prints each night's verdicts and how long it took, and over all of them the distribution of each test's MTTR (its high
bound, in seconds) and the widths of its intervals. Exit code 1 when any verdict was not a pass. Starts the stack when
it is not up.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

NIGHTS = 10
COMMAND = str(Path(sys.executable).with_name("gameday"))


def main() -> int:
    """Run them one after the other."""
    nights = int(sys.argv[1]) if len(sys.argv) > 1 else NIGHTS
    tests = sys.argv[2:] or ["--all"]
    subprocess.run([COMMAND, "up"], check=True)
    mttr_s, widths_s = defaultdict(list), defaultdict(list)
    others = 0
    for number in range(1, nights + 1):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "r.json"
            began = time.monotonic()
            subprocess.run([COMMAND, "run", *tests, "--json", str(file)], stdout=subprocess.DEVNULL, check=False)
            took_s = time.monotonic() - began
            results = json.loads(file.read_text())["results"]
        told = ", ".join(f"{r['test']} {r['verdict']}" for r in results)
        print(f"night {number}, {took_s:.0f} s: {told}", flush=True)
        for result in results:
            others += result["verdict"] != "pass"
            low_s, high_s = result["measures"]["mttr"]["low_s"], result["measures"]["mttr"]["high_s"]
            if high_s is not None:
                mttr_s[result["test"]].append(high_s)
                widths_s[result["test"]].append(high_s - low_s)
    for test, values in mttr_s.items():
        shown = f"min {min(values):.2f}, median {statistics.median(values):.2f}, max {max(values):.2f}"
        print(f"{test}: MTTR {shown} s; intervals at most {max(widths_s[test]):.2f} s wide; {len(values)} runs")
    print(f"{others} verdicts other than pass")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
