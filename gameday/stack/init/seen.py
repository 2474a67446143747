"""What was seen of a running platform: plain data, one class for each thing. Who looked is tasks/inventory/.

Values of rows are texts, NULL is None; a time is its microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gameday.records.paths import Message

__all__ = [
    "Broker",
    "Bucket",
    "Connector",
    "Connectors",
    "Container",
    "Engine",
    "Group",
    "ObjectStore",
    "Queue",
    "Rule",
    "Rules",
    "Runs",
    "Seen",
    "Store",
    "Table",
    "Topic",
    "View",
]


@dataclass(frozen=True)
class Container:
    """One container of a Compose project. networks: name -> its address there. published: its port -> host:port here.
    exposed: ports that its image names. opted_in: whether its label says that it may be broken."""

    service: str
    name: str
    image: str
    runs: bool = True
    restart: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[int, str] = field(default_factory=dict)
    exposed: Sequence[int] = ()
    opted_in: bool = False


@dataclass(frozen=True)
class Engine:
    """A Docker engine's containers of one Compose project."""

    url: str
    project: str
    containers: Sequence[Container]


@dataclass(frozen=True)
class Topic:
    """One topic, or a stream. held: messages between its first and its last offset. messages: the newest ones that were
    read, in the order of each partition. retention_ms: None where it is not known, -1 for ever. field: of an entry of
    Redis' that is its message; "": all of them are. subject: of JetStream's newest message."""

    name: str
    partitions: int = 1
    held: int = 0
    cleanup: str = ""
    retention_ms: int | None = None
    messages: Sequence[Message] = ()
    field: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Group:
    """A consumer group's committed places: topic -> how many messages it is behind. readers: the addresses from which
    its members reach the brokers."""

    name: str
    behind: Mapping[str, int]
    readers: Sequence[str] = ()


@dataclass(frozen=True)
class Broker:
    """What keeps logs. driver: of its hops. client: librdkafka's settings by which it is reached. unread: topics
    whose messages weren't read, for there are more than are looked into. groups_asked, groups_known: of how many
    groups the places were asked for."""

    address: str
    topics: Sequence[Topic]
    groups: Sequence[Group] = ()
    client: Mapping[str, str] = field(default_factory=dict)
    unread: int = 0
    groups_asked: int = 0
    groups_known: int = 0
    driver: str = "kafka"


@dataclass(frozen=True)
class Table:
    """A table that may hold records. name: as SQL has it. columns: name -> the engine's type. key: of Postgres the
    primary key, of ClickHouse the sorting key's columns. rows: newest ones that were read. identity: what Postgres
    tells a replica of a changed row."""

    name: str
    engine: str
    columns: Mapping[str, str]
    key: Sequence[str] = ()
    held: int = 0
    rows: Sequence[Mapping[str, str | None]] = ()
    identity: str = ""


@dataclass(frozen=True)
class Queue:
    """A table of ClickHouse's that reads a log."""

    name: str
    brokers: str
    topics: Sequence[str]
    group: str
    format: str
    flush_ms: int


@dataclass(frozen=True)
class View:
    """A materialized view of ClickHouse's. columns: of the target -> SQL over the source."""

    name: str
    source: str
    target: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Store:
    """A ClickHouse or Postgres. driver: of its hops. unread: tables whose rows weren't read."""

    driver: str
    address: str
    tables: Sequence[Table]
    queues: Sequence[Queue] = ()
    views: Sequence[View] = ()
    publications: Mapping[str, Sequence[str]] = field(default_factory=dict)
    slots: Mapping[str, str] = field(default_factory=dict)
    unread: int = 0


@dataclass(frozen=True)
class Connector:
    """One connector of Kafka Connect. kind: its class, without the package. tasks: their states. settings: those that
    say what it does with records."""

    name: str
    source: bool
    kind: str
    state: str
    tasks: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        return bool(self.tasks) and {self.state, *self.tasks} == {"RUNNING"}


@dataclass(frozen=True)
class Connectors:
    """unread: how many more there are."""

    url: str
    connectors: Sequence[Connector]
    unread: int = 0


@dataclass(frozen=True)
class Bucket:
    """objects: those that were listed; whole: whether that is all. tables: places of Iceberg tables among them."""

    name: str
    objects: int
    whole: bool
    tables: Sequence[str] = ()


@dataclass(frozen=True)
class ObjectStore:
    """A store that speaks S3. answers: the status of an answer to who doesn't say who he is."""

    url: str
    answers: int
    buckets: Sequence[Bucket]
    unread: int = 0


@dataclass(frozen=True)
class Rule:
    """An alerting rule."""

    name: str
    labels: Mapping[str, str]
    expression: str


@dataclass(frozen=True)
class Rules:
    """A Prometheus' alerting rules. alertmanager: where it sends them."""

    url: str
    rules: Sequence[Rule]
    alertmanager: str = ""


@dataclass(frozen=True)
class Runs:
    """A process of this machine that holds the port of a server. kind: of server. place: the server's host:port. unit:
    of systemd, with the manager that it is of; "": none has it. words: of its command line, which no other process has.
    line: what would start it, as far as /proc tells; "": that is too much for a line."""

    kind: str
    place: str
    pid: int
    words: str
    line: str = ""
    unit: str = ""
    manager: str = "system"


@dataclass(frozen=True)
class Seen:
    """All of it. others: what keeps logs besides the broker: NATS, Redis. troubles: what could not be looked at,
    one sentence each. prefect_url: gameday's own server; given: whether somebody said so; answers: whether it does;
    asks: whether it wants to know who one is. processes: of servers on this machine that are no containers."""

    name: str
    engine: Engine | None = None
    broker: Broker | None = None
    stores: Sequence[Store] = ()
    connect: Connectors | None = None
    alerts: Rules | None = None
    prefect_url: str = ""
    prefect_given: bool = False
    prefect_answers: bool = False
    prefect_asks: bool = False
    own: bool = False
    """Whether the state folder has gameday's own servers, as `gameday up` makes them."""
    troubles: Sequence[str] = ()
    others: Sequence[Broker] = ()
    objects: ObjectStore | None = None
    processes: Sequence[Runs] = ()

    @property
    def logs(self) -> Sequence[Broker]:
        """All that keep logs."""
        return [*([self.broker] if self.broker is not None else []), *self.others]

    def log_of(self, topics: Iterable[str]) -> Broker | None:
        """Who keeps these topics."""
        wanted = set(topics)
        return next((log for log in self.logs if wanted & {topic.name for topic in log.topics}), None)
