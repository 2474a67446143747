"""Failure test any 5: a link of a component is slow."""

from gameday.faults.latency import Latency
from gameday.plan import Await, FailureTest, Heal, Inject, OfRole
from gameday.sampling.conditions import flowing, lasted
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered
from tasks import failure_test


@failure_test
def slow_link(component: str, link: str, latency_ms: int = 500, held_s: int = 20) -> FailureTest:
    """Does the platform bear a slow link, with nothing lost, doubled or changed?

    Args:
        component: the end that is struck.
        link: its name under [links].
        latency_ms: what is added to every answer.
        held_s: for how long, in seconds.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Latency(component, link, latency_ms)),
            Await(lasted(held_s), within_s=held_s + 60),
            Heal(),
        ),
        mttr_max_s=180,
        drain_max_s=300,
        checks=(*INTACT, isolation, offsets_advance, recovered),
        alert=OfRole("slow_link"),
    )
