"""The types of a record's fields: what fits each, and its canonical form, which is the same in every engine.

A value that doesn't fit its type is malformed: it is never rounded, cut or guessed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import orjson

__all__ = ["FORMS", "INT64_MAX", "INT64_MIN", "NULL", "Canonical", "Malformed", "Type", "parse", "word_of_bytes"]

Canonical: TypeAlias = int | str | bytes | None
"""A value in its type's canonical form; None: it is NULL, or its field is absent."""

NULL = 0xA5C31F7E92D84B61
"""The word of a value that is NULL or absent: a number like any other, drawn once."""

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)

FORMS = "int, decimal(n), float(digits), text, uuid, bool, time, time(s), time(ms), time(us), bytes, json"

SCALE_MAX = 18
"""Places of a decimal: 10^18 fits 64 bits."""

DIGITS_MAX = 17
"""A double has no more significant digits."""

UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}

YEARS = (1900, 2262)
"""What ClickHouse's DateTime64 holds to the nanosecond."""

INT = re.compile(r"-?[0-9]{1,38}", re.ASCII)
DECIMAL = re.compile(r"(-?)([0-9]{0,60})(?:\.([0-9]{0,60}))?", re.ASCII)
FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?|nan|NaN|-?inf|-?Infinity", re.ASCII)
UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}", re.ASCII)
TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]{1,6})0*)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
"""ISO 8601; a time without a zone is UTC."""

INFINITE = (math.inf, -math.inf, "inf", "-inf", "Infinity", "-Infinity")

TRUE = ("true", "t", "1")
FALSE = ("false", "f", "0")
TOLD_US_MAX = 60_000_000_000_000_000
"""Microseconds from 1970 of a time that is shown as one, not as a number."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN_MAX = 60
"""Characters of a value in a reason."""


class Malformed(ValueError):
    """A value that doesn't fit its type; the message says which and why."""


@dataclass(frozen=True)
class Type:
    """One type. name: "decimal" of decimal(8). places: of a decimal; digits: of a float. unit: of a time that comes as
    a number; "": it comes as ISO text, or as the engine's own type."""

    name: str
    places: int = 0
    digits: int = 0
    unit: str = ""

    def __str__(self) -> str:
        inside = {"decimal": str(self.places), "float": str(self.digits), "time": self.unit}.get(self.name, "")
        return f"{self.name}({inside})" if inside else self.name

    @property
    def whole(self) -> bool:
        """Whether its canonical form is an integer of 64 bits: the number times 10^places, or microseconds."""
        return self.name in ("int", "decimal", "bool", "time")

    def canonical(self, value: Any) -> Canonical:
        """The canonical form of a value as JSON has it, or as bytes. Raises Malformed."""
        if value is None:
            return None
        if isinstance(value, bytes) and self.name != "bytes":
            try:
                value = value.decode()
            except UnicodeDecodeError:
                raise self._refused(value, "is no UTF-8") from None
        found: Canonical = getattr(self, f"_{self.name}")(value)
        if self.whole and not INT64_MIN <= found <= INT64_MAX:  # type: ignore[operator]
            raise self._refused(value, "doesn't fit 64 bits")
        return found

    def shown(self, value: Canonical) -> Any:
        """A canonical value as people read it."""
        if value is None or self.name in ("int", "float", "text"):
            return value
        if isinstance(value, bytes):
            texts = {"json": bytes.decode, "uuid": lambda raw: str(uuid.UUID(bytes=raw))}
            return texts.get(self.name, bytes.hex)(value)
        if self.name == "bool":
            return bool(value)
        if self.name == "decimal":
            return decimal(int(value), self.places)
        if abs(int(value)) > TOLD_US_MAX:
            return value
        return (EPOCH + timedelta(microseconds=int(value))).isoformat().replace("+00:00", "Z")

    def _int(self, value: Any) -> int:
        if type(value) is int:
            return value
        if type(value) is str and INT.fullmatch(value):
            return int(value)
        raise self._refused(value, "is no whole number")

    def _decimal(self, value: Any) -> int:
        if type(value) is int:
            return int(value * 10**self.places)
        return self._scaled(value, self.places)

    def _scaled(self, value: Any, places: int) -> int:
        """A plain decimal times 10^places."""
        match = DECIMAL.fullmatch(value) if type(value) is str else None
        if match is None or not (match[2] or match[3]):
            why = "is a number that may have been rounded already" if type(value) is float else "is no plain decimal"
            raise self._refused(value, why)
        fraction = (match[3] or "").rstrip("0")
        if len(fraction) > places:
            raise self._refused(value, f"has more than {places} places")
        return int(match[1] + (match[2] + fraction or "0")) * int(10 ** (places - len(fraction)))

    def _float(self, value: Any) -> str:
        if type(value) not in (int, float) and not (type(value) is str and FLOAT.fullmatch(value)):
            raise self._refused(value, "is no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number) and value not in INFINITE:
            raise self._refused(value, "is beyond what a double holds")
        return "nan" if number != number else f"{number + 0.0:.{self.digits - 1}e}"

    def _text(self, value: Any) -> str:
        if type(value) is not str:
            raise self._refused(value, "is no text")
        return value

    def _uuid(self, value: Any) -> bytes:
        if type(value) is not str or not UUID.fullmatch(value):
            raise self._refused(value, "is no UUID")
        return bytes.fromhex(value.replace("-", ""))

    def _bool(self, value: Any) -> int:
        text = str(value).lower() if type(value) in (bool, int, str) else ""
        if text not in TRUE + FALSE:
            raise self._refused(value, "is neither true nor false")
        return int(text in TRUE)

    def _time(self, value: Any) -> int:
        if isinstance(value, datetime):  # a format that says what a number stands for: its unit is the format's
            return self._moment(value, value if value.tzinfo else value.replace(tzinfo=UTC))
        if self.unit:
            unit_us = UNITS_US[self.unit]
            if type(value) is int:
                return value * unit_us
            text = repr(value) if type(value) is float else value
            return self._scaled(text, len(str(unit_us)) - 1)
        match = TIME.fullmatch(value) if type(value) is str else None
        if match is None:
            raise self._refused(value, "is no ISO time with up to six digits of a second")
        day, clock, fraction, zone = match.groups()
        try:
            at = datetime.fromisoformat(f"{day}T{clock}{zone or 'Z'}")
        except ValueError:
            at = datetime.max.replace(tzinfo=UTC)
        return self._moment(value, at) + int((fraction or "").ljust(6, "0"))

    def _moment(self, value: Any, at: datetime) -> int:
        if not YEARS[0] < at.year < YEARS[1]:
            raise self._refused(value, f"is no time between {YEARS[0] + 1} and {YEARS[1] - 1}")
        return (at - EPOCH) // timedelta(microseconds=1)

    def _bytes(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise self._refused(value, "is no base64") from None

    def _json(self, value: Any) -> bytes:
        """Sorted keys, no spaces, a whole number without point or exponent. A text is JSON in a string. What JSON has
        not stands there as its own type takes it: a time as ISO text, bytes as base64."""
        try:
            document = _whole(orjson.loads(value) if isinstance(value, str) else value)
            text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_as_json)
        except (orjson.JSONDecodeError, TypeError):
            raise self._refused(value, "is no JSON") from None
        return text.encode()

    def _refused(self, value: Any, why: str) -> Malformed:
        text = repr(value)
        text = text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
        return Malformed(f"{text} {why} ({self})")


def parse(text: str) -> Type:
    """The type that a declaration names. Raises ValueError with what is known."""
    match = re.fullmatch(r"([a-z]+)(?:\(([a-z0-9]+)\))?", text)
    name, inside = (match[1], match[2]) if match else ("", None)
    number = int(inside) if inside and inside.isdigit() else -1
    if name in ("int", "text", "uuid", "bool", "time", "bytes", "json") and inside is None:
        return Type(name)
    if name == "time" and inside in UNITS_US:
        return Type(name, unit=str(inside))
    if name == "decimal" and 0 <= number <= SCALE_MAX:
        return Type(name, places=number)
    if name == "float" and 1 <= number <= DIGITS_MAX:
        return Type(name, digits=number)
    raise ValueError(
        f"{text!r} is no type. Remedy: one of {FORMS}; n up to {SCALE_MAX}, digits up to {DIGITS_MAX} "
        "(float(15) for a double, float(6) for a single)"
    )


def word_of_bytes(value: bytes) -> int:
    """The first eight bytes of its MD5, as a little-endian number."""
    return int.from_bytes(hashlib.md5(value, usedforsecurity=False).digest()[:8], "little")


def decimal(scaled: int, places: int) -> str:
    """A scaled integer as a plain decimal: (150, 2) -> "1.50"."""
    digits = f"{abs(scaled):0{places + 1}d}"
    whole, fraction = (digits[:-places], digits[-places:]) if places else (digits, "")
    return f"{'-' if scaled < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"


def _whole(value: Any) -> Any:
    """JSON in which every number that is whole is an integer: engines write 1e2, 100.0 and 100."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(Decimal(repr(value))) if isinstance(value, float) and value.is_integer() else value


def _as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(type(value).__name__)
