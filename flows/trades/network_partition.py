"""Failure test 6: a link of the platform is cut, or swallows everything, or one end is cut off from its network."""

from typing import Literal

from gameday.faults.blackhole import Blackhole
from gameday.faults.isolate import Isolate
from gameday.faults.partition import Partition
from gameday.faults.strike import Strike
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.ports import Fault
from gameday.sampling.conditions import IDLE_WITHIN_S, behind, flowing, job_failed, job_idle
from gameday.verdict.checks import (
    EXPORTED,
    INTACT,
    isolation,
    job_failed_cleanly,
    offsets_advance,
    reconnected,
    recovered,
    resumed,
    upstream_flows,
)
from tasks import failure_test

HELD_BEHIND_S = 10
"""Longer than any session of the platform (3 s): the consumer is expelled, and has to join again."""

FAILS_WITHIN_S = 120
"""The offload gives up by then."""

ALERT_WITHIN_S = FAILS_WITHIN_S + 180
"""A run of the offload has to fail first; the rules wait for up to two minutes."""

VICTIMS = {
    "broker-clickhouse": "clickhouse",
    "handler-binance-broker": "handler-binance",
    "clickhouse-offload": "offload-worker",
}
ALERTS = {
    "clickhouse": "ConsumerBehind",
    "handler-binance": "FeedHandlerStalled",
    "offload-worker": "OffloadFailing",
}


@failure_test
def network_partition(
    link: Literal["broker-clickhouse", "handler-binance-broker", "clickhouse-offload"] = "broker-clickhouse",
    how: Literal["cut", "blackhole", "isolate"] = "cut",
) -> FailureTest:
    """Does the platform go on where it was once a partition is over, with nothing lost, doubled or changed?

    Args:
        link: broker-clickhouse isolates the consumer; handler-binance-broker one of the producers; clickhouse-offload
        the archive's job.
        how: cut refuses connections, so that both ends know; blackhole swallows everything, so that neither does;
        isolate takes the link's victim off its networks altogether, where no proxy stands between.
    """
    victim = VICTIMS[link]
    faults: dict[str, Fault] = {
        "cut": Partition(victim, link),
        "blackhole": Blackhole(victim, link),
        "isolate": Isolate(victim),
    }
    fault = faults[how]
    begins = Strike(victim, "offload", "offload::before_read", "1*pause")
    plan: tuple[Inject | Await | Heal, ...]
    if link == "clickhouse-offload":
        plan = (
            Await(job_idle, within_s=IDLE_WITHIN_S),
            Inject(begins),
            Inject(fault),
            Heal(begins),
            Await(job_failed, within_s=FAILS_WITHIN_S, promise=True),
        )
        checks = (*EXPORTED, isolation, job_failed_cleanly, recovered)
    else:
        plan = (Inject(fault), Await(behind(HELD_BEHIND_S), within_s=60))
        own = (upstream_flows, resumed) if victim == "clickhouse" else (isolation,)
        checks = (*INTACT, *own, offsets_advance, reconnected, recovered)
    return FailureTest(
        plan=(Await(flowing, within_s=30), *plan, Heal()),
        mttr_max_s=300,
        drain_max_s=300,
        checks=checks,
        archive=link == "clickhouse-offload",
        alert=FiresWithin(ALERTS[victim], ALERT_WITHIN_S),
        nightly=tuple({"link": one, "how": how} for how in ("cut", "blackhole", "isolate") for one in VICTIMS),
    )
