"""Failure test 2: Connect dies, or its task fails, at a step of its own code."""

from typing import Literal, get_args

from gameday.faults.failpoint import Failpoint
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import fired, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered
from tasks import failure_test

Point = Literal[
    "before_offset_commit",
    "after_offset_commit",
    "before_batch",
    "before_write_record",
    "before_process_record",
    "before_slot_confirmed",
]
POINTS: tuple[str, ...] = get_args(Point)
OF_DEBEZIUM = ("before_process_record", "before_slot_confirmed")

PASSED = {"before_write_record": 9, "before_process_record": 24}
"""Of these so many pass first: the fault lies in the middle of a batch."""

FIRES_WITHIN_S = 60


@failure_test
def connector_crash(point: Point = "before_offset_commit", action: Literal["kill", "raise"] = "kill") -> FailureTest:
    """Does a crash exactly at this step of capture lose or double a change?

    Args:
        point: where it happens: before_batch a batch is taken, and nothing of it is sent; before_write_record in the
        middle of a batch; before_offset_commit all is sent, and neither messages nor offset are committed;
        after_offset_commit they are, and the source doesn't know; before_process_record between source and batch;
        before_slot_confirmed when the source is told.
        action: kill ends Connect there; raise lets its task fail, which Connect does not restart.
    """
    where = f"{'debezium' if point in OF_DEBEZIUM else 'connect'}::{point}"
    term = f"{PASSED[point]}*off->1*{action}" if point in PASSED else f"1*{action}"
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(Failpoint("connector", where, term)),
            Await(fired(where), within_s=FIRES_WITHIN_S),
        ),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, recovered),
        alert=StaysSilent("ConnectorDown" if action == "kill" else "ConnectorFailed"),
        nightly=(
            *({"point": one, "action": "kill"} for one in POINTS),
            *({"point": one, "action": "raise"} for one in ("before_batch", "before_process_record")),
        ),
    )
