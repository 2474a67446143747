"""Pure functions of positions in the log: "topic/partition" -> the next offset. Other modules store them."""

from __future__ import annotations

from collections.abc import Mapping

from clickhouse_connect.driver.binding import format_str

__all__ = ["Position", "further", "size", "step", "window"]

Position = Mapping[str, int]


def further(a: Position, b: Position) -> Position:
    """Return the further of both in each partition."""
    return {key: max(a.get(key, 0), b.get(key, 0)) for key in sorted({*a, *b})}


def size(start: Position, end: Position) -> int:
    """Count the offsets in between: at least as many as rows."""
    return sum(max(0, offset - start.get(key, 0)) for key, offset in end.items())


def step(start: Position, end: Position, offsets_max: int) -> Position:
    """Return a position in between, at most so many offsets further: each partition advances by the same share."""
    left = size(start, end)
    if left <= offsets_max:
        return further(start, end)
    share = {k: max(0, end[k] - start.get(k, 0)) * offsets_max // left for k in end}
    if not any(share.values()):  # more partitions than offsets_max
        ahead = next(k for k in sorted(end) if end[k] > start.get(k, 0))
        share[ahead] = 1
    return further(start, {k: start.get(k, 0) + n for k, n in share.items()})


def window(start: Position, end: Position) -> str:
    """Return SQL that is true for rows with start <= offset < end, over the columns topic, partition and offset."""
    ranges = []
    for key, offset in end.items():
        if offset > start.get(key, 0):
            topic, _, partition = key.rpartition("/")
            first = start.get(key, 0)
            ranges.append(
                f"(topic = {format_str(topic)} AND partition = {partition} AND offset >= {first} AND offset < {offset})"
            )
    return f"({' OR '.join(ranges)})" if ranges else "false"
