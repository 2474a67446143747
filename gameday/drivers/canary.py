"""Reads the canary's ledger from the run's file: what each run attempted to write, and how each attempt ended.

sampling/canary.py writes the records, with the class Canary of the drivers.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gameday.model import EMPTY, Columns, Digest, Group, Json, Outcome, Window
from gameday.records import attempts
from gameday.records.attempts import Attempt
from gameday.records.declaration import Stream
from gameday.records.types import Canonical
from gameday.state import State

__all__ = ["Hop"]

DOUBTFUL = (Outcome.UNKNOWN, None)

Rows = Mapping[Group, Sequence[tuple[Canonical, ...]]]


@dataclass
class Hop:
    """The first hop of the canary's stream. The table [canary] makes it and gives `fields` and `prefix`. The newest
    run's attempts count."""

    stream: Stream
    state: State
    fields: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "gameday-"
    name: str = "canary"
    _made: list[tuple[Group, tuple[Canonical, ...]]] = field(default_factory=list, init=False, repr=False)
    _of: list[Attempt] | None = field(default=None, init=False, repr=False)
    _heads: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    _begun: dict[Group, int] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def heads(self) -> Mapping[Group, int]:
        """Return group -> the highest id that was attempted, however it ended: so an outage of the front door shows."""
        with self._lock:
            self._update()
            return dict(self._heads)

    def begun(self) -> Mapping[Group, int]:
        """Return group -> the id before its first attempt."""
        with self._lock:
            self._update()
            return dict(self._begun)

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the digest of the records that are done."""
        held = self._columns(window, (Outcome.DONE,))
        groups = {group: self.stream.tally(held[group]) if group in held else EMPTY for group in window.hi}
        return (Digest(self.stream.name, self.name, "final", groups),)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi that are done."""
        found = self._columns(Window({group: lo}, {group: hi}), (Outcome.DONE,))
        return found.get(group) or self._arrays([])

    def doubtful(self, window: Window) -> Mapping[Group, Columns]:
        """Return the records of which the outcome is unknown, or not known yet."""
        return self._columns(window, DOUBTFUL)

    @property
    def tells(self) -> Collection[str]:
        return ("outcomes",)

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """Return outcomes: how many of the window's attempts had each outcome."""
        inside = (outcome for group, values, outcome in self._read() if self._inside(window, group, values))
        counted = Counter(str(outcome or Outcome.UNKNOWN) for outcome in inside)
        return {"outcomes": {str(outcome): counted[outcome] for outcome in Outcome}}

    # ---- the file ------------------------------------------------------------------------------------------

    @cached_property
    def _reader(self) -> attempts.Reader:
        return attempts.Reader(self.state.canary)

    @cached_property
    def _templates(self) -> Mapping[str, str]:
        return attempts.templates(self.stream, self.fields)

    @cached_property
    def _place(self) -> int:
        """The place of the id among a record's values."""
        return list(self.stream.types).index(self.stream.sequence)

    def _read(self) -> list[tuple[Group, tuple[Canonical, ...], Outcome | None]]:
        """Return every attempt: its group, its values in the order of the stream's types, its outcome."""
        with self._lock:
            known = self._update()
            return [(*made, one.outcome) for made, one in zip(self._made, known, strict=True)]

    def _update(self) -> Sequence[Attempt]:
        """Read what is new, and no more: the heads are asked for twenty times a second."""
        self._reader.update()
        known = self._reader.attempts
        if known is not self._of:
            self._of, self._made, self._heads, self._begun = known, [], {}, {}
        for attempt in known[len(self._made) :]:
            group, values = self._record(attempt)
            number = self._id(values)
            self._made.append((group, values))
            self._heads[group] = max(self._heads.get(group, number), number)
            self._begun[group] = min(self._begun.get(group, number - 1), number - 1)
        return known

    def _id(self, values: tuple[Canonical, ...]) -> int:
        return int(values[self._place])  # type: ignore[arg-type]

    def _record(self, attempt: Attempt) -> tuple[Group, tuple[Canonical, ...]]:
        told = attempts.values(attempt, self.prefix)
        values = {
            name: kind.canonical(attempts.filled(self._templates[name], told))
            for name, kind in self.stream.types.items()
        }
        return self.stream.grouped(values), tuple(values.values())

    def _columns(self, window: Window, outcomes: Collection[Outcome | None]) -> dict[Group, Columns]:
        rows: dict[Group, list[tuple[Canonical, ...]]] = {}
        for group, values, outcome in self._read():
            if outcome in outcomes and self._inside(window, group, values):
                rows.setdefault(group, []).append(values)
        return {group: self._arrays(held) for group, held in rows.items()}

    def _inside(self, window: Window, group: Group, values: tuple[Canonical, ...]) -> bool:
        return group in window.hi and window.lo.get(group, 0) < self._id(values) <= window.hi[group]

    def _arrays(self, rows: Sequence[tuple[Canonical, ...]]) -> Columns:
        from gameday.records.columns import array

        columns = list(zip(*rows, strict=True)) or [()] * len(self.stream.types)
        return {name: array(kind, held) for (name, kind), held in zip(self.stream.types.items(), columns, strict=True)}
