"""Which topics and tables hold the same records, and how these would be declared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gameday.stack.init.identity import Identity, identity
from gameday.stack.init.match import LATE_US_MAX, Content, Match, Pairing, Rows, match, type_of
from gameday.stack.init.seen import Connectors, Seen, Store, Table
from gameday.stack.init.values import Column, of_message

__all__ = ["Guessed", "Held", "Source", "guessed"]

UNUSED_MAX = 12
"""Paths of a topic that are named though nothing compares them."""

SLOT = "debezium"
"""Of a connector that names none."""

GROWN_MIN = 10
"""Changes of rows, in each of which a number or a time grew, before it is no accident."""

SUMS = ("SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree", "VersionedCollapsingMergeTree")
"""Engines whose rows are no records: sums of several, or signs."""


@dataclass(frozen=True)
class Held:
    """A table that holds a stream's records. fields: SQL of those with another name or form. places: $offset and so on
    -> its column. evidence: what the match rests on."""

    store: Store
    table: Table
    fields: Mapping[str, str]
    places: Mapping[str, str]
    evidence: str


@dataclass(frozen=True)
class Source(Held):
    """The table whose changes the messages are. slot: the replication slot that its connector reads by; "": none was
    found. connector: its name, where Kafka Connect told it."""

    slot: str = ""
    connector: str = ""


@dataclass(frozen=True)
class Guessed:
    """A stream as it would be declared. parts: topic -> field -> path. types: field -> (its type, why). tables: in the
    records' order. time: (the field, why). left_out: columns of the last table that no path has.

    changes: whether messages are Debezium's change events. source: of those, where it was found. version: (the field
    that grows with each change of a row, why); "" where no field was seen to.
    """

    name: str
    parts: Mapping[str, Mapping[str, str]]
    types: Mapping[str, tuple[str, str]]
    tables: Sequence[Held]
    identity: Identity
    time: tuple[str, str] | None
    messages: int
    left_out: Sequence[str] = ()
    notes: Sequence[str] = field(default=())
    changes: bool = False
    source: Source | None = None
    version: tuple[str, str] | None = None


def guessed(seen: Seen) -> tuple[list[Guessed], list[str]]:
    """The streams, those with the most records first; and what was seen and is in none, one sentence each."""
    topics = [topic for log in seen.logs for topic in log.topics]
    contents = {topic.name: Content(topic) for topic in topics}
    readable = {name: one for name, one in contents.items() if one.messages}
    aside = [
        f"topic {name}: {count} of its newest {len(one.topic.messages)} messages are {why}"
        for name, one in contents.items()
        for why, count in one.refused.items()
    ]
    tables = [(store, table) for store in seen.stores for table in store.tables if table.rows]
    matches: dict[str, dict[str, Match]] = {}
    for store, table in tables:
        if table.engine.removeprefix("Replicated").startswith(SUMS):
            aside.append(f"table {table.name}: its rows are sums ({table.engine}), not records")
            continue
        rows = Rows(table)
        for name, content in readable.items():
            if (both := match(content, rows)) is not None:
                matches.setdefault(f"{store.address} {table.name}", {})[name] = both
    known = {f"{store.address} {table.name}": (store, table) for store, table in tables}
    found: list[Guessed] = []
    left = set(readable)
    while left:
        rated = [
            ((len(left & by.keys()), sum(len(by[n].pairs) for n in left & by.keys())), name)
            for name, by in matches.items()
            if left & by.keys()
        ]
        if not rated:
            break
        mine = left & matches[max(rated)[1]].keys()
        first = readable[min(mine)]
        mine = {name for name in mine if bool(readable[name].changes) == bool(first.changes)}
        left -= mine
        holding = [(*known[name], by) for name, by in matches.items() if mine <= by.keys()]
        holding.sort(key=lambda one: (not _is_source(first, one[0], one[1]), _depth(one[0], one[1])))
        if holding and _is_source(first, *holding[0][:2]):
            beside = [table.name for store, table, _ in holding[1:] if store is holding[0][0]]
            aside += [f"table {name}: the same rows as in {holding[0][1].name}, in its own database" for name in beside]
            holding = [holding[0], *(one for one in holding[1:] if one[0] is not holding[0][0])]
        made = _stream([readable[name] for name in sorted(mine)], holding, seen.connect)
        if made is not None:
            found.append(made)
        else:
            aside.append(f"topics {', '.join(sorted(mine))}: no time and no number tells which records a run is about")
    aside += [f"topic {n}: none of its newest {len(readable[n].messages)} messages is in a table" for n in sorted(left)]
    if not found and left:  # where users query them is a question then
        alone = max(sorted(left), key=lambda name: readable[name].topic.held)
        if (made := _stream([readable[alone]], [], seen.connect)) is not None:
            found, aside = [made], [line for line in aside if not line.startswith(f"topic {alone}: none")]
    return sorted(found, key=lambda one: -one.messages), aside


def _depth(store: Store, table: Table) -> tuple[bool, int, bool, str]:
    """ClickHouse before Postgres; behind as many views as lie before it; what may repeat before what doesn't."""
    depth, name = 0, table.name
    into = {view.target: view.source for view in store.views}
    while name in into and depth < len(into):
        depth, name = depth + 1, into[name]
    return store.driver == "postgres", depth, "Replacing" in table.engine, table.name


def _is_source(content: Content, store: Store, table: Table) -> bool:
    """Whether the change events say that they are this table's, in a database whose log somebody reads."""
    return bool(store.slots) and table.name.replace('"', "") in content.copied


def _stream(
    contents: Sequence[Content],
    holding: Sequence[tuple[Store, Table, Mapping[str, Match]]],
    connect: Connectors | None,
) -> Guessed | None:
    changes = bool(contents[0].changes)
    names = [content.topic.name for content in contents]
    parts, kinds, aside = _declared(contents, holding[-1][2] if holding else None)
    tables: list[Held] = []
    for store, table, by in reversed(holding):
        at = {name: by[name] for name in names}
        fields = {name: sql for name in kinds if (sql := _in_table(name, parts, at)) is not None}
        if tables and len(fields) < len(kinds) / 2:
            aside.append(f"table {table.name} holds the same records, with fewer than half of the fields: no hop")
            continue
        lacking = [name for name in kinds if name not in fields]
        if lacking:
            aside.append(f"{', '.join(lacking)}: not in {table.name}, so not compared")
            kinds = {name: kind for name, kind in kinds.items() if name in fields}
        tables.insert(0, Held(store, table, fields, _places(at), _evidence(at, contents)))
    parts = {topic: {name: paths[name] for name in kinds} for topic, paths in parts.items()}
    records = [record for content in contents for record in _records(content, parts[content.topic.name], kinds)]
    if not kinds or not records:
        return None
    last = tables[-1] if tables else None
    back = {sql: name for name, sql in last.fields.items()} if last else {}
    told = [back[column] for column in last.table.key if column in back] if last else []
    promised = last is not None and (last.store.driver == "postgres" or "Replacing" in last.table.engine)
    told = told if last and promised and len(told) == len(last.table.key) else []
    fixed = [name for name in kinds if len(names) > 1 and all(_is_text(paths[name]) for paths in parts.values())]
    time = _time(contents, parts, kinds)
    version = _version(contents, parts, kinds) if changes else None
    if changes:
        parts, who = _keyed(contents, parts, kinds)
    else:
        who = identity(records, {n: kind[0] for n, kind in kinds.items()}, told, last.table.name if last else "", fixed)
    if who.sequence is None and time is None:  # a table before the last one may be what lacks it
        return _stream(contents, holding[-1:], connect) if len(holding) > 1 else None
    needed = {*who.key, *who.group, *([time[0]] if time else [])}
    for held in tables:
        for name, sql in held.fields.items():
            if name in needed and sql.startswith("nullIf("):
                aside.append(f"{name} is in the key and sometimes missing")
    known = {sql for held in tables[-1:] for sql in held.fields.values()}
    left_out = [name for name in (last.table.columns if last else {}) if not any(name in sql for sql in known)]
    shown = {topic: {n: _path(p, kinds[n][0], contents, topic) for n, p in its.items()} for topic, its in parts.items()}
    for content in contents if tables else ():
        used = {path.removeprefix("$key.") for path in parts[content.topic.name].values()}
        unused = [path for path in content.values if path not in used and path[0] != "$"]
        if unused:
            more = ", …" if len(unused) > UNUSED_MAX else ""
            aside.append(f"{content.topic.name} has, and no column: {', '.join(unused[:UNUSED_MAX])}{more}")
    tables = [
        Held(one.store, one.table, {n: s for n, s in one.fields.items() if n != s}, one.places, one.evidence)
        for one in tables
    ]
    source = None
    if tables and _is_source(contents[0], tables[0].store, tables[0].table):
        source, *tables = _source(tables[0], names, connect), *tables[1:]
    return Guessed(
        _name(names), shown, kinds, tables, who, time, len(records), left_out, aside, changes, source, version
    )


def _source(held: Held, topics: Sequence[str], connect: Connectors | None) -> Source:
    """With the slot that its connector says, else the one that is in use."""
    slots = held.store.slots
    for one in connect.connectors if connect else ():
        slot = one.settings.get("slot.name", SLOT)
        if one.source and slot in slots and all(t.startswith(f"{one.settings.get('topic.prefix')}.") for t in topics):
            return Source(held.store, held.table, held.fields, held.places, held.evidence, slot, one.name)
    used = sorted(slots, key=lambda name: "not in use" in slots[name])
    return Source(held.store, held.table, held.fields, held.places, held.evidence, next(iter(used), ""))


Parts = Mapping[str, Mapping[str, str]]
"""Topic -> field -> path, or a text in quotes."""


def _keyed(contents: Sequence[Content], parts: Parts, kinds: Mapping[str, tuple[str, str]]) -> tuple[Parts, Identity]:
    """The fields that the messages' keys have, read there: what deletes has nothing else that is sure."""
    found: dict[str, dict[str, str]] = {}
    for content in contents:
        paths = parts[content.topic.name]
        bare = {name: path.removeprefix("$key.") for name, path in paths.items()}
        in_key = {path for path in bare.values() if content.values.get(f"$key.{path}") == content.values.get(path, ())}
        found[content.topic.name] = {n: f"$key.{path}" if path in in_key else path for n, path in bare.items()}
    key = tuple(name for name in kinds if all(paths[name].startswith("$key.") for paths in found.values()))
    if key:
        return found, Identity(key, why="sure: the key of its messages, which is the table's")
    why = "its messages have no key that a table has, so that of a deleted row nothing tells which it was"
    return parts, Identity((next(iter(kinds), ""),), why=why, sure=False)


def _version(contents: Sequence[Content], parts: Parts, kinds: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """The number, else the time, that grew whenever a row changed; ("", why) where none did."""
    changes: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for content in contents:
        last: dict[bytes | None, Mapping[str, Any]] = {}
        for row, message in zip(_records(content, parts[content.topic.name], kinds), content.messages, strict=True):
            if (before := last.get(message.key)) is not None and before != row:  # else it was sent again
                changes.append((before, row))
            last[message.key] = row

    def grows(name: str) -> bool:
        pairs = [(before[name], row[name]) for before, row in changes]
        return all(isinstance(one, int) and isinstance(other, int) and other > one for one, other in pairs)

    for kind in ("int", "time"):
        for name in (name for name, (its, _) in kinds.items() if its == kind and changes and grows(name)):
            sure = "likely: it grew" if len(changes) >= GROWN_MIN else "a guess by few changes: it grew"
            return name, f"{sure} in all {len(changes)} changes of a row that the newest messages have"
    return "", "no number and no time of the newest messages was seen to grow with each change of a row"


def _declared(
    contents: Sequence[Content], by: Mapping[str, Match] | None
) -> tuple[Parts, dict[str, tuple[str, str]], list[str]]:
    """Paths and types of the fields that all topics have: named as the last table names them, else as the log does."""
    aside: list[str] = []
    names = [content.topic.name for content in contents]
    if by is None:
        return _from_log(contents[0])
    columns = [n for n in [*by[names[0]].pairs, *by[names[0]].constants] if n.isidentifier()]
    parts: dict[str, dict[str, str]] = {name: {} for name in names}
    kinds: dict[str, tuple[str, str]] = {}
    for column in dict.fromkeys(c for name in names for c in [*by[name].pairs, *by[name].constants]):
        pairs = [by[name].pairs.get(column) for name in names]
        constants = [by[name].constants.get(column) for name in names]
        if not all(pair or text for pair, text in zip(pairs, constants, strict=True)) or column not in columns:
            if any(pairs):
                aside.append(f"{column}: not in every topic, so not compared")
            continue
        if not any(pairs) and len(set(constants)) < max(2, len(names)):
            continue  # it says nothing of a record
        known = {pair.type for pair in pairs if pair} or {"text"}
        kind = _common(known)
        if kind is None or any("'" in text for text in constants if text):
            aside.append(f"{column}: {' and '.join(sorted(known))} in different topics, so not compared")
            continue
        for name, pair, text in zip(names, pairs, constants, strict=True):
            parts[name][column] = pair.path if pair else f"'{text}'"
        kinds[column] = (kind, _seen_in([pair for pair in pairs if pair]))
    return parts, kinds, aside


def _common(types: set[str]) -> str | None:
    """One type that reads all of them."""
    if len(types) == 1:
        return next(iter(types))
    if all(kind.startswith("decimal(") for kind in types):
        return max(types, key=lambda kind: int(kind[8:-1]))
    return max(types) if all(kind.startswith(("decimal(", "float(")) for kind in types) else None


def _seen_in(pairs: Sequence[Pairing]) -> str:
    agreed, compared = sum(pair.agreed for pair in pairs), sum(pair.compared for pair in pairs)
    return f"the same in {agreed} of {compared} records" if pairs else "each topic's own"


def _from_log(content: Content) -> tuple[Parts, dict[str, tuple[str, str]], list[str]]:
    """Named by the last word of each path, and typed by the values alone."""
    paths: dict[str, str] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for path in (path for path in content.values if not path.startswith("$")):
        name = path.rpartition(".")[2]
        name = name if name not in paths else path.replace(".", "_")
        if name.isidentifier() and name.isascii():
            paths[name] = path
            kinds[name] = (_kind(content, path), "a guess by the messages alone")
    return {content.topic.name: paths}, kinds, []


def _kind(content: Content, path: str) -> str:
    values = [value for value in content.values[path] if value is not None]
    if content.units[path] == "" or (content.units[path] is not None and content.near(path)):
        return "time"
    for kind in ("bool", "int", "uuid", "decimal"):
        fits = all(isinstance(v, bool) if kind == "bool" else of_message(kind, v, None) is not None for v in values)
        if values and fits and not (kind == "int" and any(isinstance(value, str) for value in values)):
            return type_of(Column(kind), values)
    return "text"


def _in_table(name: str, parts: Parts, at: Mapping[str, Match]) -> str | None:
    """SQL of a field in a table that has all topics; None: it has not, or not in the same column for each."""
    found = set()
    for topic, its in at.items():
        path = parts[topic][name]
        if _is_text(path):
            mine = {column for column, text in its.constants.items() if f"'{text}'" == path}
        else:
            mine = {pair.sql for pair in its.pairs.values() if pair.path == path}
        found.add(name if name in mine else min(mine) if mine else None)
    return found.pop() if len(found) == 1 else None


def _records(
    content: Content, paths: Mapping[str, str], kinds: Mapping[str, tuple[str, str]]
) -> list[dict[str, Hashable | None]]:
    columns: dict[str, Sequence[Any]] = {}
    for name, path in paths.items():
        kind = kinds[name][0].partition("(")[0]
        columns[name] = [path] * len(content.messages) if _is_text(path) else content.tokens(path, kind)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _time(contents: Sequence[Content], parts: Parts, kinds: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    """The field of type time that is nearest to when the messages were produced."""
    rated = []
    for name in (name for name, (kind, _) in kinds.items() if kind == "time"):
        apart: list[int] = []
        values: list[Hashable] = []
        for content in contents:
            for at, message in zip(
                content.tokens(parts[content.topic.name][name], "time"), content.messages, strict=True
            ):
                if not isinstance(at, int):
                    break
                values.append(at)
                apart.append(abs(at - message.time_us) if message.time_us is not None else 0)
            else:
                continue
            break
        else:
            usual_us = sorted(apart)[len(apart) // 2]
            rated.append((usual_us > LATE_US_MAX, -len(set(values)), usual_us, name))
    if not rated:
        return None
    *_, usual_us, name = min(rated)
    return name, f"a time in all messages, mostly {usual_us / 1e6:.1f} s from when they were produced"


def _path(path: str, kind: str, contents: Sequence[Content], topic: str) -> str:
    """With `as` where a time comes as a number."""
    if kind != "time" or _is_text(path):
        return path
    told = next(content.units[path] for content in contents if content.topic.name == topic)
    return f"{path} as time({told})" if told else path


def _places(at: Mapping[str, Match]) -> dict[str, str]:
    """Only where every topic's are in the same columns."""
    every = list(at.values())
    return dict(every[0].places) if all(one.places == every[0].places for one in every) else {}


def _evidence(at: Mapping[str, Match], contents: Sequence[Content]) -> str:
    joined, read = sum(one.joined for one in at.values()), sum(len(content.messages) for content in contents)
    return f"{joined} of the newest {read} messages are rows of it"


def _is_text(path: str) -> bool:
    return path.startswith("'")


def _name(topics: Sequence[str]) -> str:
    """The words that all topics have in common, the last of one."""
    words = [topic.replace("-", ".").replace("_", ".").split(".") for topic in topics]
    common = [
        word for word in words[0] if all(word in other for other in words) and word not in ("raw", "events", "v1")
    ]
    longest = max(common or words[0], key=lambda word: (len(word), words[0].index(word)))
    cleaned = "".join(c for c in longest.lower() if c.isascii() and (c.isalnum() or c in "_-")).strip("_-")
    return cleaned or "records"
