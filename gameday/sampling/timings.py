"""Computes seconds from samples: delays, what was good when, and the measures of a run. Each measure is an interval
that contains the true value.

All functions are pure, with numpy over what sampler.py wrote; checks/ decide how long is too long. The rules: a missing
answer counts from when the probe was sent, a good answer from when it came, and a missing sample is a gap, which is
never interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday import codec
from gameday.errors import GamedayError
from gameday.model import ELSEWHERE, FIRING, Act, Evidence, Group, Look, Marks, Measure, Sample, Samples

__all__ = [
    "BOUND_BEFORE_BASELINE_S",
    "GRAIN_TOLD_S",
    "Delays",
    "Goodness",
    "Normal",
    "Relapse",
    "affected",
    "bound_s",
    "coverage",
    "delays",
    "fall",
    "good",
    "groups",
    "is_alert",
    "measure",
    "missing",
    "normal",
    "outage",
    "probes",
    "quiet",
    "relapse",
    "series_of",
    "settled",
    "shown",
    "sparse",
    "still_s",
    "sustained_s",
    "unharmed",
    "watched",
]

NS = 1_000_000_000

BOUND_BEFORE_BASELINE_S = 15.0
"""How far behind a head may be before the baseline is known: longer than a sink needs that flushes every ten
seconds."""
BOUND_MIN_S = 1.0
BOUND_TIMES_P99 = 3.0
STILL_TIMES_P99 = 2.0
"""A head that lacks something may stand still for this many times a record's usual delay."""
GRAIN_TOLD_S = 3.0
"""A sink with a longer delay writes in batches. The user is told that recovery is measured no finer than that."""
EVEN_TIMES = 3.0
"""A baseline is even if the longest delay in each quarter of it is at most this many times shorter than the usual
delay."""

RESTORE_SPAN_S = 1.0
"""Service is back when it holds for a full second."""
STALL_SHOWS_S = 1.0
"""A good sample is sustained if all are good for this much longer than the bound: a head that stands still still counts
as good until the bound is over."""
RELAPSE_TIMES = 3
"""Service failed again if a probe went unanswered this many times in a row, for longer than a healthy stream may be
behind. A single lost answer doesn't count."""
LEDGER_GAP_S = 0.5
"""How far apart the ledger's samples may lie for a delay between them to be known."""
WRITES_APART_S = 1.0
"""New records that the sink shows within this time are one batch, however many samples see a part of it."""
EDGE_GAP_S = 1.0
"""An edge is not measured if no useful sample lies within this time of it (for slow probes: three periods)."""
EDGE_GAP_PERIODS = 3.0
PENDING_S = 0.1
"""A component that serves answers within a few ms. A slower answer shows that it was silent when the probe was sent."""
WINDOW_SHARE_MIN = 0.5
"""A span with fewer than this share of a series' samples counts as not seen."""

GOOD, UNSEEN, BAD = 1, 0, -1

Times = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Status = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Delays:
    """How far one group's visible head was behind the ledger, for each sample of the visible head.

    at_ns: when the sample counts.
    low_s: the delay that the ledger's samples prove; NaN: the hop didn't answer.
    high_s: the longest delay that is possible, because nothing is seen between two samples of the ledger.
    """

    at_ns: Times
    low_s: Floats
    high_s: Floats


@dataclass(frozen=True)
class Goodness:
    """One series' samples as good (1), bad (-1) or unseen (0).

    pending_ns: when those probes were sent that were answered late. near_ns: the samples that are unseen only because
    they are closer to the bound than the ledger's samples are to each other.
    """

    series: str
    at_ns: Times
    status: Status
    period_ns: float
    pending_ns: Times
    near_ns: Times = field(default_factory=lambda: np.empty(0, dtype=np.int64))


# ---- names ----------------------------------------------------------------------------------------------------------


def series_of(kind: str, owner: str, key: str | Group) -> str:
    """Return the name of a series: series_of("head", "silver", ("west", "1")) is head/silver/west/1; for a stream
    without groups it is head/silver. key: a slot, or a group."""
    name = key if isinstance(key, str) else codec.key_of(key)
    return f"{kind}/{owner}/{name}" if name else f"{kind}/{owner}"


def is_alert(series: str) -> bool:
    """Return whether a series is the state of the platform's alert, not one of its side series."""
    return series.startswith("alert/") and not series.endswith(".evaluated") and ELSEWHERE not in series


def probes(samples: Samples, component: str) -> list[str]:
    """Return the series that show whether a component answers: component/<component>/<probe>, without counters such as
    .connects."""
    prefix = f"component/{component}/"
    return sorted(s for s in samples if s.startswith(prefix) and not set("/.") & set(s[len(prefix) :]))


def groups(evidence: Evidence) -> tuple[Group, ...]:
    """Return the groups of one stream that have samples (or their shards): those that the run has watched.

    A group that came later has no baseline, and the run didn't know which components carry it. Its digest judges it.
    """
    return evidence.sampled_of(watched(evidence))


def watched(evidence: Evidence) -> tuple[Group, ...]:
    """Return the groups of one stream that the run has watched: the affected ones first, then those of the baseline, or
    without a baseline those of the window."""
    known: dict[Group, None] = dict.fromkeys(evidence.affected)
    if evidence.baseline and (heads := evidence.baseline.marks.heads.get(evidence.ledger)):
        known.update(dict.fromkeys(sorted(heads)))
    elif evidence.window:
        known.update(dict.fromkeys(sorted(evidence.window.hi)))
    return tuple(known)


def affected(evidence: Evidence) -> tuple[Group, ...]:
    """Return the affected groups of one stream, or their shards."""
    return evidence.sampled_of(evidence.affected)


# ---- delays ---------------------------------------------------------------------------------------------------------


def delays(samples: Samples, group: Group, visible: str, ledger: str) -> Delays:
    """Return a group's delay over time: how long before a sample the first record existed that the sample lacks. It is
    0 if no record is missing."""
    head = _track(samples.get(series_of("head", visible, group), ()))
    truth = _track(samples.get(series_of("head", ledger, group), ()))
    answered = ~np.isnan(truth.value)
    at, sent, heads = truth.at_ns[answered], truth.sent_ns[answered], np.maximum.accumulate(truth.value[answered])
    low, high = np.full((2, len(head.at_ns)), np.nan)
    if not len(at):
        return Delays(head.at_ns, low, np.where(np.isnan(head.value), np.nan, np.inf))
    shown = ~np.isnan(head.value)
    # first: the ledger's first sample with a record that is not visible yet; the sample before it had none
    first = np.searchsorted(heads, head.value[shown], side="right")
    seen = np.searchsorted(at, head.at_ns[shown], side="right")
    first = np.minimum(first, seen)
    never = first == seen
    since = np.where(never, head.at_ns[shown], at[np.minimum(first, len(at) - 1)])
    still = np.where(first > 0, sent[np.maximum(first - 1, 0)], np.iinfo(np.int64).min // 4)
    low[shown] = np.maximum(0, head.sent_ns[shown] - since) / NS
    high[shown] = (head.at_ns[shown] - still) / NS
    return Delays(head.at_ns, low, high)


@dataclass(frozen=True)
class Normal:
    """What was measured of a healthy platform.

    delay_p99_s: the 99th percentile of how far behind the furthest group was. Only moments count at which some group
        lacked something: the others don't show how long a record takes.
    rates: group -> ids a second.
    moves: group -> how often a second its head at the ledger was seen to rise. came: how often all heads together rose.
    even: whether the longest delays are spread over the whole time. They are where a sink writes in batches, and are
        not while a backlog drains.
    """

    delay_p99_s: float
    rates: Mapping[Group, float]
    moves: Mapping[Group, float]
    came: int
    writes: int
    even: bool


def normal(
    samples: Samples,
    wanted: Iterable[Group],
    *,
    ledger: str,
    visible: str,
    since_ns: int,
    disturbed_ns: tuple[int, int] = (0, 0),
) -> Normal:
    """Return what is normal since then.

    A delay also counts if the ledger was not asked just when its record came. Its samples then prove less than the true
    delay; but without it another group would count as the furthest, which is behind by even less.

    Args:
        disturbed_ns: from when to when something else slowed the platform down; delays of that time don't count.

    Raises:
        GamedayError: a group shows no delay, or its head at the ledger was not seen over time.
    """
    late, rates, moves, came, known = [], {}, {}, {}, False
    risen_ns = [np.empty(0, dtype=np.int64)]
    for group in wanted:
        series = delays(samples, group, visible, ledger)
        mine = (series.at_ns >= since_ns) & ~np.isnan(series.low_s)
        mine &= (series.at_ns < disturbed_ns[0]) | (series.at_ns >= disturbed_ns[1])
        known |= bool(np.any(mine & (series.high_s - series.low_s <= LEDGER_GAP_S)))
        truth = _track(samples.get(series_of("head", ledger, group), ()))
        seen = np.flatnonzero((truth.at_ns >= since_ns) & ~np.isnan(truth.value))
        if not np.any(mine) or len(seen) < 2:
            raise GamedayError(
                f"no baseline: too few samples of {'/'.join(group)} at {ledger} and {visible}. Remedy: gameday status"
            )
        late.append(np.stack([series.at_ns[mine].astype(np.float64), series.low_s[mine]]))
        risen_ns.append(_rises(samples.get(series_of("head", visible, group), ()), series.at_ns[mine]))
        took_s = max((int(truth.at_ns[seen[-1]]) - int(truth.at_ns[seen[0]])) / NS, 1e-9)
        rates[group] = float(truth.value[seen[-1]] - truth.value[seen[0]]) / took_s
        came[group] = int(np.count_nonzero(np.diff(truth.value[seen]) > 0))
        moves[group] = came[group] / took_s
    if not late:
        raise GamedayError("no baseline: there are no groups. Remedy: check [streams] in gameday.toml")
    at_ns, low_s = np.concatenate(late, axis=1)
    if not known:
        raise GamedayError(f"no baseline: {ledger} was not sampled often enough. Remedy: gameday status")
    order = np.argsort(at_ns, kind="stable")
    furthest_s = np.maximum.reduceat(low_s[order], np.unique(at_ns[order], return_index=True)[1])
    lacking_s = furthest_s[furthest_s > 0]
    p99_s = float(np.percentile(lacking_s, 99)) if len(lacking_s) else 0.0
    longest_s = [float(np.max(quarter, initial=0.0)) for quarter in np.array_split(lacking_s, 4)]
    even = min(longest_s) * EVEN_TIMES >= p99_s
    return Normal(p99_s, rates, moves, sum(came.values()), _apart(np.concatenate(risen_ns)), even)


def _rises(samples: Sequence[Sample], among_ns: Times) -> Times:
    """Return those of these moments at which a head was higher than ever before."""
    track = _track(samples)
    highest = np.maximum.accumulate(np.nan_to_num(track.value, nan=-np.inf))
    return np.intersect1d(track.at_ns[1:][np.diff(highest) > 0], among_ns)


def _apart(at_ns: Times) -> int:
    """Count these moments; those within WRITES_APART_S after a counted one don't count."""
    count, next_ns = 0, -math.inf
    for at in np.sort(at_ns):
        if at >= next_ns:
            count, next_ns = count + 1, at + WRITES_APART_S * NS
    return count


def bound_s(p99_s: float) -> float:
    """Return how far behind the ledger a visible head may be and still count as good."""
    return max(BOUND_MIN_S, BOUND_TIMES_P99 * p99_s)


def still_s(p99_s: float) -> float:
    """Return how long a healthy visible head may stand still while it lacks something: a batch may be as old as the
    time between two batches, and is written a moment later."""
    return STILL_TIMES_P99 * p99_s


def quiet(evidence: Evidence) -> tuple[Group, ...]:
    """Return the groups whose ledger was seen and never had anything new. Only their digests judge them."""
    if evidence.sharded:
        first, last = (m.heads.get(evidence.ledger, {}) if m else {} for m in _first_and_last(evidence))
        return tuple(group for group in watched(evidence) if group in first and first[group] == last.get(group))
    found = []
    for group in groups(evidence):
        told = [s.value for s in evidence.samples.get(series_of("head", evidence.ledger, group), ())]
        heads = [head for head in told if head is not None]
        if heads and max(heads) == heads[0]:
            found.append(group)
    return tuple(found)


def _first_and_last(evidence: Evidence) -> tuple[Marks | None, Marks | None]:
    return evidence.baseline.marks if evidence.baseline else None, evidence.ends


def sparse(evidence: Evidence, group: Group) -> bool:
    """Return whether the group had nothing new for seconds in the baseline. Such a group can't show every second that
    it is served."""
    moves = evidence.baseline.moves.get(group) if evidence.baseline else None
    return moves is not None and moves * RESTORE_SPAN_S < 1


def sustained_s(bound_s: float) -> float:
    """Return for how long everything must be good before the backlog counts as drained."""
    return bound_s + STALL_SHOWS_S


def fall(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Return (from, to) of the first fall of a series that should never fall; None: it did not.

    An answer is compared with those that had come before it was asked for. Of two that were asked for at the same time
    the later one may be older.
    """
    there = sorted((s.counts_ns, s.value) for s in samples if s.value is not None)
    highest, seen = -math.inf, 0
    for sample in samples:
        while seen < len(there) and there[seen][0] <= sample.at_ns:
            highest, seen = max(highest, there[seen][1]), seen + 1
        if sample.value is not None and sample.value < highest:
            return highest, sample.value
    return None


def coverage(samples: Samples, series: str, rate_hz: float, from_ns: int, to_ns: int) -> float:
    """Return the share of the expected samples that were taken (answered or not) in [from_ns, to_ns); at most 1."""
    expected = rate_hz * (to_ns - from_ns) / NS
    taken = sum(from_ns <= s.at_ns < to_ns for s in samples.get(series, ()))
    return min(1.0, taken / expected) if expected > 0 else 0.0


# ---- good at t ------------------------------------------------------------------------------------------------------


def good(evidence: Evidence) -> list[Goodness]:
    """Return every series by which a moment counts as good: the component's probes, and the visible head of each group
    of each stream."""
    return [*_answers(evidence), *(state for one in evidence.each() for state in shown(one, groups(one)))]


def shown(evidence: Evidence, wanted: Iterable[Group]) -> Iterator[Goodness]:
    """Yield the visible head of each of these groups of one stream: good while it is not further behind than its
    bound."""
    b = _bound_s(evidence)
    for group in wanted:
        name = series_of("head", evidence.visible, group)
        track = _track(evidence.samples.get(name, ()))
        late = delays(evidence.samples, group, evidence.visible, evidence.ledger)
        status = np.full(len(track.at_ns), UNSEEN, dtype=np.int8)
        status[late.high_s < b] = GOOD
        status[np.isnan(late.low_s) | (late.low_s >= b)] = BAD
        near = (status == UNSEEN) & (late.high_s - late.low_s <= LEDGER_GAP_S)
        yield replace(_placed(name, track, status)[0], near_ns=track.at_ns[near])


def outage(evidence: Evidence) -> tuple[int | None, int | None]:
    """Return (last answer before, first answer after) of the component's longest silence since the last act, in ns.

    "Answered after" means by every probe; None: the component is silent to the end. A component may have answered while
    it was cut off, or its link distorted. Its outage then lasted as long as that fault, and a silence that begins later
    doesn't count. (None, None): there was neither.
    """
    if (silence := _silence_of_it(evidence, _answers(evidence))) is not None:
        return silence.before_ns, silence.after_ns
    link = _link(evidence)
    return (link.done_ns, link.healed_ns) if link is not None else (None, None)


@dataclass(frozen=True)
class Relapse:
    """Why a component was not back for good, in words. silent_ns: from when to when it was silent again; None: it was
    started once more."""

    why: str
    silent_ns: tuple[int, int] | None = None


def relapse(evidence: Evidence) -> Relapse | None:
    """Return what shows that the component was not back for good after its backlog was drained: it was silent again, or
    was started once more. None: nothing shows that, or it was never back."""
    drain = evidence.measures.get("drain")
    if drain is None or drain.high_s is None or evidence.inject_ns is None or evidence.archive:
        return None
    back_ns = evidence.inject_ns + int(drain.high_s * NS)
    for answer in _answers(evidence):
        place = answer.at_ns > back_ns
        at, bad = answer.at_ns[place], answer.status[place] == BAD
        for start in np.flatnonzero(bad & ~np.concatenate(([False], bad[:-1]))):
            up = np.flatnonzero(~bad[start:])
            times = int(up[0]) if len(up) else len(bad) - int(start)
            end_ns = int(at[start + times] if len(up) else at[-1])
            if times >= RELAPSE_TIMES and end_ns - int(at[start]) > _bound_s(evidence) * NS:
                clock_ns = evidence.inject_ns if evidence.clock_ns is None else evidence.clock_ns
                why = f"{answer.series} was silent again after {(int(at[start]) - clock_ns) / NS:.1f} s"
                return Relapse(why, (int(at[start]), end_ns))
    for one in evidence.timed:
        then, now = ((m.identities if m else {}).get(one) for m in (evidence.healed, evidence.ends))
        if then is not None and now is not None and then != now:
            return Relapse(f"{one} was started once more after it was back")
    return None


# ---- measures -------------------------------------------------------------------------------------------------------


def measure(evidence: Evidence) -> dict[str, Measure]:
    """Return the run's measures.

    impact, restore and drain are in seconds from the first act; mttr is restore from the clock's start. If an alert
    must fire, there are also alert (from the first act) and resolve (from the clock's start).

    A measure that could not be taken has high_s None, and says why. If something was still bad at its last sample,
    low_s is that moment: it was not back before then.
    """
    if evidence.inject_ns is None:
        names = ("impact", "restore", "drain", "mttr", *(("alert", "resolve") if evidence.alert_within_s else ()))
        return {name: Measure(None, None, "nothing was injected") for name in names}
    clock = evidence.inject_ns if evidence.clock_ns is None else evidence.clock_ns
    back, drained = _recovery(evidence, clock)
    return {
        "impact": _impact(evidence, evidence.inject_ns).since(evidence.inject_ns),
        "restore": back.since(evidence.inject_ns),
        "drain": drained.since(evidence.inject_ns),
        "mttr": back.since(clock),
        **(_alerts(evidence, clock) if evidence.alert_within_s is not None else {}),
    }


def settled(evidence: Evidence) -> bool:
    """Return whether further samples can change neither restore nor drain: each is measured, or can't be any more.

    If there are too few samples around a past edge, they stay too few. If nothing was bad after the last act, nothing
    will be bad because of it: all was good for as long as a backlog needs to count as drained, and each group that the
    component carries has shown a record that came since.
    """
    if evidence.inject_ns is None:
        return False
    clock = evidence.inject_ns if evidence.clock_ns is None else evidence.clock_ns
    if not evidence.archive and not _ever_bad(evidence, _anchor(evidence)):
        return unharmed(evidence)
    return all(edge.high_ns is not None or edge.passed for edge in _recovery(evidence, clock))


def unharmed(evidence: Evidence) -> bool:
    """Return whether nothing was bad after the last act, and that is known (see `settled`)."""
    if evidence.inject_ns is None or evidence.archive or _ever_bad(evidence, _anchor(evidence)):
        return False
    return _well_since(evidence, evidence.inject_ns if evidence.clock_ns is None else evidence.clock_ns)


@dataclass(frozen=True)
class _Edge:
    """A moment between two samples, or why there is none. passed: the moment is over, and later samples show nothing
    more about it."""

    low_ns: int | None
    high_ns: int | None
    why: str = ""
    passed: bool = False

    def since(self, start_ns: int) -> Measure:
        low, high = (None if t is None else round(max(0, t - start_ns) / NS, 6) for t in (self.low_ns, self.high_ns))
        return Measure(low, high, self.why)


def _impact(evidence: Evidence, inject_ns: int) -> _Edge:
    """Return the edge between the last good sample and the first bad one after the first act, of the series that showed
    it first."""
    first: tuple[int, int, Goodness] | None = None
    for series in good(evidence):
        bad = np.flatnonzero((series.status == BAD) & (series.at_ns >= inject_ns))
        if len(bad) and (first is None or series.at_ns[bad[0]] < first[0]):
            first = (int(series.at_ns[bad[0]]), int(bad[0]), series)
    if first is None:
        return _Edge(None, None, "no sample was bad after the first act")
    at, place, series = first
    before = series.at_ns[:place][series.status[:place] == GOOD]
    low = max(inject_ns, int(before[-1]) if len(before) else inject_ns)
    if at - low > _gap_max_ns(series):
        return _Edge(
            None, None, f"too few samples: {(at - low) / NS:.2f} s before {series.series} went bad show nothing"
        )
    return _Edge(low, at)


def _alerts(evidence: Evidence, clock_ns: int) -> dict[str, Measure]:
    """Return when the alert first fired, and when it stopped for good. Each is bounded by the samples around it,
    however far apart they are."""
    told = [s for s in evidence.samples.get(f"alert/{evidence.alert}", ()) if s.value is not None]
    after = [n for n, s in enumerate(told) if s.at_ns >= (evidence.inject_ns or 0)]
    firing = [n for n in after if told[n].value == FIRING]
    if not firing or not firing[0] or told[firing[0] - 1].value == FIRING:
        why = "it fired before the first act" if firing and firing[0] else "it was not seen to fire"
        return {"alert": Measure(None, None, why), "resolve": Measure(None, None, why)}
    first, last = firing[0], firing[-1]
    fired = _Edge(told[first - 1].at_ns, told[first].at_ns + told[first].took_ns)
    over = told[last + 1] if last + 1 < len(told) else None
    ended = _Edge(
        max(told[last].at_ns, clock_ns),
        None if over is None else max(over.at_ns + over.took_ns, clock_ns),
        "it fired to the end of the samples" if over is None else "",
    )
    return {"alert": fired.since(evidence.inject_ns or 0), "resolve": ended.since(clock_ns)}


def _recovery(evidence: Evidence, clock_ns: int) -> tuple[_Edge, _Edge]:
    """Return the edges of restore and drain."""
    if evidence.archive:
        return (_exported(evidence, clock_ns),) * 2
    back = _restore(evidence, clock_ns)
    drained = _drain(evidence, clock_ns, back)
    for one in evidence.each():
        back = _all_back(one, back)
    return back, drained


def _restore(evidence: Evidence, clock_ns: int) -> _Edge:
    """Return the first sample of a full second of service. It is not looked for while the plan still breaks or
    heals."""
    answers = _answers(evidence)
    if evidence.timed and not any(len(a.at_ns) for a in answers):
        return _Edge(None, None, f"there are no samples of component {', '.join(evidence.timed)}")
    silence = _silence_of_it(evidence, answers)
    if silence is None and not _ever_bad(evidence, _anchor(evidence)):
        return _Edge(None, None, "neither the component nor a stream was seen bad after the last act")
    if silence and silence.after_ns is None:
        mute = ", ".join(a.series for a in answers if a.status[-1] == BAD)
        return _Edge(max(silence.last_ns, clock_ns), None, f"not back: {mute} unanswered to the end of the samples")
    up_ns = silence.after_ns if silence and silence.after_ns else clock_ns
    series = [_good_throughout(answer, RESTORE_SPAN_S) for answer in answers]
    series += [_rising(one, group, up_ns) for one in evidence.each() for group in affected(one)]
    if all(sparse(one, group) for one in evidence.each() for group in affected(one)):
        series += [state for one in evidence.each() for state in _anything_new(one, up_ns)]
    return _first_good(series, max(clock_ns, up_ns), clock_ns, "not back: ")


def _all_back(evidence: Evidence, back: _Edge) -> _Edge:
    """Return the same edge, or a later one if a look found groups that had shown nothing new since: samples of shards
    don't show a few such groups among many."""
    if back.high_ns is None:
        return back
    still = [look for look in evidence.looks if look.still and look.seen_ns > (back.low_ns or 0)]
    if not still:
        return back
    low = max(back.low_ns or 0, still[-1].seen_ns)
    after = [look.seen_ns for look in evidence.looks if look.asked_ns >= still[-1].seen_ns]
    return _Edge(low, after[0]) if after else _Edge(low, None, f"not back: {missing(evidence.visible, still[-1])}")


def _exported(evidence: Evidence, clock_ns: int) -> _Edge:
    """Return the first sample from which on the archive has everything of every group that existed at the clock's
    start."""
    series, evidence = [], evidence.exported()
    for group in watched(evidence):
        before = _at_clock(evidence, group, clock_ns)
        name = f"archive/head/{codec.key_of(group)}"
        track = _track(evidence.samples.get(name, ()))
        if before is None or not len(track.at_ns):
            return _Edge(None, None, f"there are no samples of {codec.key_of(group)} at the ledger and the archive")
        status = np.full(len(track.at_ns), UNSEEN, dtype=np.int8)
        status[track.value >= before] = GOOD
        status[track.value < before] = BAD
        series.append(_placed(name, track, status)[0])
    return _first_good(series, clock_ns, clock_ns, "not exported: ")


def _at_clock(evidence: Evidence, group: Group, clock_ns: int) -> float | None:
    """Return what the ledger had of a group at the clock's start; None: not known.

    A commit tells each group's head, so the archive is sampled by groups even where the stream has shards.
    """
    if evidence.sharded:
        return evidence.at_clock.get(group)
    truth = _track(evidence.samples.get(series_of("head", evidence.ledger, group), ()))
    before = truth.value[(truth.at_ns <= clock_ns) & ~np.isnan(truth.value)]
    return float(before[-1]) if len(before) else None


def _drain(evidence: Evidence, clock_ns: int, back: _Edge) -> _Edge:
    """Return the first sustained good sample from restore on. (Before that, a head may still count as good for as long
    as the bound.) With shards, it is the first look from then on that finds every group there."""
    anchor = _anchor(evidence)
    bad = [int(s.at_ns[i]) for s in good(evidence) for i in np.flatnonzero((s.status == BAD) & (s.at_ns >= anchor))[:1]]
    if not bad:
        return _Edge(None, None, "no sample was bad after the last act")
    series = _sustained(evidence)
    from_ns = max(clock_ns, min(bad), back.high_ns or 0)
    floor_ns = clock_ns if back.high_ns is None else max(clock_ns, back.low_ns or 0)
    drained = _first_good(series, from_ns, floor_ns, "not drained: ")
    for one in evidence.each():
        drained = _all_drained(one, drained) if one.sharded else drained
    return drained


def _all_drained(evidence: Evidence, drained: _Edge) -> _Edge:
    """Return the same edge, extended to a look that found no group behind: one group that stands still among many
    doesn't show in their total."""
    if drained.high_ns is None:
        return drained
    low = drained.low_ns or 0
    looks = [look for look in evidence.looks if look.asked_ns >= low]
    late = [look for look in looks if look.behind]
    low = late[-1].seen_ns if late else low
    clean = [look.seen_ns for look in looks if look.asked_ns >= low]
    if clean:
        return _Edge(low, max(drained.high_ns, clean[0]))
    why = missing(evidence.visible, late[-1]) if late else f"no look at each group of {evidence.visible}"
    return _Edge(low, None, f"not drained: {why}")


def missing(visible: str, look: Look) -> str:
    """Return what a look found to be behind at the visible hop, in words."""
    named = ", ".join("/".join(group) for group in look.named)
    more = ", …" if look.behind > len(look.named) else ""
    return f"{visible} lacks records of {look.behind} group{'s' * (look.behind != 1)} ({named}{more})"


def _sustained(evidence: Evidence) -> list[Goodness]:
    """Return every series by which a moment counts as good; each is good from where it stays so for longer than its
    stream's bound."""
    states = [(state, _bound_s(evidence)) for state in _answers(evidence)]
    states += [(state, _bound_s(one)) for one in evidence.each() for state in shown(one, groups(one))]
    return [_good_throughout(state, sustained_s(behind_s)) for state, behind_s in states]


def _well_since(evidence: Evidence, clock_ns: int) -> bool:
    """Return whether all stayed good for long enough since then, and each affected group has shown a later record."""
    edge = _first_good(_sustained(evidence), clock_ns, clock_ns, "")
    if edge.high_ns is None and not edge.passed:
        return False
    for one in evidence.each():
        for group in affected(one):
            truth = _track(one.samples.get(series_of("head", one.ledger, group), ()))
            head = _track(one.samples.get(series_of("head", one.visible, group), ()))
            then = truth.value[(truth.sent_ns >= clock_ns) & ~np.isnan(truth.value)][:1]
            if not len(then) or not np.any(head.value > then[0]):  # NaN, no answer, is not
                return False
    return True


def _first_good(series: Sequence[Goodness], from_ns: int, floor_ns: int, never: str) -> _Edge:
    """Return the edge to the first moment, from from_ns on, at which every series' last sample is good. Its low end is
    not before floor_ns."""
    if absent := [s.series for s in series if not len(s.at_ns)]:
        return _Edge(None, None, f"there are no samples of {', '.join(absent[:4])}")
    moments = _moments(series)
    moments = moments[moments >= from_ns]
    state = np.ones(len(moments), dtype=bool)
    for s in series:
        state &= _last_status(s, moments) == GOOD
    if not series or not np.any(state):
        return _never(series, moments, floor_ns, never)
    high = int(moments[int(np.argmax(state))])
    edges = [(*_edge(s, high), s) for s in series]
    low = max(floor_ns, *(bad for bad, _, _ in edges))
    latest = max(edges, key=lambda edge: edge[1])[2]
    if high - low > _gap_max_ns(latest) and not _too_near(series, low, high):
        why = f"too few samples: {(high - low) / NS:.2f} s around the edge show nothing ({latest.series})"
        return _Edge(None, None, why, passed=True)
    return _Edge(low, high)


def _too_near(series: Sequence[Goodness], low_ns: int, high_ns: int) -> bool:
    """Return whether an edge is wide although every series was sampled all the time: a delay stayed so close to the
    bound that nobody can tell when it fell below. The true value still lies in between."""
    for s in series:
        inside = s.at_ns[(s.at_ns > low_ns) & (s.at_ns < high_ns)]
        if np.max(np.diff(np.concatenate(([low_ns], inside, [high_ns])))) > _gap_max_ns(s):
            return False
    return any(bool(np.any((s.near_ns > low_ns) & (s.near_ns < high_ns))) for s in series)


def _edge(series: Goodness, high_ns: int) -> tuple[int, int]:
    """Return a series' last bad sample before high_ns and its first good one after that; -1: there is none.

    A probe that was under way at the good sample, and was answered late, was sent into silence: it counts as bad too.
    """
    bad = series.at_ns[(series.status == BAD) & (series.at_ns < high_ns)]
    if not len(bad):
        return -1, -1
    after = series.at_ns[(series.status == GOOD) & (series.at_ns > bad[-1])]
    pending = series.pending_ns[(series.pending_ns > bad[-1]) & (series.pending_ns < after[0])]
    return int(pending[-1] if len(pending) else bad[-1]), int(after[0])


def _never(series: Sequence[Goodness], moments: Times, floor_ns: int, never: str) -> _Edge:
    """Return why no moment was good, and up to when something was seen to be bad at every moment since the floor."""
    bad = np.zeros(len(moments), dtype=bool)
    for s in series:
        bad |= _last_status(s, moments) == BAD
    until = len(moments) if np.all(bad) else int(np.argmin(bad))
    low = max(floor_ns, int(moments[until - 1])) if until else None
    if ill := [s.series for s in series if s.status[-1] == BAD]:
        names = ", ".join(ill[:4]) + (f" and {len(ill) - 4} more" if len(ill) > 4 else "")
        return _Edge(low, None, f"{never}{names} bad to the end of the samples")
    return _Edge(low, None, "the samples end before a full span of them was good")


@dataclass(frozen=True)
class _Silence:
    """A component's silence: the last answer before it, the first and the last unanswered probe, and the first moment
    at which all probes answer again."""

    before_ns: int | None
    first_ns: int
    last_ns: int
    after_ns: int | None


def _silence(answers: Sequence[Goodness], anchor_ns: int) -> _Silence | None:
    """Return the longest time from anchor_ns on in which some probe's last sample was unanswered. A single lost answer
    is no outage."""
    moments = _moments(answers)
    down = np.zeros(len(moments), dtype=bool)
    for answer in answers:
        down |= _last_status(answer, moments) == BAD
    starts = np.flatnonzero(down & ~np.concatenate(([False], down[:-1])))
    longest: _Silence | None = None
    for start in starts:
        up = np.flatnonzero(~down[start:])
        after = int(moments[start + up[0]]) if len(up) else None
        if after is not None and after < anchor_ns:
            continue
        first = int(moments[start])
        inside = [t for a in answers for t in a.at_ns[a.status == BAD] if first <= t and (after is None or t < after)]
        before = [int(t[-1]) for a in answers if len(t := a.at_ns[(a.status == GOOD) & (a.at_ns < first)])]
        found = _Silence(max(before, default=None), first, int(max(inside)), after)
        end = int(moments[-1])
        if longest is None or (after or end) - first > (longest.after_ns or end) - longest.first_ns:
            longest = found
    return longest


def _silence_of_it(evidence: Evidence, answers: Sequence[Goodness]) -> _Silence | None:
    """Return the component's silence, unless it began after its struck link was healed: then the fault didn't cause
    it."""
    silence, link = _silence(answers, _anchor(evidence)), _link(evidence)
    return None if silence and link and silence.first_ns > (link.healed_ns or 0) else silence


def _link(evidence: Evidence) -> Act | None:
    """Return the last act that cut the component off, or distorted its link, and was proved and healed."""
    return next(
        (a for a in reversed(evidence.acts) if a.proof is not None and a.healed_ns is not None and a.severs), None
    )


def _anchor(evidence: Evidence) -> int:
    """Return when the last act began. It did not cause what was bad before."""
    return max((act.at_ns for act in evidence.acts), default=evidence.inject_ns or 0)


def _bound_s(evidence: Evidence) -> float:
    return evidence.baseline.bound_s if evidence.baseline else BOUND_BEFORE_BASELINE_S


def _ever_bad(evidence: Evidence, from_ns: int) -> bool:
    return any(bool(np.any((s.status == BAD) & (s.at_ns >= from_ns))) for s in good(evidence))


def _gap_max_ns(series: Goodness) -> float:
    return max(EDGE_GAP_S * NS, EDGE_GAP_PERIODS * series.period_ns)


def _moments(series: Sequence[Goodness]) -> Times:
    return np.unique(np.concatenate([s.at_ns for s in series])) if series else np.empty(0, dtype=np.int64)


def _last_status(series: Goodness, moments: Times) -> Status:
    """Return the status of the series' last sample at each moment; unseen before its first sample."""
    last = np.searchsorted(series.at_ns, moments, side="right")
    return np.concatenate((np.array([UNSEEN], dtype=np.int8), series.status))[last]


# ---- series ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Track:
    """One series as arrays, ordered by when each sample counts."""

    at_ns: Times
    sent_ns: Times
    value: Floats
    period_ns: float
    pending_ns: Times


def _track(samples: Sequence[Sample]) -> _Track:
    sent = np.array([s.at_ns for s in samples], dtype=np.int64)
    took = np.array([s.took_ns for s in samples], dtype=np.int64)
    value = np.array([np.nan if s.value is None else s.value for s in samples], dtype=np.float64)
    counts = np.where(np.isnan(value), sent, sent + took)
    order = np.argsort(counts, kind="stable")
    period = float(np.median(np.diff(np.sort(sent)))) if len(sent) > 1 else 0.0
    pending = np.sort(sent[~np.isnan(value) & (took >= PENDING_S * NS)])
    return _Track(counts[order], sent[order], value[order], period, pending)


def _answers(evidence: Evidence) -> list[Goodness]:
    """Return the probes of the component, or of all members that were struck; good when answered."""
    found = []
    for name in (name for one in evidence.timed for name in probes(evidence.samples, one)):
        track = _track(evidence.samples[name])
        found.append(_placed(name, track, np.where(np.isnan(track.value), BAD, GOOD))[0])
    return found


def _rising(evidence: Evidence, group: Group, up_ns: int) -> Goodness:
    """Return a group's visible head; good where it exceeds the highest head before up_ns, and rises within the second
    that begins there or has shown everything by its end.

    A sparse group can't rise every second. If it lacked something at up_ns, it is good once it shows something new. If
    it lacked nothing, its next record tells: shown after the usual delay, the group was back all the time.
    """
    name, track, highest = _head_before(evidence, group, up_ns)
    late_s = delays(evidence.samples, group, evidence.visible, evidence.ledger).low_s
    if sparse(evidence, group):
        since = ~(track.value > highest) & (track.at_ns >= up_ns)
        waited_s = float(np.max(late_s[since & ~np.isnan(late_s)], initial=0.0))
        served = not _lacked(evidence, group, highest, up_ns) and waited_s < _bound_s(evidence)
        good = ~np.isnan(track.value) if served else track.value > highest
        return _good_throughout(_placed(name, track, np.where(good, GOOD, BAD))[0], RESTORE_SPAN_S)
    all_shown = late_s == 0  # NaN, no answer, is not
    beyond, order = _placed(name, track, np.where(track.value > highest, GOOD, BAD))  # NaN, no answer, is bad
    held, value = _good_throughout(beyond, RESTORE_SPAN_S), track.value[order]
    end = np.searchsorted(held.at_ns, held.at_ns + int(RESTORE_SPAN_S * NS), side="right") - 1
    still = (held.status == GOOD) & ~(value[end] > value) & ~all_shown[order][end]
    return replace(held, status=np.where(still, BAD, held.status).astype(np.int8))


def _anything_new(evidence: Evidence, up_ns: int) -> list[Goodness]:
    """Return the affected group that first shows something newer than before up_ns, good from then on.

    It tells when service was back where no affected group had anything to show at first. []: none has had anything
    since.
    """
    found = []
    for group in affected(evidence):
        name, track, highest = _head_before(evidence, group, up_ns)
        if _lacked(evidence, group, highest):
            found.append(_placed(name, track, np.where(track.value > highest, GOOD, BAD))[0])
    return [min(found, key=lambda one: min(one.at_ns[one.status == GOOD], default=math.inf))] if found else []


def _head_before(evidence: Evidence, group: Group, up_ns: int) -> tuple[str, _Track, float]:
    """Return the series of a group's visible head, its samples as arrays, and the highest head before up_ns.

    A shard's value may be below 0 at first: it counts from what the ledger had.
    """
    name = series_of("head", evidence.visible, group)
    track = _track(evidence.samples.get(name, ()))
    marks = evidence.baseline.marks.heads.get(evidence.visible, {}) if evidence.baseline else {}
    before = track.value[(track.at_ns < up_ns) & ~np.isnan(track.value)]
    floor = -math.inf if evidence.sharded and len(before) else float(marks.get(group, 0))
    return name, track, float(np.max(before, initial=floor))


def _lacked(evidence: Evidence, group: Group, highest: float, upto_ns: int | None = None) -> bool:
    """Return whether the ledger was seen, up to then, to have more of the group than `highest`."""
    truth = _track(evidence.samples.get(series_of("head", evidence.ledger, group), ()))
    seen = truth.value > highest  # NaN, no answer, is not
    return bool(np.any(seen if upto_ns is None else seen & (truth.at_ns <= upto_ns)))


def _placed(name: str, track: _Track, status: npt.NDArray[Any]) -> tuple[Goodness, npt.NDArray[np.intp]]:
    """Return a series with each sample at the moment from which it counts, and each sample's index in the track."""
    at = np.where(status == BAD, track.sent_ns, track.at_ns)
    order = np.argsort(at, kind="stable")
    placed = Goodness(name, at[order], status[order].astype(np.int8), track.period_ns, track.pending_ns)
    return placed, order


def _good_throughout(series: Goodness, span_s: float) -> Goodness:
    """Return the series as good where every sample of the span from there on is good; unseen where too few samples
    exist, or the record ends."""
    at, span = series.at_ns, int(span_s * NS)
    if not len(at):
        return series
    place, end = np.arange(len(at)), np.searchsorted(at, at + span, side="right")
    enough = end - place - 1 >= int(WINDOW_SHARE_MIN * span / series.period_ns) if series.period_ns else False
    complete = at + span <= at[-1] + series.period_ns
    counted = {s: np.concatenate(([0], np.cumsum(series.status == s))) for s in (GOOD, BAD)}
    inside = {s: counted[s][end] - counted[s][place] for s in counted}
    status = np.full(len(at), UNSEEN, dtype=np.int8)
    status[(inside[GOOD] == end - place) & enough & complete] = GOOD
    status[inside[BAD] > 0] = BAD
    return replace(series, status=status)
