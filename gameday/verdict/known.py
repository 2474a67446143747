"""Keeps what is wrong with a running platform from look to look, and reports what begins, changes and ends.

Pure functions of the looks. tasks/watch.py looks; causes.py says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gameday.model import Group

__all__ = ["DAMAGE", "IDS_KEPT", "LAG", "UNANSWERED", "UNKNOWN", "Event", "Issue", "Known", "Trouble", "text_of"]

DAMAGE = ("lost", "doubled", "changed")
"""What is wrong with records. All other kinds keep something from being judged."""

LAG, UNANSWERED, UNKNOWN = "lag", "unanswered", "unknown"

IDS_KEPT = 20
"""How many ids of an issue are kept."""

IDS_SHOWN = 3
"""How many ids a sentence names; the issue has more."""

CHANGE_EVERY_S = 30.0
"""An issue that grows is told so often at most."""

Key = tuple[str, str, str, Group]


@dataclass(frozen=True)
class Trouble:
    """One thing that is not well, as one look found it.

    group: (): the whole hop. count: the number of records; 0: they can't be counted. ids: those of the first records.
    detail: what a changed record was and what it became; of the other kinds, the reason. against: the hop that says
    what is right. first: the hop where this damage of the group shows first; "": this one.
    """

    kind: str
    stream: str
    hop: str
    group: Group = ()
    count: int = 0
    ids: tuple[str, ...] = ()
    detail: str = ""
    against: str = ""
    first: str = ""

    @property
    def key(self) -> Key:
        return (self.kind, self.stream, self.hop, self.group)


@dataclass(frozen=True)
class Issue:
    """A trouble that lasts. since, seen: when it was first and last seen (ISO, UTC). during: the run of a failure test
    that held the stack when the trouble began; "": none."""

    trouble: Trouble
    since: str
    seen: str
    during: str = ""

    @property
    def damage(self) -> bool:
        return self.trouble.kind in DAMAGE


@dataclass(frozen=True)
class Event:
    """That an issue begins, changes or ends, at a time (ISO, UTC)."""

    at: str
    event: str
    issue: Issue

    @property
    def text(self) -> str:
        """One sentence for people."""
        told = text_of(self.issue)
        return (
            told if self.event == "begins" else f"{self.event}: {told}" if self.event == "changes" else f"over: {told}"
        )


@dataclass
class Known:
    """The issues of a platform. Each look at a stream goes to `look`, which returns the events."""

    issues: dict[Key, Issue] = field(default_factory=dict)
    _told: dict[Key, tuple[float, int]] = field(default_factory=dict)

    def look(
        self,
        stream: str,
        troubles: Sequence[Trouble],
        scope: Collection[str],
        judged: Collection[str],
        at: str,
        at_s: float,
        during: str = "",
    ) -> list[Event]:
        """The events of one look.

        Args: scope: the hops that were looked at. judged: those of which the look can say that damage is over: the
        others could not be asked. at_s: a clock that only goes forward.
        """
        events: list[Event] = []
        now = {one.key: one for one in troubles}
        for key, trouble in now.items():
            before = self.issues.get(key)
            if before is None:
                self.issues[key] = Issue(trouble, at, at, during)
                self._told[key] = (at_s, trouble.count)
                events.append(Event(at, "begins", self.issues[key]))
                continue
            self.issues[key] = replace(before, trouble=trouble, seen=at)
            told_s, count = self._told.setdefault(key, (at_s, before.trouble.count))
            if before.damage and trouble.count != count and at_s - told_s >= CHANGE_EVERY_S:
                self._told[key] = (at_s, trouble.count)
                events.append(Event(at, "changes", self.issues[key]))
        for key, issue in list(self.issues.items()):
            _, of, hop, _ = key
            if of != stream or key in now or hop not in (judged if issue.damage else scope):
                continue
            del self.issues[key]
            self._told.pop(key, None)
            events.append(Event(at, "ends", replace(issue, seen=at)))
        return events

    @property
    def listed(self) -> list[Issue]:
        """The worst first: damage, the oldest first; then what keeps something from being judged."""
        return sorted(self.issues.values(), key=lambda one: (not one.damage, one.since, one.trouble.key))

    def of(self, stream: str, hop: str) -> list[Issue]:
        return [one for one in self.listed if (one.trouble.stream, one.trouble.hop) == (stream, hop)]


def text_of(issue: Issue) -> str:
    """One sentence: where, what, which records; what it says of the platform; and the test that ran then."""
    told = _SENTENCES[issue.trouble.kind](issue)
    return told + (f" (during {issue.during}, a failure test)" if issue.during else "")


def _records(issue: Issue) -> str:
    one = issue.trouble
    number = f"{one.count:,} record{'' if one.count == 1 else 's'}" if one.count else "records"
    return f"{number} of {'/'.join((one.stream, *one.group))}"


def _ids(issue: Issue) -> str:
    one = issue.trouble
    more = ", …" if one.count > IDS_SHOWN and one.ids else ""
    named = f": id {', '.join(one.ids[:IDS_SHOWN])}{more}" if one.ids else ""
    return named + (f"; {one.detail}" if one.detail else "") + (f"; seen at {one.first} first" if one.first else "")


def _lost(issue: Issue) -> str:
    return f"{issue.trouble.hop} lacks {_records(issue)}{_ids(issue)}"


def _doubled(issue: Issue) -> str:
    return f"{issue.trouble.hop} has {_records(issue)} too many{_ids(issue)}"


def _changed(issue: Issue) -> str:
    return f"{issue.trouble.hop} has {_records(issue)} unlike {issue.trouble.against}'s{_ids(issue)}"


def _lag(issue: Issue) -> str:
    return f"{issue.trouble.hop} is behind in {issue.trouble.stream}: {issue.trouble.detail}. What is late is not lost"


def _unanswered(issue: Issue) -> str:
    return f"{issue.trouble.hop} can't be asked, so nothing is known of it: {issue.trouble.detail}"


def _unknown(issue: Issue) -> str:
    return f"{issue.trouble.hop} can't be judged: {issue.trouble.detail}"


_SENTENCES: Mapping[str, Callable[[Issue], str]] = {
    "lost": _lost,
    "doubled": _doubled,
    "changed": _changed,
    LAG: _lag,
    UNANSWERED: _unanswered,
    UNKNOWN: _unknown,
}
