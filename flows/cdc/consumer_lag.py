"""Failure test 3: the sink stands still, or is down, and the log holds what it owes."""

from typing import Literal

from gameday.faults.pause import Pause
from gameday.faults.stop import Stop
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject, StaysSilent
from gameday.sampling.conditions import behind, flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered, upstream_flows
from tasks import failure_test

ALERT_WITHIN_S = 180
"""The rule waits for twenty seconds of lag, and then for two minutes."""

ALERTS_FROM_S = 30
"""What is held back for less has caught up before the rule's patience is over."""


@failure_test
def consumer_lag(how: Literal["pause", "stop"] = "pause", seconds: int = 10) -> FailureTest:
    """Does the log hold what a stopped sink owes, and does the sink catch up with each change applied once?

    Args:
        how: pause freezes the sink's process; stop takes it down, and holds it down.
        seconds: how far the target falls behind before the sink goes on.
    """
    told = seconds >= ALERTS_FROM_S
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Pause("sink") if how == "pause" else Stop("sink")),
            Await(behind(seconds), within_s=seconds + 60),
            Heal(),
        ),
        mttr_max_s=60,
        drain_max_s=60 + 3 * seconds,
        checks=(*INTACT, upstream_flows, offsets_advance, recovered),
        alert=FiresWithin("SinkBehind", ALERT_WITHIN_S) if told else StaysSilent("SinkBehind"),
        nightly=(
            {"how": "pause", "seconds": 10},
            {"how": "stop", "seconds": 10},
            {"how": "pause", "seconds": 30},
            {"how": "stop", "seconds": 30},
        ),
    )
