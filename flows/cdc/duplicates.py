"""Failure test 4: rows that the sink has come again, by a snapshot that somebody asks for."""

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test


@failure_test
def duplicates() -> FailureTest:
    """Are rows that come again, amid the changes that go on, applied once?

    Every row of the three tables is sent again by an incremental snapshot, which a signal to the connector asks for. A
    sink without a guard sets rows back that have changed meanwhile, and one that takes them for changes counts them
    twice.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Ask("connector", "snapshot"))),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("SinkBehind", component="sink"),
    )
