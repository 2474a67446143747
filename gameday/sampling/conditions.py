"""The states that a plan waits for: pure functions of Now, named so that a plan can be read. tasks/ do the waiting.

A state that can't be seen (no samples, or too few) never counts as reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import numpy as np

from gameday.errors import ConfigError
from gameday.model import INACTIVE, Condition, Group, JobRun, Kept, Now, Sample, Samples
from gameday.sampling.timings import NS, delays, is_alert, probes, series_of

__all__ = [
    "ailing",
    "alert_state",
    "all_of",
    "answering",
    "any_of",
    "behind",
    "drained",
    "fired",
    "flowing",
    "held_back",
    "job_failed",
    "job_idle",
    "lacks",
    "lasted",
    "looks_back_s",
    "restored",
    "silent",
    "well",
]

SECOND_S = 1.0
"""A state holds when it held for a full second."""

SEEN_MAX_S = 110.0
"""The sampler keeps its newest two minutes at hand."""

BEYOND_S = 5.0
"""Samples must reach back this much further than a lag: otherwise nobody could see that it is that long."""

IDLE_WITHIN_S = 300.0
"""How long a job may take to be idle: the longest run of the offload, on a large backlog."""

NAMED_MAX = 3
"""How many streams are named one by one."""

ALERT_OLD_S = 5.0
"""An alert whose last answer is older than this can't be seen."""

SEEN_SHARE_MIN = 0.8
"""A series' samples must reach across this share of a span, so that its beginning was seen."""


def answering(now: Now) -> bool:
    """Every probe of the component was answered throughout the last second."""
    return not _unanswered(now, now.timed, SECOND_S)


def silent(now: Now) -> bool:
    """Some probe of the component was asked within the last second, and not answered since."""
    last = [_recent(now, name, SECOND_S)[-1:] for one in now.timed for name in probes(now.samples, one)]
    return any(found[0].value is None for found in last if found)


def flowing(now: Now) -> bool:
    """No stream's visible head stood still within the last second while it lacked something, or is further behind the
    ledger than it may be."""
    return _grouped(now) and not any(_stalled(one, one.groups, SECOND_S) or _late(one) for one in now.each())


def restored(now: Now) -> bool:
    """The component answered throughout the last second, and no affected stream's visible head stood still in it while
    it lacked something."""
    return answering(now) and not any(_stalled(one, one.affected, SECOND_S) for one in now.each())


def drained(now: Now) -> bool:
    """The component answers, and every stream's visible head is no further behind the ledger than it may be."""
    return _grouped(now) and answering(now) and not any(map(_late, now.each()))


def well(seconds: float) -> Condition:
    """Every probe of every component answered throughout these seconds, and every stream flows.

    Raises:
        ConfigError: `seconds` is more than SEEN_MAX_S.
    """
    _seen("well", seconds)
    return _named(lambda now: not ailing(now, seconds), f"well for {seconds:g} s", well.__doc__, looks_back_s=seconds)


def ailing(now: Now, seconds: float = SECOND_S) -> list[str]:
    """Return what is not well, in words with figures; []: all is well."""
    components = sorted({name.split("/")[1] for name in now.samples if name.startswith("component/")})
    if not components or not _grouped(now):
        return ["nothing was sampled yet"]
    return [
        *_unanswered(now, components, seconds),
        *(why for one in now.each() for why in (*_stalled(one, one.groups, seconds), *_late(one))),
        *_alerting(now),
    ]


def behind(seconds: float) -> Condition:
    """At least one affected stream's visible head lacks something, and every one that does is at least this far behind
    the ledger. A head that doesn't answer ages by the clock.

    Raises:
        ConfigError: `seconds` is more than SEEN_MAX_S.
    """
    _seen("behind", seconds)

    def condition(now: Now) -> bool:
        lags = [_lag_s(one, group) for one in now.each() for group in one.affected]
        lacking = [lag for lag in lags if lag is None or lag > 0]
        return bool(lacking) and all(lag is not None and lag >= seconds for lag in lacking)

    return _named(condition, f"behind by {seconds:g} s", behind.__doc__, looks_back_s=seconds + BEYOND_S)


def held_back(cursor: str, share: float, seconds: float) -> Condition:
    """The oldest record that the cursor's consumer has not read is `seconds` old, or has lived through `share` of the
    log's retention; or some such records are deleted already."""

    def condition(now: Now) -> bool:
        return any(
            one.dropped > 0
            or (one.unread_s is not None and one.unread_s >= seconds)
            or (one.share is not None and one.share >= share)
            for one in now.kept.values()
        )

    made = _named(condition, f"{cursor} held back by {seconds:g} s, or {share:.0%} of the retention", held_back.__doc__)
    made.cursor = cursor  # type: ignore[attr-defined]  # whom the run asks for Now.kept
    return made


def lasted(seconds: float) -> Condition:
    """The last act was done at least this long ago."""
    return _named(
        lambda now: now.acted_ns is not None and now.at_ns - now.acted_ns >= seconds * 1e9,
        f"lasted for {seconds:g} s",
        lasted.__doc__,
    )


def fired(point: str, times: int = 1) -> Condition:
    """The failpoint has fired so often since the run armed it."""
    often = "" if times == 1 else f" {times} times"
    return _named(lambda now: now.fired.get(point, 0) >= times, f"{point} fired{often}", fired.__doc__)


def job_failed(now: Now) -> bool:
    """A run of the job that the test has asked for ended without success."""
    return any(run.ended_us is not None and run.state != "Completed" for run in now.struck)


def job_idle(now: Now) -> bool:
    """No run of the job is under way or about to start, so that a run that is asked for now runs alone."""
    return now.busy == ()


def lacks(condition: Condition, now: Now) -> str:
    """Return what is missing to this state, in words; "": not known."""
    if condition is job_idle:
        if now.busy is None:
            return f"whether its job is idle can't be seen: {now.busy_why}"
        return ", ".join(f"run {run.name} of its job is {run.state}{_since(run)}" for run in now.busy[:NAMED_MAX])
    if condition is flowing:
        return "; ".join(why for one in now.each() for why in (*_stalled(one, one.groups, SECOND_S), *_late(one)))
    if condition is answering:
        return "; ".join(_unanswered(now, now.timed, SECOND_S))
    if hasattr(condition, "cursor"):
        return "; ".join(f"{slot} is {one.unread_s or 0:.0f} s behind" for slot, one in _unread(now)[:NAMED_MAX])
    return ""


def _unread(now: Now) -> list[tuple[str, Kept]]:
    """Return what the log keeps for the held-back consumer, the slot that is furthest behind first."""
    return sorted(now.kept.items(), key=lambda item: -(item[1].unread_s or 0.0))


def _since(run: JobRun) -> str:
    """Return since when a run lasts, or when it is due, in words."""
    at_us = run.started_us or run.due_us
    if at_us is None:
        return ""
    return f" {'since' if run.started_us else 'and due at'} {datetime.fromtimestamp(at_us / 1e6, UTC):%H:%M:%S} UTC"


def alert_state(samples: Samples, at_ns: int) -> float | None:
    """Return the last known state of the alert that the run watches; None: there is none, or it can't be seen."""
    name = next((name for name in samples if is_alert(name)), None)
    since_ns = at_ns - int(ALERT_OLD_S * NS)
    told = [s.value for s in samples[name] if s.value is not None and s.at_ns >= since_ns] if name else []
    return told[-1] if told else None


def all_of(*conditions: Condition) -> Condition:
    """All of these states at once."""
    names = " and ".join(getattr(c, "__name__", repr(c)) for c in conditions)
    return _named(lambda now: all(c(now) for c in conditions), names, all_of.__doc__, _furthest(conditions))


def any_of(*conditions: Condition) -> Condition:
    """At least one of these states."""
    names = " or ".join(getattr(c, "__name__", repr(c)) for c in conditions)
    return _named(lambda now: any(c(now) for c in conditions), names, any_of.__doc__, _furthest(conditions))


def _seen(condition: str, seconds: float) -> None:
    """Raise ConfigError if a condition looks back further than samples are kept: it would never be reached."""
    if seconds > SEEN_MAX_S:
        raise ConfigError(f"{condition}({seconds:g}): samples of {SEEN_MAX_S:g} s are kept. Remedy: that, or less")


def _furthest(conditions: Iterable[Condition]) -> float:
    return max(map(looks_back_s, conditions), default=0.0)


def looks_back_s(condition: Condition) -> float:
    """Return how far back a condition must see samples; 0: no further than they are read anyway."""
    return float(getattr(condition, "looks_back_s", 0.0))


def _named(condition: Condition, name: str, doc: str | None, looks_back_s: float = 0.0) -> Condition:
    condition.__name__ = name
    condition.__doc__ = doc
    condition.looks_back_s = looks_back_s  # type: ignore[attr-defined]
    return condition


def _recent(now: Now, series: str, seconds: float) -> list[Sample]:
    """Return the samples sent within the last seconds, in the order sent."""
    since = now.at_ns - int(seconds * NS)
    return [s for s in now.samples.get(series, ()) if since <= s.at_ns <= now.at_ns]


def _spans(samples: list[Sample], seconds: float) -> bool:
    """Return whether these samples reach across the span. For one second two samples are enough: a probe may be
    slow."""
    if len(samples) < 2:
        return False
    return seconds <= SECOND_S or samples[-1].at_ns - samples[0].at_ns >= SEEN_SHARE_MIN * seconds * NS


def _unanswered(now: Now, components: Iterable[str], seconds: float) -> list[str]:
    """Return the components' probes that were not answered throughout."""
    wrong = []
    for component in components:
        names = probes(now.samples, component)
        wrong += [] if names else [f"{component} has no samples"]
        for name in names:
            asked = _recent(now, name, seconds)
            lost = sum(s.value is None for s in asked)
            last = now.samples[name][-1:]
            if not asked and last and last[0].value is None:
                age_s = (now.at_ns - last[0].at_ns) / NS
                wrong.append(
                    f"{component} did not answer its last probe, {age_s:.1f} s ago ({name.rpartition('/')[2]})"
                )
            elif lost:
                wrong.append(f"{component} did not answer {lost} of {len(asked)} probes ({name.rpartition('/')[2]})")
            elif not _spans(asked, seconds):
                wrong.append(f"{component} was asked {len(asked)} times in {seconds:g} s ({name.rpartition('/')[2]})")
    return wrong


def _stalled(now: Now, groups: Iterable[Group], seconds: float) -> list[str]:
    """Return, in one sentence, which groups' visible heads did not rise although the ledger had something newer
    throughout.

    A group that shows everything that there was when the span began is quiet, and well. Where the sink writes in
    batches the span is longer, because between two batches every head stands still.
    """
    seconds, still = max(seconds, now.still_s), []
    for group in groups:
        shown, had = (
            [s.value for s in _recent(now, series_of("head", hop, group), seconds) if s.value is not None]
            for hop in (now.visible, now.ledger)
        )
        risen = len(shown) > 1 and shown[-1] > shown[0]
        quiet = len(shown) > 1 and len(had) > 1 and shown[-1] >= had[0]
        if not risen and not quiet:
            still.append(group)
    return [f"{now.visible} shows nothing new of {_listed(still)} within {seconds:g} s"] if still else []


def _alerting(now: Now) -> list[str]:
    """Return whether the platform's alert is active, in words. An alert that can't be seen doesn't count: its component
    may be well."""
    return ["its alert is active"] if (alert_state(now.samples, now.at_ns) or INACTIVE) > INACTIVE else []


def _grouped(now: Now) -> bool:
    """Return whether any stream has a group. Nobody waits for a stream that has had no record yet."""
    return any(one.groups for one in now.each())


def _late(now: Now) -> list[str]:
    """Return, in one sentence with the worst delay, which groups are further behind the ledger than they may be."""
    lags = {group: _lag_s(now, group) for group in now.groups}
    late = {group: lag for group, lag in lags.items() if lag is None or lag >= now.bound_s}
    if not late:
        return []
    known = [lag for lag in late.values() if lag is not None]
    far = f"up to {max(known):.1f} s" if known else "an unknown time"
    return [f"{now.visible} is {far} behind {now.ledger} in {_listed(late)} (at most {now.bound_s:g} s)"]


def _listed(groups: Collection[Group]) -> str:
    """Return a few groups by name, many as a number."""
    names = ["/".join(group) for group in groups]
    return ", ".join(names) if len(names) <= NAMED_MAX else f"{len(names)} streams ({names[0]}, …)"


def _lag_s(now: Now, group: Group) -> float | None:
    """Return how far behind the group is now: the delay of its last answer, plus the time since then if later probes
    were not answered."""
    series = delays(now.samples, group, now.visible, now.ledger)
    shown = np.flatnonzero(~np.isnan(series.low_s))
    if not len(shown):
        return None
    last = int(shown[-1])
    waited_s = (now.at_ns - int(series.at_ns[last])) / NS
    return float(series.low_s[last]) + (waited_s if last < len(series.at_ns) - 1 else 0.0)
