"""Where a log's messages have the fields of a record, as paths; and messages as records.

A path: `payload.after.id` (keys and places in a list; JSON in a string is gone into), `$key.id`, `$headers.x`,
`$topic`, `$partition`, `$offset`, `$time`, `$value`, or a text in quotes, which is the same in every message. With
`each`, paths begin at the item, and `$message.x` at the message. `p as time(ms)` reads a field by a type of its own.

What paths lead into is the format's to say (formats.py): of a change event, they begin at its row.

A condition of `where`: a path and the values that belong to the stream; `gameday-*` stands for every text that begins
so, and `not p` for every value but these.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import orjson

from gameday.model import Columns, Group
from gameday.records.columns import canonical
from gameday.records.declaration import PLACE, Stream
from gameday.records.formats import Decode, Format, decoded, format_of
from gameday.records.types import Canonical, Malformed, Type, parse

__all__ = ["ROOTS", "Deletion", "Message", "Reader", "Record", "reader"]

TRUE = (True, "true", "1")
"""What says that a message deletes, where `deleted` is a path alone; 1 is True."""

MARK = secrets.token_hex(8).encode()
"""Stands between messages that are parsed as one list."""

NOT = "not "
"""Before a path of `where`: the values that do not belong to the stream."""

ROOTS = ("$key", "$headers", "$topic", "$partition", "$offset", "$time", "$value", "$message")


class Message(NamedTuple):
    """One message of a log. time_us: when it was produced, as the log has it; None: it doesn't say."""

    topic: str
    partition: int
    offset: int
    time_us: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


Record: TypeAlias = tuple[Group, tuple[Canonical, ...]]
"""Group, and the canonical values in the order of Stream.types."""

Deletion: TypeAlias = tuple[tuple[Canonical, ...], int | None]
"""The key that is deleted, in the order of Stream.key, and of which version; None: the message doesn't tell."""

Get: TypeAlias = Callable[[Any, Any, Any], Any]
"""From (Message, what it holds, the item) to what lies at a path; None: nothing does."""

Field: TypeAlias = tuple[str, Type, Get, str | None]
"""Name, type as it lies there, what gets it, and its key where it lies right in the item."""

Table: TypeAlias = tuple[Sequence[int], Columns]
"""Of each record, or deletion, the number of its message, and the canonical values by field."""


@dataclass(frozen=True)
class Reader:
    """Reads the records of a stream from messages of one shape. deleted: under which conditions a message deletes, as
    one without a value always does, and one of which its format says so: it is no record. parses: whether a path leads
    into what a message holds. places: whether one leads to what else a message has."""

    stream: Stream
    fields: Sequence[Field]
    each: Get | None
    where: Sequence[tuple[Get, Callable[[Any], bool]]]
    parses: bool
    places: bool
    format: Format
    deleted: Sequence[tuple[Get, tuple[Any, ...]]] = ()

    @property
    def deleting(self) -> bool:
        """Whether a message with a value may delete."""
        return bool(self.deleted) or self.format.deletes is not None

    def bodies(self, values: Sequence[bytes]) -> Sequence[Any] | None:
        """What all these messages hold; None each, where no path leads there. None: one of them can't be read."""
        if not self.parses:
            return [None] * len(values)
        decode = self.format.decode
        try:
            return _parsed(values) if decode is orjson.loads else [decode(value) for value in values]
        except (orjson.JSONDecodeError, Malformed):
            return None

    def columns(self, messages: Sequence[Message | None], values: Sequence[bytes]) -> Table | None:
        """The records of all these messages, as columns. None where one of them can't be read: `records` tells which.

        messages: None each, where no path leads there (see places). values: their bytes.
        """
        bodies = self.bodies(values)
        return None if bodies is None else self.columns_of(messages, bodies)

    def columns_of(self, messages: Sequence[Message | None], bodies: Sequence[Any]) -> Table | None:
        """The same of messages that are decoded. bodies: what they hold."""
        try:
            return self._columns(messages, bodies)
        except (orjson.JSONDecodeError, Malformed):
            return None

    def deletions_of(self, messages: Sequence[Message], bodies: Sequence[Any]) -> Table | None:
        """What all these messages delete: key, and version where the stream has one, as columns. None where one of them
        can't be read: `deletions` tells which. bodies: what they hold; None for one without a value."""
        listed = [
            (number, item, self._by_format(message, body))
            for number, (message, body) in enumerate(zip(messages, bodies, strict=True))
            for item in self._deleted(message, body)
        ]
        found: dict[str, Any] = {}
        for name, kind, get, _ in self.fields:
            if name in self.stream.key or name == self.stream.version:
                sure = name in self.stream.key
                held = [get(messages[n], bodies[n], item if sure or not gone else None) for n, item, gone in listed]
                column = canonical(kind, held)
                if column is None or (sure and None in held):
                    return None
                found[name] = column
        return [number for number, *_ in listed], found

    def _columns(self, messages: Sequence[Message | None], bodies: Sequence[Any]) -> Table | None:
        row = self.format.row
        of: Sequence[int] = range(len(bodies))
        items = list(bodies) if row is None else [row(body) for body in bodies]
        if self.each is not None:
            lists = [self.each(*one) for one in zip(messages, bodies, items, strict=True)]
            if not all(isinstance(one, list) for one in lists):
                return None
            of = [number for number, one in enumerate(lists) for _ in one]
            items = [item for one in lists for item in one]
        for get, wanted in self.where:
            kept = [i for i, n in enumerate(of) if wanted(get(messages[n], bodies[n], items[i]))]
            of, items = [of[i] for i in kept], [items[i] for i in kept]
        if self.deleting:
            kept = [i for i, n in enumerate(of) if not self._deletes(messages[n], bodies[n], items[i])]
            of, items = [of[i] for i in kept], [items[i] for i in kept]
        if row is not None and None in items:
            return None
        found: dict[str, Any] = {}
        right = self._right_there(items)
        for name, kind, get, key in self.fields:
            if key in right:
                held: Sequence[Any] = right[key]
            else:
                held = [get(messages[n], bodies[n], item) for n, item in zip(of, items, strict=True)]
            column = canonical(kind, held)
            if column is None or (name in self.stream.needed and None in held):
                return None
            found[name] = column
        return of, found

    def _right_there(self, items: Sequence[Any]) -> Mapping[str | None, Sequence[Any]]:
        """Key -> what all the items have there, of the fields that lie right in them; {} where an item is no object."""
        keys = list(dict.fromkeys(key for *_, key in self.fields if key is not None))
        if not keys or not set(map(type, items)) <= {dict}:
            return {}
        try:
            return {key: list(map(itemgetter(key), items)) for key in keys}
        except KeyError:  # not all have all
            return {key: [item.get(key) for item in items] for key in keys}

    def records(self, message: Message) -> Iterator[Record]:
        """The stream's records in a message. Raises Malformed for one that should be one and can't be read."""
        body = self._body(message)
        for item in self._items(message, body):
            if not self._deletes(message, body, item):
                yield self._record(message, body, item)

    def deletions(self, message: Message) -> Iterator[Deletion]:
        """What a message deletes: nothing, where it can't be told to be one. Raises Malformed where the key, or the
        version it has, can't be read."""
        try:
            body = self._body(message) if message.value is not None else None
        except Malformed:
            return  # told by `records`
        for item in self._deleted(message, body):
            yield self._deletion(message, body, item)

    def _deleted(self, message: Message, body: Any) -> Sequence[Any]:
        """The items of a message that delete; nothing, where it is malformed."""
        if message.value is None:
            return [None]
        if not self.deleted and not self._by_format(message, body):
            return ()
        try:
            return [item for item in self._items(message, body) if self._deletes(message, body, item)]
        except Malformed:
            return ()

    def _body(self, message: Message) -> Any:
        """What a message holds; None, where no path leads there."""
        return decoded(self.format.decode, message.value or b"") if self.parses else None

    def _items(self, message: Message, body: Any) -> Iterator[Any]:
        """What may be records."""
        row = body if self.format.row is None else self.format.row(body)
        items = [row]
        if self.each is not None:
            items = self.each(message, body, row)
            if not isinstance(items, list):
                raise Malformed("there is no list at the path `each`")
        gone = self._by_format(message, body)
        for item in items:
            # Which of the stream's rows it was, a row that is sure in its key alone can't tell: a deletion of another
            # stream's row deletes nothing here.
            asked = [one for one in self.where if not gone or one[0](message, body, None) is not None]
            if not all(wanted(get(message, body, item)) for get, wanted in asked):
                continue
            if item is None and self.format.row is not None and not self._deletes(message, body, item):
                op = body.get("op") if isinstance(body, dict) else None
                raise Malformed(f"is no change event of Debezium's with a row (op {op!r})")
            yield item

    def _deletes(self, message: Any, body: Any, item: Any) -> bool:
        if self._by_format(message, body):
            return True
        return bool(self.deleted) and all(get(message, body, item) in wanted for get, wanted in self.deleted)

    def _by_format(self, message: Message | None, body: Any) -> bool:
        """Whether the format itself says that a message deletes."""
        empty = message is not None and message.value is None
        return not empty and self.format.deletes is not None and bool(self.format.deletes(body))

    def _deletion(self, message: Message, body: Any, item: Any) -> Deletion:
        values: dict[str, Canonical] = {}
        wanted = (*self.stream.key, *([self.stream.version] if self.stream.version else ()))
        gone = self._by_format(message, body)
        for name, kind, get, _ in self.fields:
            if name not in wanted:
                continue
            # The row of a change event that deletes is sure in its key alone: a database that tells a replica no more
            # has 0 or '' elsewhere.
            row = None if gone and name not in self.stream.key else item
            try:
                values[name] = kind.canonical(get(message, body, row))
            except Malformed as e:
                raise Malformed(f"{name}: {e}, in a message that deletes") from None
            if values[name] is None and name in self.stream.key:
                raise Malformed(
                    f"{name}: is missing in a message that deletes. Remedy: the place in the message's own key, such "
                    f'as {name} = "$key.{name}"'
                )
        version = values.get(self.stream.version or "")
        return tuple(values[name] for name in self.stream.key), None if version is None else int(version)

    def _record(self, message: Message, body: Any, item: Any) -> Record:
        values: dict[str, Canonical] = {}
        for name, kind, get, _ in self.fields:
            try:
                values[name] = kind.canonical(get(message, body, item))
            except Malformed as e:
                raise Malformed(f"{name}: {e}") from None
        for name in self.stream.needed:
            if values[name] is None:
                raise Malformed(f"{name}: is missing")
        return self.stream.grouped(values), tuple(values.values())


def _parsed(values: Sequence[bytes]) -> list[Any] | None:
    """The JSON of many messages, parsed as one list. None: one of them is none.

    Between any two stands a text that no sender knows: at its place in the list, it proves that each message is one
    whole value, and not half of one that the next completes.
    """
    between = b',"%s",' % MARK
    try:
        found = orjson.loads(b"[%s%s]" % (between.join(values), between[:-1])) if values else []
    except orjson.JSONDecodeError:
        return None
    whole = len(found) == 2 * len(values) and set(found[1::2]) <= {MARK.decode()}
    return found[::2] if whole else None


def reader(stream: Stream, shape: Mapping[str, Any], at: str, mistakes: list[str]) -> Reader:
    """Args: shape: `fields`, `each`, `where`, `deleted` and the format of a hop or its part. at: its place in
    gameday.toml. mistakes: each that is found is added, with key, value and remedy."""
    paths = shape.get("fields") or {}
    read_as = format_of(shape, at, mistakes)
    place = PLACE if stream.placed else ()
    untold = [name for name in stream.fields if name not in paths and name not in place]
    if read_as.raw and len(untold) == 1:
        paths = {**paths, untold[0]: "$value"}
    fields: list[Field] = []
    texts = []
    for name, kind in stream.types.items():
        text = str(paths.get(name, f"${name}" if name in place else name))
        texts.append(text)
        path, _, told = text.partition(" as ")
        if told:
            try:
                kind = parse(told.strip())
            except ValueError as e:
                mistakes.append(f"{at}.fields.{name}: {e}")
            if kind.name != stream.types[name].name:
                mistakes.append(
                    f"{at}.fields.{name} reads {told.strip()}, but the stream has {stream.types[name]}. "
                    "Remedy: a type of the same name"
                )
        if path.strip() == "$time" and kind.name == "time":
            kind = Type("time", unit="us")
        path = path.strip()
        key = path if path.isidentifier() else None
        fields.append((name, kind, _get(path, f"{at}.fields.{name}", read_as.key, mistakes), key))
    each = shape.get("each")
    conditions = [(path.removeprefix(NOT), path, wanted) for path, wanted in (shape.get("where") or {}).items()]
    where = [
        (_get(path, f"{at}.where", read_as.key, mistakes), _wanted(wanted, path != told))
        for path, told, wanted in conditions
    ]
    deleted = _conditions(shape.get("deleted"), at, mistakes)
    asked = [*texts, *(path for path, _, _ in conditions), *deleted, *([each] if each else ())]
    inside = [path for path in map(str, asked) if not path.startswith(("$", "'")) or path.startswith("$message")]
    if read_as.raw and inside:
        mistakes.append(
            f"{at}.format is 'raw', but {', '.join(inside)} would lie inside the message. Remedy: $value, or a path of "
            f"{', '.join(root for root in ROOTS if root not in ('$value', '$message'))}"
        )
    places = any(str(path).startswith("$") and not str(path).startswith("$message") for path in asked)
    items = _get(each, f"{at}.each", read_as.key, mistakes) if each else None
    parses = bool(inside) or read_as.row is not None
    gone = [(_get(path, f"{at}.deleted", read_as.key, mistakes), wanted) for path, wanted in deleted.items()]
    return Reader(stream, fields, items, where, parses, places, read_as, gone)


def _conditions(given: Any, at: str, mistakes: list[str]) -> Mapping[str, tuple[Any, ...]]:
    """When a message deletes: path -> the values there that say so."""
    if given is None:
        return {}
    if isinstance(given, str):
        return {given: TRUE}
    if isinstance(given, Mapping):
        return {str(p): tuple(told) if isinstance(told, list | tuple) else (told,) for p, told in given.items()}
    mistakes.append(
        f"{at}.deleted is {given!r}. Remedy: a path where true stands in a message that deletes, or a table such as "
        '{ "payload.op" = "d" }'
    )
    return {}


def _wanted(given: Any, opposite: bool) -> Callable[[Any], bool]:
    """Whether a value is one of those given. A message's own key and headers are bytes: they are read as text."""
    values = given if isinstance(given, list | tuple) else (given,)
    begins = tuple(v[:-1] for v in values if isinstance(v, str) and v.endswith("*"))
    exact = [v for v in values if not (isinstance(v, str) and v.endswith("*"))]

    def belongs(value: Any) -> bool:
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        found = text in exact or (isinstance(text, str) and text.startswith(begins))
        return found is not opposite

    return belongs


def _get(path: str, at: str, key: Decode, mistakes: list[str]) -> Get:
    """key: decodes a message's."""
    if len(path) > 1 and path[0] == path[-1] == "'":
        text = path[1:-1]
        return lambda message, body, item: text
    root, *steps = path.split(".")
    if not path or not all((root, *steps)):
        mistakes.append(f"{at} is {path!r}. Remedy: keys with a point between two, such as payload.after.id")
    if root.startswith("$") and root not in ROOTS:
        mistakes.append(f"{at} is {path!r}. Remedy: a key, or one of {', '.join(ROOTS)}")
    if not root.startswith("$"):
        return _of_item(root) if not steps else lambda message, body, item: _walk(item, (root, *steps))
    ends: Mapping[str, Get] = {
        "$topic": lambda message, body, item: message.topic,
        "$partition": lambda message, body, item: message.partition,
        "$offset": lambda message, body, item: message.offset,
        "$time": lambda message, body, item: message.time_us,
        "$value": lambda message, body, item: message.value,
        "$key": lambda message, body, item: _in_key(key, message.key, steps),
        "$message": lambda message, body, item: _walk(body, steps),
        "$headers": lambda message, body, item: _walk(dict(message.headers), steps),
    }
    return ends.get(root, ends["$topic"])


def _of_item(key: str) -> Get:
    """The common case, without a walk."""

    def get(message: Message, body: Any, item: Any) -> Any:
        return item.get(key) if isinstance(item, dict) else None

    return get


def _in_key(decode: Decode, raw: bytes | None, steps: Sequence[str]) -> Any:
    """The whole key is its bytes; a path leads into what they hold."""
    if raw is None or not steps:
        return raw
    try:
        return _walk(decode(raw), steps)
    except orjson.JSONDecodeError:
        return None


def _walk(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if isinstance(value, str | bytes):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                return None
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
