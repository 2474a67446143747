"""Turns values into JSON and back. No other module writes JSON files or reads those of a run.

It reads the dataclasses of model.py by their type hints. state.py says where the files are, journal.py what a line of
the journal holds. Faults and failure tests are code, not values: encoding one raises TypeError.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import json
import math
import os
import tempfile
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from gameday import samplelog
from gameday.errors import GamedayError
from gameday.model import Evidence, Group, Json, Sample

__all__ = [
    "decode",
    "dumps",
    "encode",
    "key_of",
    "load_evidence",
    "read_json",
    "read_samples",
    "save_evidence",
    "write_json",
]

T = TypeVar("T")

EVIDENCE = "evidence.json"
SAMPLES = "samples"

NO_PARTS = "%"
"""The key of an empty tuple, the group of a stream without groups. A "%" in a part is escaped, so no part equals it."""


def encode(value: object) -> Json:
    """Return model.py's values as json.dumps takes them: dataclasses as objects, enums by lower-case name, tuples as
    lists.

    A key that is a tuple becomes its parts joined by "/"; "%" and "/" in a part are percent-escaped (west/one%2F1).
    Raises TypeError, with the path to the value, if JSON would change the value: numpy scalars, NaN, sets.
    """
    return _encode(value, "")


def decode(type_: type[T], value: Json, where: str = "") -> T:
    """Return the value of this type that `encode` turned into JSON. where: what is being read, for the error.

    A field that is absent takes its default. Raises GamedayError, naming the field, its value and what was expected.
    """
    result: T = _decode(type_, value, where or getattr(type_, "__name__", str(type_)))
    return result


def dumps(value: object) -> str:
    """Return one line of JSON with sorted keys: equal values give equal text."""
    return _text(value, separators=(",", ":"))


def write_json(path: Path, value: object) -> None:
    """Write a value so that a reader, or a crash at any moment, sees the old file or the whole new one (fsynced)."""
    text = _text(value, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        raise GamedayError(f"{path} can't be written: {e.strerror}. Remedy: check space and rights there") from e


def read_json(path: Path) -> Json:
    """Return the JSON of a file. Raises GamedayError, naming the file, when it is absent, unreadable or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise GamedayError(
            f"there is no {path}. Remedy: check the run's name; a run that never began leaves none"
        ) from e
    except OSError as e:
        raise GamedayError(f"{path} can't be read: {e.strerror}. Remedy: check its owner and mode") from e
    except ValueError as e:
        raise GamedayError(f"{path} is not JSON: {e}. Remedy: it was changed by hand; restore it or delete it") from e


def save_evidence(folder: Path, evidence: Evidence) -> None:
    """Write evidence.json into the run's folder, without the samples: they stay in the sampler's files."""
    write_json(folder / EVIDENCE, dataclasses.replace(evidence, samples={}))


def load_evidence(folder: Path) -> Evidence:
    """Return a run's Evidence as it was judged, from evidence.json and samples/ in the run's folder."""
    path = folder / EVIDENCE
    evidence = decode(Evidence, read_json(path), str(path))
    return dataclasses.replace(evidence, samples=read_samples(folder / SAMPLES))


def read_samples(folder: Path) -> dict[str, list[Sample]]:
    """Return all series in a folder of sampler files (samplelog.py), each in the order sent; {} without such a folder.

    A last line that was cut (the sampler was killed while writing) is left out. Raises GamedayError on any other broken
    line.
    """
    series: dict[str, list[Sample]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for name, samples in _parsed(path).series.items():
            known = series.setdefault(name, [])
            known += samples
            if len(known) > len(samples):
                known.sort(key=samplelog.sent)
    return series


def _parsed(path: Path) -> samplelog.Parser:
    parser = samplelog.Parser()
    try:
        parser.feed(path.read_bytes())
    except OSError as e:
        raise GamedayError(f"{path} can't be read: {e.strerror}. Remedy: check its owner and mode") from e
    except (ValueError, TypeError, KeyError) as e:
        raise GamedayError(
            f"{path} is not a file of samples: {e}. Remedy: it was changed; delete the run's folder"
        ) from e
    return parser


# ---- encoding -------------------------------------------------------------------------------------------------------


def _text(value: object, **layout: Any) -> str:
    """Return JSON that UTF-8 can encode: half a surrogate pair, which a platform may send, is escaped as in JSON."""
    text = json.dumps(encode(value), sort_keys=True, ensure_ascii=False, allow_nan=False, **layout)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _encode(value: object, at: str) -> Json:
    if isinstance(value, Enum):
        return value.name.lower()
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise TypeError(f"{at or 'value'} is {value}, which JSON can't hold")
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name), f"{at}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_encode_key(key, at): _encode(item, f"{at}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{at}[{number}]") for number, item in enumerate(value)]
    raise TypeError(
        f"{at or 'value'} is {value!r} of type {type(value).__module__}.{type(value).__name__}: not plain JSON"
    )


def key_of(group: Group) -> str:
    """Return a group as one text: its parts, joined by "/". "/" and "%" in a part are percent-encoded, so that no two
    groups have the same text.

    >>> key_of(("west", "one/1")), key_of(("west/one", "1")), key_of(())
    ('west/one%2F1', 'west%2Fone/1', '')
    """
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in group)


def _encode_key(key: object, at: str) -> str:
    if type(key) is str:
        return key
    if isinstance(key, tuple) and all(type(part) is str for part in key):
        return key_of(key) if key else NO_PARTS
    raise TypeError(f"{at or 'value'} has the key {key!r}: a key must be text, or a tuple of texts")


# ---- decoding -------------------------------------------------------------------------------------------------------


@functools.cache
def _hints(type_: type) -> Mapping[str, Any]:
    return typing.get_type_hints(type_)


def _decode(type_: Any, value: Json, at: str) -> Any:
    if type_ is Any:
        return value
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(next(a for a in args if a is not type(None)), value, at)
    if isinstance(type_, type) and dataclasses.is_dataclass(type_):
        return _decode_dataclass(type_, value, at)
    if isinstance(type_, type) and issubclass(type_, Enum):
        names = {member.name.lower(): member for member in type_}
        return names[value] if value in names else _refuse(at, value, f"one of {', '.join(names)}")
    if origin is collections.abc.Mapping:
        mapping = _expect(dict, value, at)
        return {_decode_key(args[0], key): _decode(args[1], item, f"{at}.{key}") for key, item in mapping.items()}
    if origin is tuple:
        return tuple(_decode(args[0], item, f"{at}[{n}]") for n, item in enumerate(_expect(list, value, at)))
    if origin is collections.abc.Sequence:
        return [_decode(args[0], item, f"{at}[{n}]") for n, item in enumerate(_expect(list, value, at))]
    if type_ is float:
        return float(_expect((int, float), value, at))
    if type_ in (bool, int, str):
        return _expect(type_, value, at)
    raise TypeError(f"{at}: values of type {type_} don't come from JSON")


def _decode_dataclass(type_: type, value: Json, at: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(type_)}
    found = _expect(dict, value, at)
    if unknown := set(found) - set(fields):
        _refuse(f"{at}.{min(unknown)}", found[min(unknown)], f"nothing of that name; known are {', '.join(fields)}")
    for name, field in fields.items():
        absent = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if absent and name not in found:
            _refuse(at, found, f"a value for {name}")
    hints = _hints(type_)
    return type_(**{name: _decode(hints[name], item, f"{at}.{name}") for name, item in found.items()})


def _decode_key(type_: Any, key: str) -> Any:
    if typing.get_origin(type_) is not tuple:
        return key
    return tuple(unquote(part) for part in key.split("/")) if key != NO_PARTS else ()


def _expect(types_: type | tuple[type, ...], value: Json, at: str) -> Any:
    wanted = types_ if isinstance(types_, tuple) else (types_,)
    if isinstance(value, wanted) and (not isinstance(value, bool) or bool in wanted):
        return value
    return _refuse(at, value, " or ".join(t.__name__ for t in wanted))


def _refuse(at: str, value: Json, expected: str) -> typing.NoReturn:
    text = repr(value)
    raise GamedayError(f"{at} is {text if len(text) <= 80 else text[:77] + '...'}, expected {expected}")
