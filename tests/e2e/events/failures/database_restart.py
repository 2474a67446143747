"""Failure test 2: the database is restarted."""

from typing import Literal

from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Inject
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, offsets_advance, reconnected, recovered
from tasks import failure_test


@failure_test
def database_restart(how: Literal["graceful", "sigkill"] = "graceful") -> FailureTest:
    """Does the log hold the events while Postgres restarts, and does the consumer write them then?

    Args:
        how: graceful stops Postgres as its operator would; sigkill takes it down without a word.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Restart("postgres", how=how))),
        mttr_max_s=45,
        drain_max_s=60,
        checks=(*INTACT, offsets_advance, reconnected, recovered),
        nightly=({"how": "graceful"}, {"how": "sigkill"}),
    )
