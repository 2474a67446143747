"""Finds the likely cause when a platform is not well, and says what to do. Each rule is a pure function of the clues;
tasks/survey.py and tasks/watch.py gather these.

Add a new rule to RULES. A rule says which clues it rests on, what to do, and which heading of a runbook has the steps.
Several rules may hold at once. Their order is the order in which to look: first what keeps records from moving, then
what is wrong with records that moved.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field

from gameday.model import Evidence, Json
from gameday.verdict.known import LAG, Trouble

__all__ = ["RULES", "Cause", "Clues", "Rule", "causes", "clues_of"]


@dataclass(frozen=True)
class Clues:
    """What was seen. errors: component, or hop that can't be asked -> what it, its probe or its connector says.
    answering: the components whose probes answer. troubles: as verdict/known.py has them. behind: consumer -> how many
    records it has to read. dropped: consumer -> how many the log deleted before it read them. repeats: log -> how often
    it had a record again. logs: the hops that are one."""

    errors: Mapping[str, str] = field(default_factory=dict)
    answering: frozenset[str] = frozenset()
    troubles: tuple[Trouble, ...] = ()
    behind: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    logs: frozenset[str] = frozenset()

    def said(self, pattern: str) -> str:
        """Who says something like it, and what; "": nobody."""
        saying = [name for name, text in self.errors.items() if re.search(pattern, text, re.IGNORECASE)]
        if not saying:
            return ""
        others = f" ({', '.join(saying[1:4])}{', …' if len(saying) > 4 else ''} too)" if saying[1:] else ""
        return f"{saying[0]} says: {self.errors[saying[0]].partition('. Remedy:')[0]}{others}"

    def of(self, kind: str) -> list[Trouble]:
        return [one for one in self.troubles if one.kind == kind]

    @property
    def lag(self) -> str:
        """Who is behind, and by how much; "": nobody is."""
        told = [f"{name} has {number:,} records to read" for name, number in self.behind.items() if number]
        return ", ".join([*told, *(f"{one.hop} is {one.detail}" for one in self.of(LAG))])


@dataclass(frozen=True)
class Rule:
    """name: in JSON. seen: what of the clues it rests on, in words; "": it does not hold. cause, step: what is likely,
    and what to do. runbooks: where the steps are, (test, heading), the first of these that the stack has."""

    name: str
    seen: Callable[[Clues], str]
    cause: str
    step: str
    runbooks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cause:
    """A rule that holds. runbook: path#heading; "": the stack has none of the rule's."""

    name: str
    cause: str
    seen: str
    step: str
    runbook: str = ""

    @property
    def text(self) -> str:
        """For people: what is likely, by what that is seen, what to do, and where the steps are."""
        where = f" ({self.runbook})" if self.runbook else ""
        return f"{self.cause}: {self.seen}. {self.step}{where}."

    @property
    def told(self) -> dict[str, Json]:
        """For programs."""
        return asdict(self)


def causes(clues: Clues, runbook: Callable[[str, str], str] = lambda test, heading: "") -> list[Cause]:
    """The rules that hold, in their order. runbook: a test and a heading -> where that is; "": it isn't there."""
    found = []
    for rule in RULES:
        if seen := rule.seen(clues):
            where = next(filter(None, (runbook(*one) for one in rule.runbooks)), "")
            found.append(Cause(rule.name, rule.cause, seen, rule.step, where))
    return found


def clues_of(evidence: Evidence) -> Clues:
    """What a run saw, for the report of one that did not pass."""
    from gameday.verdict.checks._damage import KINDS, compare

    trouble: Mapping[str, Json] = evidence.symptoms.get("trouble") or {}
    damages = [damage for one in evidence.each() for damage in compare(one)]
    troubles = [
        Trouble(kind, d.stream, d.hop, d.group, getattr(d, kind), against=d.against)
        for d in damages
        for kind in KINDS
        if getattr(d, kind)
    ]
    late = evidence.symptoms.get("not_passed") or ()
    troubles += [Trouble(LAG, "", hop, detail="behind the end of the run's window") for hop in late]
    repeats: dict[str, int] = {}
    for digest in evidence.digests:
        if digest.view == "log" and digest.stream != "offsets":
            repeats[digest.hop] = sum(tally.rows - tally.keys for tally in digest.groups.values())
    ends = evidence.ends
    behind = (
        {
            name: sum(max(0, end - ends.positions[name].get(slot, 0)) for slot, end in slots.items())
            for name, slots in ends.ends.items()
            if name in ends.positions
        }
        if ends
        else {}
    )
    return Clues(
        errors={name: str(why) for name, why in trouble.items()},
        troubles=tuple(troubles),
        behind=behind,
        repeats=repeats,
        logs=frozenset(repeats),
    )


# ---- the rules -----------------------------------------------------------------------------------------------

SLOT = r"replication slot .* does not exist|slot .* (is|was) (missing|dropped)"
WAL = (
    r"could not access file|can no longer (access|get changes from) replication slot|requested WAL segment|"
    r"slot .* (has been )?invalidated|wal_status.{0,5}lost|exceeded the maximum reserved size"
)
REFUSED = (
    r"password authentication failed|authentication (failed|failure|required)|not authori[sz]ed|access denied|"
    r"permission denied|no pg_hba\.conf entry|SASL|\b40[13]\b|WRONGPASS|NOAUTH"
)
AWAY = (
    r"connection refused|refused to connect|no answer|timed out|time-?out|unreachable|no route|reset by peer|"
    r"name or service not known|can't be reached|resolve"
)
CUT = r"offset out of range|OFFSET_OUT_OF_RANGE|_AUTO_OFFSET_RESET|log was cut|no longer has"


def _away(clues: Clues) -> str:
    return "" if clues.said(REFUSED) else clues.said(AWAY)


def _stalled(clues: Clues) -> str:
    """A log that is behind what it is made from."""
    late = [one for one in clues.of(LAG) if one.hop in clues.logs]
    if not late:
        return ""
    silent = [name for name in clues.errors if name not in clues.answering]
    who = f", and {', '.join(silent)} does not answer" if silent else ", and every component answers"
    return f"{late[0].hop} is {late[0].detail}{who}"


def _lost_from_log(clues: Clues) -> str:
    gone = [
        f"{name} has lost {number:,} records that it never read" for name, number in clues.dropped.items() if number
    ]
    return ", ".join(gone) or clues.said(CUT)


def _lagging(clues: Clues) -> str:
    """That a consumer always has a few records to read is no lag: a hop must be behind for longer than is usual."""
    return clues.lag if any(one.hop not in clues.logs for one in clues.of(LAG)) else ""


def _settled(clues: Clues, kind: str) -> list[Trouble]:
    """Damage that no lag explains: first it is waited until all have come."""
    return [] if _lagging(clues) else clues.of(kind)


def _lost(clues: Clues) -> str:
    return _where(_settled(clues, "lost"), "lacks records")


def _again_in_the_log(clues: Clues) -> str:
    again = {hop: number for hop, number in clues.repeats.items() if number}
    doubled = _where(_settled(clues, "doubled"), "has records too many")
    told = ", ".join(f"{hop} has {number:,} of them again" for hop, number in again.items())
    return f"{doubled}, and {told}" if doubled and again else ""


def _doubled(clues: Clues) -> str:
    if any(clues.repeats.values()):
        return ""
    return _where(_settled(clues, "doubled"), "has records too many")


def _changed(clues: Clues) -> str:
    return _where(clues.of("changed"), "has other values")


def _where(found: Iterable[Trouble], what: str) -> str:
    hops = list(dict.fromkeys(f"{one.hop} {what} of {one.stream}" for one in found))
    return ", ".join(hops[:3])


RULES: tuple[Rule, ...] = (
    Rule(
        "slot_missing",
        lambda clues: clues.said(SLOT),
        "The replication slot is gone",
        "What was written since then is in no log. Make the slot anew and take a snapshot, which must also remove the "
        "rows that were deleted meanwhile; a restart alone leaves a gap",
        (("connector_restart", "Escalate"),),
    ),
    Rule(
        "wal_gone",
        lambda clues: clues.said(WAL),
        "The source has removed WAL that the slot still needs",
        "Take a snapshot, as for a slot that is gone; then raise max_slot_wal_keep_size (wal_keep_size for a standby), "
        "and alert on half of it",
        (("connector_restart", "Escalate"),),
    ),
    Rule(
        "log_cut",
        _lost_from_log,
        "The log has deleted what a consumer had not read",
        "It can't catch up: take a snapshot of what it is a copy of, set its place behind that, and lengthen the log's "
        "retention beyond the longest outage",
        (("consumer_lag", "Escalate"), ("lag", "Escalate")),
    ),
    Rule(
        "credentials",
        lambda clues: clues.said(REFUSED),
        "A server refuses who asks",
        "Check user, password and rights: what was rotated, and who still has the old one. Nothing is lost while the "
        "log keeps it",
    ),
    Rule(
        "network",
        _away,
        "A server can't be reached",
        "See whether its process runs, then the way to it (link, name, port, firewall)",
        (("network_partition", "Diagnosis"), ("partition", "Diagnosis")),
    ),
    Rule(
        "task_failed",
        lambda clues: clues.said(r"is FAILED"),
        "A connector's task has failed, and Connect does not start it again",
        "Read its trace, mend the cause, then POST .../restart?includeTasks=true&onlyFailed=true",
        (("connector_restart", "Recovery"),),
    ),
    Rule(
        "capture_stalled",
        _stalled,
        "Nothing new comes into the log",
        "Look at what writes it. Do not believe a connector that says RUNNING: it says so while its source or the "
        "broker is away",
        (("connector_restart", "Diagnosis"), ("feed_handler_crash", "Diagnosis"), ("crash", "Diagnosis")),
    ),
    Rule(
        "lag",
        _lagging,
        "A consumer is behind",
        "Wait until it has caught up, and compare again: what is late is not lost. If it does not move, start it; mind "
        "the log's retention meanwhile",
        (("consumer_lag", "Recovery"), ("lag", "Recovery")),
    ),
    Rule(
        "log_repeats",
        _again_in_the_log,
        "Records came again, and were taken again",
        "A log may hold a record again after a re-send or a snapshot. Let the writer drop what it has: upsert by key, "
        "guarded by version or place; then remove the rows that are there twice",
        (("duplicates", "Recovery"),),
    ),
    Rule(
        "written_twice",
        _doubled,
        "Records were written twice, though the log has them once",
        "Two writers at once, or a batch that was tried again after its commit. Commit rows and place together, and "
        "let the place fence off a second writer; then remove the rows that are there twice",
        (("sink_crash", "Diagnosis"), ("duplicates", "Recovery")),
    ),
    Rule(
        "lost",
        _lost,
        "Records are lost between two hops, and nobody is behind",
        "Look at what reads the one and writes the other: a place committed before the rows, an error that was logged "
        "and counted as done, dead letters. Read again from before the first record that is missing",
        (("sink_crash", "Recovery"), ("consumer_lag", "Recovery"), ("crash", "Recovery")),
    ),
    Rule(
        "changed",
        _changed,
        "Values change on the way",
        "Compare the columns' types on both sides, and what a schema change added: a column that arrives as NULL, a "
        "number rounded, a time in another zone, an older version that came last",
        (("schema_evolution", "Recovery"),),
    ),
)
