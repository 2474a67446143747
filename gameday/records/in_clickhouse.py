"""The same words and hash as SQL of ClickHouse, made for the type that a column has there.

Functions over NULL give NULL, and only the last step makes the word of it: so each form is written once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gameday.records.types import INT64_MAX, INT64_MIN, NULL, UNITS_US, YEARS, Type, word_of_bytes

__all__ = ["Form", "Unfit", "form", "row_hash"]

SMALL = re.compile(r"U?Int(8|16|32)|Int64|Bool|Enum(8|16)")
"""What always fits an Int64."""
WIDE = re.compile(r"UInt64|U?Int(128|256)")
FLOATS = re.compile(r"Float(32|64)|BFloat16")
DECIMAL = re.compile(r"Decimal\((\d+), ?(\d+)\)")
TEXTS = re.compile(r"String|FixedString\(\d+\)")

INT = "^-?[0-9]{1,38}$"
PLAIN = "^-?([0-9]{1,60}\\\\.?[0-9]{0,60}|\\\\.[0-9]{1,60})$"
FLOAT = "^(-?[0-9]+(\\\\.[0-9]*)?([eE][+-]?[0-9]{1,3})?|nan|NaN|-?inf|-?Infinity)$"
UUID = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
ISO = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    "(\\\\.[0-9]{1,6}0*)?(Z|[+-][0-9]{2}:?[0-9]{2})?$"
)
"""As types.py has them, written as ClickHouse's strings."""


class Unfit(ValueError):
    """A column's type that can't hold this type's values; the message says what would."""


@dataclass(frozen=True)
class Form:
    """One field of a table. words: SQL of UInt64, never NULL. value: SQL of the canonical value: a number, a text, the
    digits of bytes in hex. fits: SQL of whether the row's value fits its type; None: any does."""

    words: tuple[str, ...]
    value: str
    fits: str | None = None


def form(kind: Type, sql: str, column: str) -> Form:
    """How a column shows this type. Args: sql: its expression; column: the type that DESCRIBE tells of that.

    Raises Unfit when values would have to be rounded or guessed.
    """
    bare = _bare(column)
    x = f"({sql})"
    made = globals()[f"_{kind.name}"](kind, x, bare)
    if made is None:
        raise Unfit(f"{sql} is {column}, which is not read as {kind}. Remedy: {_remedy(kind, bare)}")
    words, fits, *told = made
    value = told[0] if told else f"toInt64({words[0]})"
    null = "Nullable(" in column
    if fits and null:
        fits = f"ifNull(isNull{x} OR ({fits}), false)"
    none = f"toUInt64({NULL})"
    if null or fits:
        words = tuple(f"ifNull({word}, {none})" for word in words)
    if null:
        words = tuple(f"if(isNull{x}, {none}, {word})" for word in words)
    return Form(words, value, fits)


def row_hash(words: Sequence[str], before: str = "toUInt64(0)") -> str:
    """The hash of hashing.row_hash over these words; a UInt64, whose sum() wraps modulo 2^64."""
    text = before
    for word in words:
        text = f"intHash64(bitXor({text}, {word}))"
    return text


Made = tuple[tuple[str, ...], str | None] | tuple[tuple[str, ...], str | None, str]
"""Words and fits, and the value where that isn't the word as a number."""


def _bare(column: str) -> str:
    """The type inside of LowCardinality and Nullable."""
    for around in ("LowCardinality(", "Nullable("):
        if column.startswith(around):
            column = column[len(around) : -1]
    return column


def _remedy(kind: Type, bare: str) -> str:
    if FLOATS.fullmatch(bare):
        return f"float({6 if bare == 'Float32' else 15}) as its type, if a rounded number is what the stream has"
    return {
        "text": "toString(…) around it",
        "json": "fields of their own, by JSONExtract…(…), for a server can't bring JSON into one form",
        "time": "time(s), time(ms) or time(us) as its type, or SQL that gives a DateTime64",
    }.get(kind.name, "SQL that gives such a value")


def _word(x: str) -> str:
    return f"toUInt64({x})"  # negative numbers become their two's complement


def _between(x: str, low: int, high: int) -> str:
    return f"{x} BETWEEN toInt256('{low}') AND toInt256('{high}')"


def _int(kind: Type, x: str, bare: str) -> Made | None:
    if SMALL.fullmatch(bare) or bare.startswith("Enum"):
        return (_word(f"toInt64({x})"),), None
    if bare == "UInt64":
        return (x,), f"{x} <= {INT64_MAX}"
    if WIDE.fullmatch(bare):
        return (_word(x),), _between(f"toInt256({x})", INT64_MIN, INT64_MAX)
    if TEXTS.fullmatch(bare):
        text = _text_of(x, bare)
        number = f"toInt128OrNull({text})"
        return (_word(number),), f"match({text}, '{INT}') AND {_between(f'toInt256({number})', INT64_MIN, INT64_MAX)}"
    return _scaled(x, bare, 0)


def _decimal(kind: Type, x: str, bare: str) -> Made | None:
    return _scaled(x, bare, kind.places)


def _scaled(x: str, bare: str, places: int) -> Made | None:
    """A number times 10^places."""
    if TEXTS.fullmatch(bare):
        text = _text_of(x, bare)
        fraction = f"trim(TRAILING '0' FROM extract({text}, '\\\\.([0-9]*)$'))"
        digits = f"concat(extract({text}, '^-?([0-9]*)'), rightPad({fraction}, {places}, '0'))"
        digits = f"trim(LEADING '0' FROM {digits})"
        number = f"toInt128OrZero(concat(if(startsWith({text}, '-'), '-', ''), if(empty({digits}), '0', {digits})))"
        fits = f"match({text}, '{PLAIN}') AND length({fraction}) <= {places} AND length({digits}) <= 19"
        return (_word(number),), f"{fits} AND {_between(f'toInt256({number})', INT64_MIN, INT64_MAX)}"
    match = DECIMAL.fullmatch(bare)
    if match is None and not SMALL.fullmatch(bare) and not WIDE.fullmatch(bare):
        return None
    raw, scale = x, 0
    if match is not None:
        precision, scale = int(match[1]), int(match[2])
        width = next(bits for digits, bits in ((9, 32), (18, 64), (38, 128), (76, 256)) if precision <= digits)
        raw = f"reinterpret({x}, 'Int{width}')"
        if scale == places and width <= 64:
            return (_word(raw),), None
    more = places - scale
    if more >= 0:
        factor = 10**more
        low, high = -(-INT64_MIN // factor), INT64_MAX // factor
        scaled = f"toInt64({raw}) * {factor}" if factor > 1 else raw
        if SMALL.fullmatch(bare):
            return (_word(scaled),), f"{raw} BETWEEN {low} AND {high}" if factor > 1 else None
        if raw.endswith("'Int128')"):
            return (_word(scaled),), f"{raw} BETWEEN toInt128('{low}') AND toInt128('{high}')"
        return (_word(scaled),), _between(f"toInt256({raw})", low, high)
    factor = 10**-more
    big = f"toInt256({raw})"
    return (
        (_word(f"intDiv({big}, {factor})"),),
        f"{big} % {factor} = 0 AND {_between(f'intDiv({big}, {factor})', INT64_MIN, INT64_MAX)}",
    )


def _float(kind: Type, x: str, bare: str) -> Made | None:
    if TEXTS.fullmatch(bare):
        text = _text_of(x, bare)
        (word,), _, value = _of_double(kind, f"toFloat64OrNull({text})")
        finite = f"isFinite(toFloat64OrNull({text})) OR {text} IN ('nan', 'NaN') OR match({text}, 'inf|Infinity')"
        return (word,), f"match({text}, '{FLOAT}') AND ({finite})", value
    if FLOATS.fullmatch(bare) or SMALL.fullmatch(bare) or WIDE.fullmatch(bare) or DECIMAL.fullmatch(bare):
        return _of_double(kind, f"toFloat64({x})")
    return None


def _of_double(kind: Type, double: str) -> tuple[tuple[str, ...], None, str]:
    signed = f"if({double} = 0, 0., {double})"  # -0.0 is 0.0
    text = (
        f"multiIf(isNaN({double}), 'nan', isInfinite({double}), if({double} > 0, 'inf', '-inf'), "
        f"printf('%.{kind.digits - 1}e', {signed}))"
    )
    return (_md5(text),), None, text


def _text(kind: Type, x: str, bare: str) -> Made | None:
    if bare.startswith("Enum"):
        return (_of_enum(x, bare),), None, f"toString({x})"
    return ((_md5(_text_of(x, bare)),), None, _text_of(x, bare)) if TEXTS.fullmatch(bare) else None


def _of_enum(x: str, bare: str) -> str:
    """The words of the few texts that there are, known beforehand."""
    names = {int(number): name for name, number in re.findall(r"'((?:[^'\\]|\\.)*)' = (-?\d+)", bare)}
    if any("\\" in name for name in names.values()):
        return _md5(f"toString({x})")
    known = ", ".join(f"toUInt64({word_of_bytes(name.encode())})" for name in names.values())
    return f"transform(toInt16({x}), [{', '.join(map(str, names))}], [{known}], toUInt64(0))"


def _bytes(kind: Type, x: str, bare: str) -> Made | None:
    return ((_md5(x),), None, f"hex({x})") if TEXTS.fullmatch(bare) else None


def _json(kind: Type, x: str, bare: str) -> Made | None:
    return None


def _uuid(kind: Type, x: str, bare: str) -> Made | None:
    fits = None
    if bare == "UUID":
        raw = f"UUIDToNum({x})"
    elif bare == "FixedString(16)":
        raw = x
    elif TEXTS.fullmatch(bare):
        text = _text_of(x, bare)
        raw, fits = f"unhex(replaceAll({text}, '-', ''))", f"match({text}, '{UUID}')"
    else:
        return None
    return tuple(f"reinterpretAsUInt64(substring({raw}, {start}, 8))" for start in (1, 9)), fits, f"hex({raw})"


def _bool(kind: Type, x: str, bare: str) -> Made | None:
    if bare == "Bool":
        return (_word(x),), None
    if SMALL.fullmatch(bare) or WIDE.fullmatch(bare):
        return (_word(x),), f"{x} IN (0, 1)"
    if TEXTS.fullmatch(bare):
        text = f"lower({_text_of(x, bare)})"
        return (_word(f"{text} IN ('true', 't', '1')"),), f"{text} IN ('true', 't', '1', 'false', 'f', '0')"
    return None


def _time(kind: Type, x: str, bare: str) -> Made | None:
    if bare.startswith("DateTime64("):
        if int(bare[len("DateTime64(") :][0]) <= 6:
            return (_word(f"toUnixTimestamp64Micro(toDateTime64({x}, 6))"),), None
        nanos = f"toUnixTimestamp64Nano(toDateTime64({x}, 9))"
        return (_word(f"intDiv({nanos}, 1000)"),), f"{nanos} % 1000 = 0"
    if bare.startswith("DateTime"):
        return (_word(f"toInt64(toUnixTimestamp({x})) * 1000000"),), None
    if bare in ("Date", "Date32"):
        return (_word(f"toInt64(toInt32({x})) * 86400000000"),), None
    if kind.unit:
        return _scaled(x, bare, len(str(UNITS_US[kind.unit])) - 1)
    if not TEXTS.fullmatch(bare):
        return None
    text = _text_of(x, bare)
    at = f"parseDateTime64BestEffortOrNull({text}, 6, 'UTC')"
    day = f"substring({text}, 1, 10)"
    fits = (
        f"match({text}, '{ISO}') AND toUInt16OrZero(substring({text}, 1, 4)) BETWEEN {YEARS[0] + 1} AND {YEARS[1] - 1}"
        f" AND toString(toDate32OrNull({day})) = {day} AND isNotNull({at})"
    )
    return (_word(f"toUnixTimestamp64Micro({at})"),), fits


def _md5(x: str) -> str:
    return f"reinterpretAsUInt64(MD5({x}))"


def _text_of(x: str, bare: str) -> str:
    """A FixedString's text ends before its padding, and not at a zero byte of its own."""
    return f"toString({x})" if bare.startswith("FixedString") else x
