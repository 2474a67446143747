"""Failure test 5: the broker dies between two deliveries of a request that can't be handled."""

from gameday.faults.ask import Ask
from gameday.faults.kill import Kill
from gameday.plan import Await, FailureTest, Inject, StaysSilent
from gameday.sampling.conditions import flowing
from gameday.verdict.checks import INTACT, dead_lettered, delivered_at_most, offsets_advance, reconnected, recovered
from tasks import failure_test


@failure_test
def max_deliver_across_crash() -> FailureTest:
    """Does a bound on deliveries hold when the broker dies between them?

    Sixty requests come that can't be handled, and are handed out again after 50 ms, 100 ms, and so on: the broker is
    killed amid that. Where its count doesn't outlive a kill, one may come once more than it may.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Ask("router-a", "poison-many")), Inject(Kill("broker"))),
        mttr_max_s=60,
        checks=(*INTACT, dead_lettered, delivered_at_most, offsets_advance, reconnected, recovered),
        alert=StaysSilent("BrokerDown"),
    )
