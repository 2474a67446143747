"""Hold a run against its own history, before it is recorded there and told."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import history, trend
from gameday.errors import GamedayError
from gameday.model import RunResult
from gameday.run import Run

__all__ = ["compare"]


@task(name="compare", cache_policy=NO_CACHE)
def compare(run: Run, result: RunResult, runs: int) -> RunResult:
    """The result with its trends. runs: how many the night has, for the rate of false alarms is the night's.

    While history is away the result stays as it is, and that is said. Results that are only in their folders yet are
    copied to history first: they belong to it.
    """
    config = run.stack.config
    dsn = config.history.get_secret_value()
    try:
        history.import_missing(dsn, run.stack.state)
        past = history.passes_before(dsn, result, trend.HISTORY_MAX)
    except GamedayError as e:
        run.say(f"{run.name}: not compared with its own history: {e}")
        return result
    return trend.judged(result, trend.of(result, past, runs), merged=config.trend.regression == "fail")
