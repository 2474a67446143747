"""Messages of Avro, by the schema that a registry has of each or that a file has of all.

What a schema's logical types stand for is read exactly: fastavro's own readers of them round, or know no nanoseconds.
"""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import fastavro
from fastavro.read import LOGICAL_READERS
from fastavro.schema import SchemaParseException, UnknownType

from gameday.errors import ConfigError, DriverError
from gameday.records import debezium
from gameday.records.registry import Schema, Schemas, unframed
from gameday.records.types import Malformed

__all__ = ["Avro"]

KIND = "AVRO"

UNREADABLE = (EOFError, IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error)
"""What fastavro raises for bytes that are no record of a schema."""

Read: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]
"""From a value as its bytes have it, and its schema, to what it stands for."""


def _of(convert: Callable[[Any], Any]) -> Read:
    return lambda value, schema: convert(value)


OURS: Mapping[str, Read] = {
    "date": _of(debezium.NAMED["io.debezium.time.Date"]),
    "timestamp-millis": _of(debezium.NAMED["io.debezium.time.Timestamp"]),
    "timestamp-micros": _of(debezium.NAMED["io.debezium.time.MicroTimestamp"]),
    "timestamp-nanos": _of(debezium.NAMED["io.debezium.time.NanoTimestamp"]),
    "decimal": lambda value, schema: debezium.number(value, int(schema.get("scale", 0))),
    "uuid": lambda value, schema: str(uuid.UUID(bytes=value)) if isinstance(value, bytes) else value,
    **{name: _of(convert) for name, convert in debezium.NAMED.items()},
}
"""A logical type, or Debezium's name of one -> how it is read. Times of a day and durations stay numbers."""

PREFIX = "gameday."
KINDS = ("int", "long", "string", "bytes", "fixed", "record")


def _reader(read: Read) -> Callable[[Any, Any, Any], Any]:
    return lambda value, schema, _: read(value, schema)


LOGICAL_READERS.update({f"{kind}-{PREFIX}{name}": _reader(read) for name, read in OURS.items() for kind in KINDS})


@dataclass
class Avro:
    """Decodes messages. schemas: of a registry; None: a message is its record alone, with the schema of this file."""

    schemas: Schemas | None
    file: Path | None = None
    _parsed: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is not None:
            try:
                self._parsed[0] = _parsed(Schema(KIND, self.file.read_text(), ()), {})
            except (OSError, UnicodeDecodeError, *UNPARSABLE) as e:
                raise ConfigError(f"{self.file}: {e}. Remedy: an Avro schema as JSON") from e

    def __call__(self, raw: bytes) -> Any:
        """A message's record. Raises Malformed for none; DriverError where the registry can't be asked."""
        number, body = unframed(raw) if self.schemas is not None else (0, raw)
        schema = self._parsed[number] if number in self._parsed else self._of(number)
        stream = BytesIO(body)
        try:
            found = fastavro.schemaless_reader(stream, schema, None)
        except UNREADABLE as e:
            raise Malformed(f"{body[:20]!r} is no record of its schema ({type(e).__name__}: {e})") from None
        if stream.tell() != len(body):
            raise Malformed(f"{len(body) - stream.tell()} bytes are left behind the record that its schema has")
        return found

    def _of(self, number: int) -> Any:
        assert self.schemas is not None
        schema = self.schemas.of(number)
        if schema.kind != KIND:
            raise Malformed(f"its schema {number} is of {schema.kind}, not of Avro")
        try:
            found = self._parsed[number] = _parsed(schema, self.schemas.referred(schema))
        except UNPARSABLE as e:
            raise DriverError(f"schema {number} of the registry can't be read: {e}", definite=True) from e
        return found


UNPARSABLE = (SchemaParseException, UnknownType, ValueError, KeyError, TypeError)


def _parsed(schema: Schema, referred: Mapping[str, Schema]) -> Any:
    named: dict[str, Any] = {}
    for imported in referred.values():
        fastavro.parse_schema(_ours(json.loads(imported.text)), named_schemas=named)
    return fastavro.parse_schema(_ours(json.loads(schema.text)), named_schemas=named)


def _ours(schema: Any) -> Any:
    """The schema with our logical types in the place of those that have one, and without others."""
    if isinstance(schema, list):
        return [_ours(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        key: _ours(value) if key in ("type", "items", "values", "fields") else value for key, value in schema.items()
    }
    logical = str(made.pop("logicalType", "")).removeprefix("local-")
    name = schema.get("connect.name")
    if (known := name if name in debezium.NAMED else logical) in OURS:
        made["logicalType"] = f"{PREFIX}{known}"
    return made
