"""Does the log hold each group's records, inside each of its partitions, in the order of their ids or versions?"""

from gameday.model import Evidence, Finding, Verdict
from gameday.verdict.checks._damage import label

__all__ = ["order"]


def order(evidence: Evidence) -> Finding:
    """Fail if, in a hop that keeps an order, an id is first seen after a higher id, or a version of a key after a
    higher version (symptom versions_back). Repeats don't count.
    """
    versions = evidence.by_hop("versions_back")
    for hop, tally_back in versions.items():
        if tally_back["count"]:
            named = ", ".join(
                f"{one['key']} has version {one['version']} after {one['after']} at {one['at']}"
                for one in tally_back["first"]
            )
            why = f"{hop} has {tally_back['count']} versions that go back: {named}"
            return Finding("order", Verdict.FAIL, why, {"hop": hop, **tally_back})
    judged = [
        (d.hop, g, t.back, t.keys)
        for d in evidence.digests
        for g, t in d.groups.items()
        if t.back is not None and t.rows
    ]
    changes = sum(tally_back["changes"] for tally_back in versions.values())
    if not judged and changes:
        why = f"{', '.join(versions)}: no version of a key goes back in {changes:,} changes"
        return Finding("order", Verdict.PASS, why, {"records": changes})
    if not judged:
        return Finding("order", Verdict.UNKNOWN, "there is nothing to judge: no hop's digest tells an order")
    bad = [(hop, group, back) for hop, group, back, _ in judged if back]
    if bad:
        named = ", ".join(f"{label(group)} ({back})".lstrip() for _, group, back in bad[:3])
        rest = f" and {len(bad) - 3} more groups" if len(bad) > 3 else ""
        why = f"{bad[0][0]} has {sum(b for _, _, b in bad)} records first seen after a higher id: {named}{rest}"
        figures = [{"hop": hop, "group": list(group), "back": back} for hop, group, back in bad]
        return Finding("order", Verdict.FAIL, why, figures)
    records = sum(keys for *_, keys in judged)
    hops = ", ".join(dict.fromkeys(hop for hop, *_ in judged))
    return Finding(
        "order", Verdict.PASS, f"{hops}: {records:,} ids in {len(judged)} groups ascend", {"records": records}
    )
