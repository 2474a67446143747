"""Failure test 1: the broker is restarted."""

from typing import Literal

from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, continuous, offsets_advance, reconnected, recovered
from tasks import failure_test


@failure_test
def broker_restart(how: Literal["graceful", "sigkill"] = "graceful") -> FailureTest:
    """Does every trade survive a restart of the broker, and do the handlers come back by themselves?

    Args:
        how: graceful stops the broker as its operator would; sigkill takes it down without a word.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Restart("broker", how=how))),
        mttr_max_s=120,
        checks=(*INTACT, offsets_advance, reconnected, continuous, recovered),
        alert=StaysSilent("BrokerDown"),
        nightly=({"how": "graceful"}, {"how": "sigkill"}),
    )
