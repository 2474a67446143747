"""The values that gameday's modules exchange. They are frozen and serialisable, and only derive values from themselves.

Times named `*_ns` are nanoseconds of CLOCK_MONOTONIC; times named `*_us` are wall clock, microseconds since 1970, UTC.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Json: TypeAlias = Any
"""What json.dumps takes: None, bool, int, float, str, lists and string-keyed dicts of these."""

Group: TypeAlias = tuple[str, ...]
"""Names a record's group: the texts of the declared fields, or (topic, partition)."""

Position: TypeAlias = Mapping[str, int]
"""Slot -> next position. The slots of Kafka are "topic/partition", the positions offsets."""

Columns: TypeAlias = "Mapping[str, np.ndarray]"
"""Equally long numpy arrays by field, of canonical values (records/types.py)."""

Totals: TypeAlias = Mapping[Group, tuple[int, int]]
"""Shard -> (the sum of Shards.mark over its groups, the sum of their heads). The first shows whether the shard still
has the same groups."""


class Verdict(IntEnum):
    """What a check or a run says. Merging takes the highest. Skipped checks are shown, and never merged."""

    PASS = 0
    SKIPPED = 1
    UNKNOWN = 2
    INVALID = 3
    FAIL = 4

    def __str__(self) -> str:
        return self.name.lower()


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst verdict, without the skipped ones. If nothing was judged it is UNKNOWN, never a pass."""
    judged = [v for v in verdicts if v is not Verdict.SKIPPED]
    return max(judged, default=Verdict.UNKNOWN)


class Outcome(StrEnum):
    """How an attempt to write a record ended. DONE: the platform has it. REFUSED: it certainly has not. UNKNOWN: it may
    have it."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sent:
    """How one attempt ended, and why if it is not DONE."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Window:
    """The ids that a run is judged by: in each group those with lo < id <= hi."""

    lo: Mapping[Group, int]
    hi: Mapping[Group, int]


@dataclass(frozen=True)
class Tally:
    """One group's records at one hop, inside a window.

    rows: how many records.
    keys: how many distinct ids.
    lo, hi: the lowest and highest id; 0 if rows is 0.
    sum: the sum modulo 2^64 of the row hash over the distinct (id, hash) pairs.
    conflicts: how many ids were seen with more than one hash.
    back: how many ids were first seen after a higher one; None: the hop keeps no order.
    key_sum: the sum modulo 2^64 of the key hash over the distinct keys. Two tallies with as many keys and the same
        key_sum have the same keys. None: not computed.
    """

    rows: int
    keys: int
    lo: int
    hi: int
    sum: int
    conflicts: int = 0
    back: int | None = None
    key_sum: int | None = field(default=None, compare=False)


EMPTY = Tally(rows=0, keys=0, lo=0, hi=0, sum=0)
"""The tally of no records, where the hop keeps no order."""


@dataclass(frozen=True)
class Digest:
    """What one hop holds of one stream.

    The first digest of a stream is the reference for the others.

    stream: the declared stream's name, or a derived one: "offsets" (the log's positions), or one that a hop makes.
    view: "log" and "raw" may repeat a record; "final" is what users query, and promises each record exactly once.
    right: what this digest is compared with instead of the reference, where the first hop doesn't know of every record
        whether the platform took it. It has the records that were taken, and those of unknown outcome that this hop, or
        an earlier one, holds.
    """

    stream: str
    hop: str
    view: str
    groups: Mapping[Group, Tally]
    right: Mapping[Group, Tally] | None = None

    @property
    def unique(self) -> bool:
        """Whether this view promises each record exactly once."""
        return self.view == "final"


@dataclass(frozen=True)
class Delta:
    """How many keys of one group differ from what should be there.

    keys: how many keys there should be.
    lost: how many are missing.
    ghosts: how many are there though they were deleted, or never written.
    repeated: how many rows there are of a key beyond its first.
    changed: how many have another row than they should.
    moving: how many differ, but changed faster than they could be looked at.
    """

    keys: int
    lost: int = 0
    ghosts: int = 0
    repeated: int = 0
    changed: int = 0
    moving: int = 0


@dataclass(frozen=True)
class Compared:
    """How a hop whose rows change and are deleted compares with an earlier hop, as of one position.

    against: the earlier hop.
    position: slot -> up to where in the log; {}: no position was known, so keys that differed were looked at again.
    late: the hop had not come to the window's end, so what it lacks may still come.
    untold: how many keys it has that the log has forgotten.
    """

    stream: str
    hop: str
    against: str
    groups: Mapping[Group, Delta]
    position: Position = field(default_factory=dict)
    late: bool = False
    untold: int = 0


@dataclass(frozen=True)
class Shards:
    """How the groups of a stream with many groups are sampled together. All groups of a shard take the same way through
    the platform.

    by: the indices, in a group, of the fields that the stream's path names. They tell the way.
    buckets: how many shards the groups of one way are divided into, by their marks.
    """

    by: tuple[int, ...]
    buckets: int

    def of(self, group: Group) -> Group:
        """Return the shard of a group: Shards((0,), 21).of(("west", "one")) is ("west", "#18")."""
        return self.named([group[place] for place in self.by], self.mark(group) % self.buckets)

    def named(self, way: Iterable[str], bucket: int) -> Group:
        """Return the shard of this bucket, among the groups with these values in the path's fields."""
        return (*way, f"#{bucket}")

    @staticmethod
    def mark(group: Group) -> int:
        """Return a 32-bit hash of a group: the first bytes of its MD5, which every engine can compute."""
        return int.from_bytes(hashlib.md5("/".join(group).encode(), usedforsecurity=False).digest()[:4])


@dataclass(frozen=True)
class Look:
    """One comparison of a stream's heads group by group, which samples of shards don't show.

    asked_ns: when the ledger was asked.
    seen_ns: when the visible hop answered; if something was still missing, when it was asked last.
    behind: how many groups lacked what the ledger had at asked_ns.
    still: how many of these have shown nothing new since service was back. Only groups that the struck component
        carries are counted.
    named: some of the groups that are behind.
    """

    stream: str
    asked_ns: int
    seen_ns: int
    behind: int = 0
    still: int = 0
    named: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Excerpt:
    """A hop's newest records as it reads them, and what it can't read.

    groups: the records by group. A record that the hop holds twice is here twice, if the hop can tell.
    heads: group -> the highest id that was seen.
    above: group -> an id: above it, up to the highest id asked for, no record was left out.
    read: how many messages or rows were read.
    malformed: how many of them should be a record of the stream and are not.
    reasons: why, for the first three, each with its place.
    """

    groups: Mapping[Group, Columns]
    heads: Mapping[Group, int]
    above: Mapping[Group, int]
    read: int
    malformed: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One answer of one probe, asked at at_ns and answered took_ns later. value None: no answer within the deadline."""

    at_ns: int
    took_ns: int
    value: float | None

    @property
    def counts_ns(self) -> int:
        """From when this sample counts: a good answer from when it came, a missing one from when it was asked for."""
        return self.at_ns if self.value is None else self.at_ns + self.took_ns


INACTIVE, PENDING, FIRING = 0.0, 1.0, 2.0
"""The states of an alert, as values of samples."""

ELSEWHERE = ".elsewhere "
"""Stands between an alert's series and its labels, where it is active under other labels than the configured ones."""

NOT_WATCHED = (
    "the stack's alerts are not watched. Remedy: install Prometheus and Alertmanager (apt-get install prometheus "
    "prometheus-alertmanager), and name them under [alerts] in gameday.toml"
)

Samples: TypeAlias = Mapping[str, Sequence[Sample]]
"""Samples by series, in the order sent. The series:
component/<component>/<probe>      the component answers its own protocol (any number); <...>.connects: how often
                                   it has connected
head/<hop>/<codec.key_of(group)>   the highest id visible at that hop; head/exchange/... is the ledger's head. Of a
                                   stream that is sampled by shards: head/<hop>/<codec.key_of(shard)>, by how much the
                                   heads of the shard's groups have risen in all since the sampler began
end/<cursor>/<slot>                the log's end;  position/<cursor>/<slot>  what the consumer has committed
serving/<slot>                     the slot's leader, sampled by really fetching a record from it
alert/<name>                       the platform's alert of that name, of the struck component's: INACTIVE, PENDING or
                                   FIRING; <...>.evaluated: when that was last judged, by the alerts' own clock;
                                   <...>.elsewhere <labels>: an active alert of that name under other labels
archive/head/<codec.key_of(group)> the highest id that the archive's newest commit has, archive/position/<slot> up to
                                   where it has the log; mirror/<slot>: the same, as the job's mirror tells it;
                                   mirror/time_us where that tells a time
machine/cpu, /memory, /io          for how many seconds, since this machine's start, some task has waited for it (PSI,
                                   where the kernel has that); machine/stolen: how many went to other machines;
                                   machine/late: how late the sampler itself was at worst since the sample before
"""


@dataclass(frozen=True)
class Act:
    """The journal's record of one fault.

    before: all that heal and proof need. It was on disk before the fault was carried out.
    by: who injected it. healed_by, healed_why: who healed it, and on what occasion.
    proof: the proof that it took effect; None: not proved yet.
    """

    id: str
    run: str
    at_ns: int
    at_us: int
    kind: str
    fault: str
    args: Mapping[str, Json]
    before: Json
    by: str
    proof: str | None = None
    done_ns: int | None = None
    healed_ns: int | None = None
    healed_by: str | None = None
    healed_why: str | None = None
    undone_ns: int | None = None
    """When its undo was carried out, while what it struck does not serve yet."""

    @property
    def undone(self) -> bool:
        """Whether the fault's undo was carried out. What it struck may still be starting."""
        return self.undone_ns is not None or self.healed_ns is not None

    @property
    def severs(self) -> bool:
        """Whether the fault struck one link or all networks of the component, and not its process."""
        return "link" in self.args or self.fault == "isolate"


@dataclass(frozen=True)
class Measure:
    """An interval of seconds that contains the true value. Both None: not measured (which is not 0), and `why` says
    why."""

    low_s: float | None
    high_s: float | None
    why: str = ""

    @property
    def measured(self) -> bool:
        return self.high_s is not None


@dataclass(frozen=True)
class Marks:
    """Where everything in the stack stood at one moment.

    heads: hop -> group -> highest id.
    positions, ends: cursor -> slot -> the consumer's position, the log's end.
    identities: component -> its process.
    delivered: hop -> slot -> up to where the hop had taken in the log; asked for after the positions.
    starts: hop that is a log -> slot -> the lowest offset that it has not deleted.
    """

    at_ns: int
    at_us: int
    heads: Mapping[str, Mapping[Group, int]] = field(default_factory=dict)
    positions: Mapping[str, Position] = field(default_factory=dict)
    ends: Mapping[str, Position] = field(default_factory=dict)
    identities: Mapping[str, Json] = field(default_factory=dict)
    delivered: Mapping[str, Position] = field(default_factory=dict)
    starts: Mapping[str, Position] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What a log keeps for one consumer in one slot, at one moment.

    position: the next offset that the consumer reads.
    start: the lowest offset that is not deleted.
    end: the offset that the next record will get.
    expired: the first offset that the log's retention may not delete yet (position, if that may not be deleted).
    unread_s: the age of the oldest record that the log has and the consumer has not read; None: there is none.
    retention_s: how long the log keeps a record; None: without bound.
    """

    position: int
    start: int
    end: int
    expired: int
    unread_s: float | None = None
    retention_s: float | None = None

    @property
    def dropped(self) -> int:
        """How many records the log has deleted that the consumer never read."""
        return max(0, self.start - self.position)

    @property
    def share(self) -> float | None:
        """The age of the oldest unread record as a share of the retention. None: there is no such record, or no
        retention."""
        if self.unread_s is None or self.retention_s is None:
            return None
        return self.unread_s / self.retention_s if self.retention_s else math.inf


@dataclass(frozen=True)
class Baseline:
    """What was normal just before the plan.

    delay_p99_s: how far the visible hop is behind the ledger; with several streams, the slowest one's.
    bound_s: how far behind the visible hop may be and still count as good.
    rates: group -> ids a second.
    moves: group (or shard, where the stream is sampled by shards) -> how often a second its head was seen to rise.
    Rates and moves are of one stream. With several streams each has its own in Followed.
    """

    marks: Marks
    delay_p99_s: float
    bound_s: float
    rates: Mapping[Group, float]
    moves: Mapping[Group, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Followed:
    """One stream as a run follows it: what conditions and checks know of this stream alone.

    hops: in order; the first is the ledger. If the stream is exported, the archive is the last.
    topics: the topics that its logs read.
    groups: the groups that there were when the run began.
    affected, knows, gapless: as in Evidence.
    delay_p99_s, bound_s, rates, moves: its own baseline.
    still_s: as in Now.
    window: None: not known.
    shards: how its groups are sampled together; None: each on its own.
    """

    stream: str
    hops: tuple[str, ...]
    visible: str
    topics: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    affected: tuple[Group, ...] = ()
    knows: bool = False
    gapless: bool = True
    delay_p99_s: float = 0.0
    bound_s: float = 0.0
    still_s: float = 0.0
    rates: Mapping[Group, float] = field(default_factory=dict)
    moves: Mapping[Group, float] = field(default_factory=dict)
    window: Window | None = None
    shards: Shards | None = None

    @cached_property
    def sampled(self) -> tuple[Group, ...]:
        """The groups or shards that have samples."""
        return self.sampled_of(self.groups)

    @cached_property
    def sampled_affected(self) -> tuple[Group, ...]:
        """The affected groups, or their shards. All groups of a shard take the same way."""
        return self.sampled_of(self.affected)

    def sampled_of(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """Return the groups or shards that these groups are sampled as, each once."""
        return tuple(dict.fromkeys(groups if self.shards is None else map(self.shards.of, groups)))


@dataclass(frozen=True)
class Evidence:
    """Everything that a verdict rests on. It is saved with the run, so that checks and diagnosis can be repeated later.

    A stack may have several streams. `each` then gives the evidence of one stream at a time, which is what a check
    judges; the fields of one stream (visible, ledger, knows, affected, window, stream, gapless) are empty in the whole.

    Who was struck:
    component: the component whose recovery is timed. role: its role.
    together: the struck members of its role, if the role has several. spared: the members that were not struck.
    affected: the groups whose configured path includes the struck component.
    acts: the journal's acts of this run.

    Times and measures:
    inject_ns: when the first fault was injected.
    clock_ns: the clock's start, when the plan's last Inject or Heal began.
    measures: impact, restore and drain (from inject_ns), mttr (from clock_ns).
    recovered: whether the run saw service back and drained; None: the run ended before recovery was awaited.
    healed: the marks when service was seen back. ends: the marks after drain.
    looks: the comparisons group by group of streams that are sampled by shards.

    The stream's records:
    stream: the stream under test; if it isn't given, the first digest's.
    followed: the streams.
    knows: whether the ledger knows what should exist without asking the platform. An id that it lacks then never
        existed; otherwise no id may be missing.
    gapless: whether every id of the window exists, as declared.
    digests: what each hop holds. states: the same for hops that are right as of a position (streams with versions).

    The archive, where the test is about the job that fills it:
    archive: the hop at which recovery is judged.
    commits: the last commit before the first act, and all since.
    jobs: the job's runs. struck: the runs that the test itself has asked for.
    at_clock: the heads of the exported stream's ledger just after the clock's start, if it is sampled by shards.

    The rest:
    alert: the platform's alert that the test is about. It must fire within alert_within_s; None: it must stay silent.
    symptoms: what only one technology can tell, by name. A hop's symptom is "<hop>.<name>", so that no hop overwrites
        another's. Each check says which symptoms it reads.
    """

    test: str
    params: Mapping[str, Json]
    stack: str
    component: str | None = None
    together: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    role: str = ""
    affected: tuple[Group, ...] = ()
    visible: str = "silver"
    ledger: str = "exchange"
    knows: bool = False
    mttr_max_s: float = 0.0
    drain_max_s: float = 0.0
    acts: tuple[Act, ...] = ()
    samples: Samples = field(default_factory=dict)
    baseline: Baseline | None = None
    inject_ns: int | None = None
    clock_ns: int | None = None
    healed: Marks | None = None
    ends: Marks | None = None
    window: Window | None = None
    stream: str = ""
    gapless: bool = True
    digests: tuple[Digest, ...] = ()
    states: tuple[Compared, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    archive: str | None = None
    commits: tuple[Commit, ...] = ()
    jobs: tuple[JobRun, ...] = ()
    struck: tuple[JobRun, ...] = ()
    alert: str | None = None
    alert_within_s: float | None = None
    recovered: bool | None = None
    symptoms: Mapping[str, Json] = field(default_factory=dict)
    followed: tuple[Followed, ...] = ()
    looks: tuple[Look, ...] = ()
    at_clock: Mapping[Group, int] = field(default_factory=dict)

    def each(self) -> tuple[Evidence, ...]:
        """Return the evidence of each stream alone: its groups, window and baseline, and the digests, symptoms and
        marks of its hops.

        What is about the whole platform (acts, samples, measures, commits) is in each of them.
        """
        return tuple(map(self.of, self.followed)) if len(self.followed) > 1 else (self,)

    def exported(self) -> Evidence:
        """Return the evidence of the stream that the archive's job exports."""
        return next((one for one in self.each() if one.followed and self.archive in one.followed[0].hops), self)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the logs of this one stream read; (): not known."""
        return self.followed[0].topics if len(self.followed) == 1 else ()

    def of(self, followed: Followed) -> Evidence:
        """Return the evidence of one of the streams alone."""
        foreign = frozenset(hop for other in self.followed for hop in other.hops) - set(followed.hops)
        baseline = self.baseline
        if baseline is not None:
            heads = {hop: groups for hop, groups in baseline.marks.heads.items() if hop not in foreign}
            marks = replace(baseline.marks, heads=heads)
            baseline = Baseline(marks, followed.delay_p99_s, followed.bound_s, followed.rates, followed.moves)
        return replace(
            self,
            followed=(followed,),
            affected=followed.affected,
            visible=followed.visible,
            ledger=followed.hops[0],
            knows=followed.knows,
            gapless=followed.gapless,
            stream=followed.stream,
            window=followed.window,
            baseline=baseline,
            digests=tuple(digest for digest in self.digests if digest.hop not in foreign),
            states=tuple(state for state in self.states if state.hop not in foreign),
            symptoms=_without(self.symptoms, foreign),
            looks=tuple(look for look in self.looks if look.stream == followed.stream),
        )

    @property
    def sharded(self) -> bool:
        """Whether this one stream is sampled by shards."""
        return len(self.followed) == 1 and self.followed[0].shards is not None

    def sampled_of(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """Return the groups or shards that these groups of this one stream are sampled as, each once."""
        return self.followed[0].sampled_of(groups) if self.sharded else tuple(dict.fromkeys(groups))

    @property
    def timed(self) -> tuple[str, ...]:
        """The components whose recovery is measured."""
        return self.together or ((self.component,) if self.component else ())

    def by_hop(self, symptom: str) -> dict[str, Json]:
        """Return hop -> its symptom of this name, for the hops that have one."""
        parts = {name: name.rpartition(".") for name in self.symptoms}
        return {hop: self.symptoms[name] for name, (hop, _, own) in parts.items() if own == symptom}

    def __post_init__(self) -> None:
        if not self.stream and self.digests and len(self.followed) < 2:
            object.__setattr__(self, "stream", self.digests[0].stream)

    @property
    def touched(self) -> frozenset[str]:
        """The components that were acted on."""
        own = {self.component} if self.component else set()
        return frozenset({str(act.args["component"]) for act in self.acts if "component" in act.args} | own)


def _without(symptoms: Mapping[str, Json], hops: frozenset[str]) -> dict[str, Json]:
    """Return the symptoms without those of these hops, and without these hops' entries in the shared ones."""
    others = {}
    for name, value in symptoms.items():
        if name in ("surplus", "trouble"):
            value = {hop: entry for hop, entry in value.items() if hop not in hops}
        elif name in ("not_passed", "untold"):
            value = [hop for hop in value if hop not in hops]
        if name.rpartition(".")[0] not in hops:
            others[name] = value
    return others


@dataclass(frozen=True)
class JobRun:
    """One run of a job.

    state: the orchestrator's own word. ended_us: None while the run lasts. due_us: when it was to start. scheduled:
    whether the job's own schedule asked for it.
    """

    id: str
    name: str
    state: str
    started_us: int | None
    ended_us: int | None
    message: str = ""
    due_us: int | None = None
    scheduled: bool = False

    @property
    def waits(self) -> bool:
        """Whether the run has not started yet."""
        return self.started_us is None and self.ended_us is None


@dataclass(frozen=True)
class Hindrance:
    """Why a job's runs can't start, in words, with a remedy. passes: whether that may end without help."""

    why: str
    passes: bool = False


@dataclass(frozen=True)
class Commit:
    """One commit of a job to the archive: what its summary claims, and what that is compared with.

    position: slot -> up to where the log was read after this commit; {}: the summary doesn't say.
    heads: group -> the highest id after this commit.
    added: group -> the rows that it added.
    right: what the ledger has between the heads of the commit before and this one's; None: it could not be asked.
    logged: group -> the highest id in the log before the position, as the broker tells it; None: it could not be asked.
    """

    id: str
    at_us: int
    position: Position
    heads: Mapping[Group, int]
    added: Mapping[Group, Tally] = field(default_factory=dict)
    right: Mapping[Group, Tally] | None = None
    logged: Mapping[Group, int] | None = None


@dataclass(frozen=True)
class Timed:
    """The span in which something came too late, or was missing for too long.

    over_s: by how much it was too late; None: not known.
    """

    from_ns: int
    to_ns: int
    over_s: float | None = None


@dataclass(frozen=True)
class Finding:
    """One check's judgement.

    why: one sentence with the figures. evidence: the figures themselves, for the report.
    timed: the span, if a fail rests on time alone. If the machine was busy then, it is as likely a cause as the
        platform.
    """

    check: str
    verdict: Verdict
    why: str
    evidence: Json = None
    timed: Timed | None = None


Check: TypeAlias = Callable[[Evidence], Finding]
"""Judges the evidence of one stream. A check is a pure function; with nothing to judge it says unknown."""


@dataclass(frozen=True)
class Now:
    """What a condition may look at: the last seconds of samples, newest last, and what the run knows.

    With several streams, `each` gives this for one stream at a time; the fields of one stream (affected, groups,
    visible, ledger) are empty in the whole.

    affected, groups: of a stream that is sampled by shards, the shards.
    bound_s: how far behind the visible hop may be and still count as good.
    fired: failpoint -> how often it has fired since the run armed it.
    struck: the runs of a job that this test has asked for.
    busy: before the test asks for a run, the job's runs that are under way or about to start; None: not known, and
        busy_why says why.
    acted_ns: when the last act was done.
    still_s: how long a visible head that lacks something may stand still, if that is longer than a condition asks.
    together: as in Evidence.
    kept: slot -> what the log keeps for the consumer that the plan holds back.
    """

    at_ns: int
    samples: Samples
    component: str | None
    affected: tuple[Group, ...]
    groups: tuple[Group, ...]
    visible: str
    ledger: str
    bound_s: float
    fired: Mapping[str, int] = field(default_factory=dict)
    struck: tuple[JobRun, ...] = ()
    busy: tuple[JobRun, ...] | None = None
    busy_why: str = ""
    acted_ns: int | None = None
    followed: tuple[Followed, ...] = ()
    still_s: float = 0.0
    together: tuple[str, ...] = ()
    kept: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def timed(self) -> tuple[str, ...]:
        """The components whose recovery is measured."""
        return self.together or ((self.component,) if self.component else ())

    def each(self) -> tuple[Now, ...]:
        """Return what there is to see of each stream alone."""
        return tuple(map(self.of, self.followed)) if len(self.followed) > 1 else (self,)

    def of(self, followed: Followed) -> Now:
        """Return what there is to see of one of the streams."""
        return replace(
            self,
            followed=(followed,),
            affected=followed.sampled_affected,
            groups=followed.sampled,
            visible=followed.visible,
            ledger=followed.hops[0],
            bound_s=followed.bound_s,
            still_s=followed.still_s,
        )


Condition: TypeAlias = Callable[[Now], bool]


@dataclass(frozen=True)
class Trend:
    """How a run's measure compares with the last `runs` passes of the same test, parameters and stack.

    median_s, p95_s: of those passes.
    p: how likely a run as slow as this one is if nothing has changed; None: too few runs to say.
    worse: whether p is below the stated rate of false alarms.
    """

    measure: str
    runs: int
    median_s: float
    p95_s: float
    p: float | None
    worse: bool


@dataclass(frozen=True)
class Step:
    """How one block of a runbook was carried out.

    kind: diagnosis, recovery or verify. ok: whether it did as it says; None: not carried out. why: what came out
    instead, or why it was not carried out.
    """

    kind: str
    title: str
    ok: bool | None
    why: str
    took_s: float


@dataclass(frozen=True)
class Message:
    """A message to people, in plain text; a channel escapes and shortens it as it needs. Secrets were removed when it
    was made.

    kind: announce (what will be broken), fail (sent at once), night (the summary), detail (one run, below its night);
        for pagers trigger and resolve.
    about: stack, test and parameters; the same from night to night.
    at_us, until_us: wall clock; after until_us the message is not sent any more.
    data: the figures, for programs.
    same: two fails of a night with the same value are sent once.
    below: the id of the message whose thread this one belongs to.
    """

    id: str
    kind: str
    night: str
    stack: str
    about: str
    at_us: int
    until_us: int
    verdict: Verdict | None
    title: str
    text: str
    facts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    data: Json = None
    same: str = ""
    below: str | None = None


@dataclass(frozen=True)
class RunResult:
    """The result of a run, as results.json publishes it.

    counts: "lost", "doubled" or "changed" -> hop -> number, where that was judged.
    """

    id: str
    night: str
    test: str
    params: Mapping[str, Json]
    stack: str
    verdict: Verdict
    why: str
    started: str
    took_s: float
    mttr_max_s: float
    drain_max_s: float
    measures: Mapping[str, Measure]
    counts: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    acts: tuple[Act, ...]
    trends: tuple[Trend, ...] = ()
    steps: tuple[Step, ...] = ()
    schema: int = 1
