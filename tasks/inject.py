"""Injects one fault through the guardian, and proves that it took effect."""

import time
from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import TooLate
from gameday.model import Act, Verdict
from gameday.ports import Delayed, Fault
from gameday.run import Run, too_late
from gameday.stack.registry import fault_kind
from gameday.system.polling import until

BITES_WITHIN_S = 10.0
"""How long a fault may take to show its effect, unless it says otherwise (`bites_within_s`)."""

LOOK_EVERY_S = 0.5
"""How often the run checks that its sampler still works, while it waits for the proof. A strike may wait long for its
moment."""


@task(name="inject", cache_policy=NO_CACHE)
def inject(run: Run, fault: Fault) -> None:
    """Write the fault to the journal, carry it out, and wait for its proof.

    Raises:
        Halt(invalid): the fault had no effect in time. A test without its fault proves nothing.
    """
    if run.inject_ns is None:
        run.hush()
        until_when = datetime.now(UTC) + timedelta(seconds=run.ttl_s)
        run.say(
            f"{run.name}: now breaking {fault.component} of stack {run.stack.name} ({fault}); "
            f"mended by {until_when:%H:%M:%S} UTC at the latest; to stop it: gameday abort"
        )
    struck_ns = time.monotonic_ns()
    first = run.inject_ns is None
    run.inject_ns = run.inject_ns or struck_ns
    act = run.held().inject(fault)
    within_s = getattr(fault, "bites_within_s", BITES_WITHIN_S)

    def proved() -> Act | None:
        run.watching()
        seen = run.held().prove(act.id, within_s=LOOK_EVERY_S)
        return seen if seen.proof is not None else None

    try:
        act = until(proved, within_s, what="the fault's effect")
    except TooLate as e:
        changed = f"{fault_kind(fault)} of {fault.component} changed nothing within {within_s:.0f} s"
        raise too_late(run, Verdict.INVALID, f"the fault did not bite: {changed}", struck_ns) from e
    if isinstance(fault, Delayed):
        struck_ns = fault.struck_ns(run.stack, act.before)
        run.inject_ns = struck_ns if first else run.inject_ns
    run.clock_ns = struck_ns
    run.note_at_clock()
    run.say(f"{run.name}: {act.proof}")
