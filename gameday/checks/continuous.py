"""Did ingestion never pause for longer than the platform promises?"""

from gameday.machine import since_act
from gameday.model import Evidence, Finding, Verdict

__all__ = ["INGEST_GAP_MAX_S", "continuous"]

INGEST_GAP_MAX_S = 30.0
"""The platform's promise for the time between two consecutive rows of a topic in bronze."""


def continuous(evidence: Evidence) -> Finding:
    """Compares the largest gap in ingestion time of each topic (symptom ingest_gap_s) with the promise."""
    told = evidence.by_hop("ingest_gap_s").items()
    gaps = {t if len(told) == 1 else f"{t} at {hop}": gap_s for hop, each in told for t, gap_s in each.items()}
    if not gaps:
        return Finding("continuous", Verdict.UNKNOWN, "there is nothing to judge: no hop tells its ingestion times")
    worst = max(gaps, key=lambda topic: float(gaps[topic]))
    verdict = Verdict.PASS if gaps[worst] <= INGEST_GAP_MAX_S else Verdict.FAIL
    why = f"the largest gap in ingestion is {gaps[worst]:.1f} s of {INGEST_GAP_MAX_S:g} s ({worst})"
    return Finding("continuous", verdict, why, gaps, since_act(evidence, over_s=gaps[worst] - INGEST_GAP_MAX_S))
