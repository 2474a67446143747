"""Messages of Protobuf, by the descriptor that a registry has of each or that a file has of all."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import (
    any_pb2,
    api_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    json_format,
    message_factory,
    source_context_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from gameday.errors import ConfigError, DriverError
from gameday.records.debezium import moment
from gameday.records.registry import Schemas, unframed
from gameday.records.types import Malformed

__all__ = ["Protobuf"]

KIND = "PROTOBUF"
WELL_KNOWN = "google.protobuf."
OWN = (
    *(any_pb2, api_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2),
    *(source_context_pb2, struct_pb2, timestamp_pb2, type_pb2, wrappers_pb2),
)
"""What comes with the library, and every schema may import."""
STAMP = "google.protobuf.Timestamp"

INDEXES_MAX = 32
"""How deep a message may lie in others."""

UNPARSABLE = (TypeError, ValueError, KeyError, IndexError, DecodeError)

Plain = Callable[[Any], Any]


@dataclass
class Protobuf:
    """Decodes messages. schemas: of a registry; None: a message is its record alone, of the type `message` in the
    descriptors of this file, as protoc writes them (--descriptor_set_out, --include_imports)."""

    schemas: Schemas | None
    file: Path | None = None
    message: str = ""
    _files: dict[int, Any] = field(default_factory=dict)
    _kinds: dict[tuple[int, tuple[int, ...]], tuple[Any, Plain]] = field(default_factory=dict)
    _plain: dict[Descriptor, Plain] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is None:
            return
        try:
            pool = descriptor_pool.DescriptorPool()
            _add(pool, {one.name: one for one in FileDescriptorSet.FromString(self.file.read_bytes()).file})
            found = pool.FindMessageTypeByName(self.message)
        except (OSError, *UNPARSABLE) as e:
            raise ConfigError(
                f"{self.file}: {self.message or 'no message'}: {e}. Remedy: a file of protoc --include_imports "
                "--descriptor_set_out=FILE, and message = the full name of one of its messages"
            ) from e
        self._kinds[0, ()] = (message_factory.GetMessageClass(found), self._of_message(found))

    def __call__(self, raw: bytes) -> Any:
        """A message's fields. Raises Malformed for none; DriverError where the registry can't be asked."""
        which, body = (self._framed(raw)) if self.schemas is not None else ((0, ()), raw)
        kind, plain = self._kinds[which] if which in self._kinds else self._of(*which)
        try:
            found = kind.FromString(body)
        except DecodeError as e:
            raise Malformed(f"{body[:20]!r} is no {kind.DESCRIPTOR.full_name} ({e})") from None
        return plain(found)

    def _framed(self, raw: bytes) -> tuple[tuple[int, tuple[int, ...]], bytes]:
        """Behind the schema's number stands which of its messages it is: the place of each in the one around it."""
        number, body = unframed(raw)
        count, at = _zigzag(body, 0)
        if count == 0:  # short for the first message of the file
            return (number, (0,)), body[at:]
        if not 0 < count <= INDEXES_MAX:
            raise Malformed(f"{raw[:12]!r} doesn't say which message of its schema it is")
        places = []
        for _ in range(count):
            place, at = _zigzag(body, at)
            places.append(place)
        return (number, tuple(places)), body[at:]

    def _of(self, number: int, places: tuple[int, ...]) -> tuple[Any, Plain]:
        assert self.schemas is not None
        if number not in self._files:
            schema = self.schemas.of(number)
            if schema.kind != KIND:
                raise Malformed(f"its schema {number} is of {schema.kind}, not of Protobuf")
            try:
                files = {name: _described(name, one.text) for name, one in self.schemas.referred(schema).items()}
                own = _described(f"gameday/{number}.proto", schema.text)
                pool = descriptor_pool.DescriptorPool()
                _add(pool, {**files, own.name: own})
                self._files[number] = pool.FindFileByName(own.name)
            except UNPARSABLE as e:
                raise DriverError(
                    f"schema {number} of the registry can't be read: {e}. Remedy: a registry that gives compiled "
                    "schemas (format=serialized), with all that they import",
                    definite=True,
                ) from e
        inside = list(self._files[number].message_types_by_name.values())
        found: Any = None
        for place in places:
            if not 0 <= place < len(inside):
                raise Malformed(f"its schema {number} has no message at {list(places)}")
            found = inside[place]
            inside = list(found.nested_types)
        known = self._kinds[number, places] = (message_factory.GetMessageClass(found), self._of_message(found))
        return known

    # ---- a message as what paths lead into ------------------------------------------------------------------

    def _of_message(self, kind: Descriptor) -> Plain:
        if kind.full_name == STAMP:
            return lambda stamp: moment(stamp.seconds * 1_000_000_000 + stamp.nanos, 1_000_000_000)
        if kind.full_name.startswith(WELL_KNOWN):
            return _as_json
        if kind not in self._plain:  # a message may hold others of its own kind
            fields: list[tuple[str, bool, Plain | None]] = []
            self._plain[kind] = lambda message: _fields(message, fields)
            fields += [(f.name, f.has_presence, self._of_field(f)) for f in kind.fields]
        return self._plain[kind]

    def _of_field(self, of: FieldDescriptor) -> Plain | None:
        """None: the value is plain."""
        entry = of.message_type
        if entry is not None and entry.GetOptions().map_entry:
            value = self._of_value(entry.fields_by_name["value"])
            return lambda held: {str(key): item if value is None else value(item) for key, item in held.items()}
        one = self._of_value(of)
        if of.is_repeated:
            return list if one is None else lambda held: [one(item) for item in held]
        return one

    def _of_value(self, of: FieldDescriptor) -> Plain | None:
        if of.message_type is not None:
            return self._of_message(of.message_type)
        if of.enum_type is not None:
            names = {number: value.name for number, value in of.enum_type.values_by_number.items()}
            return lambda number: names.get(number, number)
        return None


def _fields(message: Message, fields: list[tuple[str, bool, Plain | None]]) -> dict[str, Any]:
    """By name as the schema has it. A field that can be left out and is, is absent; any other has its type's zero."""
    found = {}
    for name, optional, plain in fields:
        if not optional or message.HasField(name):
            value = getattr(message, name)
            found[name] = value if plain is None else plain(value)
    return found


def _as_json(message: Message) -> Any:
    """Wrappers, durations, structs: as Protobuf's own JSON has them."""
    try:
        return json_format.MessageToDict(message)  # what is no object there is no dict here either
    except (json_format.Error, TypeError, ValueError) as e:
        raise Malformed(f"{message.DESCRIPTOR.full_name} can't be read: {e}") from None


def _described(name: str, text: str) -> FileDescriptorProto:
    """A compiled schema, under the name by which others import it."""
    try:
        found = FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except binascii.Error:
        raise ValueError(f"{text[:40]!r} is no compiled schema") from None
    found.name = name
    return found


def _add(pool: descriptor_pool.DescriptorPool, files: Mapping[str, FileDescriptorProto]) -> None:
    """Each file behind those that it imports; Protobuf's own come from its library."""
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        one = files[name] if name in files else _own(name)
        for imported in one.dependency:
            add(imported)
        pool.Add(one)

    for name in files:
        add(name)


def _own(name: str) -> FileDescriptorProto:
    found = FileDescriptorProto()
    for module in OWN:
        if module.DESCRIPTOR.name == name:
            module.DESCRIPTOR.CopyToProto(found)
            return found
    raise ValueError(f"{name} is imported and not there")


def _zigzag(body: bytes, at: int) -> tuple[int, int]:
    """A whole number as Protobuf writes signed ones, and where it ends."""
    value = shift = 0
    for end in range(at, min(len(body), at + 10)):
        value |= (body[end] & 0x7F) << shift
        shift += 7
        if not body[end] & 0x80:
            return (value >> 1) ^ -(value & 1), end + 1
    raise Malformed(f"{body[:12]!r} doesn't say which message of its schema it is")
