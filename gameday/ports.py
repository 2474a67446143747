"""The Protocols through which gameday reaches the world. Each is small; a driver implements those that it can, and
callers test for them with isinstance.

A driver module is loaded by its name in gameday.toml (`driver = "kafka"`) and has classes with fixed names: Probe, Hop,
Cursor, Job, Points, Channel. A module in hosts/ has a class Host. Each class is a dataclass whose fields are the keys
of its table in gameday.toml. Their methods raise DriverError.
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
    "Account",
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
    "Harms",
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
    "Revived",
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
"""A job's run that was due longer ago than this, and has not ended, is taken to be lost."""


@runtime_checkable
class Probe(Protocol):
    """One question to one server, asked many times a second, from several threads at once."""

    def read(self) -> Mapping[str, float]:
        """Ask once, within the probe's `timeout_s`.

        Returns: suffix of the series -> value; "" is the answer itself.

        Raises:
            DriverError: there is no answer.
        """
        ...


@runtime_checkable
class Hop(Protocol):
    """A place where the stream's records rest. Every method computes in the engine that holds the rows.

    Its class has a field `name`, the hop's name in gameday.toml; its digests have it too.
    """

    def heads(self) -> Mapping[Group, int]:
        """Return group -> highest id. It comes from a small table or the log's tail, never from a scan of history."""
        ...

    def digest(self, window: Window) -> Sequence[Digest]:
        """Return what the hop holds of the window: one Digest for each stream and view that it has."""
        ...

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        """Return the records with lo < id <= hi by field, to list a difference.

        Repeated records are left out, unless the view promises each record once.
        """
        ...


@runtime_checkable
class Sums(Hop, Protocol):
    """A hop whose engine can compute sums without grouping by key, at a fraction of a digest's cost."""

    def sums(self, window: Window) -> Sequence[Digest]:
        """Return digests as `digest` does, except that repeated rows are counted and summed again, and conflicts are
        not counted."""
        ...


@runtime_checkable
class Paired(Hop, Protocol):
    """A hop that can be compared with another of its kind for less than two digests cost."""

    def both(self, other: object, window: Window) -> tuple[Digest, Digest] | None:
        """Return digests of this hop and the other. They may be compared with each other, and with nothing else.

        None: the other hop is of another kind, or has records in a form that only a digest can compare.
        """
        ...


@runtime_checkable
class Totalled(Hop, Protocol):
    """A hop whose server can add up its heads, so that ten thousand groups need not be sent each time."""

    def totals(self, shards: Shards) -> Totals:
        """Return the totals of each shard over the heads that `heads` would return now."""
        ...


@runtime_checkable
class Newest(Hop, Protocol):
    """A hop that can show its newest records together with what it can't read, however wrong their declaration is."""

    def newest(self, limit: int, upto: Mapping[Group, int] | None = None) -> Excerpt:
        """Return about `limit` of the newest records, in bounded time and memory.

        upto: group -> id: only records of these groups, and none above these ids.
        """
        ...


@runtime_checkable
class States(Hop, Protocol):
    """A hop that can tell the current row of each key, where rows change and are deleted: a table of kind "state", or a
    log."""

    def state(self, upto: Position | None = None) -> states.State:
        """Return the current rows as of one moment, with their position if the hop knows it.

        upto: as of these places of a log (a table can't tell that); None: now.
        """
        ...

    def records(self, hashes: U64) -> Columns:
        """Return the records with these hashes (Stream.state_hashes), each once, to list a difference."""
        ...


@runtime_checkable
class Ledger(Hop, Protocol):
    """A first hop outside of the platform: it knows every record that should exist, from the very first."""

    whole: ClassVar[bool]


@runtime_checkable
class Canary(Protocol):
    """Writes records into the platform the way its producers do. Several threads use it at once."""

    def send(self, known: Mapping[str, str]) -> Sent:
        """Make one attempt to write a record. Connecting and sending each may take timeout_s.

        known: the values that the templates are filled with.

        Returns: done if the server says that it has the record; refused if it certainly has not and never will; unknown
        for all else, such as an attempt that was cut off. No library may repeat an attempt where that could write the
        record twice.
        """
        ...


@runtime_checkable
class Attempts(Hop, Protocol):
    """A first hop that knows every attempt to write a record, and how it ended. Its heads are those of all attempts;
    its digest and rows are of those that are done."""

    def begun(self) -> Mapping[Group, int]:
        """Return group -> the id before its first attempt."""
        ...

    def doubtful(self, window: Window) -> Mapping[Group, Columns]:
        """Return the records of which nobody knows whether the platform took them; groups without any are left out."""
        ...


@runtime_checkable
class Derived(Protocol):
    """A hop whose rows are made from another hop's, such as sums over time."""

    def heads(self) -> Mapping[Group, int]:
        """Return group -> the highest id that all of its rows have taken in."""
        ...

    def derived(self, window: Window, ledger: Hop) -> Sequence[Digest]:
        """Return digests of the hop's own stream, over the rows that any id of the window went into.

        The first is what the ledger makes of the same ids, if it is a Ledger. The last is what this hop holds.
        """
        ...


@runtime_checkable
class Log(Hop, Protocol):
    """The log, in which a group's ids ascend with the offsets."""

    def heads_before(self, position: Position) -> Mapping[Group, int]:
        """Return group -> the highest id among the records below these offsets."""
        ...

    def firsts(self, since_us: int) -> Mapping[Group, int]:
        """Return group -> the lowest id among the records that came since then (wall clock)."""
        ...


@runtime_checkable
class Arrivals(Hop, Protocol):
    """A first hop that knows when each record came to it, for streams whose records have no time of their own."""

    def arrived(self, window: Window | None = None) -> Came:
        """Return when each key came that the hop has now. window: only keys that came in it; None: recent keys."""
        ...


@runtime_checkable
class Dated(Hop, Protocol):
    """A later hop of such a stream. It takes its records' times from the first hop, which is set in `arrivals` before
    anything is asked."""

    arrivals: Arrivals | None


@runtime_checkable
class Archive(Hop, Protocol):
    """A table that a job appends to in commits. A commit's summary may say up to where the log was read."""

    placed: bool
    """Whether the commits say up to where the log was read. If not, only their rows show it."""

    def read(self) -> Mapping[str, float]:
        """Return the newest commit's claims as a probe does: "head/<group>" and "position/<slot>" -> value."""
        ...

    def commits(self, after: str | None) -> Sequence[Commit]:
        """Return the commit `after` and all since, oldest first, with what each added. None: only the newest commit."""
        ...


@runtime_checkable
class Store(Protocol):
    """An archive whose data files can be seen in their store before a commit names them."""

    def stored(self) -> Collection[str]:
        """Return every data file below the table's location."""
        ...

    def named(self) -> Collection[str]:
        """Return the data files that the newest commit names."""
        ...


@runtime_checkable
class Symptoms(Protocol):
    """A hop that can tell more than digests: Evidence.symptoms, each under "<hop>.<name>"."""

    @property
    def tells(self) -> Collection[str]:
        """The names of the symptoms that this hop can tell, as it is configured."""
        ...

    def symptoms(self, window: Window, since_us: int, started_us: Mapping[str, int]) -> Mapping[str, Json]:
        """Return symptom -> value.

        Args:
            window: the ids that the run is judged by.
            since_us: when the run's baseline was, wall clock.
            started_us: component -> when its present process started, or its link was healed, wall clock.
        """
        ...


@runtime_checkable
class Delivers(Protocol):
    """A hop whose rows know their place in the log. They show what a consumer has delivered, whatever it has
    committed."""

    def delivered(self) -> Position:
        """Return slot -> the offset after the highest that the hop holds; {}: its rows know no offsets."""
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
        """Return slot -> what the log keeps for the consumer. Slots without a position of it are left out."""
        ...


@runtime_checkable
class Forgets(Protocol):
    """A log that deletes what is old."""

    def starts(self) -> Position:
        """Return slot -> the lowest offset that is not deleted."""
        ...


@runtime_checkable
class Mirror(Protocol):
    """A copy of a position that the platform keeps for people. If it is a time, its only slot is "time_us"."""

    def position(self) -> Position: ...


@runtime_checkable
class Job(Protocol):
    """A batch job of the platform under an orchestrator."""

    def trigger(self, key: str, env: Mapping[str, str]) -> str:
        """Ask for one run now, with these variables in its environment, and return its id. Asking again with the same
        key makes no second run."""
        ...

    def find(self, key: str) -> JobRun | None:
        """Return the run that was asked for under this key; None: there is none."""
        ...

    def withdraw(self, key: str) -> None:
        """Make sure that a run asked for under this key, and not yet started, never starts."""
        ...

    def runs(self, since_us: int) -> Sequence[JobRun]:
        """Return the runs that were due since then (wall clock), oldest first, the planned ones too."""
        ...

    def interval_s(self) -> float | None:
        """Return the time between two scheduled runs; None: the job has no schedule."""
        ...

    def hindrances(self, scheduled_within_s: float | None) -> Sequence[Hindrance]:
        """Return why a run that is asked for now would not start, or the next scheduled run is not due in that time.

        scheduled_within_s: None: no scheduled run is needed. []: nothing is known to stand in the way.
        """
        ...


@runtime_checkable
class Account(Protocol):
    """What somebody has noted of a run, such as a broker of what it has handed out: Evidence.symptoms["accounts"]."""

    def told(self, since_us: int) -> Json:
        """Of the time since then, wall clock. What its keys mean, the checks that read it say."""
        ...


@runtime_checkable
class Harms(Job, Protocol):
    """A job whose run breaks something that stays so until `withdraw` mends it, which is idempotent and looks first. It
    remembers by its key what it was asked for, in the platform, before it breaks anything."""

    def met(self) -> Json:
        """What there is before, for people and for the undo. Raises DriverError where it is broken already, or can't be
        broken."""
        ...

    def broken(self, key: str) -> str | None:
        """What is broken now that was asked for under this key, in words with figures; None: nothing."""
        ...


@runtime_checkable
class Alerts(Protocol):
    """The platform's own alerts. labels: those that say which component an alert is about."""

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        """Return the state of the alerts of this name with these labels.

        Returns: "" -> INACTIVE, PENDING or FIRING; ".evaluated" -> when that was judged, seconds since 1970 by the
        server's clock; ELSEWHERE with labels -> the state of each alert of this name that is active under others.

        Raises:
            DriverError: no answer, no rule of that name, or a rule that can't be evaluated.
        """
        ...

    def unlike(self, alert: str, labels: Mapping[str, str]) -> str | None:
        """Return why no alert of this name can have these labels; None: one can, as far as its rule shows."""
        ...

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Return (name, labels) of every alert that fires."""
        ...

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        """Silence such alerts for that long, and return the silence's id.

        known: the id of a silence to prolong. None is returned where nobody would be told anyway, as configured.
        """
        ...

    def silenced(self, known: str) -> bool:
        """Return whether that silence is in force now."""
        ...

    def unsilence(self, known: str) -> None:
        """End that silence. Idempotent."""
        ...


@runtime_checkable
class Points(Protocol):
    """Failpoints in a running process: named places in its own code that can be armed to fail."""

    def listed(self) -> Mapping[str, Json]:
        """Return point -> {"about", "term" (None: not armed), "left_s", "evaluated" (None: not known), "fired", ...}.

        {}: no process listens, so nothing is armed.
        """
        ...

    def arm(self, point: str, term: str, ttl_s: float, run: str) -> None:
        """Arm a point until it is disarmed, its process ends, or ttl_s is over. The evidence names `run`.

        Raises:
            ConfigError: there is no such point or term.
        """
        ...

    def disarm(self, point: str) -> None:
        """Disarm a point, and let threads go that are paused there. Idempotent in a process that declares the point."""
        ...

    def wait(self, point: str, times: int, within_s: float) -> None:
        """Wait until the point has fired so often since it was armed.

        Raises:
            TooLate: it has not within within_s.
        """
        ...

    def firings(self, point: str) -> Sequence[Json]:
        """Return every firing of a point, oldest first, also in processes that are gone.

        Each is {"hit", "at_us", "pid", "action", "run"}, and was noted before the point acted.
        """
        ...


@runtime_checkable
class Host(Protocol):
    """What runs components. `component` is always the role's name from gameday.toml; the host maps it to a process or
    container.

    All of start, stop and what Kill and Pause offer is idempotent: asking for the state that already is, is fine.
    """

    def identity(self, component: str) -> Json | None:
        """Return the process that runs now, as a value that no later process has ({"pid", "start_ticks", "boot_id",
        "started_us"}); None: none runs."""
        ...

    def start(self, component: str) -> None:
        """Start the component, and wait until its process exists (not until it serves)."""
        ...

    def stop(self, component: str, grace_s: float) -> None:
        """Stop the component: terminate, wait up to grace_s, then kill. Returns when the process is gone.

        It is not restarted until `start`.
        """
        ...


@runtime_checkable
class Lives(Protocol):
    """A host that remembers what it started, also a process that came and went between two looks."""

    def lives(self, component: str, since_us: int) -> Sequence[Json]:
        """Return every process of the component that began since then (wall clock), oldest first: {"started_us"}, and
        "pid" if it is known."""
        ...


@runtime_checkable
class Serves(Protocol):
    """A host that knows more of a component than that its process exists."""

    def unserved(self, component: str) -> str | None:
        """Return why a component that runs does not serve, as far as its host can tell.

        None: the host knows no reason, and the component's probes decide.
        """
        ...


@runtime_checkable
class Holds(Protocol):
    """A host that can tell which process listens on a port. Without it, whatever answers there counts as the
    component."""

    def holds(self, component: str, port: int) -> bool | None:
        """Return whether the component alone listens on this port, and isn't frozen.

        None: the component runs, and another process listens there, such as a proxy in front of it.
        """
        ...


@runtime_checkable
class Desires(Protocol):
    """A host that keeps for each component whether it is to run."""

    def stopped(self, component: str) -> bool:
        """Return whether the component is down because somebody stopped it, not by its own end or a kill. False also
        where the host can't tell."""
        ...


@runtime_checkable
class Kill(Protocol):
    """A host that can kill a process without telling its supervisor, which is left to restart it."""

    def kill(self, component: str, identity: Json) -> None:
        """Send SIGKILL to exactly this process.

        Raises:
            DriverError: another process runs by now.
        """
        ...


@runtime_checkable
class Revived(Kill, Protocol):
    """Every host that can kill, where somebody else starts the component again; Limited says of which nobody does."""


@runtime_checkable
class Pause(Protocol):
    """A host that can freeze a component. A frozen component keeps its sockets and answers nothing."""

    def pause(self, component: str) -> None: ...

    def resume(self, component: str) -> None: ...

    def paused(self, component: str) -> bool: ...


@runtime_checkable
class Isolate(Protocol):
    """A host that can take a component off its networks, so that it reaches nobody and nobody reaches it. Every method
    is idempotent.

    attached: what the method `attached` returned before the cut.
    """

    def attached(self, component: str) -> Json:
        """Return how the component is connected.

        Returns: {"id": its container, "networks": [{"name", …}], which rejoin needs, "neighbours": {name: address},
        "published": the outside addresses that lead to it, and stop to with the cut}.
        """
        ...

    def isolate(self, component: str, attached: Json) -> None: ...

    def rejoin(self, component: str, attached: Json) -> None:
        """Put the component back into each network, with the same names and fixed addresses. A component that was made
        anew since stays as it is."""
        ...

    def isolated(self, component: str, attached: Json) -> bool:
        """Return whether the component is off any of these networks."""
        ...

    def adrift(self, component: str) -> bool:
        """Return whether the component is off the network that it was made for, whoever did it."""
        ...

    def reached(self, component: str, attached: Json) -> Sequence[str]:
        """Return the neighbours that answer when they are asked from inside the component."""
        ...


@runtime_checkable
class Inside(Protocol):
    """A host that can run a command where the component runs, also when its network is cut."""

    def run(self, component: str, command: Sequence[str], timeout_s: float) -> None:
        """Run a command inside the component.

        Raises:
            DriverError: it did not end with 0 within timeout_s.
        """
        ...


@runtime_checkable
class Limited(Protocol):
    """A host that can't use all methods of its class on every component."""

    def cannot(self, component: str, need: type) -> str | None:
        """Return why this Protocol's methods can't be used on the component, with a remedy; None: they can."""
        ...


@runtime_checkable
class Links(Protocol):
    """A host of links between components, one per (from, to) pair."""

    def links(self) -> Mapping[str, Json]:
        """Return link name -> its state: {"listen", "upstream", "enabled", "toxics": [...]}."""
        ...


@runtime_checkable
class Shape(Links, Protocol):
    """A host that can cut its links and distort what passes them. Every method is idempotent."""

    def cut(self, link: str) -> None:
        """Close the link's connections and refuse new ones, until `join`."""
        ...

    def join(self, link: str) -> None: ...

    def distort(self, link: str, name: str, kind: str, stream: str, attributes: Mapping[str, Json]) -> None:
        """Add a toxic under this name.

        kind, attributes: as Toxiproxy calls them. stream: "upstream" (towards the server) or "downstream".
        """
        ...

    def restore(self, link: str, name: str) -> None:
        """Remove that toxic."""
        ...

    def reaction_s(self, address: str) -> float | None:
        """Return after how many seconds an address reacts to a meaningless request, sent from where the links' clients
        are.

        address: one that `links` shows. None: no reaction within vantage.PATIENCE_S.

        Raises:
            ConnectionRefusedError, ConnectionResetError: that was the reaction.
        """
        ...

    def manner(self, address: str) -> str:
        """Return how such an address treats a connection from there (vantage.manner)."""
        ...


@runtime_checkable
class Rights(Protocol):
    """What one user may do in an object store. A policy is text that only the store understands; None: no policy."""

    def policy(self) -> str | None: ...

    def deny_writes(self) -> None:
        """Take the user's right to write, in addition to what the policy says now. Idempotent."""
        ...

    def allow_writes(self, before: str | None) -> None:
        """Undo deny_writes, and nothing that others did meanwhile. Idempotent.

        before: the policy as it was. It is restored to the letter if nobody has changed it since.
        """
        ...

    def denied(self) -> bool:
        """Return whether the right to write is taken."""
        ...

    def refusals(self) -> Mapping[str, int]:
        """Return the HTTP status that the user gets: "read" -> status, "write" -> status."""
        ...


class Reach(Protocol):
    """What a fault may reach of a stack.

    Every method raises ConfigError for a name that is not configured; the error names similar ones.
    """

    @property
    def state(self) -> State:
        """The stack's state folder."""
        ...

    def host(self, role: str) -> Host:
        """Return the host that runs this role."""
        ...

    def link_host(self, link: str) -> Host:
        """Return the host that keeps this link."""
        ...

    def own_probes(self, role: str) -> Mapping[str, Probe]:
        """Return the component's probes by name. They ask from where gameday is: an answer to a command that runs
        inside the component doesn't show that it serves."""
        ...

    def points(self, role: str) -> Points:
        """Return the failpoints in this role's code."""
        ...

    def run_points(self, folder: str) -> Points:
        """Return the failpoints of a single run of a job; its socket and evidence are in this folder."""
        ...

    def rights(self, role: str) -> Rights:
        """Return what a user may do in this store."""
        ...

    def job(self, name: str) -> Job:
        """Return a batch job of the platform."""
        ...

    def export(self) -> tuple[Archive, Job]:
        """Return the archive and the job that fills it.

        Raises:
            GamedayError: the stack has no archive.
        """
        ...


@runtime_checkable
class Fault(Protocol):
    """One kind of fault. It is a frozen dataclass; its fields are the arguments in the journal, its module's name is
    the kind."""

    needs: ClassVar[tuple[type, ...]]
    undo: ClassVar[str]
    """What heal does, in words for people: "start it"."""

    @property
    def component(self) -> str:
        """The role that is struck."""
        ...

    def before(self, stack: Reach) -> Json:
        """Return all that proof and heal will need, as plain JSON. It is noted before anything is touched.

        Raises:
            GamedayError: the fault can't be carried out.
        """
        ...

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        """Carry the fault out."""
        ...

    def proof(self, stack: Reach, before: Json) -> str | None:
        """Return the proof that the fault took effect, in words with figures, as seen from the struck component; None:
        there is no effect (yet)."""
        ...

    def heal(self, stack: Reach, before: Json) -> None:
        """Undo the fault. Idempotent. It needs nothing but `before`, and is right even if `act` was never called."""
        ...


@runtime_checkable
class Held(Protocol):
    """A fault that lasts until it is healed (stop, pause, a cut). The others strike only once."""

    def holds(self, stack: Reach, before: Json) -> bool:
        """Return whether the fault is in effect now."""
        ...


@runtime_checkable
class Settles(Protocol):
    """A fault that leaves nothing to undo once its `act` has returned, unless what it struck ended by itself."""

    def settled(self, stack: Reach, before: Json) -> bool:
        """Return whether what is down now is somebody else's doing. Only asked after `act` has returned."""
        ...


@runtime_checkable
class UntilServed(Protocol):
    """A fault that counts as healed only when what it struck serves again."""

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """Return what is still missing after the heal, in words; None: it serves, or someone else acts on it by now."""
        ...


@runtime_checkable
class Delayed(Protocol):
    """A fault that strikes some time after `act`. The run's clock starts when it struck."""

    def struck_ns(self, stack: Reach, before: Json) -> int:
        """Return when it first struck, in ns of the monotonic clock. Only asked once the fault is proved."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A fault that asks for a run of a job. `before` has the "key" of that run."""

    @property
    def job(self) -> str:
        """The job's name under [jobs]."""
        ...


@runtime_checkable
class Trap(Protocol):
    """A fault that waits for its moment. Its proof is that it is set; whether it strikes shows later. If it never does,
    the run is invalid."""

    @property
    def point(self) -> str:
        """The failpoint's name, which conditions use."""
        ...

    def fired(self, stack: Reach, before: Json) -> int:
        """Return how often it has struck."""
        ...


@runtime_checkable
class Channel(Protocol):
    """A way to reach people: a chat, a pager, anything that takes a POST.

    courier.py decides when and how often a message is sent, and what happens to one that isn't taken.
    """

    takes: ClassVar[frozenset[str]]
    """The kinds of Message that are meant for it."""

    def send(self, message: Message, below: str | None, within_s: float) -> str | None:
        """Deliver a message, once.

        Args:
            below: what `send` returned for the message whose thread this one belongs to.
            within_s: the longest wait for the server.

        Returns: what later messages in this one's thread get as `below`.

        Raises:
            Undelivered: the server did not take it. The text holds no secret.
        """
        ...
