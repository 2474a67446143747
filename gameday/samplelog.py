"""The sampler's files, one a probe: how lines are written, and how they are read, also while the file still grows.

First line {"series": prefix}, then one line a reading: [at_ns, took_ns, {suffix: value}], or null in place of the
values when there was no answer within the deadline. Lines come in the order in which readings ended, not in which they
were sent.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Mapping
from math import isfinite

from gameday.model import Sample

__all__ = ["Parser", "opening", "reading", "sent", "series_name"]

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


def series_name(prefix: str, suffix: str) -> str:
    """The name of one series of a probe: "" is the probe itself, ".connects" is appended, anything else after a "/"."""
    return prefix + suffix if not suffix or suffix.startswith(".") else f"{prefix}/{suffix}"


def sent(sample: Sample) -> int:
    """By what samples are in order."""
    return sample.at_ns


class Parser:
    """One file's bytes, fed as they come.

    series: name -> its samples so far, in the order sent. A series begins with the first answer that has it; from then
    on a reading that failed, and an answer that leaves it out, is a sample without value. What failed before the
    probe's first answer counts in every series of that answer; until then it is in the bare prefix. A line not yet
    ended is kept for the next feed, so one torn by a crash is never seen.
    """

    def __init__(self) -> None:
        self.prefix: str | None = None
        self.readings = 0
        self.series: dict[str, list[Sample]] = {}
        self._names: dict[str, str] = {}
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take in all lines that end in `data`. Raises ValueError, TypeError or KeyError on a line that is none."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            record = json.loads(line)
            if self.prefix is None:
                self.prefix = str(record["series"])
            else:
                self._take(self.prefix, *record)

    def _take(self, prefix: str, at_ns: int, took_ns: int, values: Mapping[str, float] | None) -> None:
        self.readings += 1
        before = [] if self._names else self.series.get(prefix, [])
        if values and not self._names:
            self.series.pop(prefix, None)
        for suffix in values or ():
            if suffix not in self._names:
                name = self._names[suffix] = series_name(prefix, suffix)
                self.series[name] = list(before)
        for suffix, name in (self._names or {"": prefix}).items():
            samples = self.series.setdefault(name, [])
            sample = Sample(at_ns, took_ns, values.get(suffix) if values else None)
            if samples and at_ns < samples[-1].at_ns:  # lines come in the order in which readings ended
                bisect.insort(samples, sample, key=sent)
            else:
                samples.append(sample)
