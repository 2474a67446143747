"""Failure test 1: a router's calls to the broker fail."""

from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, redelivered
from tasks import failure_test

POINT = "broker::before_ack"
TIMES = 20
FIRES_WITHIN_S = 90


@failure_test
def broker_fault() -> FailureTest:
    """Does an acknowledgement that fails lose, double or strand a request?

    Twenty of router-a's fail one after the other, before anything is sent: the broker hands these requests out again.
    Their decisions are published by then, so there is no outage to recover from.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("router-a", POINT, f"{TIMES}*return(refused)")),
            Await(fired(POINT, TIMES), within_s=FIRES_WITHIN_S),
            Heal(),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, redelivered),
        alert=StaysSilent("PublishFailing"),
    )
