"""Failure test 6: what was acknowledged comes again, for the broker that had confirmed it is killed."""

from gameday.faults.failpoint import Failpoint
from gameday.faults.kill import Kill
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered, redelivered
from tasks import failure_test

POINT = "broker::after_ack"
FIRES_WITHIN_S = 60


@failure_test
def ack_lost() -> FailureTest:
    """Is work done once whose acknowledgement was lost?

    The broker dies while a router has just been told that it has the acknowledgement, and holds others of its batch.
    """
    armed = Failpoint("router-a", POINT, "1*pause")
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(armed),
            Await(fired(POINT), within_s=FIRES_WITHIN_S),
            Inject(Kill("broker")),
            Heal(armed),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, redelivered, recovered),
        alert=StaysSilent("BrokerDown"),
    )
