"""How short of time the machine was, and what runs said meanwhile: python -m benchmarks.busy [RUNS [TEST ...]]

Runs failure tests (RUNS times each TEST, without one whole nights) beside 0, 2, 4 and 8 busy processes, and prints for
each load the distribution of the figures that a run's excuse rests on (gameday/verdict/machine.py), second by second,
and the runs' verdicts, with the reason of each that was no pass. Starts the stack when it is not up.

`python -m benchmarks.busy --alone SECONDS` needs no stack: it measures the figures with a sampler that asks nobody, for
so long beside each load. --niceness: of the busy processes; --loads: other numbers of them; --of disk: what they take
is not the processor but the disk (each writes a file and has it synced, over and over).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks._measured import carry_out, ended
from gameday import codec
from gameday.model import Samples
from gameday.sampling import sampler
from gameday.stack.live import open_stack
from gameday.stack.probes import ProbeSpec
from gameday.system.polling import until
from gameday.system.process import yield_cpu
from gameday.verdict import machine

LOADS = (0, 2, 4, 8)
RUNS = 3
COMMAND = str(Path(sys.executable).with_name("gameday"))
LANES = 12
"""Probes of the sampler alone: about as many as a run has at 20 Hz."""

WRITTEN = bytes(1 << 24)
"""What is written to the disk at once."""

PERCENTS = (50, 90, 99, 100)


def main() -> int:
    """Measure beside each load, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=RUNS)
    parser.add_argument("tests", nargs="*", default=["--all"])
    parser.add_argument("--alone", type=float, metavar="SECONDS")
    parser.add_argument("--niceness", type=int, default=0)
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS)
    parser.add_argument("--of", choices=("cpu", "disk"), default="cpu")
    options = parser.parse_args()
    if options.alone is None:
        subprocess.run([COMMAND, "up"], check=True)
    for load in options.loads:
        with busy(load, options.niceness, options.of):
            runs = run(options.runs, options.tests) if options.alone is None else [alone(options.alone)]
        tell(f"{load} processes that keep the {options.of} busy", runs)
    return 0


@contextmanager
def busy(processes: int, niceness: int = 0, of: str = "cpu") -> Iterator[None]:
    """So many processes that do nothing but work, each in a session of its own as a user's would be."""
    started = [multiprocessing.Process(target=_work, args=(niceness, of), daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def _work(niceness: int, of: str) -> None:
    os.setsid()
    if niceness:
        yield_cpu(niceness)
    with tempfile.TemporaryFile() as file:
        while True:
            if of == "disk":
                file.seek(0)
                file.write(WRITTEN)
                file.flush()
                os.fsync(file.fileno())


def alone(seconds: float) -> Samples:
    """What a sampler notes of the machine that asks nobody."""
    lateness = sampler.Lateness()
    specs = [ProbeSpec(f"nobody/{number}", _Nobody(), 20.0, 1.0) for number in range(LANES)]
    specs.append(ProbeSpec("machine", sampler.Suspect(lateness), sampler.MACHINE_RATE_HZ, sampler.MACHINE_WITHIN_S))
    with tempfile.TemporaryDirectory() as folder:
        ended, end = os.pipe()
        place = Path(folder) / "samples"
        loop = threading.Thread(target=sampler.sample, args=(specs, place, (ended,), lateness))
        loop.start()
        tail = sampler.Tail(place)
        try:
            until(lambda: _lasted_s(tail.recent(sampler.KEEP_S)) >= seconds, within_s=seconds + 30, every_s=0.5)
        finally:
            os.close(end)
            loop.join()
            os.close(ended)
        return codec.read_samples(place)


class _Nobody:
    def read(self) -> Mapping[str, float]:
        return {"": 1.0}


def _lasted_s(samples: Samples) -> float:
    told = samples.get("machine/late", ())
    return (told[-1].at_ns - told[0].at_ns) / 1e9 if told else 0.0


def run(times: int, tests: Sequence[str]) -> list[Samples]:
    """The samples of all runs; their verdicts are printed as they come."""
    stack = open_stack()
    found: list[Samples] = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "r.json"
            carry_out([COMMAND, "run", *tests, "--json", str(file)])
            for result in json.loads(file.read_text())["results"]:
                why = "" if result["verdict"] == "pass" else f": {result['why']}"
                print(f"  {result['test']} {result['verdict']}{why}", flush=True)
                found.append(codec.read_samples(stack.state.samples(result["id"])))
    return found


def tell(load: str, runs: Sequence[Samples]) -> None:
    """One line a figure: its percentiles over all seconds of all runs."""
    seconds = [second for samples in runs for second in machine.seconds(samples)]
    short = sum(bool(second.lacks) for second in seconds)
    print(f"beside {load}: {len(seconds)} seconds, {short} of them short of time")
    for name in machine.SHORT:
        values = sorted(second.figures[name] for second in seconds if name in second.figures)
        if values:
            shown = ", ".join(f"p{p} {values[max(0, len(values) * p // 100 - 1)]:.3f}" for p in PERCENTS)
            print(f"  {name:8} {shown}", flush=True)


if __name__ == "__main__":
    ended(main)
