"""Did the log go on growing while the component was down?"""

from gameday.model import Evidence, Finding, Group, Timed, Verdict
from gameday.sampling.timings import NS, outage, quiet, series_of, watched
from gameday.verdict.streams import whole

__all__ = ["upstream_flows"]

TELLING_S = 1.0
"""In a shorter outage a quiet topic may have nothing new: that is no proof of harm."""

EXPECTED_MIN = 10.0
"""Nor in one in which no more than that should have come, by the baseline: of records that come by chance one in twenty
thousand such times has none."""


@whole
def upstream_flows(evidence: Evidence) -> Finding:
    """Per topic: the log's end (samples end/<cursor>/<topic>/<partition>, or end/<cursor>/<slot>) rose between the
    component's last answer before and its first after the outage. A topic for which the ledger had nothing new then is
    quiet, and not judged: that the ledger itself did not stop is known of one outside the platform, and of streams that
    seldom have anything."""
    down_ns, up_ns = outage(evidence)
    if down_ns is None:
        return Finding("upstream_flows", Verdict.UNKNOWN, "the component was never seen silent, so there was no outage")
    until_ns = up_ns if up_ns is not None else max(s[-1].counts_ns for s in evidence.samples.values() if s)
    rises: dict[str, float] = {}
    seen: dict[str, int] = {}
    for name, samples in evidence.samples.items():
        if not name.startswith("end/") or name.count("/") < 2:  # the latter: it never answered
            continue
        slot = name.split("/", 2)[2]
        topic = slot.rpartition("/")[0] or slot  # a replication slot is no part of a topic
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
    """The streams of which a log reads the topic; all of them, where none does."""
    return tuple(one for one in evidence.each() if topic in one.topics) or evidence.each()


def _of(evidence: Evidence, topic: str) -> tuple[Group, ...]:
    """A topic's groups: those whose first field it names (…orders.berlin); all, where it names none."""
    known = watched(evidence)
    return tuple(g for g in known if g[:1] and g[0] in topic.split(".")) or known


def _apart(evidence: Evidence, topic: str) -> bool:
    """Whether the samples tell the topic's groups from others: no shard has groups of both."""
    for one in _reading(evidence, topic):
        mine = _of(one, topic)
        others = set(watched(one)) - set(mine)
        if one.sharded and not set(one.sampled_of(mine)).isdisjoint(one.sampled_of(others)):
            return False
    return True


def _quiet(evidence: Evidence, topic: str, from_ns: int, to_ns: int) -> bool:
    """Whether the topic's streams had nothing new; where no log of a stream reads it, whether none had."""
    return all(_nothing_new(one, topic, from_ns, to_ns) for one in _reading(evidence, topic))


def _nothing_new(evidence: Evidence, topic: str, from_ns: int, to_ns: int) -> bool:
    """Whether one stream's ledger had nothing new of the topic's groups, as far as it was looked at, and could have
    had."""
    groups = _of(evidence, topic)
    mine = evidence.sampled_of(groups)
    moves = evidence.baseline.moves if evidence.baseline else {}
    seldom = moves.keys() >= set(mine) and sum(moves[g] for g in mine) * (to_ns - from_ns) / NS < EXPECTED_MIN
    if not mine or not (evidence.knows or seldom):
        return False
    if evidence.sharded and set(groups) <= set(quiet(evidence)):
        return True
    for group in mine:
        told = evidence.samples.get(series_of("head", evidence.ledger, group), ())
        heads = [s.value for s in told if s.value is not None and from_ns <= s.at_ns and s.counts_ns <= to_ns]
        if len(heads) < 2 or heads[-1] > heads[0]:
            return False
    return True
