"""Failure test 3: a router dies between its decision and its acknowledgement."""

from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered, redelivered
from tasks import failure_test

POINT = "router::between_publish_and_ack"

FIRES_WITHIN_S = 60
WAIT_S = 10
"""How long a broker waits for an answer before it hands a request to another router."""


@failure_test
def router_crash() -> FailureTest:
    """Who finishes what a dead router held, and is each request carried out once?

    It dies between the two at the fifth request of a batch: that one's decision is there already.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("router-a", POINT, "5@kill")),
            Await(fired(POINT), within_s=FIRES_WITHIN_S),
        ),
        mttr_max_s=WAIT_S + 30,
        checks=(*INTACT, isolation, offsets_advance, redelivered, recovered),
        alert=StaysSilent("RouterDown"),
    )
