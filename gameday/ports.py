"""What gameday asks of the world, as small Protocols. A driver offers whichever it can; who needs one asks with
isinstance.

A driver module is loaded by the name in gameday.toml (`driver = "kafka"`) and offers classes under fixed names: Probe,
Hop, Cursor, Job, Points, Channel; a module in hosts/ offers Host. Each is a dataclass whose fields are the keys of its
table in gameday.toml. Methods raise DriverError.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from gameday.model import (
    Columns,
    Commit,
    Digest,
    Excerpt,
    Group,
    Hindrance,
    JobRun,
    Json,
    Kept,
    Message,
    Position,
    Sent,
    Shards,
    Totals,
    Window,
)
from gameday.state import State

if TYPE_CHECKING:
    from gameday.records import states
    from gameday.records.arrivals import Came
    from gameday.records.hashing import U64

__all__ = [
    "UNDER_WAY_MAX_S",
    "Alerts",
    "Archive",
    "Arrivals",
    "Asks",
    "Attempts",
    "Canary",
    "Channel",
    "Cursor",
    "Dated",
    "Delayed",
    "Delivers",
    "Derived",
    "Desires",
    "Fault",
    "Forgets",
    "Held",
    "Holds",
    "Hop",
    "Host",
    "Inside",
    "Isolate",
    "Job",
    "Kill",
    "Ledger",
    "Limited",
    "Links",
    "Lives",
    "Log",
    "Mirror",
    "Newest",
    "Paired",
    "Pause",
    "Points",
    "Probe",
    "Reach",
    "Retains",
    "Rights",
    "Serves",
    "Settles",
    "Shape",
    "States",
    "Store",
    "Sums",
    "Symptoms",
    "Totalled",
    "Trap",
    "UntilServed",
]

UNDER_WAY_MAX_S = 1800.0
"""A run that was due before that, and has not ended, never will."""


@runtime_checkable
class Probe(Protocol):
    """One question to one server, asked many times a second, from several threads at once."""

    def read(self) -> Mapping[str, float]:
        """Suffix -> value; "" is the answer itself. Raises DriverError when there is none. Must return within the
        probe's `timeout_s`."""
        ...


@runtime_checkable
class Hop(Protocol):
    """A place where the stream's records rest. Every method computes in the engine that holds the rows.

    Its class has a field `name`, the hop's own in gameday.toml, which its digests carry.
    """

    def heads(self) -> Mapping[Group, int]:
        """Group -> highest id, from a small table or the log's tail, never by a scan of history."""
        ...

    def digest(self, window: Window) -> Sequence[Digest]:
        """What the hop holds of the window, one Digest for each stream and view it offers."""
        ...

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """The records lo < id <= hi by field, only to list a difference: distinct, but for a view that promises each
        once."""
        ...


@runtime_checkable
class Sums(Hop, Protocol):
    """A hop whose engine can sum up without grouping by key: a fraction of a digest's cost."""

    def sums(self, window: Window) -> Sequence[Digest]:
        """As `digest`, but rows that repeat a record count and sum again, and conflicts are not told."""
        ...


@runtime_checkable
class Paired(Hop, Protocol):
    """A hop that can be compared with another of its kind for less than two digests cost."""

    def both(self, other: object, window: Window) -> tuple[Digest, Digest] | None:
        """Digests of this hop and the other: right where they are held against each other, and against nothing else.
        None: the other is none of its kind, or has records in a form that only a digest compares."""
        ...


@runtime_checkable
class Totalled(Hop, Protocol):
    """A hop whose heads can be added up where they are, so that ten thousand groups need not be handed on each time."""

    def totals(self, shards: Shards) -> Totals:
        """The heads of all groups by shard, as `heads` would give them now."""
        ...


@runtime_checkable
class Newest(Hop, Protocol):
    """A hop that can show its newest records together with what it can't read, however wrong their declaration is."""

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        """About `limit` of the newest records, in bounded time and memory. upto: of these groups alone, and none above
        these ids."""
        ...


@runtime_checkable
class States(Hop, Protocol):
    """A hop that can tell what counts of each key, where rows change and go: a table of kind "state", or a log."""

    def state(self, upto: Position | None = None) -> states.State:
        """What counts as of one moment, with its position where the hop knows it. upto: as of these places of a log,
        which a table can't tell; None: now."""
        ...

    def records(self, hashes: U64) -> Columns:
        """The records with these hashes of all their fields (Stream.state_hashes), each once, only to list a
        difference."""
        ...


@runtime_checkable
class Ledger(Hop, Protocol):
    """A first hop outside of the platform: it knows every record that should exist, from the first on."""

    whole: ClassVar[bool]


@runtime_checkable
class Canary(Protocol):
    """Writes one record through a platform's front door. From several threads at once."""

    def send(self, known: Mapping[str, str]) -> Sent:
        """One attempt, whose templates are filled with what is known. Connecting and sending each have timeout_s.

        done: the server says that it has the record. refused: it certainly has not, and never will. unknown: all else,
        such as an attempt that was cut off. No library may send it again where that could write it twice.
        """
        ...


@runtime_checkable
class Attempts(Hop, Protocol):
    """A first hop that knows every attempt to write a record, and how it ended. Its heads are those of all attempts;
    its digest and rows are of those that are done."""

    def begun(self) -> Mapping[Group, int]:
        """Group -> the id before its first attempt."""
        ...

    def doubtful(self, window: Window) -> Mapping[Group, Columns]:
        """The records of which it is not known whether the platform has taken them; groups with none are left out."""
        ...


@runtime_checkable
class Derived(Protocol):
    """A hop whose rows are made from another hop's, such as sums over time."""

    def heads(self) -> Mapping[Group, int]:
        """Group -> the highest id that went into all of its rows."""
        ...

    def derived(self, window: Window, ledger: Hop) -> Sequence[Digest]:
        """Its own stream over the rows that any id of the window went into: what the ledger makes of the same ids
        first, if it is a Ledger, and what is held last."""
        ...


@runtime_checkable
class Log(Hop, Protocol):
    """The log, in which a group's ids ascend with the offsets."""

    def heads_before(self, position: Position) -> Mapping[Group, int]:
        """Group -> the highest id among the records below these offsets."""
        ...

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        """Group -> the lowest id among the records that came since then, wall clock."""
        ...


@runtime_checkable
class Arrivals(Hop, Protocol):
    """A first hop that knows when each record came to it, for streams whose records have no time of their own."""

    def arrived(self, window: Window | None = None) -> Came:
        """When each key came, of all that is there now. window: of those that came in it; None: of those that came
        lately."""
        ...


@runtime_checkable
class Dated(Hop, Protocol):
    """A hop that can be a later one of such a stream: it has its records' times from the first one, which it is given
    before it is asked anything."""

    arrivals: Arrivals | None


@runtime_checkable
class Archive(Hop, Protocol):
    """A table that a job appends to in commits. Each says in its summary up to where it has the log, if it says so."""

    placed: bool
    """Whether the commits say where they are in the log; else only their rows tell."""

    def read(self) -> Mapping[str, float]:
        """The newest commit's claims, as a probe: "head/<group>" and "position/<slot>"."""
        ...

    def commits(self, after: str | None) -> Sequence[Commit]:
        """The commits since that one, oldest first and that one with them, with what each added; None: the newest."""
        ...


@runtime_checkable
class Store(Protocol):
    """An archive whose data files can be seen in their store before a commit names them."""

    def stored(self) -> Collection[str]:
        """Every data file below the table's place."""
        ...

    def named(self) -> Collection[str]:
        """Those that the newest commit names."""
        ...


@runtime_checkable
class Symptoms(Protocol):
    """A hop that can tell more than digests: Evidence.symptoms, each under "<hop>.<name>"."""

    @property
    def tells(self) -> Collection[str]:
        """The names of those that it can tell, as it is configured."""
        ...

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """since_us: the run's baseline, wall clock. started_us: component -> when its present process started, or a
        link of it was mended, wall clock."""
        ...


@runtime_checkable
class Delivers(Protocol):
    """A hop whose rows know their place in the log: what a consumer has delivered, whatever it says it has
    committed."""

    def delivered(self) -> Position:
        """Slot -> the offset after the highest that it holds; {}: its rows know none."""
        ...


@runtime_checkable
class Cursor(Protocol):
    """A consumer's place in a log: group, slot, watermark. lag = end - position."""

    def position(self) -> Position: ...

    def end(self) -> Position: ...


@runtime_checkable
class Retains(Cursor, Protocol):
    """A cursor in a log that deletes what is old."""

    def kept(self) -> Mapping[str, Kept]:
        """Slot -> what the log keeps for the consumer; without slots in which it has no place."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """A log that deletes what is old."""

    def starts(self) -> Position:
        """Slot -> the lowest offset that is not deleted."""
        ...


@runtime_checkable
class Mirror(Protocol):
    """A copy of a position, kept for people. One that is a time has the single slot "time_us"."""

    def position(self) -> Position: ...


@runtime_checkable
class Job(Protocol):
    """A batch job of the platform under an orchestrator."""

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask for one run now, with these variables in its environment; its id. The same key is the same run."""
        ...

    def find(self, key: str) -> JobRun | None:
        """The run that was asked for under this key."""
        ...

    def withdraw(self, key: str) -> None:
        """Make sure that a run asked for under this key, and not yet started, never starts."""
        ...

    def runs(self, since_us: int) -> Sequence[JobRun]:
        """The runs that were due since then, wall clock, oldest first; also those that are planned."""
        ...

    def interval_s(self) -> float | None:
        """The time between two scheduled runs; None: it has no schedule."""
        ...

    def hindrances(self, scheduled_within_s: float | None) -> Sequence[Hindrance]:
        """What keeps a run that is asked for now from starting, or the next scheduled one from being due in that time
        (None: none is needed); []: nothing is known to."""
        ...


@runtime_checkable
class Alerts(Protocol):
    """The platform's own alerts. labels: those that say whose an alert is."""

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        """{"": INACTIVE, PENDING or FIRING, ".evaluated": seconds since 1970, by its own clock}, of the alerts of this
        name with these labels; and ELSEWHERE with labels: the state of each that is active under others. Raises
        DriverError also when there is no such rule, or one that can't be judged."""
        ...

    def unlike(self, alert: str, labels: Mapping[str, str]) -> str | None:
        """Why no alert of this name can have these labels; None: it can, as far as its rule tells."""
        ...

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        """(name, labels) of every alert that fires."""
        ...

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        """Tell nobody of such alerts until so long from now; the silence's id. known: the one to prolong. None: nobody
        is told in any case, as far as is configured."""
        ...

    def silenced(self, known: str) -> bool:
        """Whether that silence is in force now."""
        ...

    def unsilence(self, known: str) -> None:
        """End that silence. Idempotent."""
        ...


@runtime_checkable
class Points(Protocol):
    """Failpoints in a running process: places in its own code that can be armed to fail. A point is its name."""

    def listed(self) -> Mapping[str, Json]:
        """Point -> {"about", "term" (None: not armed), "left_s", "evaluated" (None: not told), "fired", ...}. {}: no
        process listens, so nothing is armed."""
        ...

    def arm(self, point: str, term: str, ttl_s: float, run: str) -> None:
        """Armed until it is disarmed, its process ends, or ttl_s is over; run is named in the evidence. ConfigError:
        no such point or term."""
        ...

    def disarm(self, point: str) -> None:
        """Also lets go who is paused there. Idempotent in a process that declares the point."""
        ...

    def wait(self, point: str, times: int, within_s: float) -> None:
        """Return when it has fired so often since it was armed. TooLate when it hasn't within within_s."""
        ...

    def firings(self, point: str) -> Sequence[Json]:
        """Every firing there has been, oldest first, also of processes that are gone: {"hit", "at_us", "pid", "action",
        "run"}, each noted before it acted."""
        ...


@runtime_checkable
class Host(Protocol):
    """What runs components. `component` is always the role's name from gameday.toml; the host maps it to a process or
    container.

    All of start, stop and what Kill and Pause offer is idempotent: asking for the state that already is, is fine.
    """

    def identity(self, component: str) -> Json | None:
        """Who runs now, as a value that no later process shares ({"pid", "start_ticks", "boot_id", "started_us"});
        None: nobody."""
        ...

    def start(self, component: str) -> None:
        """Want it running, and wait until its process exists (not until it serves)."""
        ...

    def stop(self, component: str, grace_s: float) -> None:
        """Want it stopped: terminate, wait up to grace_s, then kill. Returns when the process is gone; autorestart is
        off until start."""
        ...


@runtime_checkable
class Lives(Protocol):
    """A host that remembers whom it started: a process that came and went between two looks is known all the same."""

    def lives(self, component: str, since_us: int) -> Sequence[Json]:
        """Every process of the component that began since then (wall clock), oldest first: {"started_us"}, and "pid"
        where it is known."""
        ...


@runtime_checkable
class Serves(Protocol):
    """A host that knows more of a component than that its process exists."""

    def unserved(self, component: str) -> str | None:
        """Why a component that runs does not serve, as far as its host can tell, in words; None: nothing speaks against
        it, and its probes decide."""
        ...


@runtime_checkable
class Holds(Protocol):
    """A host that can tell who holds a port: else whoever answers there is taken for the component."""

    def holds(self, component: str, port: int) -> bool | None:
        """Whether nobody but the component listens on this port, and it isn't frozen. None: it runs, and somebody else
        listens there, such as a proxy in front of it."""
        ...


@runtime_checkable
class Desires(Protocol):
    """A host that keeps for each component whether it is to run."""

    def stopped(self, component: str) -> bool:
        """Whether it is down because somebody stopped it, and not by its own end or a kill. False where that can't be
        told."""
        ...


@runtime_checkable
class Kill(Protocol):
    """A host that can kill without telling the supervisor: revival is left to whatever revives."""

    def kill(self, component: str, identity: Json) -> None:
        """SIGKILL exactly this identity; a DriverError when it is no longer the one that runs."""
        ...


@runtime_checkable
class Pause(Protocol):
    """A host that can freeze a component: it keeps its sockets and answers nothing."""

    def pause(self, component: str) -> None: ...

    def resume(self, component: str) -> None: ...

    def paused(self, component: str) -> bool: ...


@runtime_checkable
class Isolate(Protocol):
    """A host that can take a component off its networks: it reaches nobody, and nobody reaches it. All is idempotent.

    attached: what its first method told before the cut.
    """

    def attached(self, component: str) -> Json:
        """{"id": whose they are, "networks": [{"name", …}]: what rejoin needs, "neighbours": {name: address},
        "published": addresses outside that lead to it and are lost with the cut}."""
        ...

    def isolate(self, component: str, attached: Json) -> None: ...

    def rejoin(self, component: str, attached: Json) -> None:
        """Back in each network under the same names and fixed addresses. Nothing to do for a component that was made
        anew since."""
        ...

    def isolated(self, component: str, attached: Json) -> bool:
        """Whether it is off any of these networks."""
        ...

    def adrift(self, component: str) -> bool:
        """Whether it is off the network that it was made for, by whomever."""
        ...

    def reached(self, component: str, attached: Json) -> Sequence[str]:
        """The neighbours that answer when they are asked from inside the component."""
        ...


@runtime_checkable
class Inside(Protocol):
    """A host that can run a command where the component runs, also when its network is cut."""

    def run(self, component: str, command: Sequence[str], timeout_s: float) -> None:
        """Raises DriverError unless it ends with 0 within timeout_s."""
        ...


@runtime_checkable
class Limited(Protocol):
    """A host that can't do to every component what its class offers."""

    def cannot(self, component: str, need: type) -> str | None:
        """Why this Protocol's methods can't be used on the component, with the remedy; None: they can."""
        ...


@runtime_checkable
class Links(Protocol):
    """A host of links between components, one per (from, to) pair."""

    def links(self) -> Mapping[str, Json]:
        """Link name -> its state: {"listen", "upstream", "enabled", "toxics": [...]}."""
        ...


@runtime_checkable
class Shape(Links, Protocol):
    """A host that can cut its links and distort what passes them. Every method is idempotent."""

    def cut(self, link: str) -> None:
        """End the link's connections and refuse new ones, until `join`."""
        ...

    def join(self, link: str) -> None: ...

    def distort(self, link: str, name: str, kind: str, stream: str, attributes: Mapping[str, Json]) -> None:
        """Add a toxic under this name. kind and attributes: as Toxiproxy calls them; stream: "upstream", towards the
        server, or "downstream"."""
        ...

    def restore(self, link: str, name: str) -> None:
        """Take that toxic away."""
        ...

    def reaction_s(self, address: str) -> float | None:
        """How an address that `links` shows reacts to noise, from where the links' clients are: seconds; None: not
        within vantage.PATIENCE_S. Raises ConnectionRefusedError, ConnectionResetError."""
        ...

    def manner(self, address: str) -> str:
        """In which manner (vantage.manner) such an address treats a connection, from there."""
        ...


@runtime_checkable
class Rights(Protocol):
    """What one user may do in an object store. A policy is text that only the store reads; None: there is none."""

    def policy(self) -> str | None: ...

    def deny_writes(self) -> None:
        """Take the user's right to write, besides what the policy says now. Idempotent."""
        ...

    def allow_writes(self, before: str | None) -> None:
        """Take back what deny_writes did, and nothing that others did meanwhile. before: the policy as it was, given
        back to the letter where nobody changed it. Idempotent."""
        ...

    def denied(self) -> bool:
        """Whether the right is taken."""
        ...

    def refusals(self) -> Mapping[str, int]:
        """The HTTP status that the user meets: "read" and "write"."""
        ...


class Reach(Protocol):
    """What a fault may reach of a stack. What is named and is not there is a ConfigError that names what is near."""

    @property
    def state(self) -> State:
        """Its state folder."""
        ...

    def host(self, role: str) -> Host:
        """The host that runs this role."""
        ...

    def link_host(self, link: str) -> Host:
        """The host that keeps this link."""
        ...

    def own_probes(self, role: str) -> Mapping[str, Probe]:
        """The component's probes by name, as gameday reaches it: who only answers a command inside serves nobody."""
        ...

    def points(self, role: str) -> Points:
        """The failpoints in this role's code."""
        ...

    def run_points(self, folder: str) -> Points:
        """The failpoints of a single run of a job, whose socket and evidence are in this folder."""
        ...

    def rights(self, role: str) -> Rights:
        """What a user may do in this store."""
        ...

    def job(self, name: str) -> Job:
        """A batch job of the platform."""
        ...

    def export(self) -> tuple[Archive, Job]:
        """The archive and the job that fills it; a GamedayError where there is none."""
        ...


@runtime_checkable
class Fault(Protocol):
    """One kind of harm. A frozen dataclass: its fields are its arguments in the journal, its module's name is its
    kind."""

    needs: ClassVar[tuple[type, ...]]
    undo: ClassVar[str]
    """What heal does, for people: "start it"."""

    @property
    def component(self) -> str:
        """The role that is struck."""
        ...

    def before(self, stack: Reach) -> Json:
        """All that act's proof and heal need, as plain JSON, noted before anything is touched. Raises when the fault
        can't be carried out."""
        ...

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        """Do the harm."""
        ...

    def proof(self, stack: Reach, before: Json) -> str | None:
        """The proof that it took effect, in words with figures, seen from the victim; None: it did not bite."""
        ...

    def heal(self, stack: Reach, before: Json) -> None:
        """Undo it. Idempotent, needs nothing but `before`, and is right whether or not act was reached."""
        ...


@runtime_checkable
class Held(Protocol):
    """A fault that lasts until it is healed (stop, pause, a cut). The others strike only once."""

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether it is in effect now."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A fault whose act, once it has returned, leaves nothing to undo unless what it struck ended by itself."""

    def settled(self, stack: Reach, before: Json) -> bool:
        """Only asked of an act that has returned: whether what is down now is somebody else's doing."""
        ...


@runtime_checkable
class UntilServed(Protocol):
    """A fault that is mended only when what it struck serves again."""

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """What is still missing after the heal, in words; None: it serves, or what it does is another's by now."""
        ...


@runtime_checkable
class Delayed(Protocol):
    """A fault that strikes some time after it was done: the clock starts when it struck."""

    def struck_ns(self, stack: Reach, before: Json) -> int:
        """When it first struck, monotonic; only asked for once it is proved."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A fault that asks for a run of a job; `before` has the "key" under which it does."""

    @property
    def job(self) -> str:
        """Its name under [jobs]."""
        ...


@runtime_checkable
class Trap(Protocol):
    """A fault that lies in wait: its proof is that it is set; whether it has struck shows later. Never: invalid."""

    @property
    def point(self) -> str:
        """What conditions know it by."""
        ...

    def fired(self, stack: Reach, before: Json) -> int:
        """How often it has struck."""
        ...


@runtime_checkable
class Channel(Protocol):
    """Where people are told: a chat, a pager, whatever takes a POST. When, how often, and what becomes of a message
    that isn't taken is courier.py's."""

    takes: ClassVar[frozenset[str]]
    """The kinds of Message that are meant for it."""

    def send(self, message: Message, below: str | None, within_s: float) -> str | None:
        """Deliver it, once; what a later message that belongs below it is given as `below`. No wait for the server is
        longer than within_s. Raises Undelivered, whose text holds no secret."""
        ...
