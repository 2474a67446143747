"""All values of one field at once, as an array of canonical values: what types.py says of one, many times as fast.

Only the common forms have a short way. It is taken where every value has that form and fits; else each is asked for by
itself, and so is the reason of one that doesn't fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.records.types import UNITS_US, Canonical, Malformed, Type

__all__ = ["array", "canonical"]

Array = npt.NDArray[Any]

INTS = re.compile(r"(?:-?[0-9]{1,18}\n)*", re.ASCII)
PLAIN = r"(?:-?[0-9]{{1,{whole}}}(?:\.[0-9]{{0,{places}}}0{{0,40}})?\n)*"
"""Decimals that fit 64 bits when they are scaled."""


def canonical(kind: Type, values: Sequence[Any]) -> Array | None:
    """The canonical values of a field, as JSON has them; None: one of them is malformed."""
    forms = set(map(type, values))
    if len(forms) == 1:
        short = _SHORT.get((kind.name, forms.pop()))
        found = short(kind, values) if short else None
        if found is not None:
            return found
    try:
        return array(kind, [kind.canonical(value) for value in values])
    except Malformed:
        return None


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
    joined = "\n".join(values) + "\n"
    if joined.count("\n") != len(values) or INTS.fullmatch(joined) is None:
        return None
    return np.array(list(map(int, values)), dtype=np.int64)


def _decimals(kind: Type, values: Sequence[str]) -> Array | None:
    """Plain decimals as text."""
    places = kind.places
    joined = "\n".join(values) + "\n"
    plain = re.compile(PLAIN.format(whole=18 - places, places=places), re.ASCII) if places < 18 else None
    if plain is None or joined.count("\n") != len(values) or plain.fullmatch(joined) is None:
        return None
    pad = "0" * places
    scaled = []
    for value in values:
        whole, _, fraction = value.partition(".")
        scaled.append(int(whole + (fraction + pad)[:places]))
    return np.array(scaled, dtype=np.int64)


_SHORT: Mapping[tuple[str, type], Short] = {
    ("int", int): _ints,
    ("decimal", int): _ints,
    ("time", int): _ints,
    ("text", str): _texts,
    ("int", str): _digits,
    ("decimal", str): _decimals,
}
