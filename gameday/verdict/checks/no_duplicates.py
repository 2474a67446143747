"""Is no record there twice where users query, and none anywhere that should not exist?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import compare, finding, judged

__all__ = ["no_duplicates"]


def no_duplicates(evidence: Evidence) -> Finding:
    """Fails when a view that promises each record once repeats one, or a hop holds ids that its reference doesn't; and
    where rows change and go, when one is there that was deleted, or never was, or twice.

    A log may hold a record again after a re-send: those are counted and shown, not failed.
    """
    found = finding("no_duplicates", evidence, "doubled", compare(evidence), "none of {records} records is there twice")
    if found.verdict is not Verdict.PASS:
        return found
    digests = {(d.stream, d.hop, d.view): d for pair in judged(evidence) for d in pair}
    if not any(d.unique for d in digests.values()) and not evidence.states:
        return Finding(found.check, Verdict.UNKNOWN, "no hop has a view that promises each record exactly once")
    again = {
        digest.hop: sum(t.rows - t.keys for t in digest.groups.values())
        for digest in digests.values()
        if digest.stream == evidence.stream and not digest.unique
    }
    told = ", ".join(f"{hop} {number}" for hop, number in again.items() if number)
    return Finding(
        found.check,
        found.verdict,
        found.why + (f" (seen again, as a log may: {told})" if told else ""),
        {"again": again},
    )
