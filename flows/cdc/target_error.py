"""Failure test 10: the target answers with an error that passes, and the sink has to try again."""

from typing import Literal

from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

EXECUTE = "sink::execute"
STATES = {"serialization": "40001", "deadlock": "40P01"}
"""SQLSTATE of what the target answers."""

TIMES = 3


@failure_test
def target_error(how: Literal["serialization", "deadlock"] = "serialization") -> FailureTest:
    """Is an error of the target that passes tried again, with nothing applied twice and nothing put aside?

    Args:
        how: what the target answers three times in a row: that two transactions can't be serialized, or a deadlock.
    """
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("sink", EXECUTE, f"{TIMES}*return({STATES[how]})")),
            Await(fired(EXECUTE, TIMES), within_s=60),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("SinkBehind", component="sink"),
        nightly=tuple({"how": how} for how in STATES),
    )
