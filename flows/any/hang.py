"""Failure test any 3: a component hangs: its processes are frozen, keep their sockets and answer nothing."""

from typing import Literal

from gameday.faults.pause import Pause
from gameday.plan import Await, FailureTest, Heal, Inject, OfRole
from gameday.sampling.conditions import flowing, lasted
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered
from tasks import failure_test


@failure_test
def hang(component: str, held_s: int = 20, members: Literal["one", "all"] = "one") -> FailureTest:
    """Does the platform go on once a component wakes that hung, with nothing lost, doubled or changed?

    Args:
        component: its name under [components].
        held_s: for how long it answers nothing, in seconds. Longer than the sessions and time-outs of its clients tells
        most.
        members: of one that has members, whether one hangs, or all.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Pause(component)),
            Await(lasted(held_s), within_s=held_s + 60),
            Heal(),
        ),
        mttr_max_s=180,
        drain_max_s=300,
        checks=(*INTACT, isolation, offsets_advance, recovered),
        alert=OfRole("hang"),
        members=members,
    )
