"""Failure test 5: the object store is away, or refuses, in the middle of an offload."""

from typing import Literal

from gameday.faults.ask import Ask
from gameday.faults.latency import Latency
from gameday.faults.pause import Pause
from gameday.faults.stop import Stop
from gameday.faults.strike import Strike
from gameday.faults.truncate import Truncate
from gameday.faults.write_denied import WriteDenied
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.ports import Fault
from gameday.sampling.conditions import IDLE_WITHIN_S, flowing, job_failed, job_idle
from gameday.verdict.checks import EXPORTED, isolation, job_failed_cleanly, recovered
from tasks import failure_test

FAILS_WITHIN_S = 120
"""The offload gives up by then: a store that hangs must not hold its worker for ever."""

ALERT_WITHIN_S = FAILS_WITHIN_S + 180
"""A run has to fail first; the rule waits for two minutes."""

LINK = "offload-s3"
SLOW_MS = 20_000
"""Beyond the offload's patience with one request."""


@failure_test
def object_store_outage(
    how: Literal["stop", "read_only", "hang", "slow", "truncate"] = "stop",
    during: Literal["upload", "start"] = "upload",
    mttr_max_s: float = 300,
) -> FailureTest:
    """Does the offload fail with a clear message, leave nothing half visible, and go on once the store is back?

    Args:
        how: stop takes the store down; read_only withdraws the offload's right to write; hang freezes it; slow answers
        after 20 s; truncate breaks off every upload in the middle.
        during: upload strikes a run that has written its data; start lets a run begin without the store, and needs no
        failpoints.
        mttr_max_s: from the store's return until the archive has what existed then.
    """
    outage: Fault
    if how == "stop":
        outage = Stop("s3")
    elif how == "read_only":
        outage = WriteDenied("s3")
    elif how == "hang":
        outage = Pause("s3")
    elif how == "slow":
        outage = Latency("s3", LINK, latency_ms=SLOW_MS)
    else:
        outage = Truncate("s3", LINK)
    middle = Strike("offload-worker", "offload", "offload::after_data_file", "1*pause")
    struck = (Inject(middle), Inject(outage), Heal(middle))
    refused = (Inject(outage), Inject(Ask("offload-worker", "offload")))
    return FailureTest(
        plan=(
            Await(flowing, within_s=30),
            Await(job_idle, within_s=IDLE_WITHIN_S),
            *(struck if during == "upload" else refused),
            Await(job_failed, within_s=FAILS_WITHIN_S, promise=True),
            Heal(),
        ),
        mttr_max_s=mttr_max_s,
        drain_max_s=mttr_max_s + FAILS_WITHIN_S,
        checks=(*EXPORTED, isolation, job_failed_cleanly, recovered),
        archive=True,
        alert=FiresWithin("OffloadFailing", within_s=ALERT_WITHIN_S, component="offload-worker"),
        nightly=(
            *({"how": how} for how in ("stop", "read_only", "hang", "slow", "truncate")),
            {"how": "stop", "during": "start"},
        ),
    )
