"""The same words for a table in Postgres: SQL that gives each as eight bytes, and what comes by COPY … (FORMAT BINARY)
as numpy's columns. The hash itself is numpy's: in SQL it would take a hundred times as long.

numpy is imported by what computes with it: who only needs the SQL does without.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gameday.records.types import (
    INT64_MAX,
    INT64_MIN,
    NULL,
    UNITS_US,
    Canonical,
    Malformed,
    Type,
    decimal,
    word_of_bytes,
)

if TYPE_CHECKING:
    import numpy as np

    from gameday.records.hashing import U64

__all__ = ["END", "INTS", "Form", "Part", "Unfit", "canonical", "form", "mixed", "read"]

NULL_INT = NULL - (1 << 64)
NULL_UUID = (NULL.to_bytes(8, "little") * 2).hex()
NULL_MD5 = NULL_UUID
"""Of an md5 the first half of the digits counts."""
EPOCH_US = 946_684_800_000_000
"""Where Postgres' own time begins."""

HEADER = 19
"""Bytes before the first row: a signature, flags, and an extension that no server sends."""

END = b"\xff\xff"
"""In place of a row's number of fields, after the last."""

INTS = ("int2", "int4", "int8")
TEXTS = ("text", "varchar", "bpchar", "name")
INT = "^-?[0-9]{1,38}$"
PLAIN = r"^-?([0-9]{1,60}\.?[0-9]{0,60}|\.[0-9]{1,60})$"
UUID = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"


class Unfit(ValueError):
    """A column's type that can't hold this type's values; the message says what would."""


@dataclass(frozen=True)
class Part:
    """One column of the answer. size: bytes, 0 for any number. kind: int, md5, time, uuid, json. value: SQL of the
    canonical value, see `canonical`; NULL also for one that doesn't fit."""

    sql: str
    kind: str
    value: str = ""

    @property
    def size(self) -> int:
        return {"uuid": 16, "md5": 32, "json": 0}.get(self.kind, 8)

    @property
    def words(self) -> int:
        return 2 if self.kind == "uuid" else 1


@dataclass(frozen=True)
class Form:
    """One field of a table. fits: SQL of whether the row's value fits its type; None: any does."""

    part: Part
    fits: str | None = None


def form(kind: Type, sql: str, column: str) -> Form:
    """How a column shows this type. Args: sql: its expression; column: the name of the type that this has.

    Raises Unfit when values would have to be rounded or guessed.
    """
    x = f"({sql})"
    made: Form | None = globals()[f"_{kind.name}"](kind, x, column)
    if made is None:
        raise Unfit(f"{sql} is {column}, which is not read as {kind}. Remedy: {_remedy(kind, column)}")
    if made.fits is None:
        return made
    if column in ("numeric", "timestamp", "timestamptz", "date"):  # there it is NULL only where the value is
        return Form(made.part, f"(({made.fits}) IS NOT FALSE)")
    return Form(made.part, f"({x} IS NULL OR COALESCE({made.fits}, false))")


def mixed(columns: Sequence[tuple[Type, str, str]]) -> str | None:
    """SQL of a hash of 64 bits over a row's values, by the server's own functions: of (type, expression, name of the
    type that this has). Rows that have the same have the same canonical values, where these are the same types; the
    reverse doesn't hold. None for a type without a hash that says so.

    Each value's hash is the seed of the next one's. `hash_record_extended` adds up what its columns have: in a sum over
    many rows, two that have swapped a value would not show. Nothing depends on a collation, or on how many blanks or
    zeros a value ends with.
    """
    hashed = "0::int8"
    for kind, sql, column in columns:
        made = _hash("float8" if kind.name == "float" else column, f"({sql})", hashed)
        if made is None:
            return None
        hashed = made
    return hashed


def _hash(column: str, x: str, seed: str) -> str | None:
    """One step of `mixed`. A server folds a number of eight bytes into four before it hashes it, so it enters twice."""
    if column in (*INTS, "bool", "date"):
        days = f"CASE WHEN isfinite({x}) THEN {x} - '2000-01-01'::date END"
        number = f"COALESCE(({ {'bool': f'{x}::int', 'date': days}.get(column, x) })::int8, {NULL_INT})"
        return f"hashint8extended({number} >> 32, hashint8extended({number}, {seed}))"
    if column == "numeric":
        return f"hash_numeric_extended(COALESCE({x}, {NULL_INT}), {seed})"
    if column in ("float4", "float8"):
        return f"hashfloat8extended(COALESCE({x}::float8, {NULL_INT}), {seed})"
    if column == "uuid":
        return f"uuid_hash_extended(COALESCE({x}, '{NULL_UUID}'), {seed})"
    if column in ("timestamp", "timestamptz"):
        text = f"encode({column}_send(COALESCE({x}, '-infinity')), 'hex')"  # faster than what gives its number
        return f'hashtextextended({text} COLLATE "C", {seed})'
    if column in (*TEXTS, "bytea", "json", "jsonb") or column.startswith("enum"):
        text = f"encode({x}, 'hex')" if column == "bytea" else f"{x}::text"
        return f"hashtextextended(COALESCE({text}, '{NULL_MD5}') COLLATE \"C\", {seed})"
    return None


def canonical(kind: Type, text: str | None) -> Canonical:
    """The canonical value that Part.value shows as this text."""
    if text is None:
        return None
    if kind.whole:
        return int(text)
    if kind.name in ("uuid", "bytes"):
        return bytes.fromhex(text.replace("-", ""))
    return kind.canonical(text) if kind.name == "json" else text


def read(chunks: Iterable[bytes | bytearray | memoryview], parts: Sequence[Part]) -> Iterator[list[U64]]:
    """The words of the rows that a COPY in binary gives, in pieces: one array a word, in the order of the parts.

    A json part comes last. Raises Malformed for a row of another shape, or without the copy's end.
    """
    import numpy as np

    fixed = [part for part in parts if part.size]
    layout = [("fields", ">i2")]
    for number, part in enumerate(fixed):
        layout += [(f"size{number}", ">i4"), (f"part{number}", ">i8" if part.size == 8 else f"V{part.size}")]
    shape = np.dtype(layout)
    rest, begun = b"", False
    texts: list[U64] = []
    for chunk in chunks:
        rest += chunk
        if not begun:
            if len(rest) < HEADER:
                continue
            rest, begun = rest[HEADER:], True
        if len(fixed) == len(parts):
            rows = len(rest) // shape.itemsize
            raw, rest = np.frombuffer(rest, shape, rows), rest[rows * shape.itemsize :]
        else:
            raw, texts, rest = _varying(rest, shape, len(parts) - len(fixed))
        if not len(raw):
            continue
        if not all((raw[f"size{n}"] == part.size).all() for n, part in enumerate(fixed)):
            raise Malformed("a row of the copy has another shape than was asked for")
        found = [word for n, part in enumerate(fixed) for word in _words(part, raw[f"part{n}"])]
        yield [*found, *texts]
    if rest != END:
        raise Malformed("the copy ended in the middle of a row")


def _varying(rest: bytes, shape: np.dtype, more: int) -> tuple[np.ndarray, list[U64], bytes]:
    """Rows that end with texts of any length."""
    import numpy as np

    kind, size, place = Type("json"), shape.itemsize, 0
    heads: list[bytes] = []
    found: list[list[int]] = [[] for _ in range(more)]
    while place + size <= len(rest) and rest[place : place + 2] != END:
        end, row = place + size, []
        for _ in range(more):
            if end + 4 > len(rest):
                break
            (length,) = struct.unpack_from(">i", rest, end)
            end += 4
            if length >= 0 and end + length > len(rest):
                break
            value = rest[end : end + length].decode() if length >= 0 else None
            row.append(NULL if value is None else word_of_bytes(kind.canonical(value)))  # type: ignore[arg-type]
            end += max(0, length)
        if len(row) < more:
            break
        heads.append(rest[place : place + size])
        for column, word in zip(found, row, strict=True):
            column.append(word)
        place = end
    arrays = [np.array(column, dtype=np.uint64) for column in found]
    return np.frombuffer(b"".join(heads), shape), arrays, rest[place:]


def _words(part: Part, raw: np.ndarray) -> list[U64]:
    import numpy as np

    if part.kind == "uuid":
        pairs = np.frombuffer(raw.tobytes(), "<u8").reshape(-1, 2)
        return [pairs[:, 0].astype(np.uint64), pairs[:, 1].astype(np.uint64)]
    if part.kind == "md5":
        digits = np.frombuffer(raw.tobytes(), "S16").reshape(-1, 2)[:, 0].tobytes()
        return [np.frombuffer(bytes.fromhex(digits.decode()), "<u8").astype(np.uint64)]
    numbers = raw.astype(np.int64)
    if part.kind == "time":
        numbers = np.where(numbers == INT64_MIN, NULL_INT, numbers + EPOCH_US)
    return [numbers.view(np.uint64)]


def _remedy(kind: Type, column: str) -> str:
    if column in ("float4", "float8"):
        return f"float({6 if column == 'float4' else 15}) as its type, if a rounded number is what the stream has"
    wanted = {"float": "float8", "time": "timestamptz", "text": "text", "bytes": "bytea", "json": "jsonb"}
    return f"(…)::{wanted.get(kind.name, 'numeric')} in its SQL"


def _number(x: str) -> Part:
    return Part(f"COALESCE({x}, {NULL_INT})::int8", "int", f"({x})::int8")


def _int(kind: Type, x: str, column: str) -> Form | None:
    if column in INTS:
        return Form(_number(x))
    if column in TEXTS:
        return _whole(f"CASE WHEN {x} ~ '{INT}' THEN {x}::numeric END")
    return _whole(x) if column == "numeric" else None


def _decimal(kind: Type, x: str, column: str) -> Form | None:
    return _scaled(x, column, kind.places)


def _scaled(x: str, column: str, places: int) -> Form | None:
    if column in TEXTS:
        x = f"CASE WHEN {x} ~ '{PLAIN}' THEN {x}::numeric END"
    elif column not in (*INTS, "numeric"):
        return None
    return _whole(f"({x})::numeric", places)


def _whole(x: str, places: int = 0) -> Form:
    """A numeric that times 10^places must be a whole number of 64 bits. Most have no more places; of others the last
    must be zeros."""
    lowest, highest = decimal(INT64_MIN, places), decimal(INT64_MAX, places)
    fits = f"(scale({x}) <= {places} OR trunc({x}, {places}) = ({x})) AND ({x}) BETWEEN {lowest} AND {highest}"
    scaled = f"({x} * {10**places}::numeric)" if places else f"({x})"
    return Form(_number(f"CASE WHEN {fits} THEN {scaled}::int8 END"), fits)


def _float(kind: Type, x: str, column: str) -> Form | None:
    if column not in ("float4", "float8", "numeric", *INTS):
        return None
    x = f"({x})::float8"
    shape = "9" + ("." + "9" * (kind.digits - 1) if kind.digits > 1 else "") + "EEEE"
    named = f"WHEN {x} = 'NaN' THEN 'nan' WHEN {x} = 'Infinity' THEN 'inf' WHEN {x} = '-Infinity' THEN '-inf'"
    zero = f"WHEN {x} = 0 THEN '{0.0:.{kind.digits - 1}e}'"  # -0.0 too
    text = f"CASE {named} {zero} ELSE ltrim(to_char({x}, '{shape}')) END"
    return Form(_md5(text, text))


def _text(kind: Type, x: str, column: str) -> Form | None:
    if column not in TEXTS and not column.startswith("enum"):
        return None
    # a text as it is sent: the connection's encoding is UTF-8, and md5 of the text would be that of the database's
    return Form(_md5(f"textsend({x}::text)", f"{x}::text"))


def _bytes(kind: Type, x: str, column: str) -> Form | None:
    return Form(_md5(x, f"encode({x}, 'hex')")) if column == "bytea" else None


def _json(kind: Type, x: str, column: str) -> Form | None:
    return Form(Part(f"{x}::text", "json", f"{x}::text")) if column in ("json", "jsonb") else None


def _uuid(kind: Type, x: str, column: str) -> Form | None:
    if column == "uuid":
        return Form(_wide(x))
    if column in TEXTS:
        fits = f"{x} ~ '{UUID}'"
        return Form(_wide(f"CASE WHEN {fits} THEN replace({x}, '-', '')::uuid END"), fits)
    return None


def _wide(x: str) -> Part:
    return Part(f"COALESCE({x}, '{NULL_UUID}')", "uuid", x)


def _bool(kind: Type, x: str, column: str) -> Form | None:
    if column == "bool":
        return Form(_number(f"{x}::int"))
    if column in (*INTS, "numeric"):
        return Form(_number(f"CASE {x} WHEN 1 THEN 1 WHEN 0 THEN 0 END"), f"{x} IN (0, 1)")
    if column in TEXTS:
        right, wrong = "('true', 't', '1')", "('false', 'f', '0')"
        one = f"CASE WHEN lower({x}) IN {right} THEN 1 WHEN lower({x}) IN {wrong} THEN 0 END"
        return Form(_number(one), f"({one}) IS NOT NULL")
    return None


def _time(kind: Type, x: str, column: str) -> Form | None:
    if column in ("timestamp", "timestamptz"):
        value = f"(extract(epoch FROM CASE WHEN isfinite({x}) THEN {x} END) * 1000000)::int8"
        return Form(Part(f"COALESCE({x}, '-infinity')", "time", value), f"isfinite({x})")
    if column == "date":
        known = f"{x} BETWEEN '0001-01-01' AND '9999-12-31'"
        return Form(_number(f"CASE WHEN {known} THEN ({x} - '1970-01-01'::date) * 86400000000 END"), known)
    return _scaled(x, column, len(str(UNITS_US[kind.unit])) - 1) if kind.unit else None


def _md5(x: str, value: str) -> Part:
    return Part(f"COALESCE(md5({x}), '{NULL_MD5}')", "md5", value)
