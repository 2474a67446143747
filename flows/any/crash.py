"""Failure test any 1: a component is killed, and nobody but the platform starts it again."""

from typing import Literal

from gameday.faults.kill import Kill
from gameday.plan import Await, FailureTest, Inject, OfRole
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered
from tasks import failure_test


@failure_test
def crash(component: str, members: Literal["one", "all"] = "one") -> FailureTest:
    """Does the platform start a component again that was killed, with nothing lost, doubled or changed?

    Args:
        component: its name under [components].
        members: of one that has members, whether one is struck, or all.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Kill(component))),
        mttr_max_s=180,
        checks=(*INTACT, isolation, offsets_advance, recovered),
        alert=OfRole("crash"),
        members=members,
    )
