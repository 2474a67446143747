"""Kills gameday at work, and whatever it leans on: python -m benchmarks.undo [--kills N] [--log FILE] [--plot FILE]

Runs failure tests on the embedded stack, each variant in turn, and at a random moment of a random step strikes: SIGKILL
of the run's process, its guardian, its sampler, several of them together, the worker, Prefect's server, gameday's
Postgres; SIGSTOP of the run until it has lost the stack; Ctrl-C, SIGTERM, a cancellation in Prefect. After each: was
everything mended, how soon, by whom, and was there a pass that rests on nothing. Exit code 1 when anything was not as
promised, 3 when there is no kill to tell of. With --log each kill is one JSON line, and those of earlier campaigns
count; see docs/undo.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._measured import ended, nothing
from compose import supervisor
from flows import catalogue
from gameday import codec
from gameday.drivers.prefect_api import Api
from gameday.errors import DriverError, GamedayError, TooLate
from gameday.model import Act, Evidence, Json, Verdict, merge
from gameday.plan import FailureTest
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, descendants
from gameday.undo import guardian, lease, mending
from gameday.undo.journal import Journal
from tasks.definition import definition

__all__ = ["VICTIMS", "Campaign", "Kill", "plot", "table"]

COMMAND = str(Path(sys.executable).with_name("gameday"))
SEED = 6
STEP_S: Mapping[str, float] = {
    "preflight": 5.0,
    "baseline": 10.0,
    "inject": 1.0,
    "wait": 8.0,
    "heal": 0.2,
    "prove nothing is left": 0.2,
    "wait until recovered": 8.0,
    "gather evidence": 2.0,
    "judge": 0.2,
    "record": 0.2,
}
"""How long a step takes about: the moment of the strike is drawn from it, and the step that it met is noted."""

OPEN = ("inject", "wait", "heal", "prove nothing is left", "wait until recovered")
"""Where something is mostly broken: struck three times as often as the others."""

JUDGED = ("judge", "verify by the runbook", "compare", "record", "notify")
"""Who strikes now may meet a verdict that rests on everything there was."""

STARTS_WITHIN_S, STEP_WITHIN_S, ENDS_WITHIN_S = 60.0, 420.0, 420.0
"""A run may wait for five minutes until the job leaves the work to it."""

LEFT_WITHIN_S = 30.0
PREFECT_PATIENCE_S = 60.0
"""For each piece of an answer of Prefect's server, on a machine that has other things to do too."""
WELL_WITHIN_S = 120.0


@dataclass(frozen=True)
class Victim:
    """Whom a strike meets. bound_s: until all that was open is mended; None: the run goes on, and mends it itself.
    healers: who may have mended. worker: the run is Prefect's, in the worker; else it is the command line's. there:
    which process of the run there must be for it to meet anybody."""

    strike: Callable[[Campaign, Launched], None]
    bound_s: float | None
    healers: frozenset[str] = frozenset({"run"})
    worker: bool = False
    there: Callable[[Launched], Process | None] | None = None


@dataclass(frozen=True)
class Kill:
    """One strike and what came of it. healed_s: from the strike to the last undo of what was open then; late_s: the
    same without what an act that was under way still took, for it ends before it is undone. None: nothing was open."""

    victim: str
    test: str
    params: Mapping[str, Json]
    step: str
    acts: int
    healed_s: float | None
    late_s: float | None
    by: tuple[str, ...]
    whys: tuple[str, ...]
    verdict: str | None
    wrong: tuple[str, ...]


class Campaign:
    """Strikes on one stack that is up, one after another: the next run's start is the proof of the last one's undo."""

    def __init__(self, stack: Stack, seed: int = SEED, only: Collection[str] = ()) -> None:
        self.stack = stack
        self._draw = random.Random(seed)
        tests = [(name, definition(flow)) for name, flow in catalogue().items() if not only or name in only]
        self._sets = self._each_in_turn(tests)
        self._canonical = itertools.cycle([(name, dict(test().nightly[0])) for name, test in tests])

    def _each_in_turn(
        self, tests: Sequence[tuple[str, Callable[..., FailureTest]]]
    ) -> Iterator[tuple[str, dict[str, Json]]]:
        """Without end; a test's variants in an order of their own, so that one of many is not met more often."""
        variants = {}
        for name, test in tests:
            sets = [dict(p) for p in test().nightly if not self.stack.misses(test(**p))]
            variants[name] = itertools.cycle(self._draw.sample(sets, len(sets)))
        while True:
            for name in self._draw.sample(list(variants), len(variants)):
                yield name, next(variants[name])

    def kill(self, name: str, test: str | None = None, params: Mapping[str, Json] | None = None) -> Kill:
        """Start the next test's run (or this one's), strike, and look. Raises TooLate when a run does not get going:
        then something was left."""
        victim = VICTIMS[name]
        if test is None or params is None:
            test, params = next(self._canonical if victim.worker else self._sets)
        launched = Launched(self.stack, test, params, worker=victim.worker)
        try:
            step = self._aim(launched, victim)
            before = {a.id: a for a in launched.acts()}
            struck_ns = time.monotonic_ns()
            victim.strike(self, launched)
            return self._look(name, launched, step, before, struck_ns)
        finally:
            launched.end()
            self._well()

    def _aim(self, launched: Launched, victim: Victim) -> str:
        """Wait for a random moment of a random step, and until there is whom to strike; the step that is under way
        then."""
        wanted = self._draw.choice([*STEP_S, *OPEN, *OPEN])
        or_later = list(STEP_S)[list(STEP_S).index(wanted) :]

        def come() -> bool:
            steps = launched.steps()
            if wanted in OPEN:  # not the waits before anything is broken
                steps = steps[steps.index("inject") :] if "inject" in steps else []
            return launched.over or any(step in or_later for step in steps)

        until(come, STEP_WITHIN_S, every_s=0.02, what=f"step {wanted}")
        threading.Event().wait(self._draw.uniform(0, STEP_S[wanted]))
        if there := victim.there:
            until(lambda: there(launched) or launched.over, STARTS_WITHIN_S, every_s=0.02, what="whom to strike")
        steps = launched.steps()
        return steps[-1] if steps else "start"

    def _look(self, name: str, launched: Launched, step: str, before: Mapping[str, Act], struck_ns: int) -> Kill:
        """Whether all is as promised."""
        victim, wrong = VICTIMS[name], []
        if victim.bound_s is not None:
            wrong += self._left(launched)
        if not launched.ended():
            wrong.append(f"the run was still there {ENDS_WITHIN_S:g} s later")
            launched.end()
        wrong += self._left(launched)
        acts = launched.acts()
        was_open = [a for a in acts if a.at_ns <= struck_ns and _open_at(before.get(a.id, a), struck_ns)]
        healed_s = max((_s(a.healed_ns, struck_ns) for a in was_open), default=None)
        late = [(_s(a.healed_ns, max(struck_ns, a.done_ns or struck_ns)), a.fault) for a in was_open]
        result = launched.result()
        if result is not None and result["verdict"] == "pass":
            wrong += self._doubt(launched, victim, step)
        if victim.bound_s is not None:
            wrong += [f"{what} mended after {s:.2f} s of {victim.bound_s:g}" for s, what in late if s > victim.bound_s]
        by = tuple(sorted({launched.name_of(a.healed_by) for a in was_open}))
        if strangers := set(by) - victim.healers:
            wrong.append(f"mended by {', '.join(sorted(strangers))}")
        return Kill(
            name,
            launched.test,
            launched.params,
            step,
            len(acts),
            healed_s,
            max((s for s, _ in late), default=None),
            by,
            tuple(sorted({str(a.healed_why) for a in was_open})),
            None if result is None else str(result["verdict"]),
            tuple(wrong),
        )

    def _left(self, launched: Launched) -> list[str]:
        """What is still broken when the bound of all bounds is over."""
        left: list[str] = []

        def clean() -> bool:
            left[:] = [f"open: {a.fault} of {a.args.get('component')}" for a in launched.acts() if a.healed_ns is None]
            left[:] = left or mending.nothing_left(self.stack)
            return not left

        with suppress(TooLate):
            until(clean, LEFT_WITHIN_S, every_s=0.02, what="nothing to be left")
        return left

    def _doubt(self, launched: Launched, victim: Victim, step: str) -> list[str]:
        """A pass after a strike is wrong, unless the strike came after the judging, or met what no verdict rests on:
        then the evidence that was kept must say the same."""
        if step in JUDGED:
            return []
        if victim.bound_s is not None:
            return [f"a pass, although the strike came in step {step!r}"]
        evidence = codec.load_evidence(launched.folder)
        said = [f"{f.check} says {f.verdict} over the kept evidence" for f in _judge(launched, evidence)]
        return said

    def _well(self) -> None:
        """Until every process serves again: their own start is nobody's undo."""

        def ready() -> bool:
            with suppress(GamedayError, OSError):
                processes = supervisor.ask(self.stack.state, op="status")["processes"].values()
                return all(p["pid"] and p["ready"] is not False for p in processes)
            return False

        until(ready, WELL_WITHIN_S, every_s=0.1, what="every process to serve")
        if lease.holder(self.stack.state) is not None:
            mending.abort(self.stack.state)


class Launched:
    """One run of a failure test, seen from outside: its folder, its journal, its process or its flow run."""

    def __init__(self, stack: Stack, test: str, params: Mapping[str, Json], *, worker: bool) -> None:
        self.test, self.params = test, params
        self._stack = stack
        before = set(stack.state.runs.glob("*")) if stack.state.runs.exists() else set()
        self.process: subprocess.Popen[bytes] | None = None
        self.flow_run: str | None = None
        if worker:
            self.flow_run = _ask_worker(stack, test, params)
        else:
            options = [part for k, v in params.items() for part in ("-p", f"{k}={v}")]
            env = {**os.environ, "GAMEDAY_STATE": str(stack.state.root), "GAMEDAY_CONFIG": str(stack.path)}
            self.process = subprocess.Popen(
                [COMMAND, "run", test, *options],
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

        def folder() -> Path | None:
            found = set(stack.state.runs.glob(f"*-{test}-*")) - before
            return found.pop() if found else None

        try:
            self.folder = until(folder, STARTS_WITHIN_S, every_s=0.02, what=f"a run of {test}")
        except BaseException:
            if self.process is not None:
                self.process.kill()
            raise
        self.id = self.folder.name

    @property
    def over(self) -> bool:
        return (self.folder / "result.json").exists() or (self.process is not None and self.process.poll() is not None)

    def steps(self) -> list[str]:
        """The steps that have begun."""
        with suppress(FileNotFoundError):
            lines = (self.folder / "run.log").read_text().splitlines()
            return [line.partition(" step: ")[2] for line in lines if " step: " in line]
        return []

    def acts(self) -> tuple[Act, ...]:
        return Journal(self._stack.state.journal).acts(self.id)

    def result(self) -> Json | None:
        with suppress(FileNotFoundError):
            return json.loads((self.folder / "result.json").read_text())
        return None

    def holder(self) -> lease.Holder | None:
        """The lease, when it is this run's."""
        found = lease.holder(self._stack.state)
        return found if found is not None and found.run == self.id else None

    def runner(self) -> Process | None:
        """The process that interprets the test."""
        if self.process is not None:
            return Process.of(self.process.pid) if self.process.poll() is None else None
        found = self.holder()
        return found.owner if found is not None else None

    def sampler(self) -> Process | None:
        """The run's sampler, a child of its process."""
        runner = self.runner()
        for child in descendants(runner.pid) if runner is not None else ():
            with suppress(OSError):
                if b"gameday.sampling.sampler" in Path(f"/proc/{child.pid}/cmdline").read_bytes():
                    return child
        return None

    def ended(self) -> bool:
        """Wait for its end; False: it didn't come."""
        with suppress(TooLate):
            return until(self._gone, ENDS_WITHIN_S, every_s=0.05, what=f"the end of {self.id}")
        return False

    def _gone(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        holder = self.holder()
        return holder is None and (self.over or _state(self._stack, str(self.flow_run)) in FINAL)

    def name_of(self, healer: str | None) -> str:
        """Who mended, as Victim.healers has it."""
        return "run" if healer == self.id else str(healer)

    def end(self) -> None:
        """Leave nothing of it running."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        elif self.flow_run is not None and (owner := self.runner()) is not None:
            owner.send(signal.SIGKILL)


# ---- the strikes -----------------------------------------------------------------------------------------------------


def _send(number: signal.Signals, *whom: Callable[[Launched], Process | None]) -> Callable[[Campaign, Launched], None]:
    """Signal these processes of the run, as far as there are any yet."""

    def strike(_: Campaign, launched: Launched) -> None:
        for process in [one(launched) for one in whom]:
            if process is not None:
                process.send(number)

    return strike


def _guardian(launched: Launched) -> Process | None:
    holder = launched.holder()
    return holder.guardian if holder is not None else None


def _kill_server(name: str) -> Callable[[Campaign, Launched], None]:
    """SIGKILL of one of the supervisor's processes, which it revives."""

    def strike(campaign: Campaign, _: Launched) -> None:
        pid = supervisor.ask(campaign.stack.state, op="status")["processes"][name]["pid"]
        if pid is not None and (process := Process.of(pid)) is not None:
            process.send(signal.SIGKILL)

    return strike


def _kill_all(campaign: Campaign, launched: Launched) -> None:
    """Run, guardian and reconciler, which stays away: the next command mends."""
    state = campaign.stack.state
    supervisor.ask(state, op="stop", name="reconciler", grace_s=2.0)
    try:
        _send(signal.SIGKILL, Launched.runner, _guardian)(campaign, launched)
        subprocess.run([COMMAND, "abort"], env={**os.environ, "GAMEDAY_STATE": str(state.root)}, check=False)
    finally:
        supervisor.ask(state, op="start", name="reconciler")


def _freeze(campaign: Campaign, launched: Launched) -> None:
    """SIGSTOP of the run; another takes the stack; SIGCONT while that one has it: it must not act any more."""
    runner = launched.runner()
    if runner is None or launched.holder() is None:
        return
    runner.send(signal.SIGSTOP)
    try:
        mending.abort(campaign.stack.state)
        other = guardian.Guardian.start(campaign.stack, f"{launched.id}-next", "undo", 60)
        try:
            known = len(launched.acts())
            runner.send(signal.SIGCONT)
            launched.ended()
            if len(launched.acts()) != known:
                raise GamedayError(f"{launched.id} acted after it had lost the stack")
        finally:
            other.close()
    finally:
        runner.send(signal.SIGCONT)


def _cancel(campaign: Campaign, launched: Launched) -> None:
    _prefect(campaign.stack, "POST", f"/flow_runs/{launched.flow_run}/set_state", {"state": {"type": "CANCELLING"}})


RUN, RECONCILER = frozenset({"run"}), frozenset({"run", "the reconciler"})
VICTIMS: Mapping[str, Victim] = {
    "run": Victim(_send(signal.SIGKILL, Launched.runner), 1.0),
    "guardian": Victim(_send(signal.SIGKILL, _guardian), 2.0, RECONCILER, there=_guardian),
    "sampler": Victim(_send(signal.SIGKILL, Launched.sampler), 3.0, there=Launched.sampler),
    "run and guardian": Victim(_send(signal.SIGKILL, Launched.runner, _guardian), 2.0, RECONCILER),
    "run, guardian and reconciler": Victim(_kill_all, 10.0, frozenset({"run", "gameday abort"})),
    "run, frozen": Victim(_freeze, 2.0, there=_guardian),
    "run, Ctrl-C": Victim(_send(signal.SIGINT, Launched.runner), 2.0),
    "run, SIGTERM": Victim(_send(signal.SIGTERM, Launched.runner), 2.0),
    "run, cancelled in Prefect": Victim(_cancel, 15.0, worker=True),
    "Prefect's worker": Victim(_kill_server("prefect-worker"), None, worker=True),
    "Prefect's server": Victim(_kill_server("prefect-server"), None),
    "gameday's Postgres": Victim(_kill_server("gameday-postgres"), None),
}


# ---- asking Prefect --------------------------------------------------------------------------------------------------

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def _prefect(stack: Stack, method: str, path: str, body: Json = None) -> Any:
    return Api.of(stack.config.prefect).ask(method, path, body, PREFECT_PATIENCE_S)


def _ask_worker(stack: Stack, test: str, params: Mapping[str, Json]) -> str:
    name = test.replace("_", "-")
    deployment = _prefect(stack, "GET", f"/deployments/name/{name}/{stack.name}")["id"]
    wanted = {"parameters": {**params, "stack": str(stack.path.resolve())}}
    return str(_prefect(stack, "POST", f"/deployments/{deployment}/create_flow_run", wanted)["id"])


def _state(stack: Stack, flow_run: str) -> str:
    try:
        return str(_prefect(stack, "GET", f"/flow_runs/{flow_run}")["state_type"])
    except DriverError:
        return "unknown"


# ---- judging and showing ---------------------------------------------------------------------------------------------


def _s(healed_ns: int | None, since_ns: int) -> float:
    """Until it was mended; 0 for what never was: that is told as left."""
    return max(0.0, ((healed_ns or since_ns) - since_ns) / 1e9)


def _open_at(act: Act, at_ns: int) -> bool:
    undone_ns = act.healed_ns if act.undone_ns is None else act.undone_ns  # what only starts is not broken any more
    return undone_ns is None or undone_ns > at_ns


def _judge(launched: Launched, evidence: Evidence | None) -> Iterator[Any]:
    """What the test's checks don't pass."""
    if evidence is None:
        return
    test = definition(catalogue()[launched.test])(**launched.params)
    findings = [check(evidence) for check in test.checks]
    if merge([f.verdict for f in findings]) is not Verdict.PASS:
        yield from (f for f in findings if f.verdict not in (Verdict.PASS, Verdict.SKIPPED))


def table(kills: Sequence[Kill]) -> str:
    """Markdown: a row a victim."""
    lines = [
        "| struck | times | with a fault open | undone after (median, p99, max) | by | verdicts |",
        "|---|---|---|---|---|---|",
    ]
    for name in VICTIMS:
        mine = [k for k in kills if k.victim == name]
        if not mine:
            continue
        times = sorted(k.late_s for k in mine if k.late_s is not None)
        shown = "its own end" if VICTIMS[name].bound_s is None else "—"
        if times and VICTIMS[name].bound_s is not None:
            p99 = times[math.ceil(0.99 * len(times)) - 1]
            shown = f"{statistics.median(times):.2f} s, {p99:.2f} s, {times[-1]:.2f} s"
        by = ", ".join(sorted({who for k in mine for who in k.by})) or "—"
        verdicts = {str(v): sum(k.verdict == v for k in mine) for v in {k.verdict for k in mine}}
        told = ", ".join(f"{n} {'no result' if v == 'None' else v}" for v, n in sorted(verdicts.items()))
        lines.append(f"| {name} | {len(mine)} | {len(times)} | {shown} | {by} | {told} |")
    return "\n".join(lines)


def plot(kills: Sequence[Kill]) -> str:
    """SVG: a dot a kill, from the strike, or the end of the act under way, to the last undo, a row a victim,
    logarithmic; a bar is the bound."""
    names = [n for n, v in VICTIMS.items() if v.bound_s is not None and any(k.victim == n for k in kills)]
    left, width, row = 210, 560, 26
    low, high = -3.0, 1.5

    def x(seconds: float) -> float:
        return left + (math.log10(max(seconds, 10**low)) - low) / (high - low) * width

    height = row * len(names) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {height}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="#444">',
        "<title>From each kill to the last undo</title>",
    ]
    for power in range(math.ceil(low), math.floor(high) + 1):
        at, label = x(10.0**power), f"{10.0**power:g} s"
        parts.append(f'<line x1="{at:.1f}" y1="6" x2="{at:.1f}" y2="{height - 34}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - 16}" text-anchor="middle">{label}</text>')
    for number, name in enumerate(names):
        y, bound_s = 18 + row * number, VICTIMS[name].bound_s or 0.0
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{name}</text>')
        parts.append(f'<line x1="{x(bound_s):.1f}" y1="{y - 9}" x2="{x(bound_s):.1f}" y2="{y + 9}" stroke="#c33"/>')
        for kill in kills:
            if kill.victim == name and kill.late_s is not None:
                parts.append(f'<circle cx="{x(kill.late_s):.1f}" cy="{y}" r="3" fill="#26c" fill-opacity="0.4"/>')
    return "\n".join([*parts, "</svg>", ""])


def _read(path: Path | None) -> list[Kill]:
    if path is None or not path.exists():
        return []
    return [codec.decode(Kill, json.loads(line), str(path)) for line in path.read_text().splitlines()]


def main() -> int:
    """Strike until there are so many kills, and print what they showed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=len(VICTIMS), help="in all, those in --log included")
    parser.add_argument("--log", type=Path, help="one JSON line a kill; continued")
    parser.add_argument("--plot", type=Path, help="write an SVG")
    parser.add_argument("--victim", action="append", choices=list(VICTIMS), help="only these")
    parser.add_argument("--test", action="append", choices=list(catalogue()), help="only these")
    options = parser.parse_args()
    kills = _read(options.log)
    if not kills and options.kills <= 0:
        return nothing("--kills asks for none, and --log has none")
    subprocess.run([COMMAND, "up"], check=True)
    campaign = Campaign(open_stack(state=State.default()), SEED + len(kills), options.test or ())
    names = itertools.cycle(options.victim or list(VICTIMS))
    for _ in range(len(kills) % len(VICTIMS)):
        next(names)
    while len(kills) < options.kills:
        began = time.monotonic()
        kill = campaign.kill(next(names))
        kills.append(kill)
        if options.log is not None:
            with options.log.open("a") as file:
                file.write(json.dumps(asdict(kill)) + "\n")
        healed = "nothing was open" if kill.late_s is None else f"undone after {kill.late_s:.3f} s"
        wrong = f"; WRONG: {'; '.join(kill.wrong)}" if kill.wrong else ""
        told = f"{len(kills)}: {kill.victim}, {kill.test} in {kill.step!r}: {healed}, verdict {kill.verdict}{wrong}"
        print(f"{told} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"\n{table(kills)}")
    if options.plot is not None:
        options.plot.write_text(plot(kills))
    broken = sum(bool(k.wrong) for k in kills)
    print(f"\n{len(kills)} kills, {broken} not as promised")
    return 1 if broken else 0


if __name__ == "__main__":
    ended(main)
