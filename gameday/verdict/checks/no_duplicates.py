"""Is no record there twice where users query, and none anywhere that should not exist?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import compare, finding, judged, resting_on_time

__all__ = ["no_duplicates"]


def no_duplicates(evidence: Evidence) -> Finding:
    """Fail if a view that promises each record once repeats one, or a hop holds ids that its reference doesn't.

    Where rows change and are deleted, it also fails if a row is there that was deleted or never written, or is there
    twice. If a hop of such rows had not come to its end yet, the fail rests on time. A log may hold a record again
    after a re-send: such repeats are counted and shown, and are no fail.
    """
    damages = compare(evidence)
    found = finding("no_duplicates", evidence, "doubled", damages, "none of {records} records is there twice")
    if found.verdict is not Verdict.PASS:
        return resting_on_time(evidence, found, "doubled", damages)
    digests = {(d.stream, d.hop, d.view): d for pair in judged(evidence) for d in pair}
    if not any(d.unique for d in digests.values()) and not evidence.states:
        return Finding(found.check, Verdict.UNKNOWN, "no hop has a view that promises each record exactly once")
    repeats = {
        digest.hop: sum(t.rows - t.keys for t in digest.groups.values())
        for digest in digests.values()
        if digest.stream == evidence.stream and not digest.unique
    }
    repeats_named = ", ".join(f"{hop} {number}" for hop, number in repeats.items() if number)
    return Finding(
        found.check,
        found.verdict,
        found.why + (f" (seen again, as a log may: {repeats_named})" if repeats_named else ""),
        {"again": repeats},
    )
