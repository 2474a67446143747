"""Failure test 4: requests that can't be handled."""

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, FiresWithin, Inject
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, dead_lettered, offsets_advance, recovered
from tasks import failure_test


@failure_test
def poison() -> FailureTest:
    """Do requests that can't be handled become dead letters, once, and hold up nobody?

    Sixty come at once. Each is handed out five times, later each time.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Ask("router-a", "poison-many"))),
        mttr_max_s=60,
        drain_max_s=180,
        checks=(*INTACT, dead_lettered, offsets_advance, recovered),
        alert=FiresWithin("DeadLetters", 120, component="router"),
    )
