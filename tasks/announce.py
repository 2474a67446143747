"""Tells people what is about to be broken, before it is: once a night."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.plan import FailureTest, Inject
from gameday.run import Run, ttl_s
from gameday.stack.registry import fault_kind
from gameday.telling import messages
from gameday.telling.messages import Ahead
from tasks.telling import machine, now, tell


@task(name="announce", cache_policy=NO_CACHE)
def announce(run: Run) -> None:
    """Send the announcement to every channel that takes it.

    A channel that can't be reached stops no test: the run goes on after the courier's bound.
    """
    ahead = [Ahead(label, _breaks(test), ttl_s(test)) for label, test in run.ahead]
    tell(  # each run calls it; it is sent once, because the message's id is the night's
        run.stack,
        run.say,
        run.night,
        lambda _: [messages.announce(run.stack.name, run.night, ahead, machine(), now())],
    )


def _breaks(test: FailureTest) -> tuple[str, ...]:
    """Return what the test's plan breaks, in its order, such as "stop of broker"."""
    faults = [step.fault for step in test.plan if isinstance(step, Inject)]
    return tuple(dict.fromkeys(f"{fault_kind(fault)} of {fault.component}" for fault in faults))
