"""The ledger of an exchange simulator: its tape tells what exists, a pure function what each record was.

numpy is imported by what computes with it: who only asks for the heads does without.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

from gameday.errors import ConfigError, DriverError
from gameday.model import EMPTY, Columns, Digest, Group, Tally, Window
from gameday.records.declaration import Stream
from gameday.stack.config import Http
from gameday.stack.registry import function
from gameday.system import address
from gameday.system.http import Kept, Unanswered
from gameday.system.tls import PLAIN, Tls

__all__ = ["Hop"]

ASK_WITHIN_S = 0.9
"""Less than the deadline of the probe that samples the heads."""

CHUNK_ROWS = 1 << 20
"""Records computed at once: 50 MB."""

Records = Callable[[Mapping[str, Any], Group, int, int], dict[str, Any]]


@dataclass
class Hop:
    """url: the simulator's; GET /tape gives its tape, with "heads": {group's first field: {second: … highest id}}.
    records: where to find the function from (tape, group, lo, hi) to the records whose number is in (lo, hi], as
    "package.module:name": equally long arrays of canonical values by field, ascending."""

    whole: ClassVar[bool] = True
    url: Http
    records: str
    stream: Stream
    name: str = "exchange"
    tls: Tls = PLAIN

    def __post_init__(self) -> None:
        if not self.stream.counted:
            raise ConfigError(
                f"hops.{self.name}.driver is 'tape', which numbers its records, but streams.{self.stream.name} has no "
                f"sequence. Remedy: streams.{self.stream.name}.sequence, or a log or a table as the first hop"
            )

    def heads(self) -> Mapping[Group, int]:
        """Group -> the highest id that exists now."""
        return _heads(self._tape())

    def digest(self, window: Window) -> Sequence[Digest]:
        """What should exist, each once. Nothing does of a group, or beyond an id, that the tape
        never had."""
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
        """The records lo < id <= hi."""
        return self._made(self._tape(), group, lo, hi)

    def _chunks(self, tape: Mapping[str, Any], group: Group, lo: int, hi: int) -> Iterator[Columns]:
        lo = max(0, lo)  # the first record has the id 1
        end = min(hi, _heads(tape).get(group, lo))
        for start in range(lo, end, CHUNK_ROWS):
            yield self._made(tape, group, start, min(start + CHUNK_ROWS, end))

    def _made(self, tape: Mapping[str, Any], group: Group, lo: int, hi: int) -> Columns:
        """The records lo < id <= hi, as far as the tape has had them; of a group that it never had, none."""
        had = _heads(tape)
        known = group if group in had else next(iter(had))
        lo = max(0, lo)
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


def _heads(tape: Mapping[str, Any]) -> Mapping[Group, int]:
    return dict(_flat(tape["heads"], ()))


def _flat(heads: Any, group: Group) -> Iterator[tuple[Group, int]]:
    if not isinstance(heads, dict):
        yield group, int(heads)
        return
    for name, inner in heads.items():
        yield from _flat(inner, (*group, name))
