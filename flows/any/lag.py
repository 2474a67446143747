"""Failure test any 6: a consumer falls so far behind that the log is about to delete what it has not read."""

from typing import Literal

from gameday.errors import ConfigError
from gameday.faults.latency import Latency
from gameday.faults.partition import Partition
from gameday.faults.pause import Pause
from gameday.plan import Await, FailureTest, Heal, Inject, OfRole
from gameday.ports import Fault
from gameday.sampling.conditions import flowing, held_back
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered, retained
from tasks import failure_test


@failure_test
def lag(
    component: str,
    cursor: str,
    how: Literal["hang", "cut", "slow"] = "hang",
    link: str = "",
    share: float = 0.5,
    lag_s: float = 120.0,
    latency_ms: int = 5000,
) -> FailureTest:
    """Does a consumer that was held back for long catch up, with nothing deleted that it had not read?

    Args:
        component: whose place in the log it is; of one that has members all are held back.
        cursor: its place, by its name under [cursors].
        how: hang freezes it; cut and slow do that to a link of it.
        link: the name of that link under [links].
        share: it is held back until so much of the log's retention has gone by for what it has not read,
        lag_s: or until that is so many seconds old, whichever comes first.
        latency_ms: what a slow link adds to every answer.
    """
    if how != "hang" and not link and component:
        raise ConfigError(f"lag: how={how} needs a link of {component}. Remedy: -p link=NAME, as [links] has it")
    fault: Fault = Pause(component)
    if how != "hang":
        fault = Partition(component, link) if how == "cut" else Latency(component, link, latency_ms)
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Inject(fault),
            Await(held_back(cursor, share, lag_s), within_s=2 * lag_s + 60),
            Heal(),
        ),
        mttr_max_s=180,
        drain_max_s=2 * lag_s + 300,
        checks=(*INTACT, isolation, offsets_advance, recovered, retained),
        alert=OfRole("lag"),
        members="all",
    )
