"""Which path of a message is which column of a table: found by the values alone, so that it doesn't matter who carries
them from one to the other.

Messages and rows that are the same record are brought together by the values that they share; then every column is
held against every path in all of these pairs, and only what agrees is taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any, TypeAlias

from gameday.records.paths import Message
from gameday.records.types import INT64_MAX, SCALE_MAX
from gameday.stack.init.seen import Table, Topic
from gameday.stack.init.values import (
    EVENTS,
    PLAIN,
    Column,
    column,
    event,
    leaves,
    of_message,
    of_row,
    places,
    unit,
    unreadable,
)

__all__ = ["LATE_US_MAX", "Content", "Match", "Pairing", "Rows", "match", "type_of"]

SEEDS_MAX = 3
"""How many pairs of a path and a column are tried as what brings messages and rows together."""

ROWS_EACH_MAX = 16
"""Rows of one value that a message is held against."""

JOINED_MIN = 3
JOINED_SHARE_MIN = 0.2
"""Of a topic's messages: the newest may not be in the table yet."""

AGREED_SHARE_MIN = 0.95
"""Of the records that were brought together: some may be other records after all, or damaged."""

PLACES_USUAL = 8
"""Of a decimal, where nothing tells how many there may be: more than were seen."""

LATE_US_MAX = 86_400_000_000
"""Between when a record happened by its own time and when it was produced: more, and it is another time."""

HEADROOM = 1_000
"""By how much a value may become greater than those that were seen and still fit."""


Tokens: TypeAlias = Mapping[str, Sequence[Hashable | None]]
"""Path, or column -> a value for each message, or row."""


@dataclass(frozen=True)
class Content:
    """A topic's messages that are JSON objects, as values by path; of change events those that leave a row. refused:
    why others are none -> how many."""

    topic: Topic
    _made: dict[str, Tokens] = field(default_factory=dict, repr=False)

    @cached_property
    def changes(self) -> Sequence[Mapping[str, Any]]:
        """Debezium's change events, where most of the messages that have a value are such; else none."""
        found = [told for message in self.topic.messages if (told := event(message)) is not None]
        return found if 2 * len(found) > sum(bool(message.value) for message in self.topic.messages) else ()

    @cached_property
    def copied(self) -> Collection[str]:
        """The tables that change events say they are from, as schema.name."""
        sources = [told["source"] for told in self.changes]
        return {f"{one.get('schema') or one.get('db')}.{one.get('table')}" for one in sources}

    @cached_property
    def refused(self) -> Mapping[str, int]:
        found: dict[str, int] = defaultdict(int)
        for message in self.topic.messages:
            expected = self.changes and (not message.value or event(message) is not None)
            if not expected and (why := unreadable(message)) is not None:
                found[why] += 1
        return dict(found)

    @cached_property
    def messages(self) -> Sequence[Message]:
        if not self.changes:
            return [message for message in self.topic.messages if unreadable(message) is None]
        told = [(message, event(message)) for message in self.topic.messages]
        return [m for m, e in told if e is not None and isinstance(e.get("after"), dict | str)]

    @cached_property
    def records(self) -> int:
        """How many rows there could be of these messages: of changes one of each key."""
        return len({message.key for message in self.messages}) if self.changes else len(self.messages)

    @cached_property
    def values(self) -> Mapping[str, Sequence[Any]]:
        """Path -> a value for each message; None where a message has none."""
        each = [leaves(message, EVENTS if self.changes else PLAIN) for message in self.messages]
        paths = dict.fromkeys(path for one in each for path in one)
        return {path: [one.get(path) for one in each] for path in paths}

    @cached_property
    def units(self) -> Mapping[str, str | None]:
        """Path -> how it says a time, see values.unit."""
        return {path: unit(values) for path, values in self.values.items()}

    def near(self, path: str) -> bool:
        """Whether numbers that may be times are near to when their messages were produced."""
        pairs = zip(self.tokens(path, "time"), self.messages, strict=True)
        apart = [abs(at - m.time_us) for at, m in pairs if isinstance(at, int) and m.time_us is not None]
        return bool(apart) and sorted(apart)[len(apart) // 2] <= LATE_US_MAX

    def tokens(self, path: str, kind: str) -> Sequence[Hashable | None]:
        """The values in the form in which a column of this kind has them."""
        return self.by_kind(kind)[path]

    def by_kind(self, kind: str) -> Tokens:
        """The same of every path. Made once: a topic is held against many tables."""
        if kind not in self._made:
            self._made[kind] = {
                path: [of_message(kind, value, self.units[path]) for value in values]
                for path, values in self.values.items()
            }
        return self._made[kind]


@dataclass(frozen=True)
class Rows:
    """A table's newest rows, as values by column. Made once: a table is held against many topics."""

    table: Table

    @cached_property
    def kinds(self) -> Mapping[str, Column]:
        return {name: kind for name, type_ in self.table.columns.items() if (kind := column(type_)) is not None}

    @cached_property
    def tokens(self) -> Tokens:
        return {
            name: [of_row(kind.kind, row.get(name)) for row in self.table.rows] for name, kind in self.kinds.items()
        }


@dataclass(frozen=True)
class Pairing:
    """A column, and the path that has its values: in `agreed` of `compared` records. type: of the stream's field.
    sql: of the column, so that it is the same where a message has no value."""

    column: str
    path: str
    agreed: int
    compared: int
    type: str
    sql: str


@dataclass(frozen=True)
class Match:
    """What a topic and a table have in common. constants: columns that are the same in all of the topic's records.
    places: $topic, $partition, $offset -> the column that has it. joined: how many messages were found as rows."""

    pairs: Mapping[str, Pairing]
    constants: Mapping[str, str]
    places: Mapping[str, str]
    joined: int


def match(content: Content, held: Rows) -> Match | None:
    """None where they hold other records."""
    kinds, theirs = held.kinds, held.tokens
    mine = {kind.kind: content.by_kind(kind.kind) for kind in kinds.values()}
    seeds = []
    for name, kind in kinds.items():
        known = set(theirs[name]) - {None}
        for path, tokens in mine[kind.kind].items():
            if (shared := len(known.intersection(tokens))) >= JOINED_MIN:
                seeds.append((shared, _alike(name, path), name, path))
    found = [
        made
        for _, _, name, path in sorted(seeds, reverse=True)[:SEEDS_MAX]
        if (made := _by(name, path, content, kinds, mine, theirs)) is not None
    ]
    return max(found, key=lambda one: sum(pair.agreed for pair in one.pairs.values()), default=None)


def type_of(kind: Column, values: Sequence[Any]) -> str:
    """The type of a stream's field that is these values in messages, and such a column in a table."""
    there = [value for value in values if value is not None]
    if kind.kind == "int" and there and all(isinstance(value, bool) for value in there):
        return "bool"
    if kind.kind == "text" and there and all(type(value) is int for value in there):
        return "int"
    if kind.kind == "float":
        return f"float({6 if kind.single else 15})"
    if kind.kind == "decimal":
        if any(isinstance(value, float) for value in there):
            return "float(15)"
        return f"decimal({_places(kind.places, [str(value) for value in there])})"
    return kind.kind


def _places(told: int | None, texts: Sequence[str]) -> int:
    """As many as the column has, or as are usual, while the greatest value times HEADROOM still fits 64 bits."""
    seen = max((len(text.partition(".")[2].rstrip("0")) for text in texts), default=0)
    most = max((int(text.lstrip("-").partition(".")[0] or 0) + 1 for text in texts), default=1) * HEADROOM
    wanted = max(seen, min(PLACES_USUAL if told is None else told, PLACES_USUAL))
    while wanted > seen and most * 10**wanted > INT64_MAX:
        wanted -= 1
    return min(wanted, SCALE_MAX)


def _by(
    seed: str, path: str, content: Content, kinds: Mapping[str, Column], mine: Mapping[str, Tokens], theirs: Tokens
) -> Match | None:
    """The match where a message and a row that share this value, and most others, are one record."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for number, token in enumerate(theirs[seed]):
        if token is not None and len(rows[token]) < ROWS_EACH_MAX:
            rows[token].append(number)
    rated = []
    for number, token in enumerate(mine[kinds[seed].kind][path]):
        if token is None or token not in rows:
            continue
        values = {kind: {tokens[number] for tokens in paths.values()} - {None} for kind, paths in mine.items()}
        scores = [
            (sum(theirs[name][row] in values[kind.kind] for name, kind in kinds.items()), row) for row in rows[token]
        ]
        score, row = max(scores)
        if score >= min(2, len(kinds)):
            rated.append((score, number, row))
    joined = [(number, row) for _, number, row in (_newest(rated) if content.changes else rated)]
    if len(joined) < max(JOINED_MIN, JOINED_SHARE_MIN * content.records):
        return None
    pairs = _pairs(joined, content, kinds, mine, theirs)
    told = {tuple(theirs[name][row] for name in pairs) for _, row in joined}
    if not pairs or len(told) < len(joined) / 2:  # what they share tells no record from another
        return None
    constants = {}
    for name, kind in kinds.items():
        same = {theirs[name][row] for _, row in joined}
        if name not in pairs and kind.kind == "text" and len(same) == 1 and (value := same.pop()):
            constants[name] = str(value)
    return Match(pairs, constants, _places_of(joined, content, kinds, theirs, pairs), len(joined))


def _newest(rated: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Of a row's changes the one after which it was read: it agrees in the most columns. A row of which that isn't
    among them agrees in fewer than the others do; one column may be NULL in it."""
    best: dict[int, tuple[int, int, int]] = {}
    for one in rated:
        best[one[2]] = max(one, best.get(one[2], one))
    most = max((score for score, *_ in best.values()), default=0)
    return sorted((one for one in best.values() if one[0] >= most - 1), key=lambda one: one[1])


def _pairs(
    joined: Sequence[tuple[int, int]],
    content: Content,
    kinds: Mapping[str, Column],
    mine: Mapping[str, Tokens],
    theirs: Tokens,
) -> dict[str, Pairing]:
    """Column -> its path: each path for one column, and each column by the path that agrees best."""
    every = []
    for name, kind in kinds.items():
        for path, tokens in mine[kind.kind].items():
            both = [(tokens[number], theirs[name][row], content.values[path][number]) for number, row in joined]
            agreed = sum(one is not None and one == other for one, other, _ in both)
            empty = {other for one, other, value in both if value is None and other is not None}
            filled = {other for one, other, value in both if value is not None}
            blank = next(iter(empty)) if len(empty) == 1 else None
            nullable = blank in ("", 0) and blank not in filled and not isinstance(blank, bool)
            compared = sum(
                (value is not None or other is not None) and not (nullable and value is None)
                for _, other, value in both
            )
            if agreed < JOINED_MIN or agreed < AGREED_SHARE_MIN * compared:
                continue
            sql = name if not nullable else f"nullIf({name}, {chr(39) * 2 if blank == '' else 0})"
            made = Pairing(name, path, agreed, compared, type_of(kind, content.values[path]), sql)
            distinct = len(set(tokens))
            every.append(((agreed, not path.startswith("$"), _alike(name, path), distinct, -len(path)), made))
    found: dict[str, Pairing] = {}
    for _, one in sorted(every, key=lambda rated: rated[0], reverse=True):
        if one.column not in found and one.path not in {pair.path for pair in found.values()}:
            found[one.column] = one
    return {name: found[name] for name in kinds if name in found}


def _places_of(
    joined: Sequence[tuple[int, int]],
    content: Content,
    kinds: Mapping[str, Column],
    theirs: Tokens,
    pairs: Mapping[str, Pairing],
) -> dict[str, str]:
    """Only where the offset is there: a partition alone, often always 0, agrees with anything."""
    found: dict[str, str] = {}
    for path, kind in (("$offset", "int"), ("$partition", "int"), ("$topic", "text")):
        for name, its in kinds.items():
            if its.kind == kind and name not in pairs and name not in found.values():
                told = [(places(content.messages[number])[path], theirs[name][row]) for number, row in joined]
                if all(one == other for one, other in told):
                    found.setdefault(path, name)
    return found if "$offset" in found and len({content.messages[n].offset for n, _ in joined}) > 1 else {}


def _alike(name: str, path: str) -> float:
    """How much a column's name is like the last word of a path, or like all of it."""
    bare, whole = (text.replace("_", "").replace(".", "").lower() for text in (name, path))
    last = path.rpartition(".")[2].replace("_", "").lower()
    return max(SequenceMatcher(None, bare, text).ratio() for text in (last, whole))
