"""The sampler's files, one a probe: how lines are written, and read while the file still grows. Whole folders are read
by codec.py.

First line {"series": prefix}, then one line a reading: [at_ns, took_ns, {suffix: value}], or null in place of the
values when there was no answer within the deadline. Lines come in the order in which readings ended, not in which they
were sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import isfinite

from gameday.codec import series_name
from gameday.model import Sample

__all__ = ["Parser", "opening", "reading"]

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
"""Made once: json.dumps makes an encoder for each line."""


def opening(prefix: str) -> bytes:
    """A file's first line."""
    return json.dumps({"series": prefix}).encode() + b"\n"


def reading(at_ns: int, took_ns: int, values: Mapping[str, float] | None) -> bytes:
    """One reading's line. Raises ValueError when a value is no finite number: JSON can't carry it."""
    if values is not None and not all(map(isfinite, values.values())):
        raise ValueError(f"a probe answered {dict(values)!r}: values must be finite")
    if values is None:
        return b"[%d,%d,null]\n" % (at_ns, took_ns)
    return b"[%d,%d,%b]\n" % (at_ns, took_ns, _ENCODE(dict(values)).encode())


class Parser:
    """One file's bytes, fed as they come, to samples by series.

    A reading that failed becomes a sample without value in every series that the probe has shown so far (in the bare
    prefix before it has shown any); so does a series that an answer leaves out. A line not yet ended is kept for the
    next feed, so one torn by a crash is never seen.
    """

    def __init__(self) -> None:
        self.prefix: str | None = None
        self.readings = 0
        self._names: dict[str, str] = {}
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, Sample]]:
        """The samples of all lines that end in `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            record = json.loads(line)
            if self.prefix is None:
                self.prefix = record["series"]
                continue
            yield from self._samples(*record)

    def _samples(self, at_ns: int, took_ns: int, values: Mapping[str, float] | None) -> Iterator[tuple[str, Sample]]:
        assert self.prefix is not None
        self.readings += 1
        for suffix in values or ():
            if suffix not in self._names:
                self._names[suffix] = series_name(self.prefix, suffix)
        for suffix, name in (self._names or {"": self.prefix}).items():
            yield name, Sample(at_ns, took_ns, values.get(suffix) if values else None)
