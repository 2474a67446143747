"""Failure test 2: the broker hangs, so that nobody knows what it has done."""

from gameday.faults.pause import Pause
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.sampling.conditions import behind, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered
from tasks import failure_test


@failure_test
def broker_pause(seconds: int = 8) -> FailureTest:
    """Is each request carried out once after a broker has hung, whose answers nobody got?

    Args:
        seconds: how far the outcomes fall behind before it goes on. Calls are given up after five: from then on their
        outcome is not known, and they are made again.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Pause("broker")),
            Await(behind(seconds), within_s=seconds + 60),
            Heal(),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, recovered),
        alert=StaysSilent("BrokerDown"),
        nightly=({"seconds": 8},),
    )
