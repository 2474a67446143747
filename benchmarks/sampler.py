"""What the sampler costs and keeps, against a running stack: python -m benchmarks.sampler [--seconds 30]

Prints the processor's share and how often a thread of it woke, and for each probe the share of its readings that came,
and how far apart they were; beside it how long ten million additions take here, so that figures of two machines can be
compared. Exit code 3, without figures, when a probe never answered: then the stack is not up, or not well.

Not covered: what the probes cost those that are asked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks._measured import nothing
from benchmarks.rest import ADDITIONS, additions_s, cpu_s
from gameday import codec
from gameday.errors import GamedayError, NotUp
from gameday.model import Sample, Samples
from gameday.sampling.sampler import Sampler, Tail
from gameday.stack.live import Stack, open_stack
from gameday.system.polling import until

__all__ = ["answered", "main"]

ON_TIME_MS = 75.0
"""Half a period late at 20 Hz."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    try:
        stack = open_stack()
        series, used_s, wakings, took_s = _sampled(stack, options.seconds)
        rates_hz = {spec.series: spec.rate_hz for spec in stack.probes()}
        by_probe = answered(series, list(rates_hz))
        machine_s = additions_s()
    except GamedayError as e:
        return nothing(e)
    print(
        f"processor: {100 * used_s / took_s:.1f} % of one core, {len(series)} series, {wakings / took_s:.0f} wakings/s"
    )
    print(f"{ADDITIONS:,} additions take {machine_s:.2f} s here")
    for name, samples in by_probe.items():
        took_ns = [s.took_ns for s in samples if s.value is not None]
        _tell(name, rates_hz[name], [s.at_ns for s in samples], took_ns)
    return 0


def answered(series: Samples, probes: Sequence[str]) -> dict[str, Sequence[Sample]]:
    """Probe -> the samples of one of its series. Raises NotUp naming the probes that never answered: what they cost
    unanswered says nothing of what they cost."""
    found: dict[str, Sequence[Sample]] = {}
    for probe in probes:
        mine = [
            samples for name, samples in series.items() if name == probe or name.startswith((f"{probe}/", f"{probe}."))
        ]
        found[probe] = next((s for s in mine if any(sample.value is not None for sample in s)), ())
    if silent := [probe for probe, samples in found.items() if not samples]:
        raise NotUp(f"{', '.join(silent)} never answered. Remedy: gameday up, then gameday status")
    return found


def _sampled(stack: Stack, seconds: float) -> tuple[Samples, float, int, float]:
    """Sample for so long: the samples, the processor's seconds, the threads' wakings, and in how many seconds."""
    run = f"benchmark-{os.getpid()}"
    folder = stack.state.samples(run)
    try:
        sampler = Sampler.start(stack, run)
        try:
            tail = Tail(folder)
            began_ns, began_s, began = _now(tail), cpu_s((sampler.pid,)), _wakings(sampler.pid)
            until(lambda: _now(tail) - began_ns > seconds * 1e9, within_s=seconds + 30, every_s=0.5)
            used_s, took_s = cpu_s((sampler.pid,)) - began_s, (_now(tail) - began_ns) / 1e9
            wakings = _wakings(sampler.pid) - began
        finally:
            sampler.stop()
        return codec.read_samples(folder), used_s, wakings, took_s
    finally:
        shutil.rmtree(stack.state.run(run), ignore_errors=True)


def _tell(name: str, rate_hz: float, at_ns: Sequence[int], took_ns: Sequence[int]) -> None:
    gaps_ms = [(b - a) / 1e6 for a, b in pairwise(at_ns)]
    expected = (at_ns[-1] - at_ns[0]) / 1e9 * rate_hz
    on_time = sum(gap <= ON_TIME_MS * 20 / rate_hz for gap in gaps_ms) / len(gaps_ms)
    took = sorted(took_ns)
    print(
        f"{name:32} {rate_hz:4.0f} Hz  came {100 * len(gaps_ms) / expected:6.2f} %  on time {100 * on_time:6.2f} %  "
        f"longest gap {max(gaps_ms):5.0f} ms  answered {len(took_ns)}/{len(at_ns)}, "
        f"p50 {took[len(took) // 2] / 1e6:.1f} ms p99 {took[len(took) * 99 // 100] / 1e6:.1f} ms"
    )


def _now(tail: Tail) -> int:
    """When the youngest sample was sent."""
    return max(samples[-1].at_ns for samples in tail.recent(60).values() if samples)


def _wakings(pid: int) -> int:
    """How often its threads have gone to sleep until now; those that have ended don't count."""
    lines = [line for status in Path(f"/proc/{pid}/task").glob("*/status") for line in status.read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


if __name__ == "__main__":
    sys.exit(main())
