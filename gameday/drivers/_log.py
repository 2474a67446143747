"""Has what all brokers' logs share: which records the end of a log holds, in which order, and which are repeated.

A driver's Hop says where the log's messages begin and end, and reads those of a span. A span is a range of places,
which grow with the log.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from gameday.errors import ConfigError, DriverError
from gameday.model import Columns, Digest, Excerpt, Group, Json, Position, Shards, Tally, Totals, Window
from gameday.ports import Arrivals
from gameday.records.arrivals import UNTOLD as NO_TIME
from gameday.records.arrivals import Came, dated
from gameday.records.columns import array
from gameday.records.declaration import ARRIVAL, KINDS, Stream
from gameday.records.formats import JSON, KEYS
from gameday.records.hashing import U64, row_hash, words
from gameday.records.heads import Heads
from gameday.records.paths import Deletion, Message, Reader, reader
from gameday.records.states import UNTOLD, Changes, State
from gameday.records.tallies import tally
from gameday.records.types import INT64_MAX, INT64_MIN, Canonical, Malformed
from gameday.system.tls import PLAIN, Tls

__all__ = [
    "BEHIND_RECORDS_MAX",
    "READ_RECORDS_S_MIN",
    "READ_WITHIN_S",
    "LogHop",
    "Raw",
    "Slot",
    "Span",
    "UrlHop",
    "message_of",
]

T = TypeVar("T")

Slot: TypeAlias = tuple[str, int]
"""Topic and partition."""

Span: TypeAlias = tuple[int, int]
"""Offsets [start, stop)."""

READ_WITHIN_S = 5.0
"""How long to wait for the log's bounds, and for the next record of a log that has more."""

READ_RECORDS_S_MIN = 500
"""A reading may take READ_WITHIN_S and as long as this rate needs: a sixth of what a busy machine reads of the slowest
messages, change events with a schema in each."""

TAIL_RECORDS = 5_000
"""How many records of each partition's end are read at first; doubled until they suffice."""

BEHIND_RECORDS_MAX = 50_000
"""heads() skips records further before a partition's end, and newest() reads no more."""

NEWEST_EACH_MIN = 10
"""How many messages newest() reads of each partition at least, however many partitions there are."""

CLOCKS_APART_US = 10_000_000
"""How far the producers' clocks may be from the exchange's."""

CAME_MAX = 500_000
"""For how many keys it is kept when they came, in some 70 MB; of a longer log only its end is read."""

KEPT_MESSAGES_MAX = 300_000
"""How many of a log's newest messages are kept as columns, in some 100 MB: the window's digest, the fold and the
symptoms are made from the same ones."""

KEPT_WITHIN_S = 300.0
"""How long they are kept: much later the log may be another one of the same name."""

SAMPLE_ROWS_MAX = 10_000
"""How many late rows are handed on with their hashes."""

Ints: TypeAlias = npt.NDArray[np.int64]
PLACES = ("group", "offset", "stamp_us")
VIEWS: Mapping[str, str] = {"log": "log", "once": KINDS["once"]}
"""What a log promises -> the view of its digests."""
REASONS_MAX = 3
"""How many malformed messages are reported with their place and reason."""


@dataclass(frozen=True)
class _Deletions:
    """What messages of a stream with versions delete: for each its offset, the hash of its key, and its version.
    unread: how many messages that delete can't be read; reasons: why the first can't."""

    offsets: Sequence[int] = ()
    keys: U64 = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    versions: Sequence[int | None] = ()
    unread: int = 0
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class _Batch:
    """What was read of a partition at once: all its messages in [start, stop). messages: how many there were."""

    start: int
    stop: int
    messages: int
    piece: _Piece
    deletions: _Deletions


@dataclass(frozen=True)
class _Piece:
    """Well-formed records in the log's order, as columns: the group's number, offset, when produced; and the canonical
    values by field. malformed: how many messages are no record; reasons: why the first are none. read: how many
    messages have a value."""

    stream: Stream
    places: Mapping[str, Ints]
    columns: Columns
    malformed: int = 0
    reasons: tuple[str, ...] = ()
    read: int = 0

    @classmethod
    def of(
        cls,
        stream: Stream,
        places: Sequence[tuple[int, ...]],
        rows: Sequence[tuple[Canonical, ...]],
        malformed: int = 0,
        reasons: Sequence[str] = (),
    ) -> _Piece:
        table = np.array(places, dtype=np.int64).reshape(-1, len(PLACES))
        values = list(zip(*rows, strict=True)) or [()] * len(stream.types)
        columns = {name: array(kind, held) for (name, kind), held in zip(stream.types.items(), values, strict=True)}
        return cls(stream, {n: table[:, i] for i, n in enumerate(PLACES)}, columns, malformed, tuple(reasons))

    @classmethod
    def join(cls, stream: Stream, pieces: Sequence[_Piece]) -> _Piece:
        pieces = [cls.of(stream, (), ()), *pieces]
        places = {name: np.concatenate([p.places[name] for p in pieces]) for name in PLACES}
        columns = {name: np.concatenate([p.columns[name] for p in pieces]) for name in stream.types}
        reasons = [reason for p in pieces for reason in p.reasons][:REASONS_MAX]
        figures = (sum(p.malformed for p in pieces), tuple(reasons), sum(p.read for p in pieces))
        return cls(stream, places, columns, *figures)

    def only(self, mask: npt.NDArray[np.bool_]) -> _Piece:
        places = {name: column[mask] for name, column in self.places.items()}
        return _Piece(self.stream, places, {name: column[mask] for name, column in self.columns.items()})

    def __len__(self) -> int:
        return len(self.places["offset"])

    @property
    def ids(self) -> Ints:
        found: Ints = self.columns[self.stream.sequence]
        return found

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        return self.stream.row_hashes(self.columns)


@dataclass
class _Fold:
    """All changes of a log with versions that were read so far. next: slot -> the next offset. whole: whether they
    begin with the log's first. left_out: how many offsets had no message: in a compacted log, or with transactions."""

    changes: Changes
    next: dict[Slot, int] = field(default_factory=dict)
    whole: bool = True
    left_out: int = 0
    unread: int = 0
    reasons: list[str] = field(default_factory=list)


@dataclass
class _Arrived:
    """When each key came first, in the part of the log that was read. next: slot -> the next offset. whole: whether it
    was read from its first message on."""

    whole: bool
    times: dict[int, int] = field(default_factory=dict)
    next: dict[Slot, int] = field(default_factory=dict)


class LogHop(ABC):
    """The log as stored on its server. The fields of a driver's Hop, a dataclass, are the keys of its table.

    fields, each, where: where a message has a record's fields (records/paths.py); a field that is left out is under its
    own name. format: a message's encoding; registry, schema, message: where its schema is (records/formats.py).
    deleted: which messages delete, besides those without a value and those that delete by their format: a path where
    true stands, or conditions as in `where`. kind: "log": a record may repeat; "once": each record is there once, as a
    transactional producer writes it. part: further shapes, each with its own `topics`, fields, each, where and deleted,
    and its own format if it isn't the hop's.

    A message that can't be read, or whose values don't fit their types, is no record of the stream: it is counted as
    malformed, and the first reasons are kept.
    """

    stream: Stream
    topics: Sequence[str]
    fields: Mapping[str, str]
    each: str | None
    where: Mapping[str, Any]
    format: str
    registry: Mapping[str, str]
    schema: str
    message: str
    deleted: str | Mapping[str, Any] | None
    kind: str
    part: Sequence[Mapping[str, Any]]
    name: str

    def __post_init__(self) -> None:
        if self.kind not in VIEWS:
            raise ConfigError(f"hops.{self.name}.kind is {self.kind!r}. Remedy: one of {', '.join(VIEWS)}")
        self._readers = _readers(self)
        self.topics = tuple(self._readers)
        self.arrivals: Arrivals | None = None
        self._heads = Heads()
        self._next: dict[Slot, int] = {}
        self._numbers: dict[Group, int] = {}
        self._looked_ns = -1
        self._fold: _Fold | None = None
        self._kept: dict[Slot, deque[_Batch]] = {}
        self._kept_since_s = 0.0
        self._arrived: _Arrived | None = None
        self._lock = threading.RLock()

    # ---- what a driver defines -----------------------------------------------------------------------------

    @abstractmethod
    def _asking(self) -> AbstractContextManager[None]:
        """Turn the client's errors into DriverErrors; definite, because nothing here changes anything."""

    @abstractmethod
    def _bounds(self) -> dict[Slot, Span]:
        """Return (lowest offset, end) of every partition."""

    @abstractmethod
    def _spans_since(self, since_us: int) -> dict[Slot, Span]:
        """Return the span of every partition that was produced since then, wall clock."""

    @abstractmethod
    def _gathered(self, spans: Mapping[Slot, Span], parse: Callable[[Sequence[Any]], T]) -> dict[Slot, list[T]]:
        """Return what `parse` makes of the messages of each span, batch by batch. A batch is of one partition, in its
        order. Raises DriverError, naming a partition and how far it came, if a log that has more gives nothing for
        READ_WITHIN_S, or if the whole takes longer than its size explains. Messages are as in librdkafka."""

    def _before(self, slot: Slot, offset: int, records: int) -> int:
        """Return the place about so many records before this one."""
        return offset - records

    def _near(self, start: int, end: int) -> int:
        """Return where heads() begins. If the log is far ahead of what was read, that is a later place: ids ascend, so
        the highest is at the end."""
        return max(start, end - BEHIND_RECORDS_MAX)

    def _count(self, bounds: Mapping[Slot, Span]) -> int:
        """Return how many messages the log has, at most."""
        return sum(end for _, end in bounds.values())

    def _left_out(self, spans: Mapping[Slot, Span], read: Mapping[Slot, int]) -> int:
        """Return how many places of these spans had no message. read: how many messages were read."""
        return sum(stop - start - read[slot] for slot, (start, stop) in spans.items())

    # ---- what a log reports --------------------------------------------------------------------------------

    def heads(self) -> Mapping[Group, int]:
        """Return group -> highest id in the log. The first call reads its tail, later calls what came since."""
        return self._looked(Heads.all)

    def totals(self, shards: Shards) -> Totals:
        """Return the same as `heads`, summed up."""
        return self._looked(lambda heads: heads.totals(shards))

    def _looked(self, tell: Callable[[Heads], T]) -> T:
        """Read all that is there now, then return what `tell` makes of the heads."""
        asked_ns = time.monotonic_ns()
        with self._lock, self._asking():
            if self._looked_ns >= asked_ns:  # another thread looked after this one had asked: that is the answer
                return tell(self._heads)
            looked_ns = time.monotonic_ns()
            spans = {}
            for slot, (low, end) in self._bounds().items():
                start = self._next[slot] if slot in self._next else self._before(slot, end, TAIL_RECORDS)
                spans[slot] = (min(max(low, self._near(start, end)), end), end)
            whole = _Piece.join(self.stream, [*self._read(spans).values()])
            tops = self._tops(whole)
            for group in self._numbers if len(self._numbers) > len(self._heads) else tops:
                self._heads.rise(group, max(0, tops.get(group, 0)))
            self._next = {slot: end for slot, (_, end) in spans.items()}
            self._looked_ns = looked_ns
            return tell(self._heads)

    def _tops(self, whole: _Piece) -> dict[Group, int]:
        """Return the highest id of each group that has any there."""
        order = np.lexsort((whole.ids, whole.places["group"]))
        numbers = whole.places["group"][order]
        last = np.flatnonzero(np.append(numbers[1:] != numbers[:-1], True)) if len(order) else order
        names = list(self._numbers)  # in the order of their numbers
        tops = zip(numbers[last].tolist(), whole.ids[order][last].tolist(), strict=True)
        return {names[number]: top for number, top in tops}

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return the digests of the stream (repeats count, `back` shows the order inside each partition) and of
        "offsets", the places of its records: groups (topic, partition), ids the offsets."""
        with self._lock, self._asking():
            found = {slot: piece.only(self._within(piece, window)) for slot, piece in self._records(window).items()}
        whole = _Piece.join(self.stream, [*found.values()])
        groups: dict[Group, Tally] = {}
        places: dict[Group, Tally] = {}
        for group in window.hi:
            mine = whole.only(whole.places["group"] == self._numbers.get(group, -1))
            if len(mine):
                back = self._back(group, found.values()) if self.stream.counted else None
                groups[group] = replace(self.stream.tally(mine.columns), back=back)
        for (topic, partition), piece in found.items():
            if len(piece):
                offsets = piece.places["offset"]
                places[topic, str(partition)] = tally(offsets, row_hash([offsets]))
        view = VIEWS[self.kind]
        return (Digest(self.stream.name, self.name, view, groups), Digest("offsets", self.name, "log", places))

    def _back(self, group: Group, partitions: Iterable[_Piece]) -> int:
        """Return how many of the group's ids come after a higher one of their partition. A log has no order between
        partitions: an id that is in several was sent again, and which came first is unknown."""
        held = [p.ids[p.places["group"] == self._numbers[group]] for p in partitions]
        held = [ids for ids in held if len(ids)]
        if len(held) > 1:
            known, times = np.unique(np.concatenate([np.unique(ids) for ids in held]), return_counts=True)
            held = [ids[~np.isin(ids, known[times > 1])] for ids in held]
        return sum(tally(ids, ids.view(np.uint64), ordered=True).back or 0 for ids in held)

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records lo < id <= hi, in their order; of a repeated record the first."""
        window = Window({group: lo}, {group: hi})
        with self._lock, self._asking():
            whole = _Piece.join(self.stream, [*self._records(window).values()])
        mine = whole.only(self._within(whole, window))
        if self.kind == "once":
            return mine.columns
        pairs = np.stack([mine.ids.view(np.uint64), mine.hashes])
        first = np.sort(np.unique(pairs, axis=1, return_index=True)[1])
        return {name: column[first] for name, column in mine.columns.items()}

    def arrived(self, window: Window | None = None) -> Came:
        """Return when each key came first. The first call reads the whole log if it has at most CAME_MAX messages and
        its first is still there, else its end. Later calls read what came since."""
        with self._lock, self._asking():
            known = self._read_arrivals()
            if window is None:
                return Came(known.times, known.times, known.whole, {})
            whole = _Piece.join(self.stream, [*self._records(window).values()])
            inside = whole.only(self._within(whole, window))
            keys = self.stream.whole_key_hashes(inside.columns)
            times = dict(zip(keys.tolist(), inside.ids.tolist(), strict=True))
            return Came(times, known.times, known.whole, window.hi)

    def _read_arrivals(self) -> _Arrived:
        bounds, known = self._bounds(), self._arrived
        if known is None or any(end < known.next.get(slot, 0) for slot, (_, end) in bounds.items()):  # it was made anew
            short = self._count(bounds) <= CAME_MAX and not any(low for low, _ in bounds.values())
            starts = {
                slot: low if short else max(low, self._before(slot, end, TAIL_RECORDS))
                for slot, (low, end) in bounds.items()
            }
            known = _Arrived(short, next=starts)
        self._arrived = None  # a reading that breaks off leaves nothing half-read
        spans = {slot: (min(max(low, known.next.get(slot, 0)), end), end) for slot, (low, end) in bounds.items()}
        known.whole &= all(start == known.next.get(slot, 0) for slot, (start, _) in spans.items())
        for piece in self._read(spans).values():
            keys = self.stream.whole_key_hashes(piece.columns)
            for key, at in zip(keys.tolist(), piece.ids.tolist(), strict=True):
                known.times.setdefault(key, at)
        while len(known.times) > CAME_MAX:
            known.whole = False
            del known.times[next(iter(known.times))]
        known.next = {slot: end for slot, (_, end) in spans.items()}
        self._arrived = known
        return known

    def state(self, upto: Position | None = None) -> State:
        """Return each key's last change below these offsets, or of all that the log has now. The first call reads the
        whole log, later calls what came since. Raises DriverError if a position is not the log's, or if a message that
        deletes can't be read: what it deletes would seem lost everywhere else."""
        with self._lock, self._asking():
            bounds = self._bounds()
            ends = {f"{topic}/{partition}": end for (topic, partition), (_, end) in bounds.items()}
            fold = self._folded(bounds)
        if fold.unread:
            raise DriverError(
                f"hops.{self.name}: {fold.unread} messages that delete can't be read: {'; '.join(fold.reasons)}",
                definite=True,
            )
        if wrong := [slot for slot, offset in (upto or {}).items() if offset > ends.get(slot, -1)]:
            has = f"ends at {ends[wrong[0]]}" if wrong[0] in ends else f"has {', '.join(ends)}"
            raise DriverError(
                f"hops.{self.name}: nothing is known of place {(upto or {})[wrong[0]]} of {wrong[0]}: the log {has}. "
                "Remedy: `position` of the table gives topic/partition and the next offset; or the log was made anew",
                definite=True,
            )
        return fold.changes.upto(ends if upto is None else upto, fold.whole, dense=not fold.left_out)

    def records(self, hashes: U64) -> Columns:
        """Return the records with these row hashes. The whole log is read once more."""

        def parse(messages: Sequence[Any]) -> _Piece:
            piece = self._parse(messages)
            return piece.only(np.isin(self.stream.state_hashes(piece.columns)[1], hashes))

        with self._lock, self._asking():
            pieces = self._gathered(self._bounds(), parse)
        whole = _Piece.join(self.stream, [piece for found in pieces.values() for piece in found])
        first = np.unique(self.stream.state_hashes(whole.columns)[1], return_index=True)[1]
        return {name: column[first] for name, column in whole.columns.items()}

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        """Read back from each partition's end until there are so many, or BEHIND_RECORDS_MAX messages were read."""
        with self._lock, self._asking():
            bounds = self._bounds()
            starts = {slot: end for slot, (_, end) in bounds.items()}
            found: dict[Slot, list[_Piece]] = {slot: [] for slot in bounds}
            depth, left = max(NEWEST_EACH_MIN, limit // max(1, len(bounds))), BEHIND_RECORDS_MAX
            while spans := {
                slot: (max(bounds[slot][0], self._before(slot, start, depth)), start)
                for slot, start in starts.items()
                if start > bounds[slot][0] and depth
            }:
                for slot, piece in self._read(spans).items():
                    found[slot].insert(0, piece)
                    starts[slot] = spans[slot][0]
                whole = _Piece.join(self.stream, [piece for pieces in found.values() for piece in pieces])
                wanted = len(whole) + whole.malformed if upto is None else np.count_nonzero(self._upto(whole, upto))
                left -= sum(min(depth, stop - start) for start, stop in spans.values())
                depth = 0 if wanted >= limit else min(2 * depth, max(0, left) // len(spans))
            slots = {slot: _Piece.join(self.stream, pieces) for slot, pieces in found.items()}
            return self._excerpt(slots, {slot for slot, start in starts.items() if start == 0}, upto)

    def _upto(self, piece: _Piece, upto: Mapping[Group, int]) -> npt.NDArray[np.bool_]:
        return self._within(piece, Window(dict.fromkeys(upto, INT64_MIN), upto))

    def _excerpt(
        self, slots: Mapping[Slot, _Piece], begun: Collection[Slot], upto: Mapping[Group, int] | None
    ) -> Excerpt:
        """begun: the partitions that were read from their first message on."""
        whole = _Piece.join(self.stream, [*slots.values()])
        # when the end of each record's partition begins; before everything, if nothing is before it
        starts = [INT64_MIN if slot in begun else _since_us(piece) for slot, piece in slots.items()]
        since_us = np.repeat(np.array(starts, dtype=np.int64), [len(piece) for piece in slots.values()])
        order = np.argsort(whole.places["group"], kind="stable")
        numbers, firsts = np.unique(whole.places["group"][order], return_index=True)
        names = {number: group for group, number in self._numbers.items()}
        groups: dict[Group, Columns] = {}
        heads: dict[Group, int] = {}
        above: dict[Group, int] = {}
        for number, mine in zip(numbers.tolist(), np.split(order, firsts)[1:], strict=True):
            group, ids = names[number], whole.ids[mine]
            heads[group] = int(ids.max())
            if upto is None or group in upto:
                above[group] = _above(ids, whole.places["stamp_us"][mine], int(since_us[mine].max()))
                kept = mine if upto is None else mine[ids <= upto[group]]
                groups[group] = {name: column[kept] for name, column in whole.columns.items()}
        return Excerpt(groups, heads, above, whole.read, whole.malformed, whole.reasons)

    def heads_before(self, position: Position) -> Mapping[Group, int]:
        """Read back from each offset until every group that the log has had there was met."""
        with self._lock, self._asking():
            bounds = {
                slot: (low, min(end, position.get(f"{slot[0]}/{slot[1]}", low)))
                for slot, (low, end) in self._bounds().items()
            }
            found: dict[Group, int] = {}
            depth = TAIL_RECORDS
            starts = {slot: end for slot, (_, end) in bounds.items()}
            known = set(self.heads())
            while spans := {
                slot: (max(bounds[slot][0], self._before(slot, start, depth)), start)
                for slot, start in starts.items()
                if start > bounds[slot][0] and known - found.keys()
            }:
                for group, top in self._tops(_Piece.join(self.stream, [*self._read(spans).values()])).items():
                    found[group] = max(found.get(group, 0), top)
                starts |= {slot: start for slot, (start, _) in spans.items()}
                depth *= 2
            return found

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        """Return group -> the lowest id of what was produced since then."""
        with self._lock, self._asking():
            whole = self._since(since_us)
        found = {}
        for group, number in self._numbers.items():
            ids = whole.ids[whole.places["group"] == number]
            if len(ids):
                found[group] = int(ids.min())
        return found

    @property
    def tells(self) -> frozenset[str]:
        """Return the names of the symptoms that it can report. A late record was sent again only if a number shows a
        record's place."""
        if self.stream.version is not None:  # repeated records are judged with their key's versions
            return frozenset({"malformed", "versions_back"})
        return frozenset({"late", "malformed"} if self.stream.counted else {"malformed"})

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """Return late: records produced since the baseline whose id was at every hop by then, with their hashes, for
        the ledger to judge; malformed: messages since then that are no record; versions_back: how many changes since
        then have a lower version than an earlier one of their key in their partition, and the first of them."""
        with self._lock, self._asking():
            whole = self._since(since_us)
        told: dict[str, Json] = {"malformed": whole.malformed}
        if whole.malformed:
            told["malformed_first"] = list(whole.reasons)
        if self.stream.version is not None:
            return {**told, "versions_back": self._versions_back(since_us)}
        return {**told, "late": self._late(whole, window)} if self.stream.counted else told

    def _late(self, whole: _Piece, window: Window) -> Json:
        rows = 0
        sample: list[Json] = []
        for group, lo in window.lo.items():
            mine = whole.places["group"] == self._numbers.get(group, -1)
            late = whole.only(mine & (whole.ids <= lo))
            rows += len(late)
            pairs = zip(late.ids.tolist(), late.hashes.tolist(), strict=True)
            sample += [[*group, key, value] for key, value in pairs][: SAMPLE_ROWS_MAX - len(sample)]
        return {"rows": rows, "sample": sample}

    def _since(self, since_us: int) -> _Piece:
        """Return every record that was produced since then."""
        spans = self._spans_since(since_us)
        self._forget(spans)
        return _Piece.join(self.stream, [*self._evidence(spans).values()])

    def _versions_back(self, since_us: int) -> Json:
        with self._lock, self._asking():
            changes = self._folded(self._bounds()).changes
            since = {f"{topic}/{part}": start for (topic, part), (start, _) in self._spans_since(since_us).items()}
            found = changes.back(since)
            first = [
                {"key": self._key_at(slot, offset, key), "at": f"{slot} offset {offset}", "version": own, "after": top}
                for key, slot, offset, own, top in found[:REASONS_MAX]
            ]
        return {"count": len(found), "changes": changes.counted(since), "first": first}

    def _key_at(self, slot: str, offset: int, key: int) -> str:
        """Return the key of a change in readable form, from the message itself."""
        topic, _, partition = slot.rpartition("/")
        place = (topic, int(partition))
        read = self._gathered({place: (offset, offset + 1)}, lambda messages: [message_of(m) for m in messages])
        message = read[place][0][0]
        reader = self._readers[topic]
        at = [list(self.stream.types).index(name) for name in self.stream.key]
        rows = [] if message.value is None else [values for _, values in reader.records(message)]
        keys = [tuple(values[i] for i in at) for values in rows] + [own for own, _ in reader.deletions(message)]
        named = next((one for one in keys if int(self._key_hashes([one])[0]) == key), keys[0])
        return "/".join(
            str(self.stream.types[name].shown(value)) for name, value in zip(self.stream.key, named, strict=True)
        )

    def _folded(self, bounds: Mapping[Slot, Span]) -> _Fold:
        """Return all changes up to the log's ends."""
        self._forget(bounds)
        fold = self._fold
        if fold is None or any(end < fold.next.get(slot, 0) for slot, (_, end) in bounds.items()):  # it was made anew
            fold = _Fold(Changes(self.name))
        self._fold = None  # a reading that breaks off leaves nothing half-read
        spans = {slot: (min(max(low, fold.next.get(slot, 0)), end), end) for slot, (low, end) in bounds.items()}
        fold.whole &= all(start == fold.next.get(slot, 0) for slot, (start, _) in spans.items())
        read = self._batches(spans, lambda slot, batch: self._change(fold, slot, batch))
        fold.left_out += self._left_out(spans, {slot: sum(counts) for slot, counts in read.items()})
        fold.next = {slot: end for slot, (_, end) in spans.items()}
        self._fold = fold
        return fold

    def _change(self, fold: _Fold, slot: Slot, batch: _Batch) -> int:
        """Add a batch's changes to the fold. Return how many messages it had."""
        place, piece, deletions = f"{slot[0]}/{slot[1]}", batch.piece, batch.deletions
        if len(piece):
            keys, rows = self.stream.state_hashes(piece.columns)
            numbers = np.array([fold.changes.number(group) for group in self._numbers], dtype=np.int64)
            groups, versions = numbers[piece.places["group"]], piece.columns[str(self.stream.version)]
            fold.changes.add(place, piece.places["offset"], keys, groups, versions, rows)
        if len(deletions.offsets):
            fold.changes.add(place, deletions.offsets, deletions.keys, UNTOLD, deletions.versions, 0, gone=True)
        fold.unread += deletions.unread
        fold.reasons = [*fold.reasons, *deletions.reasons][:REASONS_MAX]
        return batch.messages

    def _batches(self, spans: Mapping[Slot, Span], use: Callable[[Slot, _Batch], T]) -> dict[Slot, list[T]]:
        """Return what `use` makes of the batches of each span, in its order. Batches that were read lately are not read
        again.

        Only evidence is read in this way, never a log's heads: what was read before a failure must not stand for what
        the log has after it.
        """
        known = {slot: self._inside(slot, span) for slot, span in spans.items()}
        ends = {slot: (kept[0].start, kept[-1].stop) if kept else spans[slot][1:] * 2 for slot, kept in known.items()}
        found: dict[Slot, list[T]] = {}
        earlier = self._read_anew({slot: (start, ends[slot][0]) for slot, (start, _) in spans.items()}, use)
        for slot, kept in known.items():
            found[slot] = [*earlier[slot], *(use(slot, batch) for batch in kept)]
        later = self._read_anew({slot: (ends[slot][1], stop) for slot, (_, stop) in spans.items()}, use)
        return {slot: [*made, *later[slot]] for slot, made in found.items()}

    def _forget(self, bounds: Mapping[Slot, Span]) -> None:
        """Drop what was kept too long, and batches beyond their partition's end: that partition was made anew."""
        late = time.monotonic() > self._kept_since_s + KEPT_WITHIN_S
        self._kept = {
            slot: kept
            for slot, kept in self._kept.items()
            if kept and not late and kept[-1].stop <= bounds.get(slot, (0, 0))[1]
        }

    def _inside(self, slot: Slot, span: Span) -> Sequence[_Batch]:
        """Return the kept batches that lie in a span."""
        return [one for one in self._kept.get(slot, ()) if span[0] <= one.start and one.stop <= span[1]]

    def _read_anew(self, spans: Mapping[Slot, Span], use: Callable[[Slot, _Batch], T]) -> dict[Slot, list[T]]:
        """Read the batches of each span, keep them beside those that they adjoin, return what `use` makes of them."""
        fresh: dict[Slot, deque[_Batch]] = {slot: deque() for slot in spans}
        began, most = {slot: start for slot, (start, _) in spans.items()}, KEPT_MESSAGES_MAX // max(1, len(spans))

        def parse(messages: Sequence[Any]) -> T:
            slot = (messages[0].topic(), messages[0].partition())
            batch = self._batch(began[slot], messages)
            began[slot] = batch.stop
            fresh[slot].append(batch)
            _trim(fresh[slot], most)
            return use(slot, batch)

        asked = {slot: (start, stop) for slot, (start, stop) in spans.items() if start < stop}
        found = self._gathered(asked, parse) if asked else {}
        for slot, (_, stop) in asked.items():
            if fresh[slot]:  # the offsets after its last message have no message, which is known now too
                fresh[slot].append(replace(fresh[slot].pop(), stop=stop))
                self._keep(slot, fresh[slot], most)
        return {slot: found.get(slot, []) for slot in spans}

    def _keep(self, slot: Slot, fresh: deque[_Batch], most: int) -> None:
        """Keep batches that have just been read beside those before or after them. If they adjoin none, keep only the
        newer ones."""
        if not self._kept:
            self._kept_since_s = time.monotonic()
        kept = self._kept.get(slot)
        if kept and kept[-1].stop == fresh[0].start:
            fresh = deque([*kept, *fresh])
        elif kept and fresh[-1].stop == kept[0].start:
            fresh = deque([*fresh, *kept])
        elif kept and fresh[-1].stop <= kept[-1].stop:
            return
        _trim(fresh, most)
        self._kept[slot] = fresh

    def _batch(self, start: int, messages: Sequence[Any]) -> _Batch:
        """Make a batch of messages of one partition. Each is decoded once, for the row that it leaves or for what it
        deletes. start: the place after the message before them."""
        bodies = self._bodies(messages)
        piece = self._piece(messages, bodies)
        deletions = _Deletions() if self.stream.version is None else self._deletions(messages, bodies)
        return _Batch(start, messages[-1].offset() + 1, len(messages), piece, deletions)

    def _bodies(self, messages: Sequence[Any]) -> Sequence[Any] | None:
        """Return what messages of one partition hold; None for one without a value. None: one of them can't be read."""
        values = [message.value() for message in messages]
        found = self._readers[messages[0].topic()].bodies([value for value in values if value is not None])
        if found is None or None not in values:
            return found
        told = iter(found)
        return [None if value is None else next(told) for value in values]

    def _deletions(self, messages: Sequence[Any], bodies: Sequence[Any] | None) -> _Deletions:
        """Return what messages of one partition delete. bodies: as _bodies."""
        reader, version = self._readers[messages[0].topic()], str(self.stream.version)
        asked = [message_of(message) for message in messages]
        found = None if bodies is None else reader.deletions_of(asked, bodies)
        if found is not None:
            of, columns = found
            offsets = [asked[number].offset for number in of]
            return _Deletions(offsets, self.stream.whole_key_hashes(columns), columns[version].tolist())
        listed: list[tuple[int, Deletion]] = []
        reasons: list[str] = []
        for one in asked:
            try:
                listed += [(one.offset, deletion) for deletion in reader.deletions(one)]
            except Malformed as e:
                reasons.append(f"{one.topic}/{one.partition} offset {one.offset}: {e}")
        offsets, keys = [at for at, _ in listed], self._key_hashes([key for _, (key, _) in listed])
        return _Deletions(offsets, keys, [own for _, (_, own) in listed], len(reasons), reasons[:REASONS_MAX])

    def _key_hashes(self, keys: Sequence[tuple[Canonical, ...]]) -> U64:
        columns = zip(self.stream.key, zip(*keys, strict=True) if keys else [()] * len(self.stream.key), strict=True)
        return row_hash([word for name, values in columns for word in words(self.stream.types[name], values)])

    def _records(self, window: Window) -> dict[Slot, _Piece]:
        """Return every record that may be in the window, reading back from the end until no earlier one can be.

        Ids and times of a group ascend at the exchange, so a record above lo was produced after the newest record up to
        lo happened. A partition has been read far enough back when its log is older than that for every known group,
        and each of its own groups has shown an id up to lo. A record that was sent again late can't end the search
        early, because its own time counts, not its place. If places are the ids, the place is enough. In a later log
        the time in the first log is enough, because nothing made from a record can be older than it.
        """
        if self.arrivals is not None:
            since_us = min((window.lo.get(group, 0) for group in window.hi), default=INT64_MAX)
            later = self._spans_since(max(0, since_us - CLOCKS_APART_US))
            self._forget(later)
            return self._evidence(later, window)
        bounds = self._bounds()
        self._forget(bounds)
        if self.stream.placed:
            bounds = {slot: (max(low, self._lowest(window, slot)), end) for slot, (low, end) in bounds.items()}
        starts = {slot: end for slot, (_, end) in bounds.items()}
        found: dict[Slot, list[_Piece]] = {slot: [] for slot in bounds}
        before: dict[Slot, dict[int, tuple[int, int]]] = {slot: {} for slot in bounds}
        depth = TAIL_RECORDS
        while spans := {
            slot: (max(bounds[slot][0], self._before(slot, start, depth)), start)
            for slot, start in starts.items()
            if start > bounds[slot][0] and not self._far_enough(found, before, slot)
        }:
            for slot, piece in self._evidence(spans).items():
                found[slot].insert(0, piece)
                starts[slot] = spans[slot][0]
                for group in window.hi:
                    number = self._numbers.get(group, -1)
                    mine = piece.only(piece.places["group"] == number)
                    if len(mine) and self.stream.time is not None:
                        ids, lo, times = mine.ids, window.lo.get(group, 0), mine.columns[self.stream.time]
                        times_us = times[(ids <= lo) & (ids == ids.max(where=ids <= lo, initial=0))]
                        here = (int(ids.max(where=ids <= lo, initial=0)), int(times_us[0]) if len(times_us) else 0)
                        before[slot][number] = max(before[slot].get(number, here), here)
            depth *= 2
        return {slot: _Piece.join(self.stream, [*pieces]) for slot, pieces in found.items()}

    def _lowest(self, window: Window, slot: Slot) -> int:
        """Return the first offset of a partition that a window asks for, if offsets are the ids."""
        place = [self.stream.group.index(name) for name in ("topic", "partition")]
        mine = [lo for group, lo in window.lo.items() if tuple(group[i] for i in place) == (slot[0], str(slot[1]))]
        return min(mine, default=-1) + 1

    @staticmethod
    def _far_enough(
        found: Mapping[Slot, Sequence[_Piece]], before: Mapping[Slot, Mapping[int, tuple[int, int]]], slot: Slot
    ) -> bool:
        """See _records. before: slot -> group's number -> (id, time_us) of its newest record up to lo; (0, 0): none."""
        oldest_us = next((int(p.places["stamp_us"].min()) for p in found[slot][:1] if len(p)), None)
        newest: dict[int, tuple[int, int]] = {}
        for known in before.values():
            for number, here in known.items():
                newest[number] = max(newest.get(number, here), here)
        if oldest_us is None or not newest or (0, 0) in before[slot].values():
            return False
        return oldest_us < min(time_us for _, time_us in newest.values()) - CLOCKS_APART_US

    def _within(self, piece: _Piece, window: Window) -> npt.NDArray[np.bool_]:
        """Return which records are in the window."""
        lo, hi = (np.full(len(self._numbers) + 1, -1, dtype=np.int64) for _ in range(2))
        for group, top in window.hi.items():
            if group in self._numbers:
                lo[self._numbers[group]], hi[self._numbers[group]] = window.lo.get(group, 0), top
        ids, groups = piece.ids, piece.places["group"]
        inside: npt.NDArray[np.bool_] = (ids > lo[groups]) & (ids <= hi[groups])
        return inside

    def starts(self) -> Position:
        """Return slot -> the lowest offset that is not deleted."""
        with self._asking():
            return {f"{topic}/{partition}": low for (topic, partition), (low, _) in self._bounds().items()}

    def _read(self, spans: Mapping[Slot, Span]) -> dict[Slot, _Piece]:
        """Return the records of each span, as the log has them now."""
        return self._dated(self._gathered(spans, self._parse))

    def _evidence(self, spans: Mapping[Slot, Span], window: Window | None = None) -> dict[Slot, _Piece]:
        """Return the same, reading nothing again that was read lately. window: for which a later log needs times."""
        return self._dated(self._batches(spans, lambda _, batch: batch.piece), window)

    def _dated(self, pieces: Mapping[Slot, Sequence[_Piece]], window: Window | None = None) -> dict[Slot, _Piece]:
        """Join the pieces of each partition. Records of a later log get the times when they came to the first one."""
        read = {slot: _Piece.join(self.stream, found) for slot, found in pieces.items()}
        if self.arrivals is None or not any(map(len, read.values())):
            return read
        came = self.arrivals.arrived(window)  # asked for after they were read: by now the log has all of them
        found = {}
        for slot, piece in read.items():
            times = dated(self.stream, came, piece.columns)
            kept = piece.only(times != NO_TIME)
            columns = {**kept.columns, ARRIVAL: times[times != NO_TIME]}
            found[slot] = replace(piece, places=kept.places, columns=columns)
        return found

    def _parse(self, messages: Sequence[Any]) -> _Piece:
        """Turn messages of one partition into columns. One without a value deletes, and is no record."""
        return self._piece(messages, self._bodies(messages))

    def _piece(self, messages: Sequence[Any], bodies: Sequence[Any] | None) -> _Piece:
        """Do the same with messages that are decoded. bodies: as _bodies."""
        there = [message.value() is not None for message in messages]
        if bodies is not None:
            bodies = list(compress(bodies, there))
        messages = list(compress(messages, there))
        found = self._at_once(messages, bodies) if messages and bodies is not None else None
        return replace(found if found is not None else self._one_by_one(messages), read=len(messages))

    def _at_once(self, messages: Sequence[Any], bodies: Sequence[Any]) -> _Piece | None:
        """Turn all messages into columns at once; None: one of them can't be read. bodies: what they hold."""
        reader = self._readers[messages[0].topic()]
        asked = [message_of(message) for message in messages] if reader.places else [None] * len(messages)
        table = reader.columns_of(asked, bodies)
        if table is None:
            return None
        of, columns = table
        offsets = np.fromiter([message.offset() for message in messages], np.int64, len(messages))
        stamps = chain.from_iterable([message.timestamp() for message in messages])
        kinds, stamps_ms = np.fromiter(stamps, np.int64, 2 * len(messages)).reshape(-1, 2).T
        stamps_us = np.where(kinds != 0, stamps_ms * 1000, INT64_MAX)
        groups, place = self.stream.groups_of(columns)
        numbers = np.array([self._numbers.setdefault(g, len(self._numbers)) for g in groups], dtype=np.int64)
        within = np.asarray(of, dtype=np.intp)
        places = {"group": numbers[place], "offset": offsets[within], "stamp_us": stamps_us[within]}
        return _Piece(self.stream, places, columns)

    def _one_by_one(self, messages: Sequence[Any]) -> _Piece:
        """Read each message by itself: malformed ones are counted, and the first reasons are kept."""
        places: list[tuple[int, ...]] = []
        rows: list[tuple[Canonical, ...]] = []
        reasons: list[str] = []
        malformed = 0
        for message in messages:
            one = message_of(message)
            try:
                for group, values in self._readers[one.topic].records(one):
                    number = self._numbers.setdefault(group, len(self._numbers))
                    places.append((number, one.offset, _stamp_us(*message.timestamp())))
                    rows.append(values)
            except Malformed as e:
                malformed += 1
                if len(reasons) < REASONS_MAX:
                    reasons.append(f"{one.topic}/{one.partition} offset {one.offset}: {e}")
        return _Piece.of(self.stream, places, rows, malformed, reasons)


@dataclass
class UrlHop(LogHop):
    """A log whose server has an address. tls: see README."""

    url: str
    stream: Stream
    topics: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    each: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    format: str = JSON
    registry: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    message: str = ""
    deleted: str | Mapping[str, Any] | None = None
    kind: str = "log"
    part: Sequence[Mapping[str, Any]] = ()
    tls: Tls = PLAIN
    name: str = "broker"


@dataclass(frozen=True, slots=True)
class Raw:
    """A message of another broker, with librdkafka's methods. at: its slot and its place there. stamp_ms: when it was
    produced; None: unknown."""

    at: tuple[Slot, int]
    stamp_ms: int | None
    sent: bytes | None
    under: bytes | None = None
    told: Sequence[tuple[str, bytes]] = ()

    def topic(self) -> str:
        return self.at[0][0]

    def partition(self) -> int:
        return self.at[0][1]

    def offset(self) -> int:
        return self.at[1]

    def timestamp(self) -> tuple[int, int]:
        return (0, 0) if self.stamp_ms is None else (1, self.stamp_ms)

    def value(self) -> bytes | None:
        return self.sent

    def key(self) -> bytes | None:
        return self.under

    def headers(self) -> Sequence[tuple[str, bytes]]:
        return self.told


def message_of(message: Any) -> Message:
    """Convert a message of librdkafka to one from which records are read. value: None: it deletes."""
    kind, stamp_ms = message.timestamp()
    return Message(
        message.topic(),
        message.partition(),
        message.offset(),
        stamp_ms * 1000 if kind else None,
        message.key(),
        message.value(),
        message.headers() or (),
    )


def _stamp_us(kind: int, stamp_ms: int) -> int:
    """Return when a message was produced. A log without stamps is read from its start."""
    return stamp_ms * 1000 if kind else INT64_MAX


def _trim(batches: deque[_Batch], most: int) -> None:
    """Keep a partition's newest messages, so many at most."""
    messages = sum(batch.messages for batch in batches)
    while messages > most and batches:
        messages -= batches.popleft().messages


def _since_us(piece: _Piece) -> int:
    return int(piece.places["stamp_us"].min(initial=INT64_MAX))


def _above(ids: Ints, stamps_us: Ints, since_us: int) -> int:
    """Return the id above which the ends of the partitions have all ids of a group. since_us: when the last of these
    ends begins; INT64_MIN: they are the whole partitions.

    Ids ascend with the log: what came after all of these ends had begun is here, and has higher ids than what came
    before. Records that were sent again at the beginning of an end have lower ids, so a quarter of the records is not
    used.
    """
    if since_us == INT64_MIN:
        return int(ids.min()) - 1
    early = max(1, int(np.count_nonzero(stamps_us <= since_us)), len(ids) // 4)
    return int(ids[np.argsort(stamps_us, kind="stable")[:early]].max())


def _readers(hop: LogHop) -> dict[str, Reader]:
    """Return topic -> how its messages are read. Raises ConfigError with every mistake."""
    mistakes: list[str] = []
    formatted = {key: getattr(hop, key) for key in (*KEYS, "deleted")}
    own = {"topics": hop.topics, "fields": hop.fields, "each": hop.each, "where": hop.where, **formatted}
    found: dict[str, Reader] = {}
    for number, shape in enumerate([own, *hop.part] if hop.topics or not hop.part else hop.part):
        at = f"hops.{hop.name}" + (".part" if shape is not own else "")
        if unknown := set(shape) - set(own):
            mistakes.append(f"{at} has {', '.join(sorted(unknown))}. Known: {', '.join(own)}")
        if not shape.get("topics"):
            mistakes.append(f"{at}.topics is missing (part {number + 1}). Remedy: the topics of that shape")
        inherited = {} if "format" in shape else formatted
        made = reader(hop.stream, {**inherited, **shape}, at, mistakes)
        found |= dict.fromkeys(shape.get("topics") or (), made)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return found
