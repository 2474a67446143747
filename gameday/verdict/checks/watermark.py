"""Is the archive's position never ahead of the data, does it never go back, and is its mirror true?"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

from gameday import codec
from gameday.model import Commit, Evidence, Finding, Sample, Verdict
from gameday.sampling.timings import NS, fall
from gameday.verdict.machine import since_act
from gameday.verdict.streams import whole

__all__ = ["watermark"]

MIRRORED_WITHIN_S = 10.0
"""How soon the mirror must show a commit. A run writes it within milliseconds. A killed run leaves that to the next
run, which the test has waited for."""

HEAD, TABLE, MIRROR, TIME = "archive/head/", "archive/position/", "mirror/", "time_us"


@whole
def watermark(evidence: Evidence) -> Finding:
    """Fail if the archive's position or its mirror is wrong in any sample of any slot.

    The table's position must never fall. The mirror's position must never exceed what the table shows afterwards, and
    must be some commit's. At the end it must be at least the newest commit's that had time to be shown. The commits'
    rows are judged by snapshots_whole.

    A mirror that is a time must never fall, nor be later than the earliest record that the table lacks. A record of
    exactly that time, or a time that lags behind, looks like a right one.
    """
    table = {name.removeprefix(TABLE): s for name, s in evidence.samples.items() if name.startswith(TABLE)}
    mirror = {name.removeprefix(MIRROR): s for name, s in evidence.samples.items() if name.startswith(MIRROR)}
    kept = any(name.startswith("mirror") for name in evidence.samples)
    times = mirror.pop(TIME, None)
    placed = any(_answered(s) for s in table.values())
    if not (placed or times is not None):
        return Finding(
            "watermark", Verdict.UNKNOWN, "there is nothing to judge: the archive's position was not sampled"
        )
    bad = [text for slot, samples in sorted(table.items()) if (text := _fell(slot, samples))]
    bad += [text for slot in sorted(mirror) if (text := _ahead(slot, mirror[slot], table.get(slot, ())))]
    bad += [text for slot in sorted(mirror) if (text := _untrue(slot, mirror[slot], evidence))]
    late = [text for slot in sorted(mirror) if (text := _untold(slot, mirror[slot], evidence))]
    looked = 0
    if times is not None:
        looked, wrong = _times(times, evidence)
        bad += wrong
    if bad or late:
        timed = None if bad else since_act(evidence)
        return Finding("watermark", Verdict.FAIL, "; ".join([*bad, *late][:3]), [*bad, *late], timed)
    if not evidence.commits:
        trouble = (evidence.symptoms.get("trouble") or {}).get("archive") or "there is none"
        return Finding("watermark", Verdict.UNKNOWN, f"the archive's commits could not be read: {trouble}")
    newest = evidence.commits[-1]
    if kept and (mute := _mute(evidence, [*mirror.values(), *([times] if times is not None else [])])):
        return Finding("watermark", Verdict.UNKNOWN, mute)
    if times is not None and not looked:
        return Finding("watermark", Verdict.UNKNOWN, "what the table had at the mirror's times is not known")
    facts = [f"{len(table)} slots: never back"] if placed else []
    if times is not None:
        facts.append(
            f"a time, {looked} times: never back, never later than a record that the table lacked (whether it lags "
            f"behind, or leaves out records of just that time, a time can't tell)"
        )
    else:
        facts.append("and the mirror never ahead of the commits" if kept else "no mirror is kept")
    return Finding("watermark", Verdict.PASS, f"{', '.join(facts)} (newest {newest.id})", dict(newest.position))


def _times(samples: Sequence[Sample], evidence: Evidence) -> tuple[int, list[str]]:
    """Return how many of the mirror's times could be compared with the table, and what is wrong with them."""
    bad = [text] if (text := _fell("the mirror's time", samples)) else []
    due = evidence.symptoms.get("archive.next_us") or {}
    heads = {n.removeprefix(HEAD): s for n, s in evidence.samples.items() if n.startswith(HEAD)}
    looks = {group: [s for s in told if s.value is not None] for group, told in heads.items()}
    asked = {group: [s.at_ns for s in told] for group, told in looks.items()}
    looked = 0
    for sample in samples:
        after = {g: bisect.bisect_left(at, sample.counts_ns) for g, at in asked.items()}
        if sample.value is None or not after or any(n == len(asked[g]) for g, n in after.items()):
            continue
        shown = {group: int(looks[group][n].value or 0) for group, n in after.items()}
        had = next((c for c in reversed(evidence.commits) if _within(c, shown)), None)
        if had is None or had.id not in due:
            continue
        looked += 1
        if sample.value > due[had.id]:
            late_s = (sample.value - due[had.id]) / 1e6
            bad.append(f"the mirror's time was {late_s:.3f} s past a record that the table lacked (commit {had.id})")
            break
    return looked, bad


def _within(commit: Commit, shown: Mapping[str, int]) -> bool:
    """Return whether these heads of the table, by codec.key_of, have all that the commit had."""
    return all(shown.get(codec.key_of(group), 0) >= head for group, head in commit.heads.items())


def _untrue(slot: str, mirror: Sequence[Sample], evidence: Evidence) -> str | None:
    """Return how the mirror is wrong if, between the first and the newest known commit, it shows no commit's
    position."""
    positions = [int(c.position[slot]) for c in evidence.commits if slot in c.position]
    answers = [s for s in mirror if s.value is not None]
    if not positions or not answers:
        return None
    for sample in answers:
        value = int(sample.value or 0)
        if positions[0] <= value <= positions[-1] and value not in positions:
            return f"{slot}: the mirror says {value}, which is no commit's position"
    return None


def _untold(slot: str, mirror: Sequence[Sample], evidence: Evidence) -> str | None:
    """Return how the mirror is late if, at the end, it shows less than the newest commit that had time to be shown."""
    answers = [s for s in mirror if s.value is not None]
    if evidence.baseline is None or not answers:
        return None
    marks = evidence.baseline.marks
    until_us = marks.at_us + (answers[-1].counts_ns - marks.at_ns) // 1000 - int(MIRRORED_WITHIN_S * 1e6)
    due = max(
        (int(c.position[slot]) for c in evidence.commits if c.at_us <= until_us and slot in c.position), default=0
    )
    last = int(answers[-1].value or 0)
    return f"{slot}: the mirror still says {last}, the table has had {due} for long" if last < due else None


def _answered(samples: Sequence[Sample]) -> bool:
    return any(sample.value is not None for sample in samples)


def _mute(evidence: Evidence, mirror: Sequence[Sequence[Sample]]) -> str | None:
    """Return why the mirror can't be judged: it must answer at the end."""
    if not any(map(_answered, mirror)):
        return "the mirror did not answer, so nothing is known of it"
    last_ns = min(max((s.counts_ns for s in told if s.value is not None), default=0) for told in mirror)
    if evidence.ends is not None and (unseen_s := (evidence.ends.at_ns - last_ns) / NS) > MIRRORED_WITHIN_S:
        return f"the mirror did not answer in the last {unseen_s:.1f} s"
    return None


def _fell(slot: str, samples: Sequence[Sample]) -> str | None:
    fallen = fall(samples)
    return f"{slot}: the position fell from {fallen[0]:g} to {fallen[1]:g}" if fallen else None


def _ahead(slot: str, mirror: Sequence[Sample], table: Sequence[Sample]) -> str | None:
    """Return how the mirror is ahead, if it is. Each of its answers is compared with the table's first one that was
    asked for after it, which can't be older."""
    table_answers = [s for s in table if s.value is not None]
    asked = [s.at_ns for s in table_answers]
    for sample in mirror:
        if sample.value is None:
            continue
        later = bisect.bisect_left(asked, sample.counts_ns)
        if later < len(table_answers) and sample.value > (table_answers[later].value or 0):
            return f"{slot}: the mirror said {sample.value:g} while the table had {table_answers[later].value:g}"
    return None
