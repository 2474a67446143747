"""Note what normal looks like, and where everything stands: the window of the run begins here."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday import conditions, timings
from gameday.asking import answer
from gameday.errors import TooLate
from gameday.model import Baseline, Verdict
from gameday.polling import until
from gameday.run import HEADS_WITHIN_S, Halt, Run, marks

BASELINE_S = 10.0
"""What is normal is told by so many seconds, of which each was well, the last ones before the plan."""

WELL_WITHIN_S = 45.0
LOOK_EVERY_S = 0.25


@task(name="baseline", cache_policy=NO_CACHE)
def baseline(run: Run) -> None:
    """Measure delay and rates over the last BASELINE_S, once the stack was well throughout, then mark heads, positions
    and identities. Halt(unknown) when it is not well for so long, or a hop does not answer.

    What was sampled since the run began counts, the seconds of preflight among them. What was sampled before does not:
    then an earlier run of the night was judged, whose digests make everything slower; a slower normal would be a wider
    bound for all that is called good.
    """
    ailing: list[str] = []

    def normal() -> bool:
        now = run.now()
        began_ns = max(run.began_ns, min((s[0].at_ns for s in now.samples.values() if s), default=now.at_ns))
        ailing[:] = conditions.ailing(now, BASELINE_S)
        return not ailing and now.at_ns - began_ns >= BASELINE_S * 1e9

    try:
        until(normal, within_s=WELL_WITHIN_S, every_s=LOOK_EVERY_S, what="the baseline")
    except TooLate as e:
        reason = "; ".join(ailing) or "it was not sampled for so long"
        why = f"no baseline: the stack was not well for {BASELINE_S:g} s: {reason}. Remedy: gameday status"
        raise Halt(Verdict.UNKNOWN, why) from e
    now = run.now()
    delay_p99_s, rates = timings.normal(
        now.samples,
        run.groups,
        ledger=now.ledger,
        visible=now.visible,
        since_ns=now.at_ns - int(BASELINE_S * 1e9),
    )
    here = marks(run.stack)
    config = run.stack.config
    missing = [name for name in config.stream.hops if name not in here.heads] + [
        c for c in config.cursors if c not in here.ends
    ]
    if missing:
        raise Halt(Verdict.UNKNOWN, f"no baseline: {', '.join(missing)} did not answer. Remedy: gameday check")
    if run.test.archive:
        archive = run.stack.export()[0]
        newest = answer(lambda: archive.commits(None), HEADS_WITHIN_S, "the archive's newest commit", run.lasts)
        if not newest:
            raise Halt(Verdict.UNKNOWN, "no baseline: the archive has no commit")
        run.commit = newest[-1].id
    run.baseline = Baseline(here, delay_p99_s, timings.bound_s(delay_p99_s), rates)
    run.say(
        f"{run.name}: baseline {sum(rates.values()):.0f} records/s, "
        f"visible {delay_p99_s * 1000:.0f} ms (p99) after they happen"
    )
