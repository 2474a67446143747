"""Carries out the runbook's blocks on the real failure: diagnosis while it lasts, recovery in place of the plan's own
heal, verification once the platform is back.

The results are the run's `steps`. They never change its verdict.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import ConfigError, DriverError, GamedayError, TooLate, masked
from gameday.model import Act, Step
from gameday.plan import Await, Heal, Inject
from gameday.ports import Held
from gameday.run import Run
from gameday.runbooks import blocks as runbook
from gameday.runbooks.blocks import DIAGNOSIS, KIND_S, RECOVERY, VERIFY, Block
from gameday.sampling import conditions
from gameday.stack.live import Stack
from gameday.stack.reading import read_env
from gameday.stack.registry import fault_from
from gameday.state import ROOT
from gameday.system import address, shell
from gameday.system.polling import until

__all__ = ["diagnose", "environment", "moment", "recover", "verify"]

LOOK_S = 15.0
"""How long a block that only looks may take. It is repeated until it shows what is expected."""

REPEAT_EVERY_S = 1.0
"""The time between two repetitions. Looking costs processor time on the platform's machine: `gameday status` takes most
of a second of a core."""

WHY_CHARS_MAX = 400
"""How much of the end of an unexpected output is shown; all of it is in the run's runbook.log."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE")
"""The variables that a block inherits from gameday's environment."""

COLUMNS = "250"
"""The terminal's width for a block, so that tools print each row on one line."""

SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN|KEY")
NOT_FOUND = re.compile(r"^sh: (?:line )?\d+: (\S+?):(?: command)? not found$", re.MULTILINE)


def moment(plan: Sequence[Inject | Await | Heal]) -> int:
    """Return the index in the plan at which the diagnosis runs: before the heal that ends the failure, or at the plan's
    end where no fault is held."""
    acts = [at for at, step in enumerate(plan) if isinstance(step, Inject | Heal)]
    return acts[-1] if acts and isinstance(plan[acts[-1]], Heal) else len(plan)


@task(name="diagnose", cache_policy=NO_CACHE)
def diagnose(run: Run) -> None:
    """Run the runbook's diagnosis while the failure lasts, and note whether it shows what was broken."""
    began_ns = time.monotonic_ns()
    for block, left_s in _blocks(run, DIAGNOSIS):
        _note(run, _look(run, block, left_s, lasts=lambda: _lasts(run, began_ns)))


@task(name="recover", cache_policy=NO_CACHE)
def recover(run: Run) -> bool:
    """Heal the held faults by the runbook's own steps, each run once.

    A fault that was in effect before a step and is not after it was healed by this run: the run's clock starts where
    that step began. The plan's heal mends what no step has.

    Returns: whether the runbook healed everything, so that nothing is left for the plan's heal.
    """
    mended = False
    for block, left_s in _blocks(run, RECOVERY):
        still_held = _held(run)
        if not still_held:
            break
        began_ns = time.monotonic_ns()
        step = _once(run, block, left_s)
        mended_acts = [act for act in still_held if not _holds(run, act)]
        for act in mended_acts:
            run.held().settle(act.id, why=f"by the runbook: {block.title}")
            run.clock_ns, mended = began_ns, True
            run.say(f"{run.name}: mended {act.fault} of {act.args.get('component')} by the runbook: {block.title}")
        if step.ok and not mended_acts:
            rest = ", ".join(f"{act.fault} of {act.args.get('component')}" for act in still_held)
            step = replace(step, ok=False, why=f"came out as expected, and left {rest}")
        _note(run, step)
    return mended and not _held(run)


@task(name="verify by the runbook", cache_policy=NO_CACHE)
def verify(run: Run) -> None:
    """Run the runbook's verification, and note whether it agrees that the platform is back."""
    for block, left_s in _blocks(run, VERIFY):
        if run.recovered:
            _note(run, _look(run, block, left_s, lasts=lambda: True))
        else:
            _note(run, Step(VERIFY, block.title, None, "the platform was not back in time", 0.0))


# ---- one block ---------------------------------------------------------------------------------------------


def _blocks(run: Run, kind: str) -> Iterator[tuple[Block, float]]:
    """Yield the blocks of this kind that are meant for this run, each with the seconds that are left for it."""
    if run.stack.config.runbook is None:
        return
    path = run.stack.runbook(run.name)
    try:
        if path.resolve().parent != path.parent:
            raise ConfigError(f"{path} leads out of its folder. Remedy: the file itself, not a link")
        blocks = runbook.read(path)
    except ConfigError as e:
        if kind == DIAGNOSIS:  # the first kind: the error is noted once
            _note(run, Step(kind, "Read the runbook", False, str(e), 0.0))
        return
    deadline = time.monotonic() + KIND_S
    for block in blocks:
        if block.kind != kind or not block.meant_for(run.params):
            continue
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            _note(run, Step(kind, block.title, None, f"the steps before it took {KIND_S:g} s", 0.0))
        else:
            yield block, left_s


def _look(run: Run, block: Block, left_s: float, lasts: Callable[[], bool]) -> Step:
    """Repeat a block that only looks until it shows what is expected, the failure is over, or its time is."""
    began = time.monotonic()
    # A verification may take longer: nothing is kept broken for it.
    within_s = left_s if block.kind == VERIFY else min(LOOK_S, left_s)
    step = Step(block.kind, block.title, None, "", 0.0)

    def shown() -> bool:
        nonlocal step
        left_s = began + within_s - time.monotonic()
        if step.took_s > left_s:
            return True  # another look would be cut off, and show less than the last one
        looked = _once(run, block, left_s)
        if looked.ok is None and step.ok is False:
            return True  # this look was cut off: the one before shows more
        step = looked
        if step.ok is False and not lasts():
            step = replace(step, ok=None, why=f"it was over before it could be looked at: {step.why}")
        return step.ok is not False

    with suppress(TooLate):
        until(shown, within_s, REPEAT_EVERY_S, block.title)
    return replace(step, took_s=round(time.monotonic() - began, 3))


def _once(run: Run, block: Block, within_s: float) -> Step:
    """Carry out a block once, and log its text and output in the run's runbook.log."""
    env = environment(run)
    if lacks := sorted(block.variables - env.keys()):
        why = f"[runbook.env] in gameday.toml sets no {', '.join(lacks)}"
        return Step(block.kind, block.title, None, why, 0.0)
    try:
        ended = shell.run(block.text, env, ROOT, within_s, watch=run.lasts)
    except DriverError as e:
        return Step(block.kind, block.title, None, str(e), 0.0)
    output = masked(ended.output, _secrets(run.stack))
    _log(run, block, output, ended)
    why = block.mismatch(output, ended.status)
    if not why:
        return Step(block.kind, block.title, True, "", ended.took_s)
    if missing := NOT_FOUND.search(output):
        return Step(block.kind, block.title, None, f"{missing[1]} is not installed here", ended.took_s)
    output_end = " ".join(output.split())[-WHY_CHARS_MAX:] or "nothing"
    if ended.why == shell.LATE and block.kind != RECOVERY:  # a slow machine doesn't make the runbook wrong
        return Step(block.kind, block.title, None, f"{ended.why}: {within_s:.0f} s, after {output_end}", ended.took_s)
    output_end = f"{ended.why}, after {output_end}" if ended.why else output_end
    return Step(block.kind, block.title, False, f"{why}; came: {output_end}", ended.took_s)


def environment(run: Run) -> dict[str, str]:
    """Return a block's environment: [runbook.env], the run's parameters in capitals, and where gameday finds its
    stack."""
    config = run.stack.config.runbook
    given = {} if config is None else {name: value.get_secret_value() for name, value in config.env.items()}
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    inherited["PATH"] = f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}"
    gameday = {"GAMEDAY_CONFIG": str(run.stack.path), "GAMEDAY_STATE": str(run.stack.state.root), "COLUMNS": COLUMNS}
    params = {name.upper(): str(value) for name, value in run.params.items()}
    if "component" in run.params and run.component is not None:  # of a role with members, the member that is struck
        params["COMPONENT"] = run.component
    return {**inherited, **gameday, **params, **given}


def _note(run: Run, step: Step) -> None:
    run.steps.append(step)
    outcome = {True: "as it says", False: f"not as it says: {step.why}", None: f"not carried out: {step.why}"}
    run.say(f"{run.name}: runbook, {step.kind}: {step.title}: {outcome[step.ok]}")


def _log(run: Run, block: Block, output: str, ended: shell.Ended) -> None:
    """Append a block's output to runbook.log. Errors are ignored: a full disk must not stop the diagnosis."""
    path = run.folder / "runbook.log"
    with suppress(OSError), path.open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(f"## {block.kind}: {block.title} ({ended.took_s:g} s, {ended.why or f'ended with {ended.status}'})\n")
        log.write(f"{block.text}\n---\n{output.rstrip()}\n\n")


# ---- what is broken ----------------------------------------------------------------------------------------


def _lasts(run: Run, began_ns: int) -> bool:
    """Return whether the failure can still be seen: a held fault is in effect, or a stream was not back throughout the
    last second.

    The failed run of a job can always be seen: its orchestrator keeps it. Samples from before began_ns don't count.
    """
    if any(isinstance(fault_from(act.fault, act.args), Held) and not act.undone for act in run.acts):
        run.still_broken()
        return True
    now = run.now()
    if run.test.archive or now.at_ns - began_ns < conditions.SECOND_S * 1e9:
        return True
    return not (conditions.restored(now) and conditions.drained(now))


def _held(run: Run) -> list[Act]:
    """Return the acts of this run that were proved and are in effect now."""
    return [act for act in run.acts if act.proof is not None and not act.undone and _holds(run, act)]


def _holds(run: Run, act: Act) -> bool:
    """Return whether a held fault is in effect. If that can't be asked, it is taken to be: then the plan's heal
    follows."""
    fault = fault_from(act.fault, act.args)
    if not isinstance(fault, Held):
        return False
    try:
        return fault.holds(run.stack, act.before)
    except GamedayError:
        return True


# ---- secrets -----------------------------------------------------------------------------------------------


def _secrets(stack: Stack) -> list[str]:
    """Return what a block's output must not show: values of variables whose names mean a secret, and passwords in
    addresses."""
    config = stack.config.runbook
    given = {} if config is None else {name: value.get_secret_value() for name, value in config.env.items()}
    drawn: Mapping[str, str] = read_env(stack.state.env)
    named = [value for name, value in {**drawn, **given}.items() if SECRET_NAME.search(name)]
    secrets = {part for value in named for part in (value, value.partition(":")[2])}
    for text in (*given.values(), stack.config.history.get_secret_value()):
        with suppress(ValueError):
            secrets.add(address.of(text).password or "")
    secrets |= {address.encoded(secret) for secret in secrets}
    return sorted(secrets - {""}, key=len, reverse=True)
