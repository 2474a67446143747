"""Failure test 11: the source no longer has what the connector has not read; and what is asked of a log that has lost
changes for good.
"""

from gameday.faults.harm import Harm
from gameday.model import Evidence, Finding, Group, Verdict
from gameday.plan import Await, FailureTest, FiresWithin, Heal, Inject
from gameday.records.declaration import STATE
from gameday.sampling.conditions import flowing
from gameday.sampling.timings import NS, series_of
from gameday.verdict.checks import first_kept, no_duplicates, recovered, started_once, steady_clock
from gameday.verdict.checks._damage import compare, label
from gameday.verdict.streams import whole
from tasks import failure_test

ALERT_WITHIN_S = 60


@whole
def gap(evidence: Evidence) -> Finding:
    """Passes when each group lacks one row of numbers, none of them from before the first act or from after service was
    restored, all else of it is as it should be, and no row that counts is missing or changed. Nobody can have these
    changes; the alert says so, and this how many.

    A run that lost nothing shows nothing of a gap: that is unknown, and no pass.
    """
    restore = evidence.measures.get("restore")
    if evidence.inject_ns is None or restore is None or restore.high_s is None:
        return Finding("gap", Verdict.UNKNOWN, "when service was lost and restored was not measured")
    until_ns = evidence.inject_ns + int(restore.high_s * NS)
    lost: dict[str, int] = {}
    wrong: list[str] = []
    open_: list[str] = []
    for one in evidence.each():
        for damage in compare(one):
            where = f"{label(damage.group)} at {damage.hop}"
            if damage.changed or (damage.lost and damage.view == STATE):
                wrong.append(f"{where} has {damage.lost:,} rows missing and {damage.changed:,} changed")
            elif damage.lost:
                lost[where] = damage.lost
                trouble = _beyond(one, damage.hop, damage.group, damage.lost, until_ns)
                if trouble is None:
                    open_.append(f"which changes {where} lacks is not known")
                elif trouble:
                    wrong.append(f"{where} {trouble}")
    if wrong:
        return Finding("gap", Verdict.FAIL, "; ".join(wrong[:3]), lost)
    if open_:
        return Finding("gap", Verdict.UNKNOWN, "; ".join(open_[:3]), lost)
    if not lost:
        return Finding("gap", Verdict.UNKNOWN, "nothing was lost, so nothing is shown of a gap in the log")
    number = sum(lost.values())
    why = f"{number:,} changes of the outage are in no log any more, one row of numbers in each of {len(lost)} groups; "
    return Finding("gap", Verdict.PASS, f"{why}outside of it none is missing, and all rows are there", lost)


def _beyond(one: Evidence, hop: str, group: Group, lost: int, until_ns: int) -> str | None:
    """What is wrong with the numbers that a group lacks, in words; "" nothing; None: it can't be told."""
    differs = (one.symptoms.get("differences") or {}).get(f"{hop} {'/'.join(group)}", {})
    listed = differs.get("missing")
    before = _sampled(one, one.visible, group, one.inject_ns or 0, last=True)
    after = _sampled(one, one.ledger, group, until_ns, last=False)
    if not listed or listed["count"] != lost or before is None or after is None:
        return None
    if beside := {kind: n for kind in ("extra", "doubled", "changed") if (n := differs[kind]["count"])}:
        return f"has besides {', '.join(f'{number} {kind}' for kind, number in beside.items())}"
    first, last = listed["ids"][0], listed.get("last", listed["ids"][-1])
    if last - first + 1 != lost:
        return f"lacks {lost:,} changes of {first} to {last}, which is more than one gap"
    if first <= before:
        return f"lacks change {first}, and had come to {before:.0f} before the act"
    return f"lacks change {last}, which is from after the outage, that ended at {after:.0f}" if last > after else ""


def _sampled(one: Evidence, hop: str, group: Group, at_ns: int, last: bool) -> float | None:
    """A head as it was seen last before a moment, or first behind it."""
    told = [s for s in one.samples.get(series_of("head", hop, group), ()) if s.value is not None]
    before = [s.value for s in told if s.counts_ns <= at_ns]
    behind = [s.value for s in told if s.at_ns >= at_ns]
    return (before[-1] if before else None) if last else (behind[0] if behind else None)


REPAIRED = (gap, no_duplicates, first_kept, steady_clock, started_once, recovered)
"""What is asked where a part of the log is lost for good: no row that should be gone, and each change once. What is
lost or changed is left to `gap`. What a snapshot reads comes in no order of changes."""


@failure_test
def slot_lost() -> FailureTest:
    """When the connector's slot is gone, is that told, and does its repair leave neither a gap nor a ghost in the rows?

    What was written without a slot is in no log, and the history lacks it: how much is told, and it must be that and
    nothing else. The rows are right again by a snapshot, and by the sweep behind it.
    """
    return FailureTest(
        plan=(Await(flowing, within_s=30), Inject(Harm("connector", "slot-dropped")), Heal()),
        mttr_max_s=180,
        drain_max_s=180,
        checks=REPAIRED,
        alert=FiresWithin("SlotLost", ALERT_WITHIN_S),
    )
