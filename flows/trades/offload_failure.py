"""Failure test 4: a run of the offload is killed in the middle, or the worker that runs it."""

from typing import Literal, get_args

from gameday.errors import ConfigError
from gameday.faults.ambush import Ambush
from gameday.faults.kill import Kill
from gameday.faults.strike import Strike
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import IDLE_WITHIN_S, flowing, job_failed, job_idle
from gameday.verdict.checks import EXPORTED, job_failed_cleanly, recovered, resumed_on_schedule
from tasks import failure_test

Point = Literal[
    "after_data_file",
    "before_read",
    "after_manifest_list",
    "after_metadata",
    "after_commit",
    "before_mirror",
    "after_mirror",
]
POINTS: tuple[str, ...] = get_args(Point)

FROM_OUTSIDE = {"after_data_file": "written", "after_commit": "committed"}
"""The points that show in the store, whatever the code is: Ambush's moments."""


@failure_test
def offload_failure(
    point: Point = "after_data_file",
    victim: Literal["flow", "worker", "engine"] = "flow",
    mttr_max_s: float = 900,
) -> FailureTest:
    """Does the next scheduled offload take up a killed one's work, with every trade in the archive exactly once?

    Args:
        point: where in the code the run is struck; each is a failpoint of the offload. With victim engine it is seen in
        the store: after_data_file or after_commit.
        victim: flow is the run's own process; worker leaves that process behind, half done; engine is what carries out
        the work while the flow lives on elsewhere, and needs no failpoints.
        mttr_max_s: from the strike until the archive has what existed then. One interval of the schedule and a run.
    """
    where = f"offload::{point}"
    killed = (Inject(Strike("offload-worker", "offload", where, "1*kill")),)
    orphaned = (
        Inject(Strike("offload-worker", "offload", where, "1*pause")),
        Inject(Kill("offload-worker")),
        Await(job_failed, within_s=120),
    )
    if victim == "engine" and point not in FROM_OUTSIDE:
        raise ConfigError(f"point={point} can't be seen from outside. Remedy: one of {', '.join(FROM_OUTSIDE)}")
    struck = (Inject(Ambush("engine", "offload", FROM_OUTSIDE.get(point, ""))),) if victim == "engine" else killed
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Await(job_idle, within_s=IDLE_WITHIN_S),
            *(orphaned if victim == "worker" else struck),
        ),
        mttr_max_s=mttr_max_s,
        drain_max_s=mttr_max_s,
        checks=(*EXPORTED, resumed_on_schedule, job_failed_cleanly, recovered),
        archive=True,
        alert=StaysSilent("OffloadStale", component="offload-worker"),
        nightly=(
            *({"point": one, "victim": "flow"} for one in POINTS),
            *({"point": one, "victim": "worker"} for one in POINTS),
            *({"point": one, "victim": "engine"} for one in FROM_OUTSIDE),
        ),
    )
