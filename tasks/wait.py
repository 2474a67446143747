"""Waits, within a bound, for a condition of the plan, and for the platform to be back and drained."""

import time
from collections.abc import Mapping

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import DriverError, TooLate
from gameday.model import FIRING, INACTIVE, Measure, Verdict
from gameday.plan import Await, FiresWithin
from gameday.run import Run, marks, too_late
from gameday.sampling import conditions, timings
from gameday.system.polling import until
from gameday.verdict import schedule
from tasks import apart

AWAIT_EVERY_S = 0.2
LOOK_EVERY_S = 0.5
EXPORT_READ_EVERY_S = 2.0
"""The time between two looks at an archive. One that lacks something after its job ran needs another run of it, and
each look reads all samples again."""
SETTLE_S = 1.0
"""How much longer recovery is awaited than the bounds: what was good in time must stay good, and be sampled, before it
can be judged."""

RESOLVES_WITHIN_S = 30.0
"""How long an alert may stay after recovery: its rule has to be evaluated again."""


@task(name="wait", cache_policy=NO_CACHE)
def wait(run: Run, step: Await) -> None:
    """Wait for a condition of the plan.

    Raises (when the condition doesn't hold in time):
        Halt(fail): the bound is the platform's promise.
        Halt(invalid): an armed failpoint never fired.
        Halt(unknown): otherwise.
    """
    what = getattr(step.condition, "__name__", repr(step.condition))
    lacks = ""

    began_ns = time.monotonic_ns()

    def came() -> bool:
        nonlocal lacks
        run.doing = f"waiting for {what!r}" + (f" ({lacks})" if lacks else "")
        run.still_broken()
        now = run.now(at_least_s=conditions.looks_back_s(step.condition))
        condition_met = step.condition(now)
        lacks = "" if condition_met else conditions.lacks(step.condition, now)
        return condition_met

    try:
        until(came, within_s=step.within_s, every_s=AWAIT_EVERY_S, what=what)
    except TooLate as e:
        why = f"waited {step.within_s:g} s for {what!r}, which did not come" + (f": {lacks}" if lacks else "")
        verdict = Verdict.FAIL if step.promise else Verdict.UNKNOWN
        if not step.promise and (idle := [point for point, times in run.fired().items() if not times]):
            verdict, why = Verdict.INVALID, f"the fault did not bite: {', '.join(idle)} never fired ({why})"
        raise too_late(run, verdict, why, began_ns) from e
    run.say(f"{run.name}: {what}")


@task(name="wait for the alert", cache_policy=NO_CACHE)
def wait_alert(run: Run) -> None:
    """Keep the fault until the platform's alert fires, to prove that it does.

    If it doesn't fire in time, or can't be seen, the run goes on: the check `alert` judges it.
    """
    promise = run.test.alert
    if run.alert is None or not isinstance(promise, FiresWithin) or run.inject_ns is None:
        return
    left_s = promise.within_s - (run.now().at_ns - run.inject_ns) / 1e9

    def over() -> str | None:
        run.still_broken()
        now = run.now()
        state = conditions.alert_state(now.samples, now.at_ns)
        return "can't be seen" if state is None else "fires" if state == FIRING else None

    try:
        outcome = until(over, within_s=max(0.0, left_s), every_s=AWAIT_EVERY_S, what=f"the alert {promise.alert}")
    except TooLate:
        outcome = f"did not fire within {promise.within_s:g} s"
    run.say(f"{run.name}: {promise.alert} {outcome}")


@task(name="wait until recovered", cache_policy=NO_CACHE)
def wait_recovered(run: Run) -> None:
    """Wait until service is back and drained, or until it is too late for the test's targets.

    It also ends where all is good and a measure that is missing can't be taken any more. The check `recovered` judges
    the outcome.
    """
    behind_s = run.baseline.bound_s if run.baseline else timings.BOUND_BEFORE_BASELINE_S
    bound_s = max(run.test.mttr_max_s, run.test.drain_max_s) + timings.sustained_s(behind_s) + SETTLE_S
    began_ns = run.now().at_ns
    read_every_s = EXPORT_READ_EVERY_S if run.test.archive else 0.0
    due_s = 0.0

    def back() -> Mapping[str, Measure] | None:
        nonlocal due_s
        run.doing = "waiting for recovery"
        if not (_exported(run) if run.test.archive else _restored(run, began_ns)):
            return None
        now_s = time.monotonic()
        if now_s < due_s:
            return None
        try:
            if not _every_group_there(run):
                return None
        except DriverError:
            return None  # a server that has just come back may be slow: it is asked again, within the same bound
        run.seen_back()  # from here on the run only watches that it stays so
        seen = run.evidence()
        measures = seen.measures
        known = measures["restore"].measured and measures["drain"].measured
        over = known or timings.settled(seen)
        took_s = time.monotonic() - now_s  # seconds with many groups: half of the time is left to the platform
        due_s = now_s + took_s + max(read_every_s, took_s)
        if not over:
            return None
        run.healed = run.healed or marks(run.stack)
        return measures

    try:
        recovery = until(back, within_s=bound_s, every_s=LOOK_EVERY_S, what="recovery")
    except TooLate:
        run.recovered = False
        run.say(f"{run.name}: not recovered within {bound_s:.0f} s")
        return
    run.recovered = True
    mttr, drain = recovery["mttr"], recovery["drain"]
    if mttr.measured and drain.measured:
        run.say(f"{run.name}: back after {mttr.low_s:.2f}–{mttr.high_s:.2f} s, drained")
    else:
        run.say(f"{run.name}: all is good; since when can't be told: {(drain if mttr.measured else mttr).why}")
    _await_resolved(run)


def _restored(run: Run, began_ns: int) -> bool:
    """Return whether service is back and nothing is behind any more.

    began_ns: when the waiting began. Samples from before that say nothing about recovery.
    """
    now = run.now()
    if run.healed is None and (now.at_ns - began_ns) / 1e9 > conditions.SECOND_S and conditions.restored(now):
        run.healed = marks(run.stack)
    return run.healed is not None and conditions.drained(now)


def _every_group_there(run: Run) -> bool:
    """Look at each group of the streams that are sampled by shards, and return whether none is behind.

    The looks are noted: timings.py computes recovery from them. With an export no look is needed, since the archive's
    samples show each group.
    """
    looks = [] if run.test.archive else [apart.look(run, n, run.followed[n].bound_s) for n in apart.sharded(run)]
    run.looks += looks
    return not any(look.behind for look in looks)


def _await_resolved(run: Run) -> None:
    """Wait until the alert that fired is over, or can't be seen. The measure `resolve` tells the outcome."""

    def resolved() -> bool:
        now = run.now()
        return conditions.alert_state(now.samples, now.at_ns) in (None, INACTIVE)

    try:
        until(resolved, within_s=RESOLVES_WITHIN_S, every_s=AWAIT_EVERY_S, what="the alert's end")
    except TooLate as e:
        run.say(f"{run.name}: {e}")


def _exported(run: Run) -> bool:
    """Return whether these runs of the job have ended: every run that the test asked for, and the first scheduled run
    that began after the fault."""
    if any(one.ended_us is None for one in run.now().struck):
        return False
    _, job = run.stack.export()
    try:
        runs = schedule.after(job.runs(run.clock_us()), run.clock_us())
    except DriverError:
        return False  # the orchestrator was slow to answer: it is asked again, within the same bound
    return bool(runs) and runs[0].ended_us is not None
