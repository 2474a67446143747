"""Failure test 6: history pours in, as one transaction of ten thousand rows."""

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

DRAIN_S = 180
"""Live changes queue behind the transaction, in the source's log and in Debezium: that is told, and not judged."""


@failure_test
def backfill() -> FailureTest:
    """Do rows of yesterday that pour in leave live rows right, and is all of it in the target in time?

    Ten thousand orders are created in one transaction, each with a time of its own a day back. A sink that tells
    repeats by the rows' own times takes them for old ones.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Ask("source", "burst"))),
        mttr_max_s=DRAIN_S,
        drain_max_s=DRAIN_S,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("SlotFilling", component="connector"),
    )
