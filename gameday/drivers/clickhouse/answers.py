"""Turns the rows of an answer into columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gameday.model import Columns
from gameday.records.declaration import Stream

__all__ = ["canonical", "columns", "varint"]


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a size as RowBinary writes it. Returns the size and the place after it."""
    size = shift = 0
    while True:
        byte = data[place]
        place += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, place
        shift += 7


def canonical(rows: Sequence[Sequence[Any]], stream: Stream) -> Columns:
    """Turn rows into canonical columns. A row has Form.value of each of the stream's fields, in their order."""
    from gameday.records.columns import array

    columns = list(zip(*rows, strict=True)) or [()] * len(stream.types)
    return {
        name: array(kind, [bytes.fromhex(v) if v is not None else None for v in values])
        if kind.name in ("uuid", "bytes")
        else array(kind, values)
        for (name, kind), values in zip(stream.types.items(), columns, strict=False)
    }


def columns(rows: Sequence[Sequence[Any]], texts: Sequence[str], numbers: Sequence[str]) -> Columns:
    """Turn rows into columns. A row has the values of `texts`, then those of `numbers` (int64)."""
    import numpy as np

    columns = list(zip(*rows, strict=True)) or [()] * (len(texts) + len(numbers))
    names = (*texts, *numbers)
    return {
        name: np.array(column, dtype=str if name in texts else np.int64)
        for name, column in zip(names, columns, strict=True)
    }
