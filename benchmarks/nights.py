"""Nights in a row on the embedded stack, and what they measured: python -m benchmarks.nights [NIGHTS [TEST ...]]

Prints of each night its verdicts, how long it took, how much of that the platform itself needed, the ratio of the two,
and where the rest went, step by step. Over all nights: the distribution of each test's MTTR (its high bound, in
seconds) and the widths of its intervals. Exit code 1 when any verdict was not a pass. Starts the stack when it is not
up.

What the platform needed is, for each run, the length of the union of two spans:

- the outage, from the first act until the last state came that the plan waits for while it lasts (an alert, a lag, a
  run of the job that fails);
- the recovery, from the start of the run's clock (the last act, or its heal) until the last of: everything is drained,
  the alert that fired is over, and, where the archive is judged, the first scheduled run of its job has ended.

A wait for the platform before the first act is not in it: that the job is idle, for one. Nor is what it takes to see
that a state lasts.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks._measured import carry_out, ended
from gameday import codec
from gameday.drivers.prefect_api import Api
from gameday.model import Evidence, Json
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.verdict import schedule

NIGHTS = 10
COMMAND = str(Path(sys.executable).with_name("gameday"))

WAITS = ("wait", "wait for the alert")
"""The steps that wait for a state of the platform while its outage lasts."""

START, CLOSE = "start of the night", "end of the night"
LAST = "notify"
"""A run's last step: what follows until the next run begins is counted with it, as LAST_TOLD."""
LAST_TOLD = "notify, and on to the next test"
TASKS_MAX = 200

Span = tuple[float, float]
"""From and to, in seconds of the wall clock."""


@dataclass(frozen=True)
class Spent:
    """Where a night's time went. step_s: step -> what of it the platform did not need. prefect_s: what of that is
    Prefect's own, between a step's call and its begin, and after its end."""

    wall_s: float
    needed_s: float
    step_s: Mapping[str, float]
    prefect_s: float

    @property
    def ratio(self) -> float:
        return self.wall_s / self.needed_s if self.needed_s else float("inf")


def main() -> int:
    """Run them one after the other."""
    nights = int(sys.argv[1]) if len(sys.argv) > 1 else NIGHTS
    tests = sys.argv[2:] or ["--all"]
    subprocess.run([COMMAND, "up"], check=True)
    stack = open_stack()
    mttr_s, widths_s = defaultdict(list), defaultdict(list)
    others = 0
    for number in range(1, nights + 1):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "r.json"
            began_s = time.time()
            carry_out([COMMAND, "run", *tests, "--json", str(file)])
            ended_s = time.time()
            results = json.loads(file.read_text())["results"]
        told = ", ".join(f"{r['test']} {r['verdict']}" for r in results)
        night = spent(stack, [r["id"] for r in results], (began_s, ended_s))
        shown = f"{night.wall_s:.0f} s, of which the platform needed {night.needed_s:.0f} s: ratio {night.ratio:.2f}"
        print(f"night {number}, {shown}: {told}", flush=True)
        for step, took_s in sorted(night.step_s.items(), key=lambda item: -item[1]):
            print(f"  {took_s:6.1f} s  {step}")
        print(f"  {night.prefect_s:6.1f} s  of all that: Prefect's own, around the steps", flush=True)
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


def spent(stack: Stack, runs: Sequence[str], night: Span) -> Spent:
    """Where the time of this night with these runs went."""
    began_s, ended_s = night
    steps = [step for run in runs for step in logged(stack.state, run)]
    spans = [span for run in runs for span in needed(stack.state, run)]
    tasks = task_runs(Api.of(stack.config.prefect), began_s) if steps else []
    edges = [began_s, *(at_s for _, at_s in steps), ended_s]
    names = [START, *(LAST_TOLD if name == LAST else name for name, _ in steps)]
    step_s: dict[str, float] = defaultdict(float)
    for name, span in zip(names, itertools.pairwise(edges), strict=True):
        step_s[name] += outside(span, spans)
    if steps:  # nothing tells where the last step ends, and it takes next to nothing
        step_s[CLOSE] = step_s[LAST_TOLD] - sum(outside(s, spans) for s in _between(steps))
        step_s[LAST_TOLD] -= step_s[CLOSE]
    own_s = 0.0
    for (name, at_s), next_s in zip(steps, edges[2:], strict=True):
        inside = [(a, b) for task, a, b in tasks if task == name and at_s <= a <= next_s]
        if inside and name != LAST:
            own_s += outside((at_s, next_s), [*spans, *inside])
    wall_s = ended_s - began_s
    return Spent(wall_s, wall_s - sum(step_s.values()), step_s, own_s)


def _between(steps: Sequence[tuple[str, float]]) -> list[Span]:
    """From the last step of each run but the last one to the next run's first."""
    return [(at_s, next_s) for (name, at_s), (_, next_s) in itertools.pairwise(steps) if name == LAST]


def logged(state: State, run: str) -> list[tuple[str, float]]:
    """The steps of a run, each with when it began, from the run's own log."""
    found = []
    for line in (state.run(run) / "run.log").read_text().splitlines():
        at, _, text = line.partition(" ")
        if text.startswith("step: "):
            found.append((text.removeprefix("step: "), datetime.fromisoformat(at).timestamp()))
    return found


def needed(state: State, run: str) -> list[Span]:
    """The spans that the platform itself needed; none where nothing was broken."""
    evidence = codec.load_evidence(state.run(run))
    if evidence.baseline is None or evidence.inject_ns is None or evidence.clock_ns is None:
        return []
    marks = evidence.baseline.marks

    def wall_s(at_ns: float) -> float:
        return (marks.at_us + (at_ns - marks.at_ns) / 1e3) / 1e6

    inject_s, clock_s = wall_s(evidence.inject_ns), wall_s(evidence.clock_ns)
    steps = logged(state, run)
    waited = [
        next_s
        for (name, at_s), (_, next_s) in itertools.pairwise(steps)
        if name in WAITS and inject_s < next_s and at_s < max(clock_s, inject_s)
    ]
    over_s = [clock_s, *_recovered(evidence, inject_s, clock_s)]
    return [(inject_s, min(clock_s, max(waited, default=inject_s))), (clock_s, max(over_s))]


def _recovered(evidence: Evidence, inject_s: float, clock_s: float) -> Iterable[float]:
    for name, since_s in (("drain", inject_s), ("resolve", clock_s)):
        measure = evidence.measures.get(name)
        if measure is not None and measure.high_s is not None:
            yield since_s + measure.high_s
    if evidence.archive:
        yield from (r.ended_us / 1e6 for r in schedule.after(evidence.jobs, int(clock_s * 1e6))[:1] if r.ended_us)


def outside(span: Span, others: Sequence[Span]) -> float:
    """How much of a span lies in none of the others, in seconds.

    >>> outside((0.0, 10.0), [(2.0, 5.0), (4.0, 6.0), (9.0, 12.0)])
    5.0
    """
    left_s, at_s = 0.0, span[0]
    for begin_s, end_s in sorted(others):
        left_s += max(0.0, min(begin_s, span[1]) - at_s)
        at_s = max(at_s, end_s)
    return left_s + max(0.0, span[1] - at_s)


def task_runs(api: Api, since_s: float) -> list[tuple[str, float, float]]:
    """Prefect's task runs since then: name, start and end by the wall clock."""
    after = datetime.fromtimestamp(since_s).astimezone().isoformat()
    asked = {"task_runs": {"start_time": {"after_": after}}, "limit": TASKS_MAX, "sort": "END_TIME_DESC"}
    found: list[Json] = api.ask("POST", "/task_runs/filter", asked)
    return [
        (run["name"].rpartition("-")[0], _epoch_s(run["start_time"]), _epoch_s(run["end_time"]))
        for run in found
        if run["end_time"]
    ]


def _epoch_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    ended(main)
