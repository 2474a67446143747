"""Note what normal looks like, and where everything stands: the window of the run begins here."""

import time
from collections.abc import Mapping
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import GamedayError, TooLate
from gameday.model import Baseline, Now, Verdict
from gameday.run import HEADS_WITHIN_S, Halt, Run, Span, marks, too_late
from gameday.sampling import conditions, timings
from gameday.sampling.sampler import KEEP_S
from gameday.system.asking import answer
from gameday.system.polling import until

BASELINE_S = 5.0
"""What is normal is told by so many seconds at least, of which each was well, the last ones before the plan."""

BASELINE_DELAYS = 4
"""And by so many times as long as a record takes to be seen: a sink that writes in batches shows what is normal only
after some of them."""

BASELINE_CAME = 8
"""And by so many new records at least, of a stream that seldom has any."""

NOTHING = timings.Normal(0.0, {}, {}, 0, True)
"""Of a stream that had no group yet."""

LONGER = 1.5
"""So many times as long is looked back, where fewer came."""

WELL_WITHIN_S = 90.0
LOOK_EVERY_S = 0.25


@task(name="baseline", cache_policy=NO_CACHE)
def baseline(run: Run) -> None:
    """Measure delay and rates once the stack was well throughout, for BASELINE_S and BASELINE_DELAYS times the delay,
    then mark heads, positions and identities. Halt(unknown) when it is not well for so long, or a hop does not answer.

    What was sampled while the platform was left alone counts: the seconds of preflight, and those in which the run
    before this one only watched that recovery lasts. What was sampled while that one asked for its evidence does not:
    its digests make everything slower, and a slower normal would be a wider bound for all that is called good.
    """
    ailing: list[str] = []
    length_s, began_ns = BASELINE_S, time.monotonic_ns()

    def normal() -> dict[str, timings.Normal] | None:
        """Of each stream what the shortest time tells that tells enough; None: there is none yet."""
        nonlocal length_s
        now = run.now(KEEP_S)
        first_ns = min((s[0].at_ns for s in now.samples.values() if s), default=now.at_ns)
        length_s = BASELINE_S
        few: list[str] = []
        while True:
            since_ns = quiet_since(now.at_ns, length_s, first_ns, run.disturbed_ns)
            if since_ns is None:
                ailing[:] = few
                return None
            span_s = (now.at_ns - since_ns) / 1e9
            ailing[:] = conditions.ailing(now, span_s)
            if ailing:
                return None
            try:
                found = {
                    name: timings.normal(
                        now.samples,
                        one.groups,
                        ledger=one.hops[0],
                        visible=one.visible,
                        since_ns=since_ns,
                        disturbed_ns=run.disturbed_ns,
                    )
                    for name, one in run.followed.items()
                    if one.groups
                }
            except GamedayError as e:  # a moment later there may be enough of them
                ailing[:] = [str(e)]
                return None
            came = sum(one.came for one in found.values())
            few = [] if came >= BASELINE_CAME else [f"there were {came} new records, and {BASELINE_CAME} are needed"]
            slowest_s = max(one.delay_p99_s for one in found.values())
            needed_s = max(BASELINE_DELAYS * slowest_s, LONGER * length_s if few else 0.0)
            if needed_s <= length_s:
                break
            length_s = needed_s
        ailing[:] = conditions.ailing(_bounded(now, found), span_s)
        if length_s > BASELINE_S:
            ailing.extend(
                f"{run.followed[name].visible} was up to {one.delay_p99_s:.1f} s behind for a part of that time only"
                for name, one in found.items()
                if one.came >= BASELINE_CAME and not one.even
            )
        return None if ailing else found

    try:
        found = until(normal, within_s=WELL_WITHIN_S, every_s=LOOK_EVERY_S, what="the baseline")
    except TooLate as e:
        reason = "; ".join(ailing) or "it was not sampled for so long"
        why = f"no baseline: the stack was not well for {length_s:.3g} s: {reason}. Remedy: gameday status"
        raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e
    here = marks(run.stack)
    config = run.stack.config
    hops = [hop for stream in config.declared.values() for hop in stream.hops]
    missing = [name for name in hops if name not in here.heads] + [c for c in config.cursors if c not in here.ends]
    if missing:
        raise Halt(Verdict.UNKNOWN, f"no baseline: {', '.join(missing)} did not answer. Remedy: gameday check")
    if run.test.archive:
        archive = run.stack.export()[0]
        newest = answer(lambda: archive.commits(None), HEADS_WITHIN_S, "the archive's newest commit", run.lasts)
        if not newest:
            raise Halt(Verdict.UNKNOWN, "no baseline: the archive has no commit")
        run.commit = newest[-1].id
    slowest_s = max(one.delay_p99_s for one in found.values())
    counted: list[float] = []
    for name, stream in config.declared.items():
        own = found.get(name, NOTHING)
        own_s = (
            own.delay_p99_s if own.came >= BASELINE_CAME else slowest_s
        )  # too few tell nothing of how long they take
        run.followed[name] = replace(
            run.followed[name],
            delay_p99_s=own_s,
            bound_s=timings.bound_s(own_s),
            still_s=timings.still_s(own_s),
            rates=own.rates,
            moves=own.moves,
        )
        counted += own.rates.values() if stream.counted else ()
    run.baseline = Baseline(here, slowest_s, timings.bound_s(slowest_s), {})
    told = f"{sum(counted):.0f} records/s, " if counted else ""
    grain = "; recovery is told no finer than that" if slowest_s > timings.GRAIN_TOLD_S else ""
    run.say(f"{run.name}: baseline {told}visible {slowest_s * 1000:.0f} ms (p99) after they happen{grain}")


def _bounded(now: Now, found: Mapping[str, timings.Normal]) -> Now:
    """The same, with the bounds that follow from what is normal."""
    slowest_s = max(one.delay_p99_s for one in found.values())
    followed = tuple(
        replace(one, bound_s=timings.bound_s(found[one.stream].delay_p99_s if one.stream in found else slowest_s))
        for one in now.followed
    )
    return replace(now, bound_s=timings.bound_s(slowest_s), followed=followed)


def quiet_since(at_ns: int, length_s: float, first_ns: int, disturbed_ns: Span) -> int | None:
    """Since when there are so many seconds, until at_ns, without those disturbed; None while there are fewer, the first
    sample being of first_ns.

    >>> quiet_since(20, 5e-9, 1, (8, 17))
    6
    >>> quiet_since(20, 5e-9, 7, (8, 17)) is None
    True
    """
    begin_ns, end_ns = disturbed_ns
    after_ns = at_ns - max(end_ns, first_ns)
    length_ns = int(length_s * 1e9)
    since_ns = at_ns - length_ns if after_ns >= length_ns else begin_ns - (length_ns - after_ns)
    return since_ns if since_ns >= first_ns else None
