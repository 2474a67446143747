"""Failure test any 2: a component is restarted."""

from typing import Literal

from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Inject, OfRole
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered
from tasks import failure_test


@failure_test
def restart(
    component: str, how: Literal["graceful", "sigkill"] = "graceful", members: Literal["one", "all"] = "one"
) -> FailureTest:
    """Does the platform go on after a component was restarted, with nothing lost, doubled or changed?

    Args:
        component: its name under [components].
        how: graceful stops it as its operator would; sigkill takes it down without a word.
        members: of one that has members, whether one is restarted, or all, one after the other.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Restart(component, how=how))),
        mttr_max_s=180,
        checks=(*INTACT, isolation, offsets_advance, recovered),
        alert=OfRole("restart"),
        members=members,
    )
