"""Watch a running platform: every stream's looks, what is known of it, and what is kept of that: what `gameday watch`
prints. Nothing is changed, and no lease is taken: a failure test may run meanwhile, and what begins then says so.

The looks are tasks/looks.py's, what begins and ends verdict/known.py's, what is likely behind it verdict/causes.py's.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from gameday import codec
from gameday.errors import GamedayError, masked
from gameday.model import Json, RunResult
from gameday.past import history
from gameday.ports import Log, Retains
from gameday.stack.live import Stack
from gameday.system.asking import answer
from gameday.undo import lease
from gameday.verdict.causes import Cause, Clues
from gameday.verdict.checks._damage import label
from gameday.verdict.known import UNKNOWN, Event, Issue, Known, Trouble, text_of
from tasks.looks import Left, Look, Watched, watched
from tasks.survey import answers, diagnosis

__all__ = ["Watch", "event_of", "now"]

RESUME_WITHIN_S = 3_600.0
"""What an earlier watch has left is gone on from for so long: what happened before is the night's to find."""

LOOKS_MAX = 5
"""After so many looks at a stream what is still open is not known."""

ASK_WITHIN_S = 10.0

CLUES_EVERY_S = 15.0
"""How often it is asked what may be behind an issue, while there is one."""

FAILURES = 10
"""Runs of failure tests that are told."""

NEWER_S = 5.0
"""The lead of a moment in the future that is still taken for one of ours."""


@dataclass(frozen=True)
class _Left:
    """What one watch leaves to the next. streams: by name."""

    stack: str
    at_us: int
    streams: Mapping[str, Left] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()
    verified: Mapping[str, str] = field(default_factory=dict)


class Watch:
    """The looks of all streams, each in a thread of its own from `start` to `stop`. They are daemons: what hangs ends
    with the process. All else is for one thread."""

    def __init__(self, stack: Stack) -> None:
        """Raises ConfigError where a hop can't be made."""
        self.stack = stack
        self.known = Known()
        self.during = ""
        self.causes: list[Cause] = []
        self.since = now()
        left = self._resumed()
        self._lefts: dict[str, Left] = dict(left.streams) if left else {}
        self.verified: dict[str, str] = dict(left.verified) if left else {}
        for issue in left.issues if left else ():
            self.known.issues[issue.trouble.key] = issue
        known = [issue.trouble for issue in self.known.listed]
        self.streams, self.without = watched(stack, self._lefts, known)
        self.looks: dict[Watched, int] = dict.fromkeys(self.streams, 0)
        self.last: dict[Watched, Look] = {}
        self.looked: dict[Watched, str] = {}
        self._seen: queue.SimpleQueue[tuple[Watched, Look | Exception]] = queue.SimpleQueue()
        self._clues: queue.SimpleQueue[Clues] = queue.SimpleQueue()
        self._clues_s = -CLUES_EVERY_S
        self._asking = False
        self._over = threading.Event()

    # ---- looking -------------------------------------------------------------------------------------------

    def start(self) -> None:
        for one in self.streams:
            threading.Thread(target=self._look, args=(one,), name=f"watch {one.name}", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _look(self, one: Watched) -> None:
        while not self._over.is_set():
            try:
                found: Look | Exception = one.look()
            except Exception as e:  # noqa: BLE001 - it is told, and the next look may do better
                found = e
            self._seen.put((one, found))
            self._over.wait(one.rest_s())

    def events(self, within_s: float) -> list[Event]:
        """What the next look brings; [] when there is none in time, or it brings nothing new."""
        try:
            one, look = self._seen.get(timeout=within_s)
        except queue.Empty:
            return []
        self.during = self._held()
        if isinstance(look, Exception):
            hop = self.stack.streams[one.name].stream.hops[-1]
            why = str(look) if isinstance(look, GamedayError) else repr(look)
            failed = Trouble(UNKNOWN, one.name, hop, detail=f"the look failed: {masked(why)}")
            look = Look(one.name, (failed,), (), (), open=False)
        self.looks[one] += 1
        self.last[one], self.looked[one] = look, now()
        if look.left.places:
            self._lefts[one.name] = look.left
        events = self.known.look(
            look.stream, look.troubles, look.scope, look.judged, self.looked[one], time.monotonic(), self.during
        )
        if not look.open and not any(issue.trouble.stream == look.stream for issue in self.known.listed):
            self.verified[look.stream] = self.looked[one]
        self.keep()
        return events

    @property
    def settled(self) -> bool:
        """Whether each stream was looked at often enough for a verdict: what differed, a second time."""
        return all(
            one in self.last and (not self.last[one].open or self.looks[one] >= LOOKS_MAX) for one in self.streams
        )

    @property
    def damaged(self) -> bool:
        return any(issue.damage for issue in self.known.listed)

    @property
    def well(self) -> bool:
        """Whether every stream was judged, and nothing is wrong with any."""
        open_ = any(look.open for look in self.last.values())
        return bool(self.streams) and len(self.last) == len(self.streams) and not self.known.issues and not open_

    def _held(self) -> str:
        """The run of a failure test that holds the stack now."""
        with suppress(GamedayError):
            if (holder := lease.holder(self.stack.state)) is not None:
                return f"{holder.run} ({holder.test})"
        return ""

    # ---- what is behind it ---------------------------------------------------------------------------------

    def explain(self, wait_s: float = 0.0) -> bool:
        """Ask what may be behind the issues, side by side with the looks; whether the causes are others than before.
        wait_s: for the answers."""
        if not self.known.issues:
            changed, self.causes = bool(self.causes), []
            return changed
        if not self._asking and time.monotonic() - self._clues_s >= CLUES_EVERY_S:
            self._asking = True
            threading.Thread(target=self._gather, name="watch clues", daemon=True).start()
        try:
            clues = self._clues.get(timeout=wait_s) if wait_s else self._clues.get_nowait()
        except queue.Empty:
            return False
        self._asking, self._clues_s = False, time.monotonic()
        troubles = tuple(issue.trouble for issue in self.known.listed)
        repeats = {hop: number for look in self.last.values() for hop, number in look.repeats.items()}
        before = {cause.name for cause in self.causes}
        self.causes = diagnosis(self.stack, replace(clues, troubles=troubles, repeats=repeats))
        return {cause.name for cause in self.causes} != before

    def _gather(self) -> None:
        try:
            self._clues.put(self._gathered())
        except Exception:  # noqa: BLE001 - what is wrong is told without them
            self._clues.put(Clues())

    def _gathered(self) -> Clues:
        """What components say, and where consumers stand. Each has its bound."""
        said: dict[str, str] = {}
        with suppress(GamedayError):
            said = answer(lambda: answers(self.stack), ASK_WITHIN_S, "the components")
        behind: dict[str, int] = {}
        dropped: dict[str, int] = {}
        for name in self.stack.config.cursors:
            with suppress(GamedayError):
                cursor = self.stack.cursor(name)
                end = answer(cursor.end, ASK_WITHIN_S, f"the end of {name}")
                position = answer(cursor.position, ASK_WITHIN_S, f"the position of {name}")
                behind[name] = sum(max(0, at - position[slot]) for slot, at in end.items() if slot in position)
                if isinstance(cursor, Retains):
                    kept = answer(cursor.kept, ASK_WITHIN_S, f"what the log keeps for {name}")
                    dropped[name] = sum(one.dropped for one in kept.values())
        return Clues(
            errors={name: why for name, why in said.items() if why},
            answering=frozenset(name for name, why in said.items() if not why),
            behind=behind,
            dropped=dropped,
            logs=frozenset(name for name, hop in self.stack.hops.items() if isinstance(hop, Log)),
        )

    # ---- what is told, and kept ----------------------------------------------------------------------------

    def told(self) -> dict[str, Json]:
        """All that is known, as `gameday watch --json --once` prints it."""
        streams = {name: self._stream(name) for name in dict.fromkeys(one.name for one in self.streams)}
        failures, why = self._failures()
        return {
            "stack": self.stack.name,
            "at": now(),
            "since": self.since,
            "well": self.well,
            "during": self.during,
            "streams": streams | {name: {"not_watched": why} for name, why in self.without.items()},
            "known_issues": [_issue(issue) for issue in self.known.listed],
            "diagnosis": [cause.told for cause in self.causes],
            "recent_failures": failures,
            **({"recent_failures_unknown": why} if why else {}),
        }

    def _stream(self, name: str) -> dict[str, Json]:
        looks = [(one, look) for one, look in self.last.items() if one.name == name]
        return {
            "last_verified_at": self.verified.get(name),
            "looked_at": max((self.looked[one] for one, _ in looks), default=None),
            "counts": {hop: dict(groups) for _, look in looks for hop, groups in look.counts.items()},
            "hops": {hop: dict(figures) for _, look in looks for hop, figures in look.hops.items()},
        }

    def _failures(self) -> tuple[list[Json], str]:
        """The newest runs of failure tests; and why they are not known."""
        try:
            runs = history.runs(self.stack.config.history.get_secret_value(), stack=self.stack.name, limit=FAILURES)
        except GamedayError as e:
            return [], str(e)
        return [_failure(one) for one in runs], ""

    def keep(self) -> None:
        """Write it down for the next watch. That it can't be written changes nothing of what is told."""
        issues = tuple(issue for issue in self.known.listed if issue.damage)
        left = _Left(self.stack.name, time.time_ns() // 1000, self._lefts, issues, self.verified)
        with suppress(GamedayError, OSError):
            self.stack.state.ensure()
            codec.write_json(self.stack.state.watch, left)

    def _resumed(self) -> _Left | None:
        """What an earlier watch of this stack has left, not too long ago."""
        path = self.stack.state.watch
        try:
            left = codec.decode(_Left, codec.read_json(path), str(path))
        except GamedayError:
            return None
        age_s = time.time() - left.at_us / 1e6
        return left if left.stack == self.stack.name and -NEWER_S < age_s < RESUME_WITHIN_S else None


def event_of(event: Event) -> dict[str, Json]:
    """An event as one JSON object."""
    return {"at": event.at, "event": event.event, **_issue(event.issue), "text": event.text}


def _issue(issue: Issue) -> dict[str, Json]:
    one = issue.trouble
    return {
        "kind": one.kind,
        "stream": one.stream,
        "hop": one.hop,
        "group": label(one.group),
        "count": one.count,
        "ids": list(one.ids),
        "detail": one.detail,
        "against": one.against,
        "first_at": one.first or one.hop,
        "since": issue.since,
        "seen": issue.seen,
        "during": issue.during,
        "text": text_of(issue),
    }


def _failure(run: RunResult) -> dict[str, Json]:
    """duration_s: from the failure until service was back; None: not measured."""
    mttr = run.measures.get("mttr")
    return {
        "run": run.id,
        "type": run.test,
        "params": dict(run.params),
        "started": run.started,
        "verdict": str(run.verdict),
        "why": run.why,
        "duration_s": None if mttr is None else mttr.high_s,
        "events_replayed": _replayed(run),
    }


def _replayed(run: RunResult) -> int | None:
    """How many records logs had again, as the check no_duplicates counts them; None: not judged."""
    found = [f.evidence for f in run.findings if f.check == "no_duplicates" and f.evidence]
    numbers = [number for evidence in found for again in _again(evidence) for number in again.values()]
    return sum(numbers) if numbers else None


def _again(evidence: Any) -> Iterator[Mapping[str, int]]:
    """Of one stream, or of each."""
    for one in (evidence, *(evidence.values() if isinstance(evidence, Mapping) else ())):
        if isinstance(one, Mapping) and isinstance(one.get("again"), Mapping):
            yield one["again"]


def now() -> str:
    """As all times are told."""
    return datetime.now(UTC).isoformat(timespec="seconds")
