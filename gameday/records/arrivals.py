"""When records came to the log that have neither a number nor a time of their own. Every other hop has that time from
the log, by the record's key.

So such a stream is followed and judged like one whose records have a time: a window is a span of the log's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gameday.model import Columns, Group
from gameday.records.declaration import ARRIVAL, Stream
from gameday.records.hashing import U64
from gameday.records.types import INT64_MIN

__all__ = ["UNTOLD", "Came", "dated", "with_time"]

UNTOLD = INT64_MIN
"""In place of a time, of a record that is in no window."""


@dataclass(frozen=True)
class Came:
    """What a log says of its keys (Stream.whole_key_hashes). times: when each came, of those that are asked for. had:
    all keys that it is known to have had. whole: whether these are all that it ever had, so that another key is
    foreign. ends: group -> the end of the window that is asked for; {}: all that came lately is."""

    times: Mapping[int, int]
    had: Mapping[int, int]
    whole: bool
    ends: Mapping[Group, int]

    def of(self, keys: U64) -> npt.NDArray[np.int64]:
        """Of each key when it came; UNTOLD where it was not then."""
        return np.fromiter((self.times.get(key, UNTOLD) for key in keys.tolist()), np.int64, len(keys))

    def foreign(self, keys: U64) -> npt.NDArray[np.bool_]:
        """Which of these keys the log never had; none where it may have forgotten some."""
        return np.fromiter((self.whole and key not in self.had for key in keys.tolist()), np.bool_, len(keys))


def dated(stream: Stream, came: Came, columns: Columns) -> npt.NDArray[np.int64]:
    """Of each record of a later hop when it came to the log; UNTOLD for one that is in no window. One that the log
    never had stands at the window's end, so that it is told with the others of its group."""
    keys = stream.whole_key_hashes(columns)
    times = came.of(keys)
    if came.ends and (foreign := came.foreign(keys)).any():
        groups, place = stream.groups_of({**columns, ARRIVAL: times})
        ends = np.array([came.ends.get(group, UNTOLD) for group in groups], dtype=np.int64)
        times[foreign] = ends[place[foreign]]
    return times


def with_time(stream: Stream, came: Came, columns: Columns) -> dict[str, npt.NDArray[Any]]:
    """The records of which a time is known, with it."""
    times = dated(stream, came, columns)
    kept = times != UNTOLD
    return {**{name: column[kept] for name, column in columns.items()}, ARRIVAL: times[kept]}
