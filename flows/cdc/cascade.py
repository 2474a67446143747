"""Failure test 15: capture and sink fail at once, and the broker between them restarts."""

from gameday.faults.failpoint import Failpoint
from gameday.faults.restart import Restart
from gameday.faults.stop import Stop
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

POINT = "connect::after_offset_commit"
ALERT_WITHIN_S = 300


@failure_test
def cascade() -> FailureTest:
    """Do several failures at once add up to more than each by itself?

    Connect dies where its messages are committed and the source doesn't know it; the target is down; and the broker
    restarts while neither of them is there.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("connector", POINT, "1*kill")),
            Await(fired(POINT), within_s=60),
            Inject(Stop("target")),
            Inject(Restart("broker")),
            Heal(),
        ),
        mttr_max_s=180,
        drain_max_s=180,
        checks=(*INTACT, offsets_advance, recovered),
        alert=FiresWithin("TargetDown", ALERT_WITHIN_S, component="target"),
    )
