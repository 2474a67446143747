"""Heals one fault of the plan, or all of them, and proves that nothing is left broken."""

import dataclasses
import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import TooLate
from gameday.model import Act, Verdict
from gameday.ports import Fault, Trap
from gameday.run import Halt, Run
from gameday.stack.registry import fault_from, fault_kind
from gameday.system.polling import until
from gameday.undo import mending

GONE_WITHIN_S = 10.0


@task(name="heal", cache_policy=NO_CACHE)
def heal(run: Run, fault: Fault | None) -> None:
    """Heal one fault, or with None all faults that are held. The run's clock starts here.

    A fault that was injected several times is healed as often, at once: undoing one act may undo the others too.

    If someone else has undone the fault meanwhile, the guardian sees it and the journal says so.
    """
    open_ = {a.id for a in run.acts if not a.undone}
    run.clock_ns = time.monotonic_ns()
    act_ids = None if fault is None else [a.id for a in run.acts if _same(a, fault)]
    for act in (a for a in run.held().heal(act_ids, why="the plan's heal") if a.id in open_):
        run.say(f"{run.name}: mended {act.fault} of {act.args.get('component')}")
    run.note_at_clock()


def _same(act: Act, fault: Fault) -> bool:
    return act.fault == fault_kind(fault) and act.args == dataclasses.asdict(fault)  # type: ignore[call-overload]


def _prove_traps(run: Run) -> None:
    """Note in the journal how each armed failpoint fired.

    Raises:
        Halt(invalid): a failpoint was armed and never fired.
    """
    for act in run.acts:
        if isinstance(fault_from(act.fault, act.args), Trap):
            run.say(f"{run.name}: {run.held().prove(act.id, within_s=0.0).proof}")
    if idle := [point for point, times in run.fired().items() if not times]:
        raise Halt(Verdict.INVALID, f"the fault did not bite: {', '.join(idle)} was armed and never fired")


@task(name="prove nothing is left", cache_policy=NO_CACHE)
def prove_nothing_left(run: Run) -> None:
    """Heal what is still open after the plan, and prove that nothing stays stopped, paused, cut or armed.

    Raises:
        Halt(unknown): something is still broken after GONE_WITHIN_S.
    """
    _prove_traps(run)
    run.held().heal(None, why="the end of the plan")
    left: list[str] = []

    def clean() -> bool:
        left[:] = mending.nothing_left(run.stack)
        return not left

    try:
        until(clean, within_s=GONE_WITHIN_S, every_s=0.1, what="nothing to be left")
    except TooLate as e:
        raise Halt(Verdict.UNKNOWN, f"left behind after healing: {'; '.join(left)}. Remedy: gameday heal") from e
