"""Failure test 1: the connector is restarted, its task alone, or it stands still."""

from typing import Literal

from gameday.faults.ask import Ask
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Heal, Inject, StaysSilent
from gameday.ports import Fault
from gameday.sampling.conditions import behind, flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered
from tasks import failure_test

HELD_BEHIND_S = 10
"""Not longer: a worker that stands still for longer than its transactions may (10 s) can end with a failed task."""


@failure_test
def connector_restart(how: Literal["graceful", "sigkill", "task", "pause"] = "graceful") -> FailureTest:
    """Does capture go on where it was, with no change lost or applied twice?

    Args:
        how: graceful stops Connect as its operator would; sigkill takes it down without a word, in the middle of a
        transaction; task restarts the connector's task alone, by Connect's REST; pause freezes its process until the
        target is ten seconds behind.
    """
    faults: dict[str, Fault] = {
        "graceful": Restart("connector"),
        "sigkill": Restart("connector", how="sigkill"),
        "task": Ask("connector", "task-restart"),
        "pause": Pause("connector"),
    }
    held = (Await(behind(HELD_BEHIND_S), within_s=60), Heal()) if how == "pause" else ()
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(faults[how]), *held),
        mttr_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, recovered),
        alert=StaysSilent("ConnectorDown"),
        nightly=({"how": "graceful"}, {"how": "sigkill"}, {"how": "task"}, {"how": "pause"}),
    )
