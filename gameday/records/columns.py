"""All values of one field at once, as an array of canonical values: what types.py says of one, many times as fast.

Only the common forms have a short way. It is taken where every value has that form and fits; else each is asked for by
itself, and so is the reason of one that doesn't fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import compress
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.records.types import UNITS_US, Canonical, Malformed, Type

__all__ = ["array", "canonical"]

Array = npt.NDArray[Any]

COMPARED = (str, bytes, datetime)
"""Of these, two that are equal have the same canonical form."""

DIGITS_MAX = 18
"""A number of so many fits 64 bits."""

NEWLINE, POINT, MINUS = b"\n.-"
POWERS = 10 ** np.arange(DIGITS_MAX + 1, dtype=np.int64)


def canonical(kind: Type, values: Sequence[Any]) -> Array | None:
    """The canonical values of a field, as JSON has them; None: one of them is malformed."""
    forms = set(map(type, values))
    if NoneType in forms:
        return _with_gaps(kind, values)
    form = forms.pop() if len(forms) == 1 else None
    short = _SHORT.get((kind.name, form)) if form else None
    found = short(kind, values) if short else None
    if found is not None:
        return found
    try:
        if form in COMPARED:  # a row's changes mostly bring its values again
            known = {value: kind.canonical(value) for value in set(values)}
            return array(kind, [known[value] for value in values])
        return array(kind, [kind.canonical(value) for value in values])
    except Malformed:
        return None


def _with_gaps(kind: Type, values: Sequence[Any]) -> Array | None:
    """The same, where some values are missing."""
    there = np.array([value is not None for value in values])
    column = np.full(len(values), None, dtype=object)
    found = canonical(kind, list(compress(values, there)))
    if found is None:
        return None
    column[there] = found.tolist() if kind.whole else found
    return column


def array(kind: Type, values: Sequence[Canonical]) -> Array:
    """Canonical values as an array: integers where none is missing, else objects."""
    if kind.whole and None not in values:
        return np.array(values, dtype=np.int64)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


Short = Callable[[Type, Sequence[Any]], Array | None]


def _ints(kind: Type, values: Sequence[int]) -> Array | None:
    """Whole numbers: themselves, scaled decimals, or a time's units."""
    try:
        found = np.array(values, dtype=np.int64)
    except OverflowError:
        return None
    if kind.name == "time" and not kind.unit:
        return None
    factor = UNITS_US[kind.unit] if kind.name == "time" else 10**kind.places
    limit = np.iinfo(np.int64).max // factor
    if len(found) and (int(found.max()) > limit or int(found.min()) < -limit):
        return None
    return found * factor


def _texts(kind: Type, values: Sequence[str]) -> Array:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _digits(kind: Type, values: Sequence[str]) -> Array | None:
    """Plain whole numbers as text."""
    return None if any("." in value for value in values) else _decimals(kind, values)


def _decimals(kind: Type, values: Sequence[str]) -> Array | None:
    """Plain decimals as text, with no more places than the type has."""
    joined = "\n".join(values) + "\n"
    if not joined.isascii():
        return None
    text = joined.encode()
    if text.translate(None, b"0123456789.-\n") or text.count(b"-") != (b"\n" + text).count(b"\n-"):
        return None
    letters = np.frombuffer(text, dtype=np.uint8)
    ends, points = np.flatnonzero(letters == NEWLINE), np.flatnonzero(letters == POINT)
    if len(ends) != len(values):
        return None
    starts = np.append(0, ends[:-1] + 1)
    whole, fraction = ends - starts - (letters[starts] == MINUS), np.zeros(len(values), dtype=np.int64)
    owners = np.searchsorted(ends, points)
    if (np.diff(owners) == 0).any():
        return None  # a value with two points
    fraction[owners] = ends[owners] - points - 1
    whole[owners] -= fraction[owners] + 1
    if (
        whole.min(initial=1) < 1
        or whole.max(initial=0) > DIGITS_MAX - kind.places
        or fraction.max(initial=0) > kind.places
    ):
        return None
    scaled: Array = np.fromstring(text.replace(b".", b""), dtype=np.int64, sep="\n")
    return scaled * POWERS[kind.places - fraction]


_SHORT: Mapping[tuple[str, type], Short] = {
    ("int", int): _ints,
    ("decimal", int): _ints,
    ("time", int): _ints,
    ("text", str): _texts,
    ("int", str): _digits,
    ("decimal", str): _decimals,
}
