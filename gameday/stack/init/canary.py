"""Records of gameday's own like those of a stream: its newest message as a template (docs/canary.md).

What tells one from another is made anew in each: the key, the times, UUIDs. Free text isn't copied, for it may be about
a person: one such field begins with gameday's prefix instead, so that every hop can tell these records from real ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gameday.records.attempts import PLACE
from gameday.stack.init.identity import Identity
from gameday.stack.init.match import Content
from gameday.stack.init.seen import Seen, Topic
from gameday.stack.init.streams import Guessed, Source
from gameday.stack.init.values import column

__all__ = ["PREFIX", "Written", "canary"]

FEW = 8
"""Values among a topic's newest messages: a text of more is no word of a list, and nobody checks it against one."""

TIMES = {"": "{now}", "ms": "{now_ms}", "us": "{now_ms}000"}
"""How a time is said (values.unit) -> the template. Whole seconds would be another time than the attempt's."""

PREFIX, ANYBODY = "gameday-", "gameday"
NUMBERS = ("{n}", "{now_ms}", "{now_ms}000")


@dataclass(frozen=True)
class Written:
    """stream: what is written, as it would be declared. topic, key, text: of a message; where the stream has a source,
    text is a statement instead, that puts a row in there. fields: those of the stream that don't go without saying, as
    templates. mark: the field that begins with PREFIX, and its path."""

    stream: Guessed
    topic: str
    key: str
    text: str
    fields: Mapping[str, str]
    mark: tuple[str, str]


def canary(seen: Seen, stream: Guessed) -> Written | str:
    """Such a record of the stream's first topic; or why there is none."""
    name = next(iter(stream.parts))
    topic = next((topic for log in seen.logs for topic in log.topics if topic.name == name), Topic(name))
    content = Content(topic)
    paths = {field: path.partition(" as ")[0].removeprefix("$key.") for field, path in stream.parts[name].items()}
    if stream.changes and stream.source is None:
        return f"topic {name} has a table's changes, and the table was not found. Remedy: --postgres, its database"
    if not stream.tables:
        return f"topic {name}: none of its messages is in a table, so nothing tells where the canary's would be"
    place = max(range(len(content.messages)), key=lambda n: sum(v[n] is not None for v in content.values.values()))
    sample = {path: values[place] for path, values in content.values.items()}
    mark = _mark(stream, content, paths)
    if mark is None:
        return f"topic {name}: no field of text could begin with a prefix, by which its records are told from real ones"
    made = {path: _template(content, path, value) for path, value in sample.items() if not path.startswith("$")}
    for field in stream.identity.key:
        if stream.types[field][0] == "int" and field == stream.identity.sequence:
            made[paths[field]] = "{n}"
    made[paths[mark]] = "{key}"
    if stream.source is not None:
        text = _insert(stream.source, stream, paths, made, sample)
        written = {path for path, template in made.items() if template is not None}
    else:
        body = json.loads(content.messages[place].value or b"{}")
        written = {path for path, template in made.items() if _put(body, path.split("."), template)}
        text = _bare(json.dumps(body, ensure_ascii=False))
    kinds, fields = {}, {}
    for field, kind in stream.types.items():
        path = paths[field]
        if path in written or path.startswith("'"):
            kinds[field] = kind
            fields[field] = _expected(path.strip("'") if path.startswith("'") else made[path], kind[0])
    if lacking := [field for field in dict.fromkeys((*stream.identity.key, mark)) if field not in kinds]:
        return f"topic {name}: no template can be written where {', '.join(lacking)} is"
    if stream.time is None or stream.time[0] not in kinds or not fields[stream.time[0]].startswith("{now"):
        return f"topic {name}: its records tell no time that gameday could write"
    who = Identity(stream.identity.key, (), stream.identity.sequence, False, "as its own records have it")
    if not any(made.get(paths[field]) in ("{n}", "{key}", "{uuid}") for field in who.key):
        return f"topic {name}: its key can't be made anew in each record"
    usual = dict.fromkeys(who.key, "{key}") | {stream.time[0]: "{now}"}
    usual |= {who.sequence: "{n}"} if who.sequence else {}
    parts = {name: {field: stream.parts[name][field] for field in kinds}}
    return Written(
        replace(stream, name="canary", types=kinds, identity=who, parts=parts, version=None),
        name,
        next((made[path] for path in made if _same(content, path)), "{key}" if "$key" in content.values else ""),
        text,
        {field: template for field, template in fields.items() if usual.get(field) != template},
        (mark, paths[mark]),
    )


def _mark(stream: Guessed, content: Content, paths: Mapping[str, str]) -> str | None:
    """The field of text that can hold the prefix everywhere: of the key, else the one of the most values."""
    rated = []
    for field, (kind, _) in stream.types.items():
        path = paths[field]
        holding = [*stream.tables, *([stream.source] if stream.source else [])]
        columns = [held.table.columns.get(held.fields.get(field, field), "") for held in holding]
        free = all("Enum" not in column and "Fixed" not in column and "(" not in _inner(column) for column in columns)
        values = set(content.values.get(path, ())) - {None}
        if kind == "text" and free and all(columns) and values:
            rated.append((field in stream.identity.key, len(values), field))
    return max(rated)[2] if rated else None


def _inner(column: str) -> str:
    """Of a ClickHouse type, without what is around every text of its kind."""
    return column.replace("LowCardinality(", "").replace("Nullable(", "").rstrip(")")


def _template(content: Content, path: str, value: Any) -> Any:
    """What stands at this path in each record."""
    unit = content.units[path]
    if unit in TIMES and (unit == "" or content.near(path)):
        return TIMES[unit]
    if not isinstance(value, str):
        return value
    if _all(content, path, "uuid"):
        return "{uuid}"
    few = len(set(content.values[path])) <= FEW and not PLACE.search(value)
    if few or _all(content, path, "decimal"):
        return value
    return ANYBODY


def _all(content: Content, path: str, kind: str) -> bool:
    """Whether every value that there is can be one of this kind."""
    return all(
        token is not None or value is None
        for token, value in zip(content.tokens(path, kind), content.values[path], strict=True)
    )


def _insert(
    source: Source, stream: Guessed, paths: Mapping[str, str], made: dict[str, Any], sample: Mapping[str, Any]
) -> str:
    """The statement that writes such a row. `made` becomes what its columns take: a key is made anew, and no other
    UUID, for that may name a row elsewhere; a time is a time, however the log says it."""
    columns = {}
    for field, path in paths.items():
        name = source.fields.get(field, field)
        kind = column(source.table.columns.get(name, ""))
        if kind is None or path not in made:
            made.pop(path, None)
            continue
        if field in stream.identity.key:
            made[path] = made[path] if kind.kind != "int" else "{n}"
        elif kind.kind == "uuid":
            made[path] = sample[path]
        if kind.kind == "time" and made[path] is not None:
            made[path] = "{now}"
        if made[path] is not None:
            columns[name] = _literal(made[path])
    return f"INSERT INTO {source.table.name} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"


def _literal(template: Any) -> str:
    """As SQL has it."""
    if isinstance(template, str) and template not in NUMBERS:
        return f"'{template.replace(chr(39), chr(39) * 2)}'"
    return template if isinstance(template, str) else json.dumps(template)


def _expected(template: Any, kind: str) -> str:
    """A field's value in such a record, as the text that its type reads."""
    if isinstance(template, bool):
        return "true" if template else "false"
    if kind == "time" and isinstance(template, str) and template.startswith("{now"):
        return "{now}"
    return template if isinstance(template, str) else json.dumps(template)


def _put(body: Any, path: Sequence[str], template: Any) -> bool:
    """Whether there was a value to replace."""
    *above, last = path
    for key in above:
        body = body.get(key) if isinstance(body, dict) else None
    if not isinstance(body, dict) or body.get(last) is None:
        return False
    number = isinstance(body[last], int | float) and template in NUMBERS
    body[last] = f"\0{template}\0" if number else template
    return True


def _bare(text: str) -> str:
    """JSON with its numbers without quotes."""
    return text.replace('"\\u0000', "").replace('\\u0000"', "")


def _same(content: Content, path: str) -> bool:
    """Whether this path has what the message's own key has."""
    keys = content.values.get("$key", ())
    values = content.values[path]
    return bool(keys) and all(str(value) == key for value, key in zip(values, keys, strict=True))
