"""Failure test 2: ClickHouse is restarted."""

from typing import Literal

from gameday.faults.restart import Restart
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, continuous, offsets_advance, recovered, resumed, upstream_flows
from tasks import failure_test


@failure_test
def clickhouse_restart(how: Literal["graceful", "sigkill"] = "graceful") -> FailureTest:
    """Does the broker hold the trades while ClickHouse restarts, and do its consumers go on where they had committed?

    Args:
        how: graceful stops ClickHouse as its operator would; sigkill takes it down without a word.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Restart("clickhouse", how=how))),
        mttr_max_s=180,
        checks=(*INTACT, upstream_flows, resumed, offsets_advance, continuous, recovered),
        alert=StaysSilent("ClickHouseDown"),
        nightly=({"how": "graceful"}, {"how": "sigkill"}),
    )
