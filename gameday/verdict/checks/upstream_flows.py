"""Did the log keep growing while the component was down?"""

from gameday.model import Evidence, Finding, Group, Timed, Verdict
from gameday.sampling.timings import NS, outage, quiet, series_of, watched
from gameday.verdict.streams import whole

__all__ = ["upstream_flows"]

TELLING_S = 1.0
"""In a shorter outage a topic may have nothing new by chance, which proves no harm."""

EXPECTED_MIN = 10.0
"""With fewer records expected than this, by the baseline, a topic may have nothing new by chance. With so many
expected, records that come at random are missing in one of twenty thousand cases."""


@whole
def upstream_flows(evidence: Evidence) -> Finding:
    """Fail if a topic's log did not grow between the component's last answer before the outage and its first after it.

    The log's end is sampled as end/<cursor>/<topic>/<partition>, or end/<cursor>/<slot>. A topic is quiet, and not
    judged, if its ledger had nothing new meanwhile. That counts only where the ledger itself can't have stopped (it is
    outside the platform), or where the stream seldom has anything.
    """
    down_ns, up_ns = outage(evidence)
    if down_ns is None:
        return Finding("upstream_flows", Verdict.UNKNOWN, "the component was never seen silent, so there was no outage")
    until_ns = up_ns if up_ns is not None else max(s[-1].counts_ns for s in evidence.samples.values() if s)
    rises: dict[str, float] = {}
    seen: dict[str, int] = {}
    for name, samples in evidence.samples.items():
        if not name.startswith("end/") or name.count("/") < 2:  # fewer parts: the cursor never answered
            continue
        slot = name.split("/", 2)[2]
        topic = slot.rpartition("/")[0] or slot  # a replication slot has no topic
        ends = [s.value for s in samples if s.value is not None and down_ns <= s.at_ns and s.counts_ns <= until_ns]
        rises[topic] = rises.get(topic, 0.0) + (ends[-1] - ends[0] if ends else 0.0)
        seen[topic] = max(seen.get(topic, 0), len(ends))
    lasted_s = (until_ns - down_ns) / NS
    if not rises or min(seen.values()) < 2:
        why = f"too few samples of the log's ends within the outage of {lasted_s:.2f} s"
        return Finding("upstream_flows", Verdict.UNKNOWN, why)
    figures = {topic: int(rise) for topic, rise in sorted(rises.items())}
    judged = [topic for topic, rise in figures.items() if rise > 0 or not _quiet(evidence, topic, down_ns, until_ns)]
    if not judged:
        why = f"there was nothing to take in {lasted_s:.2f} s of outage: every topic is quiet"
        return Finding("upstream_flows", Verdict.UNKNOWN, why, figures)
    if still := [topic for topic in judged if figures[topic] <= 0]:
        certain = lasted_s >= TELLING_S and any(_apart(evidence, topic) for topic in still)
        verdict = Verdict.FAIL if certain else Verdict.UNKNOWN
        why = f"{', '.join(still)} took nothing in {lasted_s:.2f} s of outage"
        return Finding("upstream_flows", verdict, why, figures, Timed(down_ns, until_ns))
    told = ", ".join(f"{topic} +{rise}" for topic, rise in figures.items())
    return Finding("upstream_flows", Verdict.PASS, f"in {lasted_s:.2f} s of outage: {told}", figures)


def _reading(evidence: Evidence, topic: str) -> tuple[Evidence, ...]:
    """Return the streams of which a log reads the topic; all streams if none does."""
    return tuple(one for one in evidence.each() if topic in one.topics) or evidence.each()


def _groups_of(evidence: Evidence, topic: str) -> tuple[Group, ...]:
    """Return a topic's groups: those whose first field is in its name (…orders.berlin); all groups if there is none."""
    known = watched(evidence)
    return tuple(g for g in known if g[:1] and g[0] in topic.split(".")) or known


def _apart(evidence: Evidence, topic: str) -> bool:
    """Return whether the samples separate the topic's groups from the others: no shard has groups of both."""
    for one in _reading(evidence, topic):
        own_groups = _groups_of(one, topic)
        others = set(watched(one)) - set(own_groups)
        if one.sharded and not set(one.sampled_of(own_groups)).isdisjoint(one.sampled_of(others)):
            return False
    return True


def _quiet(evidence: Evidence, topic: str, from_ns: int, to_ns: int) -> bool:
    """Return whether the topic's streams had nothing new (all streams, if no log of one reads the topic)."""
    return all(_nothing_new(one, topic, from_ns, to_ns) for one in _reading(evidence, topic))


def _nothing_new(evidence: Evidence, topic: str, from_ns: int, to_ns: int) -> bool:
    """Return whether one stream's ledger was seen to have nothing new of the topic's groups, and that can be believed:
    the ledger is outside the platform, or the groups seldom have anything."""
    groups = _groups_of(evidence, topic)
    series = evidence.sampled_of(groups)
    moves = evidence.baseline.moves if evidence.baseline else {}
    seldom = moves.keys() >= set(series) and sum(moves[g] for g in series) * (to_ns - from_ns) / NS < EXPECTED_MIN
    if not series or not (evidence.knows or seldom):
        return False
    if evidence.sharded and set(groups) <= set(quiet(evidence)):
        return True
    for group in series:
        samples = evidence.samples.get(series_of("head", evidence.ledger, group), ())
        heads = [s.value for s in samples if s.value is not None and from_ns <= s.at_ns and s.counts_ns <= to_ns]
        if len(heads) < 2 or heads[-1] > heads[0]:
            return False
    return True
