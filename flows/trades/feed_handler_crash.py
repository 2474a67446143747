"""Failure test 3: one venue's feed handler is stopped and held down, or killed."""

from typing import Literal

from gameday.faults.kill import Kill
from gameday.faults.stop import Stop
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject, StaysSilent
from gameday.sampling.conditions import behind, flowing
from gameday.verdict.checks import INTACT, isolation, offsets_advance, recovered, served
from tasks import failure_test

HELD_BEHIND_S = 10
"""The handler is held down until its streams are this far behind: long enough for a gap that only history can fill."""

ALERT_WITHIN_S = 180
"""The rule waits for two minutes."""


@failure_test
def feed_handler_crash(
    venue: Literal["binance", "kraken", "coinbase"] = "binance", how: Literal["stop", "sigkill"] = "stop"
) -> FailureTest:
    """Does one venue's crash leave the others alone, and does the venue come back without a gap?

    Args:
        venue: whose feed handler is struck.
        how: stop ends it as its operator would and holds it down; sigkill kills it and leaves its revival to the
        platform.
    """
    handler = f"handler-{venue}"
    held = (Inject(Stop(handler)), Await(behind(HELD_BEHIND_S), within_s=60), Heal())
    return FailureTest(
        plan=(Await(flowing, within_s=30), *(held if how == "stop" else (Inject(Kill(handler)),))),
        mttr_max_s=60,
        checks=(*INTACT, isolation, served, offsets_advance, recovered),
        alert=FiresWithin("FeedHandlerDown", ALERT_WITHIN_S) if how == "stop" else StaysSilent("FeedHandlerDown"),
        nightly=({"venue": "binance", "how": "stop"}, {"venue": "binance", "how": "sigkill"}),
    )
