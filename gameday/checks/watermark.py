"""Is the position that the archive's job tells never ahead of the data, never back, and true in its mirror?"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from gameday.model import Evidence, Finding, Sample, Verdict

__all__ = ["watermark"]

MIRRORED_WITHIN_S = 10.0
"""A run tells its commit within milliseconds; a killed one leaves that to the next, which this test has awaited."""

TABLE, MIRROR = "archive/position/", "mirror/"


def watermark(evidence: Evidence) -> Finding:
    """Per slot, over all samples: the table's position never falls; the mirror's never exceeds what the table shows
    afterwards, is always a commit's, and at the end no older than the last one that had time to be told. The commits'
    rows are snapshots_whole's."""
    table = {name.removeprefix(TABLE): s for name, s in evidence.samples.items() if name.startswith(TABLE)}
    mirror = {name.removeprefix(MIRROR): s for name, s in evidence.samples.items() if name.startswith(MIRROR)}
    if not any(_told(s) for s in table.values()) or not evidence.commits:
        return Finding(
            "watermark", Verdict.UNKNOWN, "there is nothing to judge: the archive's position was not sampled"
        )
    bad = [text for slot, samples in sorted(table.items()) if (text := _fell(slot, samples))]
    bad += [text for slot in sorted(mirror) if (text := _ahead(slot, mirror[slot], table.get(slot, ())))]
    bad += [text for slot in sorted(mirror) if (text := _untrue(slot, mirror[slot], evidence))]
    newest = evidence.commits[-1]
    if bad:
        return Finding("watermark", Verdict.FAIL, "; ".join(bad[:3]), bad)
    kept = any(name.startswith("mirror") for name in evidence.samples)
    if kept and not any(_told(s) for s in mirror.values()):
        return Finding("watermark", Verdict.UNKNOWN, "the mirror did not answer, so nothing is known of it")
    beside = "and the mirror never ahead of the commits" if kept else "no mirror is kept"
    why = f"{len(table)} slots: never back, {beside} (newest {newest.id})"
    return Finding("watermark", Verdict.PASS, why, dict(newest.position))


def _untrue(slot: str, mirror: Sequence[Sample], evidence: Evidence) -> str | None:
    """What the mirror says between the first and the newest known commit must be one's position; and not an old one."""
    positions = [int(c.position[slot]) for c in evidence.commits if slot in c.position]
    told = [s for s in mirror if s.value is not None]
    if not positions or not told:
        return None
    for sample in told:
        value = int(sample.value or 0)
        if positions[0] <= value <= positions[-1] and value not in positions:
            return f"{slot}: the mirror says {value}, which is no commit's position"
    if evidence.baseline is None:
        return None
    marks = evidence.baseline.marks
    until_us = marks.at_us + (told[-1].counts_ns - marks.at_ns) // 1000 - int(MIRRORED_WITHIN_S * 1e6)
    due = max(
        (int(c.position[slot]) for c in evidence.commits if c.at_us <= until_us and slot in c.position), default=0
    )
    last = int(told[-1].value or 0)
    return f"{slot}: the mirror still says {last}, the table has had {due} for long" if last < due else None


def _told(samples: Sequence[Sample]) -> bool:
    return any(sample.value is not None for sample in samples)


def _fell(slot: str, samples: Sequence[Sample]) -> str | None:
    highest = -1.0
    for sample in samples:
        if sample.value is None:
            continue
        if sample.value < highest:
            return f"{slot}: the position fell from {highest:g} to {sample.value:g}"
        highest = sample.value
    return None


def _ahead(slot: str, mirror: Sequence[Sample], table: Sequence[Sample]) -> str | None:
    """The mirror's answer is held against the table's next one that was asked for later: it can't be older."""
    told = [s for s in table if s.value is not None]
    asked = [s.at_ns for s in told]
    for sample in mirror:
        if sample.value is None:
            continue
        later = bisect.bisect_left(asked, sample.counts_ns)
        if later < len(told) and sample.value > (told[later].value or 0):
            return f"{slot}: the mirror said {sample.value:g} while the table had {told[later].value:g}"
    return None
