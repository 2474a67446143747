"""Note what normal looks like, and where everything stands: the window of the run begins here."""

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import timings
from gameday.model import Baseline, Verdict
from gameday.polling import until
from gameday.run import Halt, Run, marks

BASELINE_S = 10.0


@task(name="baseline", cache_policy=NO_CACHE)
def baseline(run: Run) -> None:
    """Measure delay and rates over BASELINE_S, then mark heads, positions and identities. Halt(unknown) when a hop
    does not answer."""
    since_ns = run.now().at_ns

    def passed() -> bool:
        run.lasts()
        return time.monotonic_ns() - since_ns >= BASELINE_S * 1e9

    until(passed, within_s=BASELINE_S + 5, every_s=0.25, what="the baseline")
    now = run.now()
    delay_p99_s, rates = timings.normal(
        now.samples, run.groups, ledger=now.ledger, visible=now.visible, since_ns=since_ns
    )
    here = marks(run.stack)
    config = run.stack.config
    missing = [name for name in config.stream.hops if name not in here.heads] + [
        c for c in config.cursors if c not in here.ends
    ]
    if missing:
        raise Halt(Verdict.UNKNOWN, f"no baseline: {', '.join(missing)} did not answer. Remedy: gameday check")
    if run.test.archive:
        newest = run.stack.export()[0].commits(None)
        if not newest:
            raise Halt(Verdict.UNKNOWN, "no baseline: the archive has no commit")
        run.commit = newest[-1].id
    run.baseline = Baseline(here, delay_p99_s, timings.bound_s(delay_p99_s), rates)
    run.say(
        f"{run.name}: baseline {sum(rates.values()):.0f} records/s, "
        f"visible {delay_p99_s * 1000:.0f} ms (p99) after they happen"
    )
