"""Failure test any 4: a link of a component is cut."""

from typing import Literal

from gameday.faults.blackhole import Blackhole
from gameday.faults.partition import Partition
from gameday.plan import Await, FailureTest, Heal, Inject, OfRole
from gameday.ports import Fault
from gameday.sampling.conditions import flowing, lasted
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered
from tasks import failure_test


@failure_test
def partition(component: str, link: str, how: Literal["cut", "blackhole"] = "cut", held_s: int = 20) -> FailureTest:
    """Does the platform go on once a link is whole again, with nothing lost, doubled or changed?

    Args:
        component: the end that is struck.
        link: its name under [links].
        how: cut refuses connections, so that both ends know; blackhole swallows everything, so that neither does.
        held_s: for how long, in seconds.
    """
    fault: Fault = Partition(component, link) if how == "cut" else Blackhole(component, link)
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(fault), Await(lasted(held_s), within_s=held_s + 60), Heal()),
        mttr_max_s=180,
        drain_max_s=300,
        checks=(*INTACT, isolation, offsets_advance, recovered),
        alert=OfRole("partition"),
    )
