"""The tables of a gameday.toml: a class for each, with the meaning of its keys. stack/reading.py reads the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from gameday.errors import ConfigError
from gameday.records import declaration
from gameday.records.declaration import Stream
from gameday.system import address
from gameday.system.tls import Tls

__all__ = [
    "CANARY",
    "AlertsConfig",
    "ArchiveConfig",
    "Brokers",
    "CanaryConfig",
    "ChannelConfig",
    "ComponentConfig",
    "ContractConfig",
    "CursorConfig",
    "DriverConfig",
    "HostConfig",
    "Http",
    "JobConfig",
    "LinkConfig",
    "MetricsConfig",
    "Nats",
    "Postgres",
    "PrefectConfig",
    "ProbeConfig",
    "PublicConfig",
    "Redis",
    "RetentionConfig",
    "RoleConfig",
    "RunbookConfig",
    "StackConfig",
    "StopConfig",
    "StreamConfig",
    "Strict",
    "TestsConfig",
    "TrendConfig",
]

ARCHIVED = "archive"
"""The hop that [archive] is."""

CANARY = "canary"
"""The hop that [canary] is, and its driver."""

NAME_MAX = 100
"""Characters of a stack's name: it is in paths, and in each line of a table."""

CANARY_RATE_HZ_MAX = 20.0
CANARY_GROUPS_MAX = 64
CANARY_FOR_S = 3600.0
"""How long the canary may write by default: longer than any run."""

Http = Annotated[str, AfterValidator(address.http)]
Postgres = Annotated[str, AfterValidator(address.postgres)]
Brokers = Annotated[str, AfterValidator(address.brokers)]
Nats = Annotated[str, AfterValidator(address.nats)]
Redis = Annotated[str, AfterValidator(address.redis)]
"""The types of settings that are addresses, here and in a driver's class."""


class Strict(BaseModel):
    """A table in which unknown keys are errors: a misspelt key must not silently mean its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DriverConfig(BaseModel):
    """A table with a driver. `driver` names the module in gameday/drivers, and after a dot its class, if that isn't the
    section's own. The other keys are the class's fields."""

    model_config = ConfigDict(extra="allow", frozen=True)
    driver: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ProbeConfig(DriverConfig):
    """How often a component is asked, and how long an answer may take.

    inside: a command that asks the component from inside, for when it is cut off and can't be reached.
    """

    rate_hz: float = Field(20.0, gt=0, le=200)
    timeout_s: float = Field(1.0, gt=0, le=30)
    inside: tuple[str, ...] = ()


class StopConfig(ProbeConfig):
    """A bound that ends any run when a number that the probe reads crosses it.

    field: the only number that counts, if it is named.
    max, min: the number may not be above, or below.
    per_s: whether the bound is for the number's rise a second, not for the number.
    for_s: the bound is crossed only once every answer was beyond it for so long.
    A missing answer crosses no bound: the server may be the one that is being broken.
    """

    rate_hz: float = Field(5.0, gt=0, le=50)
    field: str | None = None
    max: float | None = None
    min: float | None = None
    per_s: bool = False
    for_s: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError("needs max or min")
        return self


class ComponentConfig(Strict):
    """One component: where it runs and how it shows that it serves. Only components with opt_in are ever touched.

    role: the kind of component (broker, consumer, sink, database, …).
    points: how its failpoints are reached, if its code has any.
    rights: what its user may do in it, if it is a store.
    """

    host: str = "local"
    name: str | None = None
    role: str | None = None
    opt_in: bool = False
    probes: Mapping[str, ProbeConfig] = Field(min_length=1)
    points: DriverConfig | None = None
    rights: DriverConfig | None = None


class RoleConfig(Strict):
    """Several components that share a role: replicas, or the processes of a consumer group.

    In gameday.toml it is a [components.NAME] with `members`, the names of other components. role: as in a component.
    """

    members: tuple[str, ...] = Field(min_length=1)
    role: str | None = None


class LinkConfig(Strict):
    """One link that may be cut or distorted: the host that keeps it, and the components at its ends, in the direction
    in which the data flow. It may be touched if the struck end opted in."""

    host: str
    between: tuple[str, str]


class JobConfig(DriverConfig):
    """A batch job. points: whether its code has failpoints (failpoints/README.md); if not, it is struck from
    outside."""

    points: bool = False


class CursorConfig(DriverConfig):
    """A consumer's place in a log. component: the consumer, which the general test `lag` holds back."""

    component: str | None = None


class HostConfig(BaseModel):
    """Settings of one kind of host. driver: its module in gameday/hosts, the name of an entry point, or
    "package.module:Class"; the table's own name where it is left out."""

    model_config = ConfigDict(extra="allow", frozen=True)


class StreamConfig(Strict):
    """One stream of records, as declared (docs/records.md). records/declaration.py interprets it."""

    key: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    fields: Mapping[str, str] = Field(default_factory=dict)
    sequence: str | None = None
    gapless: bool = False
    time: str | None = None
    version: str | None = None
    hops: tuple[str, ...] = Field(min_length=2)
    visible: str
    path: tuple[str, ...] = Field(min_length=1)


class CanaryConfig(DriverConfig):
    """Records of gameday's own, written into the platform the way its producers do (docs/canary.md). The other keys are
    those of the driver's class Canary; their texts are templates.

    fields: a template for each field of the stream.
    groups: the texts of {group}; (): the stream has no groups.
    rate_hz: records a second, in each group.
    at_most: how many records one run may write in all; None: what rate_hz gives in an hour.
    timeout_s: an attempt without an outcome by then is unknown.
    prefix: what {key} begins with.
    clean_up: another such driver, whose text is sent once after a run.
    """

    fields: Mapping[str, str] = Field(default_factory=dict)
    groups: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$")], ...] = Field(
        default=(), max_length=CANARY_GROUPS_MAX
    )
    rate_hz: float = Field(default=4.0, gt=0, le=CANARY_RATE_HZ_MAX)
    at_most: int | None = Field(default=None, ge=1, le=1_000_000)
    timeout_s: float = Field(default=5.0, gt=0, le=30)
    prefix: str = Field(default="gameday-", pattern=r"^[A-Za-z0-9_.:-]*$")
    clean_up: DriverConfig | None = None

    @property
    def most(self) -> int:
        """How many records one run may write."""
        return self.at_most or int(CANARY_FOR_S * self.rate_hz) * max(1, len(self.groups))


class ArchiveConfig(Strict):
    """The table that a job exports a stream to. It is judged by the tests of that job, and at the end of the night.

    stream: the exported stream, if the stack has several.
    job: the job's name under [jobs]. worker: the component that runs it.
    table: a driver that offers Archive.
    mirror: a driver that offers Mirror, if the job shows its position to people.
    """

    stream: str | None = None
    job: str
    worker: str
    table: DriverConfig
    mirror: DriverConfig | None = None


class AlertsConfig(ProbeConfig):
    """The platform's own alerts: a driver that offers Alerts.

    url: empty if the stack has no alerts.
    labels: component -> the labels of its alerts; if left out, {component = "<its name>"}.
    names: the name of an alert in a failure test -> its name here, if that differs.
    roles: role -> the name of a general test -> the alert that must fire when that test strikes a component of the
    role.
    """

    url: str
    rate_hz: float = Field(5.0, gt=0, le=50)
    timeout_s: float = Field(2.0, gt=0, le=30)
    labels: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    names: Mapping[str, str] = Field(default_factory=dict)
    roles: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)


class ChannelConfig(DriverConfig):
    """A way to reach people. Every setting is kept as a secret, because only the driver knows which ones are."""

    @model_validator(mode="before")
    @classmethod
    def _kept_secret(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value if key == "driver" else _hidden(value) for key, value in given.items()}


class PublicConfig(Strict):
    """Where people find the folders nights/ and runbooks/ on the web, for the links in messages."""

    reports_url: str | None = Field(default=None, pattern=r"^https?://[^\s@<>|]+$")
    runbooks_url: str | None = Field(default=None, pattern=r"^https?://[^\s@<>|]+$")


class PrefectConfig(Strict):
    """The Prefect server that gameday's flows report to, and when the night starts."""

    api_url: Http
    auth_string: SecretStr = SecretStr("")
    """user:password, as a server of your own has it in PREFECT_SERVER_API_AUTH_STRING."""
    api_key: SecretStr = SecretStr("")
    """A key of Prefect Cloud."""
    ca: str = ""
    """The PEM file of the authority that signed the server's certificate, for Prefect's own client too."""
    ui_url: Http | None = None
    alert_url: SecretStr | None = None
    """Where Prefect reports that gameday itself is in trouble: a run crashed or fell silent, a night did not begin."""
    work_pool: str = "gameday"
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    late_max_s: float = 900.0

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if sum(map(bool, (self.auth_string.get_secret_value(), self.api_key.get_secret_value(), self._in_address))) > 1:
            raise ValueError("has more than one of auth_string, api_key and a user in api_url")
        return self

    @property
    def _in_address(self) -> str:
        at = address.of(self.api_url) if self.api_url else None
        return "" if at is None or at.user is None else f"{at.user}:{at.password or ''}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that Prefect's own clients and workers read: the server and the credentials.

        The address has no user and password, because Prefect writes it into logs.
        """
        scheme, _, rest = self.api_url.partition("://")
        found = {
            "PREFECT_API_URL": f"{scheme}://{rest.rpartition('@')[2]}",
            "PREFECT_API_AUTH_STRING": self.auth_string.get_secret_value() or self._in_address,
            "PREFECT_API_KEY": self.api_key.get_secret_value(),
            "PREFECT_API_SSL_CERT_FILE": self.ca,
        }
        return {name: value for name, value in found.items() if value}

    def applied(self, environment: MutableMapping[str, str]) -> None:
        """Make Prefect's clients in this environment use this server only. Call it before Prefect is imported."""
        for name in (
            "PREFECT_API_AUTH_STRING",
            "PREFECT_API_KEY",
        ):  # another server's
            environment.pop(name, None)
        environment.update(self.environment)

    @field_validator("ui_url")
    @classmethod
    def _public(cls, url: str | None) -> str | None:
        if url and address.of(url).user is not None:
            raise ValueError("must be without user and password, for it is in every report and message")
        return url


class TrendConfig(Strict):
    """How a run is judged that recovered as promised, but slower than its own history (gameday/verdict/trend.py): as a
    fail, or as a note."""

    regression: Literal["fail", "tell"] = "fail"


class RetentionConfig(Strict):
    """How long runs and nights are kept. The newest pass of each test and parameter set stays, however old it is."""

    keep_days: int = Field(default=365, ge=1, le=36_500)


class MetricsConfig(Strict):
    """Where gameday's own metrics go (docs/metrics.md). textfile: the file, if not metrics/gameday.prom in the state
    folder."""

    textfile: Path | None = None
    push_url: SecretStr | None = None
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @property
    def tls(self) -> Tls:
        return Tls(self.ca, self.certificate, self.key)

    @field_validator("textfile")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError("must be an absolute path, for a worker runs in a folder of its own")
        return path

    @field_validator("push_url")
    @classmethod
    def _http(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            try:
                address.http(url.get_secret_value())
            except ValueError:
                raise ValueError("must be the address of a push gateway, such as http://host:9091") from None
        return url


class ContractConfig(Strict):
    """The contract of the platform's own metrics, against which the check metrics_true holds each run:
    docs/metrics-contract.md.

    file: relative to gameday.toml. scrapes: program -> where it tells its metrics in Prometheus' text format.
    """

    file: Path
    scrapes: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Http] = Field(min_length=1)
    rate_hz: float = Field(2.0, gt=0, le=20)
    timeout_s: float = Field(2.0, gt=0, le=30)


class TestsConfig(Strict):
    """The stack's failure tests.

    folder: where its own tests are, relative to gameday.toml; each is NAME.py with a function NAME. If left out: the
        reference platform's.
    general: which tests of flows/any a night also has: "crash" for every component that opted in, "crash component=web"
        for that one; if left out, all. A general test is left out where a test of the stack's own does the same to that
        component.
    checks: run after every test, besides the test's own checks. Each is a name in gameday/verdict/checks, an entry
        point, or "package.module:function".
    """

    folder: Path | None = None
    general: tuple[str, ...] | None = None
    checks: tuple[str, ...] = ()


class RunbookConfig(Strict):
    """The runbooks whose blocks are carried out during a run. Without this table only people read them.

    folder: where they are, relative to gameday.toml; if left out, the repository's.
    env: the variables that their blocks may read.
    """

    folder: Path | None = None
    env: Mapping[str, SecretStr] = Field(default_factory=dict)

    @field_validator("env")
    @classmethod
    def _names(cls, env: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name in env:
            if not re.fullmatch("[A-Z][A-Z0-9_]*", name):
                raise ValueError(f"{name!r} is no variable's name: capitals, digits and _")
        return env


class StackConfig(Strict):
    """One gameday.toml."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=NAME_MAX)
    history: SecretStr
    prefect: PrefectConfig
    streams: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], StreamConfig] = Field(min_length=1)
    hosts: Mapping[str, HostConfig]
    components: Mapping[str, ComponentConfig]
    roles: Mapping[str, RoleConfig] = Field(default_factory=dict)
    """The components that have members, by name. `reading.parse` puts them here."""
    links: Mapping[str, LinkConfig] = Field(default_factory=dict)
    hops: Mapping[str, DriverConfig]
    cursors: Mapping[str, CursorConfig] = Field(default_factory=dict)
    jobs: Mapping[str, JobConfig] = Field(default_factory=dict)
    archive: ArchiveConfig | None = None
    canary: CanaryConfig | None = None
    alerts: AlertsConfig | None = None
    several_machines: bool = False
    """Whether more than one machine may run gameday against this stack. The lease is then also a row in `history`."""
    stops: Mapping[str, StopConfig] = Field(default_factory=dict)
    channels: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], ChannelConfig] = Field(
        default_factory=dict
    )
    public: PublicConfig = PublicConfig()
    trend: TrendConfig = TrendConfig()
    retention: RetentionConfig = RetentionConfig()
    metrics: MetricsConfig = MetricsConfig()
    watches: Mapping[str, ProbeConfig] = Field(default_factory=dict)
    """Probes that belong to no component. Their series are <watch's name>/<suffix>, such as serving/<slot>."""
    contract: ContractConfig | None = None
    accounts: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], DriverConfig] = Field(
        default_factory=dict
    )
    """What others know of a run and only checks read, each a driver that offers Account."""
    tests: TestsConfig = TestsConfig()
    runbook: RunbookConfig | None = None

    @cached_property
    def declared(self) -> Mapping[str, Stream]:
        """The streams by name, in the order of the file."""
        mistakes: list[str] = []
        made = {
            name: declaration.stream(name, given.model_dump(), list(self.hops), mistakes)
            for name, given in self.streams.items()
        }
        found = {name: stream for name, stream in made.items() if stream is not None}
        if len(found) < len(made):
            raise ConfigError("; ".join(mistakes))
        return found

    def together(self, component: str) -> str | None:
        """Return the role that a component is a member of; None: it is no member."""
        return next((name for name, role in self.roles.items() if component in role.members), None)

    def members(self, name: str) -> tuple[str, ...]:
        """Return the members of a role; for a component, the component alone."""
        return self.roles[name].members if name in self.roles else (name,)

    def kind(self, name: str) -> str:
        """Return the role of a component: its own `role`, else the role that it is a member of, else its name."""
        role = self.together(name) or name
        own = self.components[name].role if name in self.components else None
        return own or (self.roles[role].role if role in self.roles else None) or role

    @property
    def archived(self) -> str | None:
        """The name of the stream that is exported; None: the stack has no archive."""
        return None if self.archive is None else self.archive.stream or next(iter(self.streams))

    @field_validator("history")
    @classmethod
    def _database(cls, dsn: SecretStr) -> SecretStr:
        address.postgres(dsn.get_secret_value())
        return dsn


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return SecretStr(value) if isinstance(value, str) else value
