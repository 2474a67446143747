"""Take the stack and make sure that it is well: nothing is injected into a stack that is not."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import conditions, guardian
from gameday.errors import DriverError, TooLate
from gameday.model import Inject, Verdict
from gameday.polling import until
from gameday.run import Halt, Run

WELL_FOR_S = 3.0
WELL_WITHIN_S = 45.0


@task(name="preflight", cache_policy=NO_CACHE)
def preflight(run: Run) -> None:
    """Halt(skipped) when the stack lacks what the plan needs, Halt(unknown) when it is not well."""
    for step in run.test.plan:
        if isinstance(step, Inject):
            run.stack.touchable(step.fault.component)
            if lacks := run.stack.lacks(step.fault):
                raise Halt(Verdict.SKIPPED, "; ".join(lacks))
    run.take()
    if left := guardian.nothing_left(run.stack):
        raise Halt(
            Verdict.UNKNOWN, f"the stack is not as it should be: {'; '.join(left)}. Remedy: gameday heal, gameday up"
        )
    try:
        run.groups = tuple(sorted(run.stack.ledger.heads()))
    except DriverError as e:
        raise Halt(Verdict.UNKNOWN, f"the ledger does not answer: {e}. Remedy: gameday up") from e
    run.sample()
    well = conditions.well(WELL_FOR_S)
    ailing: list[str] = []

    def check() -> bool:
        now = run.now()
        ailing[:] = conditions.ailing(now)
        return well(now)

    try:
        until(check, within_s=WELL_WITHIN_S, every_s=0.1, what="the stack to be well")
    except TooLate as e:
        reason = "; ".join(ailing) or "not well for long enough"
        raise Halt(
            Verdict.UNKNOWN, f"the stack was not well within {WELL_WITHIN_S:.0f} s: {reason}. Remedy: gameday status"
        ) from e
    run.say(f"{run.name}: the stack is well, {len(run.groups)} streams flow")
