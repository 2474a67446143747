"""Failure test 14: a second connector reads the same slot."""

from gameday.faults.ask import Ask
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing, lasted
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

STAYS_S = 10


@failure_test
def zombie() -> FailureTest:
    """Can a second connector with the same settings do any harm?

    It is what a configuration that was deployed twice makes. The source lets one of them read the slot; the other has
    to wait, and must write nothing.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Ask("connector", "twin")),
            Await(lasted(STAYS_S), within_s=STAYS_S + 60),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("ConnectorFailed"),
    )
