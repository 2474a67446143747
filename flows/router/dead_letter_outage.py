"""Failure test 7: dead letters can't be written."""

from gameday.faults.ask import Ask
from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, dead_lettered, offsets_advance, recovered
from tasks import failure_test

REFUSED = 5
FIRES_WITHIN_S = 60


@failure_test
def dead_letter_outage() -> FailureTest:
    """Is a request that can't be handled kept while its dead letter can't be written?

    Five times router-a is told that it can't. The request must come again, and end as a dead letter all the same. No
    request that can be handled may wait for that: a router that stands still until its letter is written is an outage.
    """
    at = "broker::before_dead"
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("router-a", at, f"{REFUSED}*return(refused)")),
            Inject(Ask("router-a", "poison-many")),
            Await(fired(at, REFUSED), within_s=FIRES_WITHIN_S),
            Heal(),
        ),
        mttr_max_s=60,
        checks=(*INTACT, dead_lettered, offsets_advance, recovered),
        alert=StaysSilent("RouterDown"),
    )
