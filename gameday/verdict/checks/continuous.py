"""Did ingestion never pause for longer than the platform promises?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.sampling.timings import NS
from gameday.verdict.machine import since_act

__all__ = ["INGEST_GAP_MAX_S", "continuous"]

INGEST_GAP_MAX_S = 30.0
"""The platform's promise for how long a record may wait until its topic's next rows are in bronze."""


def continuous(evidence: Evidence) -> Finding:
    """Fail if a topic's records waited longer than the platform promises.

    The longest wait is symptom ingest_gap_s; a wait that still lasts at the end counts too. A topic that gets nothing
    new is quiet, and waits for nothing.
    """
    gaps_of, idle_of = evidence.by_hop("ingest_gap_s"), evidence.by_hop("ingest_idle_s")
    gaps = {
        t if len(gaps_of) == 1 else f"{t} at {hop}": max(gap_s, _waits_s(evidence, t, idle_of.get(hop, {}).get(t, 0.0)))
        for hop, each in gaps_of.items()
        for t, gap_s in each.items()
    }
    if not gaps:
        return Finding("continuous", Verdict.UNKNOWN, "there is nothing to judge: no hop tells its ingestion times")
    worst = max(gaps, key=lambda topic: float(gaps[topic]))
    verdict = Verdict.PASS if gaps[worst] <= INGEST_GAP_MAX_S else Verdict.FAIL
    why = f"the largest gap in ingestion is {gaps[worst]:.1f} s of {INGEST_GAP_MAX_S:g} s ({worst})"
    return Finding("continuous", verdict, why, gaps, since_act(evidence, over_s=gaps[worst] - INGEST_GAP_MAX_S))


def _waits_s(evidence: Evidence, topic: str, idle_s: float) -> float:
    """Return for how long, at the end, the log has had records of the topic that its consumer hasn't committed.

    Where no consumer's position is known: for how long nothing was inserted (idle_s).
    """
    if evidence.ends is None:
        return idle_s
    waits_s = []
    for cursor, log in evidence.ends.ends.items():
        for slot in (slot for slot in log if slot.rpartition("/")[0] == topic):
            position = evidence.ends.positions.get(cursor, {}).get(slot, 0)
            ends = [s for s in evidence.samples.get(f"end/{cursor}/{slot}", ()) if s.value is not None]
            beyond = next((s.at_ns for s in ends if (s.value or 0) > position), evidence.ends.at_ns)
            waits_s.append((evidence.ends.at_ns - beyond) / NS)
    return min(idle_s, max(waits_s)) if waits_s else idle_s
