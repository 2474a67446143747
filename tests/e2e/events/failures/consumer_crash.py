"""Failure test 1: the consumer is killed."""

from gameday.faults.kill import Kill
from gameday.model import Group, Now
from gameday.plan import Await, FailureTest, Inject
from gameday.sampling.conditions import flowing
from gameday.sampling.timings import delays
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered
from tasks import failure_test

HELD_S = 2.0


def holding(now: Now) -> bool:
    """The consumer has read events that are not in the table yet: some lack for longer than it takes to read them."""

    def lacks(group: Group) -> bool:
        late = delays(now.samples, group, now.visible, now.ledger).low_s
        return len(late) > 0 and bool(late[-1] >= HELD_S)

    return any(map(lacks, now.affected))


@failure_test
def consumer_crash() -> FailureTest:
    """Does every event reach the table when the consumer dies with a batch in its hands?"""
    return FailureTest(
        plan=(Await(flowing, within_s=30), Await(holding, within_s=60), Inject(Kill("consumer"))),
        mttr_max_s=45,
        drain_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, recovered),
    )
