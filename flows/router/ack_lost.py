"""Failure test 6: acknowledgements are lost, on their way and with the broker that had confirmed one."""

from gameday.faults.failpoint import Failpoint
from gameday.faults.kill import Kill
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered, redelivered
from tasks import failure_test

LOST, CONFIRMED = "broker::before_ack", "broker::after_ack"
TIMES = 3
FIRES_WITHIN_S = 60


@failure_test
def ack_lost() -> FailureTest:
    """Is work done once whose acknowledgement was lost?

    Three of router-b's never reach the broker. Then it dies while router-a has just been told that it has one, and
    holds the others of its batch: whether that one is lost too depends on what the broker had written by then.
    """
    dropped = Failpoint("router-b", LOST, f"{TIMES}*return(lost)")
    held = Failpoint("router-a", CONFIRMED, "1*pause")
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(dropped),
            Await(fired(LOST, TIMES), within_s=FIRES_WITHIN_S),
            Inject(held),
            Await(fired(CONFIRMED), within_s=FIRES_WITHIN_S),
            Inject(Kill("broker")),
            Heal(held),
            Heal(dropped),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, redelivered, recovered),
        alert=StaysSilent("BrokerDown"),
    )
