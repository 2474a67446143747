"""Rows of many groups that come in pieces and in any order -> their tallies, in bounded memory.

Distinct keys can't be told without all of them: 20 bytes a row are kept, in memory, and beyond ROWS_HELD_MAX in files
by the key's hash, of which one at a time is read back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from gameday.model import EMPTY, Tally
from gameday.records.hashing import U64
from gameday.records.tallies import add, tallied
from gameday.records.types import INT64_MAX, INT64_MIN

__all__ = ["Gathered"]

ROWS_HELD_MAX = 8_000_000
"""160 MB, and twice as much while they are sorted."""

FILES = 16
"""So many times ROWS_HELD_MAX is told apart with the same memory: ten minutes of any table."""

ROW = np.dtype([("group", "<u4"), ("key", "<u8"), ("row", "<u8")])

Rows = npt.NDArray[Any]


class Gathered:
    """The rows of one digest; its files are gone at the end of the block. Raises OSError where they find no room."""

    def __init__(self, groups: int) -> None:
        """groups: how many there are; each is told by its number."""
        self._lo = np.full(groups, INT64_MAX, dtype=np.int64)
        self._hi = np.full(groups, INT64_MIN, dtype=np.int64)
        self._pieces: list[Rows] = []
        self._rows = 0
        self._files: list[IO[bytes]] = []
        self._stack = ExitStack()

    def add(self, groups: npt.NDArray[np.integer], ids: npt.NDArray[np.int64], keys: U64, hashes: U64) -> None:
        """More rows: equally long columns. keys: of each record by its key, hashes: by all of its fields."""
        np.minimum.at(self._lo, groups, ids)
        np.maximum.at(self._hi, groups, ids)
        piece = np.empty(len(ids), dtype=ROW)
        piece["group"], piece["key"], piece["row"] = groups, keys, hashes
        self._pieces.append(piece)
        self._rows += len(piece)
        if self._rows > ROWS_HELD_MAX:
            self._put_away()

    def tallies(self) -> dict[int, Tally]:
        """Group's number -> its tally; a group without rows is absent."""
        found: dict[int, Tally] = {}
        for rows in self._told():
            for number, tally in tallied(rows["group"], rows["key"], rows["row"]).items():
                found[number] = add(found.get(number, EMPTY), tally)
        return {n: replace(tally, lo=int(self._lo[n]), hi=int(self._hi[n])) for n, tally in found.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def _told(self) -> Iterator[Rows]:
        """All rows, those of one key together."""
        if not self._files:
            yield np.concatenate([np.empty(0, dtype=ROW), *self._pieces])
            return
        self._put_away()
        for file in self._files:
            file.seek(0)
            yield np.frombuffer(file.read(), dtype=ROW)

    def _put_away(self) -> None:
        """All that is in memory, into the files."""
        if not self._files:
            self._files = [tempfile.TemporaryFile() for _ in range(FILES)]  # noqa: SIM115 - closed with the block
            for file in self._files:
                self._stack.enter_context(file)
        for piece in self._pieces:
            places = piece["key"] % np.uint64(FILES)
            for number, file in enumerate(self._files):
                file.write(piece[places == number].tobytes())
        self._pieces, self._rows = [], 0
