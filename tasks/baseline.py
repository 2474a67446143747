"""Note what normal looks like, and where everything stands: the window of the run begins here."""

import time
from collections.abc import Mapping
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.errors import GamedayError, TooLate
from gameday.model import Baseline, Followed, Group, Look, Marks, Verdict
from gameday.run import HEADS_WITHIN_S, Halt, Run, Span, marks, too_late
from gameday.sampling import conditions, timings
from gameday.sampling.sampler import KEEP_S
from gameday.system.asking import answer
from gameday.system.polling import until
from tasks import apart

BASELINE_S = 5.0
"""What is normal is told by so many seconds at least, of which each was well, the last ones before the plan."""

BASELINE_DELAYS = 4
"""And by so many times as long as a record takes to be seen: a sink that writes in batches shows what is normal only
after some of them."""

BASELINE_CAME = 8
"""And by so many new records at least, of a stream that seldom has any."""

BASELINE_WRITES = 3
"""And by so many times at least that the sink showed something new: where one record a second is written in batches,
two batches in a row may have got their first record late, and then no record was behind for long."""

WRITES_WITHIN_S = BASELINE_WRITES * timings.BOUND_BEFORE_BASELINE_S
"""No longer is waited for these: who writes so seldom has nothing to write meanwhile."""

NOTHING = timings.Normal(0.0, {}, {}, 0, 0, True)
"""Of a stream that had no group yet."""

LONGER = 1.5
"""So many times as long is looked back, where fewer came, or were written."""

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
                        one.sampled,
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
            if sum(one.writes for one in found.values()) < BASELINE_WRITES:
                needed_s = max(needed_s, min(LONGER * length_s, WRITES_WITHIN_S))
            if needed_s <= length_s:
                break
            length_s = needed_s
        followed = tuple(_bounded(one, found.get(name, NOTHING), slowest_s) for name, one in run.followed.items())
        bounded = replace(now, followed=followed)
        ailing[:] = conditions.ailing(bounded.of(followed[0]) if len(followed) == 1 else bounded, span_s)
        ailing.extend(
            f"{run.followed[name].visible} was up to {one.delay_p99_s:.1f} s behind for a part of that time only"
            for name, one in found.items()
            if BASELINE_DELAYS * one.delay_p99_s > BASELINE_S and one.came >= BASELINE_CAME and not one.even
        )
        return None if ailing else found

    try:
        found = until(normal, within_s=WELL_WITHIN_S, every_s=LOOK_EVERY_S, what="the baseline")
    except TooLate as e:
        reason = "; ".join(ailing) or "it was not sampled for so long"
        why = f"no baseline: the stack was not well for {length_s:.3g} s: {reason}. Remedy: gameday status"
        raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e
    _await_every_group(run, found)
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
        rates = own.rates if run.followed[name].shards is None else _rates(run, here, name)
        run.followed[name] = replace(_bounded(run.followed[name], own, slowest_s), rates=rates, moves=own.moves)
        counted += own.rates.values() if stream.counted else ()
    run.baseline = Baseline(here, slowest_s, max(one.bound_s for one in run.followed.values()), {})
    told = f"{sum(counted):.0f} records/s, " if counted else ""
    grain = "; recovery is told no finer than that" if slowest_s > timings.GRAIN_TOLD_S else ""
    run.say(f"{run.name}: baseline {told}visible {slowest_s * 1000:.0f} ms (p99) after they happen{grain}")


def _await_every_group(run: Run, found: Mapping[str, timings.Normal]) -> None:
    """Halt(unknown) while a stream that is sampled by shards has a group that is behind: it would be so after the plan
    too."""
    for name in apart.sharded(run):
        slowest_s = max(own.delay_p99_s for own in found.values())
        bound_s = _bounded(run.followed[name], found[name], slowest_s).bound_s
        last: list[Look] = []

        def well(name: str = name, bound_s: float = bound_s, last: list[Look] = last) -> bool:
            last[:] = [apart.look(run, name, bound_s)]
            return not last[0].behind

        began_ns = time.monotonic_ns()
        try:
            until(well, within_s=WELL_WITHIN_S, every_s=LOOK_EVERY_S, what=f"every group of {name}")
        except TooLate as e:
            why = f"no baseline: {timings.missing(run.followed[name].visible, last[0])}. Remedy: gameday status"
            raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e


def _rates(run: Run, here: Marks, stream: str) -> dict[Group, float]:
    """Each group's ids a second, from its heads when the run noted them to the marks."""
    before, now = run.stood[stream], here.heads[run.followed[stream].hops[0]]
    took_s = (here.at_ns - run.stood_ns) / 1e9
    return {group: (now[group] - head) / took_s for group, head in before.items() if group in now}


def _bounded(one: Followed, own: timings.Normal, slowest_s: float) -> Followed:
    """A stream with the bounds that follow from what is normal. Too few records, or too few batches, tell nothing of
    how long they take: then it may be as far behind as while nobody knows, however fast others are."""
    if own.came >= BASELINE_CAME and own.writes >= BASELINE_WRITES:
        own_s, least_s = own.delay_p99_s, 0.0
    else:
        own_s, least_s = slowest_s, timings.BOUND_BEFORE_BASELINE_S
    return replace(
        one,
        delay_p99_s=own_s,
        bound_s=max(timings.bound_s(own_s), least_s),
        still_s=max(timings.still_s(own_s), least_s),
    )


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
