"""What lies in messages and rows: paths into a message's JSON, the kinds of columns, and one form of a value by which a
message's and a row's are the same.

Nothing is declared here: match.py finds which path is which column, and only what agreed in many records is taken.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from gameday.records.formats import Format, format_of
from gameday.records.paths import Message
from gameday.records.types import DECIMAL, FLOAT, INT, UNITS_US, UUID, Malformed, Type

__all__ = [
    "EVENTS",
    "PLAIN",
    "Column",
    "column",
    "event",
    "leaves",
    "of_message",
    "of_row",
    "places",
    "unit",
    "unreadable",
]

PLAIN, EVENTS = Format(), format_of({"format": "debezium"}, "", [])
"""How messages are read: as they are, or as Debezium's change events, whose paths begin at the row."""

DEPTH_MAX = 6
LEAVES_MAX = 200
"""Of one message: more are no record that a person would declare."""

SECONDS = (946_684_800, 4_102_444_800)
"""2000 to 2100: a number in between may be a time, in the unit in which it is."""

SCHEMA_BYTES = 5
"""Before a message in a registry's format: a zero, and the number of its schema."""

NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A column's kind: int, decimal, float, text, uuid, bool or time. places: of a decimal; None: any. single: whether
    a float has 32 bits."""

    kind: str
    places: int | None = None
    single: bool = False


def column(type_: str) -> Column | None:
    """Of the name of a column's type, ClickHouse's or Postgres'. None: no field can be held against it."""
    bare = type_
    for around in ("LowCardinality(", "Nullable("):
        if bare.startswith(around):
            bare = bare[len(around) : -1]
    if match := re.fullmatch(r"(?:Decimal|numeric)\((\d+), ?(\d+)\)", bare):
        return Column("decimal", int(match[2]))
    if bare == "numeric":
        return Column("decimal")
    if re.fullmatch(r"U?Int\d+|smallint|integer|bigint", bare):
        return Column("int")
    if bare in ("Float32", "real"):
        return Column("float", single=True)
    if bare in ("Float64", "double precision"):
        return Column("float")
    if bare.startswith(("DateTime", "timestamp")):
        return Column("time")
    if bare in ("UUID", "uuid"):
        return Column("uuid")
    if bare in ("Bool", "boolean"):
        return Column("bool")
    if bare.startswith(("Enum", "FixedString", "character varying", "character(")) or bare in ("String", "text"):
        return Column("text")
    return None


def unreadable(message: Message) -> str | None:
    """Why a message is no JSON object, in words; None: it is one."""
    if not message.value:
        return "without a value: deletes"
    if message.value[:1] == b"\0" and len(message.value) > SCHEMA_BYTES:
        return "Avro or Protobuf with a registry (its first byte is 0)"
    try:
        body = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        return "no JSON"
    return None if isinstance(body, dict) else f"JSON, and no object ({type(body).__name__})"


def event(message: Message) -> Mapping[str, Any] | None:
    """The change event of Debezium's that a message is; None: it is none."""
    try:
        told = EVENTS.decode(message.value or b"null")
    except (ValueError, Malformed):
        return None
    of_debezium = isinstance(told, dict) and isinstance(told.get("source"), dict) and "op" in told
    return told if of_debezium and told.keys() & {"before", "after"} else None


def leaves(message: Message, form: Format = PLAIN) -> dict[str, Any]:
    """Path -> value, of all that is no table and no list, and JSON in texts opened; of the key and the headers too."""
    body = form.decode(message.value or b"{}")
    found = dict(_walk(form.row(body) if form.row else body, "", 0))
    if message.key:
        key = _key(message.key, form)
        found |= dict(_walk(key, "$key", 0)) if isinstance(key, dict) else {"$key": key}
    for name, value in message.headers[:20]:
        if value is not None and _plain(name):
            found[f"$headers.{name}"] = value.decode(errors="replace")
    return dict(list(found.items())[:LEAVES_MAX])


def places(message: Message) -> dict[str, Any]:
    """What a message has beside its content, by the paths of docs/records.md."""
    return {"$topic": message.topic, "$partition": message.partition, "$offset": message.offset}


def unit(values: Sequence[Any]) -> str | None:
    """How these values of one path say a time: "s", "ms", "us"; "" for ISO; None: not at all."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if all(isinstance(value, str) and _iso(value) is not None for value in there):
        return ""
    for name, each_us in UNITS_US.items():
        numbers = [_number(value) for value in there]
        if all(n is not None and SECONDS[0] <= n * each_us / 1_000_000 < SECONDS[1] for n in numbers):
            return name
    return None


def of_message(kind: str, value: Any, time_unit: str | None) -> Hashable | None:
    """A message's value in the form in which a column of this kind has it; None: it can't be one."""
    if value is None:
        return None
    if kind == "time":
        return _time(value, time_unit)
    if kind == "bool" and (isinstance(value, bool) or value in (0, 1)):
        return bool(value)
    if kind == "int" and isinstance(value, bool):
        return int(value)
    if isinstance(value, bool):
        return None
    if kind == "int":
        return int(value) if isinstance(value, int) or (isinstance(value, str) and INT.fullmatch(value)) else None
    if kind == "decimal":
        return _decimal(str(value)) if isinstance(value, int | float) or DECIMAL.fullmatch(value) else None
    if kind == "float":
        return float(value) if isinstance(value, int | float) or FLOAT.fullmatch(value) else None
    if kind == "uuid":
        return value.replace("-", "").lower() if isinstance(value, str) and UUID.fullmatch(value) else None
    return str(value) if isinstance(value, str | int) else None


def of_row(kind: str, text: str | None) -> Hashable | None:
    """The same of a row's."""
    if text is None:
        return None
    if kind in ("int", "time"):
        return int(text)
    if kind == "decimal":
        return _decimal(text)
    if kind == "float":
        return float(text)
    if kind == "bool":
        return text in ("true", "t", "1")
    return text.replace("-", "").lower() if kind == "uuid" else text


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    opened = _opened(value) if isinstance(value, str) else value
    if isinstance(opened, dict) and depth < DEPTH_MAX:
        for key, inner in opened.items():
            if isinstance(key, str) and _plain(key):
                yield from _walk(inner, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(opened, datetime):
        yield path, opened.isoformat()
    elif opened is None or isinstance(opened, str | int | float):
        yield path, value


def _key(raw: bytes, form: Format) -> Any:
    """A table, or a text."""
    try:
        told = form.key(raw)
    except (ValueError, Malformed):
        told = None
    return told if isinstance(told, dict) else raw.decode(errors="replace")


def _plain(key: str) -> bool:
    """Whether a path can name it."""
    return bool(key) and "." not in key and " as " not in key and not key.startswith(("$", "'"))


def _opened(text: str) -> Any:
    """The object that a text holds as JSON; else the text."""
    if text[:1] != "{":
        return text
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return found if isinstance(found, Mapping) else text


def _number(value: Any) -> Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _decimal(repr(value))
    return _decimal(value) if isinstance(value, str) and NUMBER.fullmatch(value) else None


def _decimal(text: str) -> Decimal | None:
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    return found.normalize() if found.is_finite() else None


def _iso(text: str) -> int | None:
    try:
        return int(str(Type("time").canonical(text)))
    except Malformed:
        return None


def _time(value: Any, time_unit: str | None) -> int | None:
    if time_unit is None:
        return None
    if not time_unit:
        return _iso(value)
    number = _number(value)
    if number is None:
        return None
    us = number * UNITS_US[time_unit]
    return int(us) if us == int(us) else None
