"""What the messages of a log are encoded in: what paths lead into, from a message's bytes.

The libraries of Avro and Protobuf are imported by the hop that needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from pydantic import ValidationError

from gameday.errors import ConfigError
from gameday.records import debezium
from gameday.records.registry import Registry, Schemas
from gameday.records.types import Malformed

__all__ = ["FORMATS", "JSON", "KEYS", "Decode", "Format", "format_of"]

Decode: TypeAlias = Callable[[bytes], Any]
"""Raises Malformed, or orjson's error, for bytes that are none of the format; DriverError where a registry can't be
asked."""

JSON = "json"
FORMATS = (JSON, "debezium", "avro", "protobuf", "raw")

KEYS = ("format", "registry", "schema", "message")
"""What a hop, or one of its parts, says of its format."""


@dataclass(frozen=True)
class Format:
    """decode: a message's value. key: its key. raw: the value is the record itself, and no path leads into it.

    row: from what a message holds to what paths begin at; None: at the message. It gives None where there is no row.
    deletes: whether a message says that its row, which `row` gives as it was, is gone; None: no message does.
    """

    decode: Decode = orjson.loads
    key: Decode = orjson.loads
    raw: bool = False
    row: Callable[[Any], Any] | None = None
    deletes: Callable[[Any], bool] | None = None


def format_of(shape: Mapping[str, Any], at: str, mistakes: list[str]) -> Format:
    """Args: shape: the table of a hop or its part. at: its place in gameday.toml. mistakes: each that is found is
    added, with key, value and remedy."""
    name, before = str(shape.get("format") or JSON), len(mistakes)
    if name not in FORMATS:
        mistakes.append(f"{at}.format is {name!r}. Remedy: one of {', '.join(FORMATS)}")
        return Format()
    encoded = name in ("avro", "protobuf") or (name == "debezium" and _given(shape))
    schemas = _schemas(shape.get("registry"), at, mistakes)
    file = _file(shape.get("schema"), at, mistakes)
    if encoded and (schemas is None) == (file is None) and len(mistakes) == before:
        mistakes.append(
            f'{at}.format is {name!r}. Remedy: either {at}.registry = {{ url = "http://…" }}, which has the schema '
            f"of each message, or {at}.schema, the path of a file with the one of all"
        )
    if not encoded and _given(shape):
        mistakes.append(
            f"{at} has {' and '.join(_given(shape))}, for which format {name!r} has no use. Remedy: leave it out, or "
            "another format"
        )
    if shape.get("message") and name != "protobuf":
        mistakes.append(f"{at}.message is for format 'protobuf', not {name!r}. Remedy: leave it out")
    if len(mistakes) > before:
        return Format()
    if name == "raw":
        return Format(raw=True)
    decode: Decode = orjson.loads if name == JSON else debezium.Envelopes()
    key = decode
    if encoded:
        try:
            decode = _library(name, schemas, file, str(shape.get("message") or ""))
        except ConfigError as e:
            mistakes.append(f"{at}.schema is {e}")
        except ModuleNotFoundError as e:
            mistakes.append(
                f"{at}.format {name!r} needs the package {(e.name or '').partition('.')[0]!r}. Remedy: pip install "
                "'gameday[formats]'"
            )
        key = _key(decode, key) if schemas is not None else key
    if name == "debezium":
        return Format(decode, key, row=debezium.row, deletes=debezium.deletes)
    return Format(decode, key)


def _given(shape: Mapping[str, Any]) -> list[str]:
    return [key for key in ("registry", "schema") if shape.get(key)]


def _library(name: str, schemas: Schemas | None, file: Path | None, message: str) -> Decode:
    if name == "protobuf":
        from gameday.records.protobuf import Protobuf

        return Protobuf(schemas, file, message)
    from gameday.records.avro import Avro

    if name == "avro":
        return Avro(schemas, file)
    avro = Avro(schemas, file)
    return lambda raw: debezium.sent(avro(raw), raw)


def _key(encoded: Decode, other: Decode) -> Decode:
    """A key with the number of a schema is encoded like a value; JSON never begins with a zero."""
    return lambda raw: encoded(raw) if raw[:1] == b"\0" else other(raw)


def _schemas(given: Any, at: str, mistakes: list[str]) -> Schemas | None:
    if not given:
        return None
    try:
        return Schemas(Registry.model_validate(given))
    except ValidationError as e:
        for problem in e.errors(include_input=False):
            where = ".".join(map(str, ("registry", *problem["loc"])))
            mistakes.append(
                f'{at}.{where}: {problem["msg"].lower()}. Remedy: registry = {{ url = "http://host:port" }}, and ca, '
                "certificate and key where it speaks TLS"
            )
    return None


def _file(given: Any, at: str, mistakes: list[str]) -> Path | None:
    if not given:
        return None
    path = Path(str(given))
    if not path.is_absolute():
        mistakes.append(f"{at}.schema is {str(given)!r}. Remedy: an absolute path: workers run in folders of their own")
    return path


def decoded(decode: Decode, raw: bytes) -> Any:
    """What a message holds. Raises Malformed with a reason for whatever isn't of its format."""
    try:
        return decode(raw)
    except orjson.JSONDecodeError:
        raise Malformed(f"{raw[:40]!r} is no JSON") from None
