"""Takes the stack for this run, and makes sure that it is well. Nothing is injected into a stack that is not."""

import time
from contextlib import suppress

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import DriverError, TooLate
from gameday.model import Hindrance, Verdict
from gameday.plan import Inject
from gameday.ports import Asks
from gameday.run import HEADS_WITHIN_S, Halt, Run, too_late
from gameday.sampling import conditions
from gameday.system.asking import answer
from gameday.system.polling import until
from gameday.undo import mending
from gameday.verdict import ahead

CLEAN_RUNS = 20
"""A clean run is looked for in this many past intervals of the job's schedule."""

FIRST_RUN_S = 60.0
"""How long a job's first run may take, once it is due."""

PASSES_WITHIN_S = 60.0
"""How long a worker may take to be seen after its start (Prefect asks it every 30 s), or a job's run to end."""

WELL_FOR_S = 3.0
WELL_WITHIN_S = 45.0


@task(name="preflight", cache_policy=NO_CACHE)
def preflight(run: Run) -> None:
    """Take the stack, and wait until it is well.

    Raises:
        Halt(skipped): the stack lacks what the plan needs.
        Halt(unknown): the stack is not well.
    """
    if misses := run.stack.misses(run.test):
        raise Halt(Verdict.SKIPPED, "; ".join(misses))
    for step in run.test.plan:
        if isinstance(step, Inject):
            run.stack.permit(step.fault)
    run.prepare()
    run.take()
    if left := mending.nothing_left(run.stack):
        raise Halt(
            Verdict.UNKNOWN, f"the stack is not as it should be: {'; '.join(left)}. Remedy: gameday heal, gameday up"
        )
    run.let_fly()
    try:
        streams = run.stack.streams.items()
        run.follow({n: answer(s.ledger.heads, HEADS_WITHIN_S, "the ledger's heads") for n, s in streams})
        beyond = answer(
            lambda: ahead.beyond(run.stack, ahead.heads_of(run.stack, run.test.archive)),
            HEADS_WITHIN_S,
            "the heads of all hops",
        )
    except DriverError as e:
        raise DriverError(f"the ledger does not answer: {e}. Remedy: gameday up", definite=e.definite) from e
    if beyond:
        raise Halt(Verdict.UNKNOWN, "; ".join(ahead.told(run.stack, beyond)))
    for stop in run.stack.stops():
        try:
            crossed = answer(stop.crossed, HEADS_WITHIN_S, f"stop condition {stop.name}")
        except DriverError as e:
            raise DriverError(f"stop condition {stop.name} can't be watched: {e}", definite=e.definite) from e
        if crossed:
            raise Halt(Verdict.UNKNOWN, f"aborted: {crossed}, before anything was broken")
    run.await_samples()
    began_ns, well = time.monotonic_ns(), conditions.well(WELL_FOR_S)
    ailing: list[str] = []

    def check() -> bool:
        now = run.now()
        ailing[:] = conditions.ailing(now)
        return well(now)

    try:
        until(check, within_s=WELL_WITHIN_S, every_s=0.1, what="the stack to be well")
    except TooLate as e:
        reason = "; ".join(ailing) or "not well for long enough"
        why = f"the stack was not well within {WELL_WITHIN_S:.0f} s: {reason}. Remedy: gameday status"
        raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e
    _look_at_jobs(run)
    if run.test.archive:
        _await_export(run)
    _look_at_alert(run)
    run.say(f"{run.name}: the stack is well, {sum(len(one.groups) for one in run.followed.values())} streams flow")


def _look_at_alert(run: Run) -> None:
    """Note why the platform's alert can't be watched, if so: its silence would then prove nothing."""
    if run.alert is None or run.stack.alerts is None:
        return
    name, component = run.alert
    try:
        run.stack.alerts.state(run.stack.alert_name(name), run.stack.alert_labels(component))
    except DriverError as e:
        run.symptoms["alert.trouble"] = str(e)


def _look_at_jobs(run: Run) -> None:
    """Make sure that the jobs would start whose runs the plan asks for or waits for.

    Otherwise the test could only end with "not recovered", so nothing is broken for it.

    Raises:
        Halt(unknown): a job's run would not start.
    """
    archive = run.stack.config.archive if run.test.archive else None
    asked = {step.fault.job for step in run.test.plan if isinstance(step, Inject) and isinstance(step.fault, Asks)}
    bound_s = max(run.test.mttr_max_s, run.test.drain_max_s)
    needs = {**dict.fromkeys(asked), **({archive.job: bound_s} if archive else {})}
    hindrances: list[Hindrance] = []

    def free() -> bool:
        run.lasts()
        hindrances[:] = [
            hindrance for job, within_s in needs.items() for hindrance in run.stack.job(job).hindrances(within_s)
        ]
        return not hindrances or any(not hindrance.passes for hindrance in hindrances)

    with suppress(TooLate):
        until(free, within_s=PASSES_WITHIN_S, every_s=1.0, what="the job to be free")
    if hindrances:
        raise Halt(
            Verdict.UNKNOWN,
            f"nothing was broken, for the job would not run: {'; '.join(hindrance.why for hindrance in hindrances)}",
        )


def _await_export(run: Run) -> None:
    """Wait until the archive has a commit to go on from, and its job a clean run to compare with. A new stack has
    neither.

    Raises:
        Halt(unknown): there is none after one interval of the job and FIRST_RUN_S.
    """
    archive, job = run.stack.export()
    interval_s, began_ns = job.interval_s() or 0.0, time.monotonic_ns()

    def filled() -> bool:
        run.held()
        since_us = (time.time_ns() - int((CLEAN_RUNS + 1) * interval_s * 1e9)) // 1000
        clean = any(one.scheduled and one.state == "Completed" for one in job.runs(since_us))
        commits = answer(lambda: archive.commits(None), HEADS_WITHIN_S, "the archive's newest commit", run.lasts)
        return bool(commits) and (clean or not interval_s)

    try:
        until(filled, within_s=interval_s + FIRST_RUN_S, every_s=2.0, what="a first clean run of the archive's job")
    except TooLate as e:
        why = f"the archive is not being filled: {e}. Remedy: gameday check"
        raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e
