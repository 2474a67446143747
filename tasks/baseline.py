"""Measures what is normal (delay and rates), and notes where every hop stands. The run's window begins there."""

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
"""The baseline is measured over at least this many seconds before the plan, throughout which the stack was well."""

BASELINE_DELAYS = 4
"""It also lasts at least this many times the delay of a record: a sink that writes in batches shows what is normal only
after a few batches."""

BASELINE_CAME = 8
"""It also has at least this many new records: some streams seldom get one."""

BASELINE_WRITES = 3
"""It also sees the sink write at least this many times. Where one record a second is written in batches, two batches in
a row may have got their first record late; then no record was behind for long, and the delay looks too short."""

WRITES_WITHIN_S = BASELINE_WRITES * timings.BOUND_BEFORE_BASELINE_S
"""The baseline waits no longer than this for those writes: a sink that writes more seldom has nothing to write."""

NOTHING = timings.Normal(0.0, {}, {}, 0, 0, True)
"""What is normal for a stream that has no group yet."""

LONGER = 1.5
"""With too few records or writes, the next attempt looks back this many times as long."""

WELL_WITHIN_S = 90.0
LOOK_EVERY_S = 0.25


@task(name="baseline", cache_policy=NO_CACHE)
def baseline(run: Run) -> None:
    """Measure delay and rates once the stack was well for long enough, then note heads, positions and identities.

    Long enough is BASELINE_S, and BASELINE_DELAYS times the delay.

    Samples count that were taken while gameday left the platform alone: during preflight, and while the run before this
    one only watched that recovery lasts. Samples from the time when that run gathered its evidence don't count: its
    digests make everything slower, and a slower baseline would widen every bound.

    Raises:
        Halt(unknown): the stack was not well for that long, or a hop did not answer.
    """
    ailing: list[str] = []
    length_s, began_ns = BASELINE_S, time.monotonic_ns()

    def normal() -> dict[str, timings.Normal] | None:
        """Measure each stream over the shortest time that is long enough. None: there is no such time yet."""
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
                measured = {
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
            except GamedayError as e:  # there may be enough samples a moment later
                ailing[:] = [str(e)]
                return None
            came = sum(one.came for one in measured.values())
            few = [] if came >= BASELINE_CAME else [f"there were {came} new records, and {BASELINE_CAME} are needed"]
            slowest_s = max(one.delay_p99_s for one in measured.values())
            needed_s = max(BASELINE_DELAYS * slowest_s, LONGER * length_s if few else 0.0)
            if sum(one.writes for one in measured.values()) < BASELINE_WRITES:
                needed_s = max(needed_s, min(LONGER * length_s, WRITES_WITHIN_S))
            if needed_s <= length_s:
                break
            length_s = needed_s
        followed = tuple(_bounded(one, measured.get(name, NOTHING), slowest_s) for name, one in run.followed.items())
        bounded = replace(now, followed=followed)
        ailing[:] = conditions.ailing(bounded.of(followed[0]) if len(followed) == 1 else bounded, span_s)
        ailing.extend(
            f"{run.followed[name].visible} was up to {one.delay_p99_s:.1f} s behind for a part of that time only"
            for name, one in measured.items()
            if BASELINE_DELAYS * one.delay_p99_s > BASELINE_S and one.came >= BASELINE_CAME and not one.even
        )
        return None if ailing else measured

    try:
        measured = until(normal, within_s=WELL_WITHIN_S, every_s=LOOK_EVERY_S, what="the baseline")
    except TooLate as e:
        reason = "; ".join(ailing) or "it was not sampled for so long"
        why = f"no baseline: the stack was not well for {length_s:.3g} s: {reason}. Remedy: gameday status"
        raise too_late(run, Verdict.UNKNOWN, why, began_ns) from e
    _await_every_group(run, measured)
    stood = marks(run.stack)
    config = run.stack.config
    hops = [hop for stream in config.declared.values() for hop in stream.hops]
    missing = [name for name in hops if name not in stood.heads] + [c for c in config.cursors if c not in stood.ends]
    if missing:
        raise Halt(Verdict.UNKNOWN, f"no baseline: {', '.join(missing)} did not answer. Remedy: gameday check")
    if run.test.archive:
        archive = run.stack.export()[0]
        newest = answer(lambda: archive.commits(None), HEADS_WITHIN_S, "the archive's newest commit", run.lasts)
        if not newest:
            raise Halt(Verdict.UNKNOWN, "no baseline: the archive has no commit")
        run.commit = newest[-1].id
    slowest_s = max(one.delay_p99_s for one in measured.values())
    counted_rates: list[float] = []
    for name, stream in config.declared.items():
        usual = measured.get(name, NOTHING)
        rates = usual.rates if run.followed[name].shards is None else _rates(run, stood, name)
        run.followed[name] = replace(_bounded(run.followed[name], usual, slowest_s), rates=rates, moves=usual.moves)
        counted_rates += usual.rates.values() if stream.counted else ()
    run.baseline = Baseline(stood, slowest_s, max(one.bound_s for one in run.followed.values()), {})
    rate = f"{sum(counted_rates):.0f} records/s, " if counted_rates else ""
    grain = "; recovery is told no finer than that" if slowest_s > timings.GRAIN_TOLD_S else ""
    run.say(f"{run.name}: baseline {rate}visible {slowest_s * 1000:.0f} ms (p99) after they happen{grain}")


def _await_every_group(run: Run, measured: Mapping[str, timings.Normal]) -> None:
    """Wait until no group of a stream that is sampled by shards is behind: it would still be behind after the plan.

    Raises:
        Halt(unknown): a group is still behind after WELL_WITHIN_S.
    """
    for name in apart.sharded(run):
        slowest_s = max(usual.delay_p99_s for usual in measured.values())
        bound_s = _bounded(run.followed[name], measured[name], slowest_s).bound_s
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


def _rates(run: Run, stood: Marks, stream: str) -> dict[Group, float]:
    """Return each group's ids a second, between the heads that the run noted first and the marks."""
    before, now = run.stood[stream], stood.heads[run.followed[stream].hops[0]]
    took_s = (stood.at_ns - run.stood_ns) / 1e9
    return {group: (now[group] - head) / took_s for group, head in before.items() if group in now}


def _bounded(followed: Followed, usual: timings.Normal, slowest_s: float) -> Followed:
    """Return a stream with the bounds that follow from its baseline.

    Too few records or batches don't show how long one takes. Such a stream gets at least the bound that holds before
    any baseline, however fast the other streams are.
    """
    if usual.came >= BASELINE_CAME and usual.writes >= BASELINE_WRITES:
        delay_s, least_s = usual.delay_p99_s, 0.0
    else:
        delay_s, least_s = slowest_s, timings.BOUND_BEFORE_BASELINE_S
    return replace(
        followed,
        delay_p99_s=delay_s,
        bound_s=max(timings.bound_s(delay_s), least_s),
        still_s=max(timings.still_s(delay_s), least_s),
    )


def quiet_since(at_ns: int, length_s: float, first_ns: int, disturbed_ns: Span) -> int | None:
    """Return when a span of length_s undisturbed seconds begins that ends at at_ns.

    The time in disturbed_ns doesn't count. None: there are fewer seconds since the first sample, which is of first_ns.

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
