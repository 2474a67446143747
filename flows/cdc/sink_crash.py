"""Failure test 5: the sink dies at a step of a batch, or loses the answer to a commit."""

from typing import Literal, get_args

from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, recovered
from tasks import failure_test

Point = Literal["before_apply", "before_position", "before_commit", "after_commit"]
POINTS: tuple[str, ...] = get_args(Point)

FIRES_WITHIN_S = 60


@failure_test
def sink_crash(
    point: Point = "before_commit", action: Literal["kill", "raise"] = "kill", times: int = 1
) -> FailureTest:
    """Is a batch applied whole or not at all, and each change once, wherever the sink dies?

    Args:
        point: the step of a batch, each a failpoint of the sink: before_apply nothing of it is written; before_position
        its rows are, and its place in the log is not; before_commit all is, and not committed; after_commit the target
        has it, and the sink doesn't know.
        action: kill ends the process there; raise lets the step fail, as a lost connection does, and the sink tries the
        batch again.
        times: in how many batches one after the other it fails; a killed sink comes back unarmed, so it dies once.
    """
    where = f"sink::{point}"
    term = f"{times}*raise(OSError)" if action == "raise" else "1*kill"
    often = times if action == "raise" else 1
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("sink", where, term)),
            Await(fired(where, often), within_s=FIRES_WITHIN_S),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, recovered),
        alert=StaysSilent("SinkDown"),
        nightly=(
            *({"point": one, "action": "kill"} for one in ("before_commit", "after_commit", "before_position")),
            {"point": "before_apply", "action": "kill"},
            *({"point": one, "action": "raise", "times": 3} for one in POINTS),
        ),
    )
