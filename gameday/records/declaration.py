"""A stream as gameday.toml declares it: which fields make a record's key and group, their types, whether a number
counts it, and whether rows with one key are versions of one record.

`stream` checks the whole declaration and tells every mistake, not only the first. Where each hop has the fields is the
drivers' business; paths.py reads them from a log's messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gameday.model import Columns, Group, Tally
from gameday.records.types import Canonical, Type, parse

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gameday.records.hashing import U64

__all__ = ["ARRIVAL", "KINDS", "PLACE", "STATE", "Stream", "hop_mistakes", "stream"]

GROUPED = ("text", "int", "uuid")
"""What can tell a group: its text is the same everywhere."""

PLACE = {"topic": "text", "partition": "int", "offset": "int"}
"""The key of a stream that declares none, where a record lies in a log, and its types."""

ARRIVAL = "$time"
"""The time of a record that has neither number nor time of its own: when its message came to the log. No field of the
stream: its other hops have it of the log, by the record's key (records/arrivals.py)."""

KINDS: Mapping[str, str] = {"append": "raw", "once": "final"}
"""What a table promises -> the view of its digests."""

TAKEN = ("offsets", "archive")
"""What no stream may be called: digests of the log's places, and of what was exported."""

PLACEHOLDER = re.compile(r"\{(\w+)\}")
"""A field of the group in a step of the path."""

STATE = "state"
"""The kind of a table that is overwritten: of each key the highest version, and none of what was deleted. It is right
as of a position, not in a window (records/states.py). Its digests have a view of this name."""

VERSIONS = ("int", "time")
"""Types of a version: what can be told to be higher."""

GONE = {
    "columns": "fields: SQL of each field that has another name or form",
    "keys": 'fields: the path of each field in a message, such as amount = "a"',
    "venues": "a [[hops.NAME.part]] for each topic, with a text in quotes for the field: source = \"'a'\"",
    "view": 'kind = "append" where a record may be there again, kind = "once" where each is there once',
    "trades": 'records = "package.module:function"',
}
"""Keys of hops that were there before streams were declared."""


@dataclass(frozen=True)
class Stream:
    """One declared stream.

    key: the fields that make two rows the same record. group: those whose damage is told apart. types: of every field,
    those of key and group among them. sequence: the field by which windows go; counted: whether it was declared, so it
    is a number that grows inside each group and that no two records there have; else it is the time. gapless: whether
    it leaves none out. time: the field that says when it happened. hops: in order, the first is the ledger. visible:
    the hop that users query. path: components in order; {field} stands for the group's. placed: whether the key is the
    place in the log. version: the field of which the highest value counts among the rows of one key; None: no row of
    this stream is ever changed or deleted. keyed: whether its records have nothing but their key, so that their time is
    when they came to the log.
    """

    name: str
    key: tuple[str, ...]
    group: tuple[str, ...]
    types: Mapping[str, Type]
    sequence: str
    gapless: bool
    time: str | None
    hops: tuple[str, ...]
    visible: str
    path: tuple[str, ...]
    counted: bool = True
    placed: bool = False
    version: str | None = None
    keyed: bool = False

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Those that each hop has by itself."""
        return tuple(name for name in self.types if name != ARRIVAL)

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The fields that tell records of one group apart: those of the key, and the version, for where each version
        is kept it is a record of its own."""
        own = tuple(name for name in self.key if name not in self.group)
        return own if self.version is None else (*own, self.version)

    @cached_property
    def of_keys(self) -> Stream:
        """The same stream where each key is one record, whatever its version: what a hop of kind state holds."""
        return replace(self, version=None, counted=False, gapless=False)

    @cached_property
    def by_key(self) -> tuple[str, ...]:
        """All fields, those of the key first: the order of a state's hashes, in which a key's is where its row's
        begins. The group is in it: a row may move from one to another."""
        return (*self.key, *(name for name in self.fields if name not in self.key))

    @cached_property
    def hashed(self) -> tuple[str, ...]:
        """The fields of the row hash, in its order: a key's hash is where its row's begins."""
        rest = (name for name in self.fields if name not in self.group and name not in self.own)
        return (*self.own, *rest)

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The fields without which there is no record: those that tell which it is, and when it happened."""
        names = (*self.group, *self.key, *self.own, self.sequence, *([self.time] if self.time else ()))
        return tuple(dict.fromkeys(names))

    def grouped(self, values: Mapping[str, Canonical]) -> Group:
        """The group of a record's canonical values."""
        return tuple(str(self.types[name].shown(values[name])) for name in self.group)

    def groups_of(self, columns: Columns) -> tuple[list[Group], npt.NDArray[np.intp]]:
        """The groups that there are, and of each record the place of its own among them."""
        import numpy as np

        fields = [columns[name].tolist() for name in self.group]
        keys: list[Any] = fields[0] if len(fields) == 1 else list(zip(*fields, strict=True))
        keys = keys or [()] * len(columns[self.sequence])
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        several = [(key,) for key in places] if len(fields) == 1 else list(places)
        groups = [self.grouped(dict(zip(self.group, key, strict=True))) for key in several]
        return groups, np.fromiter(map(places.__getitem__, keys), np.intp, len(keys))

    def told_apart(self, columns: Columns) -> npt.NDArray[Any]:
        """Of each record of a group what no other one there has: its number, or its key's hash."""
        return columns[self.sequence] if self.counted else self.key_hashes(columns)

    def key_hashes(self, columns: Columns) -> U64:
        """Of each record, by its key within its group. columns: canonical values by field."""
        from gameday.records.hashing import row_hash, words

        return row_hash([word for name in self.own for word in words(self.types[name], columns[name])])

    def row_hashes(self, columns: Columns) -> U64:
        """Of each record, by all of its fields."""
        from gameday.records.hashing import row_hash, words

        return row_hash([word for name in self.hashed for word in words(self.types[name], columns[name])])

    def whole_key_hashes(self, columns: Columns) -> U64:
        """Of each record, by its whole key, the group's fields among it where they are."""
        from gameday.records.hashing import row_hash, words

        return row_hash([word for name in self.key for word in words(self.types[name], columns[name])])

    def state_hashes(self, columns: Columns) -> tuple[U64, U64]:
        """Of each record, by its whole key, and by all of its fields."""
        from gameday.records.hashing import row_hash, words

        keys = self.whole_key_hashes(columns)
        rest = [word for name in self.by_key[len(self.key) :] for word in words(self.types[name], columns[name])]
        return keys, row_hash(rest, keys) if rest else keys

    def tally(self, columns: Columns, ordered: bool = False) -> Tally:
        """Of one group's records, in the order in which a hop holds them."""
        from gameday.records.tallies import tally

        keys = None if self.own == (self.sequence,) else self.key_hashes(columns)
        return tally(columns[self.sequence], self.row_hashes(columns), ordered, keys)

    @cached_property
    def way(self) -> tuple[int, ...]:
        """The places in a group of the fields that the path names: groups with the same ones take the same way."""
        named = {field for step in self.path for field in PLACEHOLDER.findall(step)}
        return tuple(place for place, field in enumerate(self.group) if field in named)

    def roles(self, group: Group) -> tuple[str, ...]:
        """The components on this group's path."""
        fields = dict(zip(self.group, group, strict=True))
        return tuple(step.format(**fields) for step in self.path)


def stream(name: str, given: Mapping[str, Any], hops: Sequence[str], mistakes: list[str]) -> Stream | None:
    """The declared stream; None where mistakes, of which each names key, value and remedy, keep it from being one.

    Args: given: the table [streams.NAME], whose values have the right kinds. hops: those that are configured. mistakes:
    where they are added to.
    """
    at, before = f"streams.{name}", len(mistakes)
    if name in TAKEN:
        mistakes.append(f"{at} can't be called so: that names digests of gameday's own. Remedy: another name")
    key, group = tuple(given.get("key") or ()), tuple(given.get("group") or ())
    sequence, time = given.get("sequence"), given.get("time")
    placed, counted = not key and sequence is None, not key or sequence is not None
    keyed = not counted and time is None and given.get("version") is None
    if placed:
        key, group, sequence = tuple(PLACE), tuple(dict.fromkeys([*group, "topic", "partition"])), "offset"
    elif keyed:
        sequence = time = ARRIVAL
    elif not counted:
        sequence = time
    usual = {**(PLACE if placed else {}), **({sequence: "int"} if sequence and sequence != time else {})}
    named = [*group, *key, *([sequence] if sequence and not keyed else ())]
    if given.get("version") and given["version"] not in named:
        usual = {given["version"]: "int", **usual}
        named.append(given["version"])
    types = _types(at, named, {**usual, **(given.get("fields") or {})}, mistakes)
    types |= {ARRIVAL: Type("time", unit="us")} if keyed else {}
    if not key:
        mistakes.append(f"{at}.key is missing. Remedy: the fields that make two rows the same record, such as ['id']")
    elif not set(key) - set(group):
        mistakes.append(
            f"{at}.key is {list(key)}, all of it in group. Remedy: add the field that tells its records apart"
        )
    if sequence is None:
        mistakes.append(
            f"{at} has a version, but neither sequence nor time, so nothing tells where it stands. Remedy: sequence, "
            "an integer field that grows inside each group; or time, the field that says when a record happened"
        )
    elif counted and sequence in types and types[sequence].name != "int":
        mistakes.append(f"{at}.sequence is {sequence!r}, of type {types[sequence]}. Remedy: a field of type int")
    if sequence in group:
        mistakes.append(f"{at}.sequence is {sequence!r}, which is in group. Remedy: it must differ within a group")
    if given.get("gapless") and given.get("sequence") is None:
        mistakes.append(f"{at}.gapless is true, but there is no sequence. Remedy: {at}.sequence, or leave gapless out")
    mistakes += _versions(at, given.get("version"), placed, (*key, *group), types)
    for field in group:
        if field in types and types[field].name not in GROUPED:
            mistakes.append(f"{at}.group has {field!r}, of type {types[field]}. Remedy: one of {', '.join(GROUPED)}")
    if time is not None and types.get(time, Type("")).name != "time":
        mistakes.append(
            f"{at}.time is {time!r}. Remedy: a field that `fields` gives a type time, time(s), time(ms) or time(us)"
        )
    mistakes += _places(at, given, group, hops)
    if len(mistakes) > before:
        return None
    return Stream(
        name=name,
        key=key,
        group=group,
        types=types,
        sequence=str(sequence),
        gapless=bool(given.get("gapless")),
        time=time,
        hops=tuple(given["hops"]),
        visible=given["visible"],
        path=tuple(given["path"]),
        counted=counted,
        placed=placed,
        version=given.get("version"),
        keyed=keyed,
    )


def hop_mistakes(name: str, given: Mapping[str, Any], known: Stream | None) -> list[str]:
    """What is wrong with what every hop says in the same way: its kind, and where it has the fields."""
    at, found = f"hops.{name}", []
    for key, instead in GONE.items():
        if key in given:
            found.append(f"{at}.{key} is gone. Remedy: {instead} (docs/records.md)")
    if known is not None and known.version is None:
        without = f"streams.{known.name} has no version. Remedy: streams.{known.name}.version"
        if given.get("kind") == STATE:
            found.append(f"{at}.kind is {STATE!r}, but {without}, the field that grows with each change of a row")
        for place in (given, *(given.get("part") or ())):
            if "deleted" in place:
                found.append(f"{at}.deleted is {place['deleted']!r}, but {without}: rows that go have one")
    for place, table in ((at, given), *((f"{at}.part", part) for part in given.get("part") or ())):
        fields = table.get("fields") or {}
        if not isinstance(fields, Mapping):
            found.append(f'{place}.fields is {fields!r}. Remedy: a table, such as {{ amount = "a" }}')
            continue
        for field, where in fields.items():
            if known is not None and field not in known.fields:
                found.append(
                    f"{place}.fields has {field!r}, which the stream has not. Remedy: one of "
                    f"{', '.join(known.fields)}, or add it to streams.{known.name}.fields"
                )
            if not isinstance(where, str) or not where.strip():
                found.append(f"{place}.fields.{field} is {where!r}. Remedy: a text: a path in a log, SQL in a table")
    return found


def _types(at: str, named: Sequence[str], declared: Mapping[str, str], mistakes: list[str]) -> dict[str, Type]:
    """The type of every field: text for one that is named and not declared."""
    found: dict[str, Type] = {}
    for name in dict.fromkeys([*named, *declared]):
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            mistakes.append(f"{at} has a field {name!r}. Remedy: letters, digits and _")
        try:
            found[name] = parse(declared.get(name, "text"))
        except ValueError as e:
            mistakes.append(f"{at}.fields.{name}: {e}")
    return found


def _versions(
    at: str, version: str | None, placed: bool, named: Sequence[str], types: Mapping[str, Type]
) -> Sequence[str]:
    if version is None:
        return []
    found = []
    if placed:
        found.append(f"{at}.version is {version!r}, but there is no key. Remedy: {at}.key, whose rows it tells apart")
    if version in named:
        found.append(
            f"{at}.version is {version!r}, which is in key or group. Remedy: leave it out there: rows with one key are "
            "versions of one record"
        )
    if version in types and types[version].name not in VERSIONS:
        found.append(f"{at}.version is {version!r}, of type {types[version]}. Remedy: a field of type int, or a time")
    return found


def _places(at: str, given: Mapping[str, Any], group: Sequence[str], hops: Sequence[str]) -> list[str]:
    named = given.get("hops") or ()
    found = [
        f"{at}.hops names {hop!r}, but there is no [hops.{hop}]. Known: {', '.join(hops)}"
        for hop in named
        if hop not in hops
    ]
    if given.get("visible") not in named:
        found.append(f"{at}.visible is {given.get('visible')!r}. Remedy: one of {', '.join(named)}")
    for step in given.get("path") or ():
        found += [
            f"{at}.path has {step!r}, but {name!r} is not in {at}.group {list(group)}"
            for name in sorted(set(PLACEHOLDER.findall(step)) - set(group))
        ]
    return found
