"""Reads the ledger of a simulator. Its tape says which records exist; a pure function computes each. For rows that
change and go, another function computes which exist after a number of changes in each group.

numpy is imported only where it is used: asking for the heads doesn't need it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from gameday.errors import ConfigError, DriverError
from gameday.model import EMPTY, Columns, Digest, Group, Position, Tally, Window
from gameday.records.declaration import Stream
from gameday.stack.config import Http
from gameday.stack.registry import function
from gameday.system import address
from gameday.system.http import Kept, Unanswered
from gameday.system.tls import PLAIN, Tls

if TYPE_CHECKING:
    from gameday.records.hashing import U64
    from gameday.records.states import State

__all__ = ["Changes", "Hop", "Recent"]

ASK_WITHIN_S = 0.9
"""Less than the deadline of the probe that samples the heads."""

CHUNK_ROWS = 1 << 20
"""Records computed at once: 50 MB."""

Records = Callable[[Mapping[str, Any], Group, int, int], dict[str, Any]]
Fold = Callable[[Mapping[str, Any], Mapping[Group, int]], dict[str, Any]]

HEADS = "heads"
KEPT_STATES = 2
"""How many states are kept, so that their rows can be named: what differs is asked for after the comparison."""


@dataclass
class Recent:
    """A tape whose oldest records the platform need not keep. It is no Ledger: each run judges what came during it, and
    a night doesn't judge the whole history.

    url: the simulator's. GET /tape returns its tape, with "heads": {group's first field: {second: … highest id}}, or
    under another key, heads_key.
    records: "package.module:name" of the function from (tape, group, lo, hi) to the records whose number is in (lo,
    hi]: equally long arrays of canonical values by field, ascending."""

    url: Http
    records: str
    stream: Stream
    name: str = "exchange"
    tls: Tls = PLAIN
    heads_key: str = HEADS

    def __post_init__(self) -> None:
        if not self.stream.counted:
            raise ConfigError(
                f"hops.{self.name}.driver is 'tape', which numbers its records, but streams.{self.stream.name} has no "
                f"sequence. Remedy: streams.{self.stream.name}.sequence, or a log or a table as the first hop"
            )

    def heads(self) -> Mapping[Group, int]:
        """Return group -> the highest id that exists now."""
        return _heads(self._tape(), self.heads_key)

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return what should exist, each once. Nothing should of a group, or beyond an id, that the tape never had."""
        from gameday.records.tallies import add

        tape = self._tape()
        groups: dict[Group, Tally] = {}
        for group, hi in window.hi.items():
            total = EMPTY
            for chunk in self._chunks(tape, group, window.lo.get(group, 0), hi):
                total = add(total, self.stream.tally(chunk))
            groups[group] = total
        return (Digest(self.stream.name, self.name, "final", groups),)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi."""
        return self._made(self._tape(), group, lo, hi)

    def _chunks(self, tape: Mapping[str, Any], group: Group, lo: int, hi: int) -> Iterator[Columns]:
        lo = max(0, lo)  # the first record has the id 1
        end = min(hi, _heads(tape, self.heads_key).get(group, lo))
        for start in range(lo, end, CHUNK_ROWS):
            yield self._made(tape, group, start, min(start + CHUNK_ROWS, end))

    def _made(self, tape: Mapping[str, Any], group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi, as far as the tape has had them; of a group that it never had, none."""
        had = _heads(tape, self.heads_key)
        known = group if group in had else next(iter(had))
        lo = max(0, lo)
        with _told(self.name):
            return self._function(tape, known, lo, max(lo, min(hi, had.get(group, lo))))

    def _tape(self) -> dict[str, Any]:
        target = f"{urlsplit(self.url).path.rstrip('/')}/tape"
        try:
            answer = self._server.ask("GET", target, ASK_WITHIN_S)
            if answer.status != 200:
                raise DriverError(f"GET {self.url}/tape answered {answer.status}", definite=True)
            tape: dict[str, Any] = json.loads(answer.body)
            return tape
        except (Unanswered, ValueError) as e:
            raise DriverError(f"GET {self.url}/tape: {e}", definite=True) from e

    @cached_property
    def _server(self) -> Kept:
        return Kept(address.of(self.url), self.tls)

    @cached_property
    def _function(self) -> Records:
        found: Records = function(self.records, f"hops.{self.name}.records")
        return found


@dataclass
class Hop(Recent):
    """A tape whose records the platform keeps all, from the first one on."""

    whole: ClassVar[bool] = True


@dataclass
class Changes:
    """A tape of changes of rows. Each group's changes are numbered without a gap; deletions have numbers too.

    url: as for Recent; the tape's "heads" are the numbers of each group's newest change. changes: the function, named
    as Recent.records, from (tape, group, lo, hi) to the records that the changes in (lo, hi] leave. fold: the function
    from (tape, {group: number}) to the records that exist after each group's change of that number. rows_key: the key
    of the tape with the number of each group's newest change that leaves a record. A deletion leaves none, so these
    are the heads that other hops can show.

    The position of its state is {"group's fields, joined by /": number}: a table shows the same in its `position`.
    """

    whole: ClassVar[bool] = True
    url: Http
    changes: str
    fold: str
    stream: Stream
    rows_key: str = HEADS
    name: str = "tape"
    tls: Tls = PLAIN
    _last: deque[tuple[Any, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_STATES), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.stream.version is None or self.stream.version != self.stream.sequence:
            raise ConfigError(
                f"hops.{self.name}.driver is 'tape.Changes', whose numbers are versions of rows, but "
                f"streams.{self.stream.name} has version {self.stream.version!r} and sequence "
                f"{self.stream.sequence!r}. Remedy: both the field that has the number of a row's last change"
            )
        self._tape = _Changes(self.url, self.changes, self.stream, self.name, self.tls, self.rows_key)

    def heads(self) -> Mapping[Group, int]:
        """Return group -> the number of the newest change that leaves a record."""
        return self._tape.heads()

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the records that the window's changes leave, each once."""
        return self._tape.digest(window)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records that the changes lo < number <= hi leave."""
        return self._tape.rows(group, lo, hi)

    def state(self, upto: Position | None = None) -> State:
        """Return the records that exist as of a number of each group; None: as of now. Raises DriverError if a position
        is not one of this tape."""
        import numpy as np

        from gameday.records.states import state

        tape = self._tape.asked()
        known = _heads(tape, HEADS)
        named = {"/".join(group): group for group in known}
        position = {slot: known[group] for slot, group in named.items()} if upto is None else upto
        for slot, number in position.items():
            if slot not in named or number > known[named[slot]]:
                has = f"has had only {known[named[slot]]}" if slot in named else f"has {', '.join(named)}"
                raise DriverError(
                    f"hops.{self.name}: nothing is known of change {number} of {slot!r}: the tape {has}. Remedy: "
                    "`position` of the table gives the group's fields, joined by /, and its newest change's number",
                    definite=True,
                )
        with _told(self.name):
            columns = self._fold(tape, {named[slot]: number for slot, number in position.items()})
        keys, rows = self.stream.state_hashes(columns)
        self._last.append((rows, columns))
        groups, numbers = self.stream.groups_of(columns)
        versions = np.asarray(columns[self.stream.sequence], dtype=np.int64)
        return state(groups, numbers, keys, versions, rows, position, exact=True)

    def records(self, hashes: U64) -> Columns:
        """Return the records of the last states with these row hashes, each once."""
        import numpy as np

        states = list(self._last) or [(self.state().rows, self._last[-1][1])]
        rows = np.concatenate([rows for rows, _ in states])
        whole = {name: np.concatenate([held[name] for _, held in states]) for name in self.stream.types}
        kept, first = np.unique(rows, return_index=True)
        chosen = first[np.isin(kept, hashes)]
        return {name: column[chosen] for name, column in whole.items()}

    @cached_property
    def _fold(self) -> Fold:
        found: Fold = function(self.fold, f"hops.{self.name}.fold")
        return found


@dataclass
class _Changes(Recent):
    """The records that changes leave."""

    def asked(self) -> dict[str, Any]:
        """Return the tape as it is now."""
        return self._tape()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn the error of a tape that has forgotten what is old into DriverError."""
    try:
        yield
    except LookupError as e:
        raise DriverError(f"hops.{name}: {e}", definite=True) from e


def _heads(tape: Mapping[str, Any], key: str) -> Mapping[Group, int]:
    return dict(_flat(tape[key], ()))


def _flat(heads: Any, group: Group) -> Iterator[tuple[Group, int]]:
    if not isinstance(heads, dict):
        yield group, int(heads)
        return
    for name, inner in heads.items():
        yield from _flat(inner, (*group, name))
