"""What the sampler costs and keeps, against a running stack: `python -m benchmarks.sampler [--seconds 30]`.

Prints the processor's share, and for each probe the share of its readings that came, and how far apart they were.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from gameday import codec
from gameday.polling import until
from gameday.sampler import Sampler, Tail
from gameday.stack import open_stack

ON_TIME_MS = 75.0
"""Half a period late at 20 Hz."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    stack = open_stack()
    run = f"benchmark-{os.getpid()}"
    folder = stack.state.samples(run)
    try:
        sampler = Sampler.start(stack, run)
        try:
            tail = Tail(folder)
            began_ns, began_s = _now(tail), _processor_s(sampler.pid)
            until(lambda: _now(tail) - began_ns > options.seconds * 1e9, within_s=options.seconds + 30, every_s=0.5)
            used_s, took_s = _processor_s(sampler.pid) - began_s, (_now(tail) - began_ns) / 1e9
        finally:
            sampler.stop()
        series = codec.read_samples(folder)
        print(f"processor: {100 * used_s / took_s:.1f} % of one core, {len(series)} series")
        for spec in stack.probes():
            samples = next(s for name, s in series.items() if name.startswith(spec.series))
            answered = [s.took_ns for s in samples if s.value is not None]
            _tell(spec.series, spec.rate_hz, [s.at_ns for s in samples], answered)
    finally:
        shutil.rmtree(stack.state.run(run))


def _tell(name: str, rate_hz: float, at_ns: Sequence[int], took_ns: Sequence[int]) -> None:
    gaps_ms = [(b - a) / 1e6 for a, b in pairwise(at_ns)]
    expected = (at_ns[-1] - at_ns[0]) / 1e9 * rate_hz
    on_time = sum(gap <= ON_TIME_MS * 20 / rate_hz for gap in gaps_ms) / len(gaps_ms)
    took = sorted(took_ns) or [0]
    print(
        f"{name:32} {rate_hz:4.0f} Hz  came {100 * len(gaps_ms) / expected:6.2f} %  on time {100 * on_time:6.2f} %  "
        f"longest gap {max(gaps_ms):5.0f} ms  answered {len(took_ns)}/{len(at_ns)}, "
        f"p50 {took[len(took) // 2] / 1e6:.1f} ms p99 {took[len(took) * 99 // 100] / 1e6:.1f} ms"
    )


def _now(tail: Tail) -> int:
    """When the youngest sample was sent."""
    return max(samples[-1].at_ns for samples in tail.recent(60).values() if samples)


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
