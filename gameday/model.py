"""The values that gameday speaks in: frozen, serialisable, without behaviour beyond what can be derived from them.

Times are nanoseconds of CLOCK_MONOTONIC (`*_ns`) unless a name says wall clock (`*_us`, microseconds since 1970, UTC).
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
"""What a record's group is told by: the texts of the declared fields, or (topic, partition)."""

Position: TypeAlias = Mapping[str, int]
"""Slot -> next position. The slots of Kafka are "topic/partition", the positions offsets."""

Columns: TypeAlias = "Mapping[str, np.ndarray]"
"""Equally long numpy arrays by field, of canonical values (records/types.py)."""

Totals: TypeAlias = Mapping[Group, tuple[int, int]]
"""Shard -> (the sum of Shards.mark over its groups, which tells whether they are the same ones; the sum of their
heads)."""


class Verdict(IntEnum):
    """Ordered by how much it matters: merging takes the highest. Skipped checks are shown, never merged."""

    PASS = 0
    SKIPPED = 1
    UNKNOWN = 2
    INVALID = 3
    FAIL = 4

    def __str__(self) -> str:
        return self.name.lower()


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst verdict, leaving out skipped ones; UNKNOWN when nothing was judged, for that is never a pass."""
    judged = [v for v in verdicts if v is not Verdict.SKIPPED]
    return max(judged, default=Verdict.UNKNOWN)


class Outcome(StrEnum):
    """How an attempt to write a record ended: the platform has taken it; it certainly has not; it may have."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sent:
    """What became of one attempt, and why where it is not done."""

    outcome: Outcome
    why: str = ""


@dataclass(frozen=True)
class Window:
    """The ids that a run is judged by, per group: (lo, hi], lo exclusive."""

    lo: Mapping[Group, int]
    hi: Mapping[Group, int]


@dataclass(frozen=True)
class Tally:
    """One group's records at one hop, inside a window.

    rows: records. keys: distinct ids. lo, hi: lowest and highest id (0 when rows is 0). sum: sum modulo 2^64 of the row
    hash over the distinct (id, hash) pairs. conflicts: ids seen with more than one hash. back: first sightings out of
    id order, None where the hop keeps no order. key_sum: sum modulo 2^64 of the key hash over the distinct keys, by
    which as many keys are known to be the same ones; None: not told.
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

    stream: the declared one's name, or a derived one ("offsets": the log's positions; one that a hop makes of its own).
    view: "log" and "raw" may repeat a record; "final" is what users query and promises each record exactly once. The
    first digest of a stream is the reference for the others. right: what this one is held against instead, where the
    first hop does not know of every record whether it was taken: those that were, and those that may have been and that
    this hop, or one before it, has.
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
    """In how many keys of one group a state differs from what should be there. keys: how many should be. lost: missing.
    ghosts: there though deleted, or never made. repeated: rows of a key beyond its first. changed: with another row.
    moving: that differ, and changed faster than could be looked at."""

    keys: int
    lost: int = 0
    ghosts: int = 0
    repeated: int = 0
    changed: int = 0
    moving: int = 0


@dataclass(frozen=True)
class Compared:
    """What a hop makes of rows that change and go, held against an earlier hop as of one position.

    position: slot -> up to where in the log; {}: none could be had, and the keys that differed were looked at again.
    late: it had not come to the window's end: what it lacks may still come. untold: keys that it has and the log has
    forgotten.
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
    """How the groups of a stream that has many are sampled together: those of one shard take the same way.

    by: the places in a group of the fields that the stream's path names. buckets: into how many shards the groups of
    one way are divided, by their marks.
    """

    by: tuple[int, ...]
    buckets: int

    def of(self, group: Group) -> Group:
        """The shard of a group, as the group of a series: Shards((0,), 21).of(("west", "one")) is ("west", "#18")."""
        return self.named([group[place] for place in self.by], self.mark(group) % self.buckets)

    def named(self, way: Iterable[str], bucket: int) -> Group:
        """The shard of this bucket, of the groups that have these values in the fields of the path."""
        return (*way, f"#{bucket}")

    @staticmethod
    def mark(group: Group) -> int:
        """32 bits that tell a group from others, which every engine can compute: an MD5's first."""
        return int.from_bytes(hashlib.md5("/".join(group).encode(), usedforsecurity=False).digest()[:4])


@dataclass(frozen=True)
class Look:
    """One comparison of a stream's heads group by group, of which the samples of shards can't tell.

    asked_ns: when the ledger was asked. seen_ns: when the visible hop had answered; where something was missing still,
    when it was asked last. behind: how many groups lacked what the ledger had at asked_ns. still: how many of these,
    if the struck component carries them, have shown nothing new since service was back. named: some that are behind.
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

    groups: the records by group; one that is there twice is here twice, where the hop tells. heads: group -> highest
    id, as far as the hop was seen to have any. above: group -> the id above which, up to the highest asked for, none
    was left out. read: how many messages or rows were looked at. malformed: how many of them are no record of the
    stream though they should be; reasons: the first three, each with its place.
    """

    groups: Mapping[Group, Columns]
    heads: Mapping[Group, int]
    above: Mapping[Group, int]
    read: int
    malformed: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One answer of one probe: sent at at_ns, answered took_ns later; value None: no answer within the deadline."""

    at_ns: int
    took_ns: int
    value: float | None

    @property
    def counts_ns(self) -> int:
        """When this sample counts: a bad answer from when the probe was sent, a good one from when it was answered."""
        return self.at_ns if self.value is None else self.at_ns + self.took_ns


INACTIVE, PENDING, FIRING = 0.0, 1.0, 2.0
"""The states of an alert, as samples."""

ELSEWHERE = ".elsewhere "
"""Joins the series of an alert and the labels under which it is active, where those are not the configured ones."""

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
    """The journal's record of one fault. `before` holds all that heal and proof need; it was durable before the act."""

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
        """Whether the harm is over: its undo was carried out. What it struck may still be starting."""
        return self.undone_ns is not None or self.healed_ns is not None

    @property
    def severs(self) -> bool:
        """Whether it struck the component's ways to others, one link or all its networks, and not its process."""
        return "link" in self.args or self.fault == "isolate"


@dataclass(frozen=True)
class Measure:
    """An interval of seconds that holds the true value. Both None: not measured, which is not 0, and `why` says why."""

    low_s: float | None
    high_s: float | None
    why: str = ""

    @property
    def measured(self) -> bool:
        return self.high_s is not None


@dataclass(frozen=True)
class Marks:
    """The stack at one moment: hop -> group -> highest id, cursor -> position and end, component -> identity; hop ->
    slot -> up to where it had taken in the log, asked after the positions; hop that is a log -> slot -> the lowest
    offset that it has not deleted."""

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

    position: the next offset that the consumer reads. start: the lowest that is not deleted. end: that of the next
    record. expired: the first record that the log's retention does not end (position, where that is one). unread_s:
    how old the oldest record is that the consumer has not read and the log still has; None: there is none.
    """

    position: int
    start: int
    end: int
    expired: int
    unread_s: float | None = None
    retention_s: float | None = None

    @property
    def dropped(self) -> int:
        """How many records are gone that the consumer never read."""
        return max(0, self.start - self.position)

    @property
    def share(self) -> float | None:
        """How much of the retention the oldest unread record has lived through; None: there is none, or no bound."""
        if self.unread_s is None or self.retention_s is None:
            return None
        return self.unread_s / self.retention_s if self.retention_s else math.inf


@dataclass(frozen=True)
class Baseline:
    """Normal, just before the plan. delay_p99_s: the visible hop behind the ledger, of several streams the slowest.
    bound_s: the b of "good at t". rates: each group's ids a second. moves: how many times a second its ledger's head
    was seen to move, of a stream that is sampled by shards each shard's. Both are of one stream; what each has is in
    Followed."""

    marks: Marks
    delay_p99_s: float
    bound_s: float
    rates: Mapping[Group, float]
    moves: Mapping[Group, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Followed:
    """One stream as a run follows it: what conditions and checks have of it alone.

    hops: in order, the first is the ledger; with the archive's if the stream is exported. topics: those that its logs
    read. groups: those that there were when the run began. affected, knows, gapless: as in Evidence. delay_p99_s,
    bound_s, rates, moves: its own baseline. still_s: as in Now. window: None: not told. shards: how its groups are
    sampled together; None: each by itself.
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
        """What has samples: each group, or each shard."""
        return self.sampled_of(self.groups)

    @cached_property
    def sampled_affected(self) -> tuple[Group, ...]:
        """The same of the affected groups. All groups of a shard take the same way."""
        return self.sampled_of(self.affected)

    def sampled_of(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """What these groups are sampled as, each once."""
        return tuple(dict.fromkeys(groups if self.shards is None else map(self.shards.of, groups)))


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict rests on. Saved with the run: checks, diagnose and a disputed verdict replay from it.

    followed: the streams. Where there are several `each` has the evidence of every one of them, which is what a
    check judges; and what is one stream's alone (visible, ledger, knows, affected, window, stream, gapless) is empty
    here.

    together: where the struck component is one of several of its role, the members that were struck, it among them;
    spared: the others. role: its own.
    inject_ns: the first act. clock_ns: the clock's start (when the plan's last Inject or Heal began). affected: the
    groups whose configured path includes the struck component. ends: the marks after drain. measures: impact, restore,
    drain (from inject), mttr (from clock_ns). archive: the hop at which recovery is judged, where the test is about the
    job that fills it; then commits has the one before the first act and all since, jobs the job's runs, struck those
    that the test itself has asked for. knows: whether the ledger tells what should exist without asking the platform:
    then ids that it lacks never were; else none may be left out. alert: the platform's alert that the test is about; it
    must fire within alert_within_s, or (None) stay silent. recovered: whether the run saw service back and drained
    before it went on; None: it did not come to that. stream: the one under test; that of the first digest
    where it isn't given. states: of a stream with versions, the hops that are right as of a position. gapless: whether
    every id of the window exists, as declared. looks: the comparisons group by group of the streams that are sampled by
    shards. at_clock: of the exported one among them what its ledger had just after the clock's start. symptoms: what
    only one technology can tell, by name; a hop's is "<hop>.<name>", so that none overwrites another's. checks/ tell
    who reads which.
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
        """The evidence of each stream by itself: digests, symptoms and marks of its own hops, its groups, its window,
        its baseline. What is about the platform as a whole (acts, samples, measures, commits) is in all of them."""
        return tuple(map(self.of, self.followed)) if len(self.followed) > 1 else (self,)

    def exported(self) -> Evidence:
        """The evidence of the stream that the archive's job exports."""
        return next((one for one in self.each() if one.followed and self.archive in one.followed[0].hops), self)

    @property
    def topics(self) -> tuple[str, ...]:
        """Those that the logs of this one stream read; () where that isn't told."""
        return self.followed[0].topics if len(self.followed) == 1 else ()

    def of(self, one: Followed) -> Evidence:
        """The evidence of one of the streams by itself."""
        foreign = frozenset(hop for other in self.followed for hop in other.hops) - set(one.hops)
        baseline = self.baseline
        if baseline is not None:
            heads = {hop: groups for hop, groups in baseline.marks.heads.items() if hop not in foreign}
            marks = replace(baseline.marks, heads=heads)
            baseline = Baseline(marks, one.delay_p99_s, one.bound_s, one.rates, one.moves)
        return replace(
            self,
            followed=(one,),
            affected=one.affected,
            visible=one.visible,
            ledger=one.hops[0],
            knows=one.knows,
            gapless=one.gapless,
            stream=one.stream,
            window=one.window,
            baseline=baseline,
            digests=tuple(digest for digest in self.digests if digest.hop not in foreign),
            states=tuple(state for state in self.states if state.hop not in foreign),
            symptoms=_without(self.symptoms, foreign),
            looks=tuple(look for look in self.looks if look.stream == one.stream),
        )

    @property
    def sharded(self) -> bool:
        """Whether this one stream is sampled by shards."""
        return len(self.followed) == 1 and self.followed[0].shards is not None

    def sampled_of(self, groups: Iterable[Group]) -> tuple[Group, ...]:
        """What these groups of this one stream are sampled as, each once."""
        return self.followed[0].sampled_of(groups) if self.sharded else tuple(dict.fromkeys(groups))

    @property
    def timed(self) -> tuple[str, ...]:
        """The components whose recovery is measured."""
        return self.together or ((self.component,) if self.component else ())

    def by_hop(self, symptom: str) -> dict[str, Json]:
        """Hop -> what it tells under this name; {}: none tells it."""
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
    """The symptoms that none of these hops tells, or is named in."""
    kept = {}
    for name, told in symptoms.items():
        if name in ("surplus", "trouble"):
            told = {hop: of_it for hop, of_it in told.items() if hop not in hops}
        elif name in ("not_passed", "untold"):
            told = [hop for hop in told if hop not in hops]
        if name.rpartition(".")[0] not in hops:
            kept[name] = told
    return kept


@dataclass(frozen=True)
class JobRun:
    """One run of a job: state is the orchestrator's own word; ended_us None while it runs. due_us: when it was to
    start. scheduled: by the job's own schedule."""

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
        """Whether it has not started yet."""
        return self.started_us is None and self.ended_us is None


@dataclass(frozen=True)
class Hindrance:
    """What keeps a job's runs from starting, in words, with its remedy. passes: it may be over by itself."""

    why: str
    passes: bool = False


@dataclass(frozen=True)
class Commit:
    """One commit of a job to the archive: what its summary claims, and what it is held against.

    position, heads: where the log had been read to ({}: it doesn't say), and each group's highest id, after it. added:
    what rows it added.
    right: what the ledger has between the heads of the commit before and its own. logged: each group's highest id in
    the log before the position, as the broker tells it. None: that could not be asked.
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
    """That something came too late, or not for too long, between from_ns and to_ns. over_s: by how much; None: that
    can't be told."""

    from_ns: int
    to_ns: int
    over_s: float | None = None


@dataclass(frozen=True)
class Finding:
    """One check's judgement. why: one sentence with the figures. evidence: the figures themselves, for the report.

    timed: of a fail that rests on nothing but time, on which: a machine that had none left then is the other suspect.
    """

    check: str
    verdict: Verdict
    why: str
    evidence: Json = None
    timed: Timed | None = None


Check: TypeAlias = Callable[[Evidence], Finding]
"""Pure; one with nothing to judge is unknown."""


@dataclass(frozen=True)
class Now:
    """What a condition may look at: the last seconds of samples, newest last, and what the run knows.

    followed: the streams. Where there are several `each` has what is to be seen of every one, and what is one stream's
    alone (affected, groups, visible, ledger) is empty here. affected, groups: of a stream that is sampled by shards its
    shards.
    fired: failpoint -> how often it has fired since the run armed it. struck: the runs of a job that this test has
    asked for. busy: before it asks for one, those under way or about to start; None: that can't be seen, for busy_why.
    acted_ns: when the last act was done.
    still_s: how long a visible head that lacks something may stand still, where that is longer than a condition asks.
    together: as in Evidence. kept: slot -> what the log keeps for the consumer that the plan holds back.
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
        """What is to be seen of each stream by itself."""
        return tuple(map(self.of, self.followed)) if len(self.followed) > 1 else (self,)

    def of(self, one: Followed) -> Now:
        """What is to be seen of one of the streams."""
        return replace(
            self,
            followed=(one,),
            affected=one.sampled_affected,
            groups=one.sampled,
            visible=one.visible,
            ledger=one.hops[0],
            bound_s=one.bound_s,
            still_s=one.still_s,
        )


Condition: TypeAlias = Callable[[Now], bool]


@dataclass(frozen=True)
class Trend:
    """A run's measure beside its own history: the last `runs` passes of the same test, parameters and stack.

    median_s, p95_s: of those. p: how likely a run as slow as this one is when nothing has changed; None: too few runs
    to say so. worse: p is below the stated rate of false alarms.
    """

    measure: str
    runs: int
    median_s: float
    p95_s: float
    p: float | None
    worse: bool


@dataclass(frozen=True)
class Step:
    """One block of a runbook as it was carried out. kind: diagnosis, recovery, verify. why: what came out instead, for
    one that failed. ok None: not carried out."""

    kind: str
    title: str
    ok: bool | None
    why: str
    took_s: float


@dataclass(frozen=True)
class Message:
    """What people are told: plain text, which a channel escapes and cuts for itself. Without secrets: its text was
    scrubbed when it was made.

    kind: announce (what will be broken), fail (at once), night (the summary), detail (one run, below its night), and
    for pagers trigger and resolve. about: stack, test and parameters, the same from night to night. same: two fails of
    a night that share it are told once. below: the id of the message whose thread it belongs to. *_us: wall clock;
    after until_us it is not told any more. data: the figures, for programs.
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
    """What a run leaves, and results.json publishes. counts: lost, doubled, changed -> hop -> number, where judged."""

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
