"""Failure test 12: the log no longer has what the sink has not read."""

from flows.cdc.slot_lost import REPAIRED
from gameday.faults.harm import Harm
from gameday.faults.pause import Pause
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.sampling.conditions import behind, flowing
from tasks import failure_test

HELD_BEHIND_S = 5
ALERT_WITHIN_S = 120


@failure_test
def log_cut() -> FailureTest:
    """When the log was cut where the sink has to go on, does it stop and say so, and are the rows right once repaired?

    A sink that goes on at the log's first message, or at its last one, loses what lies between in silence.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Pause("sink")),
            Await(behind(HELD_BEHIND_S), within_s=60),
            Inject(Harm("sink", "log-cut")),
            Heal(Pause("sink")),
            Heal(),
        ),
        mttr_max_s=180,
        drain_max_s=180,
        checks=REPAIRED,
        alert=FiresWithin("SinkStopped", ALERT_WITHIN_S),
    )
