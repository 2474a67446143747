"""gameday.toml -> StackConfig: the only reader of configuration. ${NAME} comes from the environment, else from the
state folder's stack.env; between :// and @ it is percent-encoded, so a password may hold anything.

Every error names the file, the key, the value without its password and what would be right.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from gameday.errors import ConfigError, NotUp
from gameday.records import attempts, declaration
from gameday.records.attempts import Attempt
from gameday.records.declaration import Stream
from gameday.records.types import Malformed
from gameday.state import ROOT, RUNBOOKS, TESTS, State
from gameday.system import address, tls
from gameday.system.tls import Tls

__all__ = [
    "CANARY",
    "AlertsConfig",
    "ArchiveConfig",
    "Brokers",
    "CanaryConfig",
    "ChannelConfig",
    "ComponentConfig",
    "CursorConfig",
    "DriverConfig",
    "HostConfig",
    "Http",
    "JobConfig",
    "LinkConfig",
    "MetricsConfig",
    "Postgres",
    "PrefectConfig",
    "ProbeConfig",
    "PublicConfig",
    "RetentionConfig",
    "RoleConfig",
    "RunbookConfig",
    "StackConfig",
    "StopConfig",
    "StreamConfig",
    "TrendConfig",
    "default_path",
    "load",
    "parse",
    "read_env",
    "revealed",
    "shown",
]

VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")

USERINFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/@]*)@")
"""Where an address's user and password stand, as long as nothing is filled in."""

BLOCK = re.compile(r"\$\{prefect:([A-Za-z0-9_-]+)\}")
"""A secret that Prefect keeps. Only where nothing but telling people depends on it: healing needs no server."""

TELLING = ("channels", "prefect.alert_url")
"""Where a secret may be missing until it is used: a chat's token keeps nothing from being mended."""


UNSET_SHOWN_MAX, UNSET_EXPORTED_MAX = 3, 12
"""Of names that have no value: of how many keys they are told, and how many of them are named to be exported."""

STREAM_GONE = (
    "[stream] is gone. Remedy: [streams.NAME] with key, group, fields and sequence besides hops, visible and path "
    "(docs/records.md)"
)

SECRET = re.compile(r"secret|password|token|key|auth|dsn|uri|url|history|clickhouse", re.IGNORECASE)
"""Keys whose values are secrets, or addresses that may hold one."""


ARCHIVED = "archive"
"""The hop that [archive] is."""

CANARY = "canary"
"""The hop that [canary] is, and its driver."""

CANARY_RATE_HZ_MAX = 20.0
CANARY_GROUPS_MAX = 64
CANARY_FOR_S = 3600.0
"""How long it may write by default: longer than any run."""

Table = TypeVar("Table", bound=BaseModel)

Http = Annotated[str, AfterValidator(address.http)]
Postgres = Annotated[str, AfterValidator(address.postgres)]
Brokers = Annotated[str, AfterValidator(address.brokers)]
"""The types of settings that are addresses, here and in a driver's class."""


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt key must not silently mean its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DriverConfig(BaseModel):
    """`driver` names the module in gameday/drivers, and after a dot its class where that isn't the section's own; the
    other keys are that class's fields."""

    model_config = ConfigDict(extra="allow", frozen=True)
    driver: str

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class ProbeConfig(DriverConfig):
    """How often a component is asked, and how long an answer may take.

    inside: a command that asks the component from where it runs, for when it is cut off and can't be reached.
    """

    rate_hz: float = Field(20.0, gt=0, le=200)
    timeout_s: float = Field(1.0, gt=0, le=30)
    inside: tuple[str, ...] = ()


class StopConfig(ProbeConfig):
    """A bound that ends any run: crossed by a single number that the probe reads (of `field` alone, if it is named).

    max, min: crossed above, or below. per_s: judge how fast the number rises, not the number. for_s: only once every
    answer for so long was beyond it. No answer crosses nothing: the server may be what is being broken.
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

    role: what kind of component it is (broker, consumer, sink, database, …). points: how its failpoints are reached, if
    its code has any. rights: what its user may do in it, if it is a store.
    """

    host: str = "local"
    name: str | None = None
    role: str | None = None
    opt_in: bool = False
    probes: Mapping[str, ProbeConfig] = Field(min_length=1)
    points: DriverConfig | None = None
    rights: DriverConfig | None = None


class RoleConfig(Strict):
    """Several components that have one role together: replicas, or the processes of a consumer group. In gameday.toml
    it is the [components.NAME] that has members, each the name of another component; role is as there."""

    members: tuple[str, ...] = Field(min_length=1)
    role: str | None = None


class LinkConfig(Strict):
    """One link that may be cut or distorted: the host that keeps it, and the components at its ends, in the direction
    in which the data flow. It may be touched for the sake of an end that opted in."""

    host: str
    between: tuple[str, str]


class JobConfig(DriverConfig):
    """A batch job. points: whether its code has failpoints (failpoints/README.md); else it is struck from outside."""

    points: bool = False


class CursorConfig(DriverConfig):
    """component: whose place in the log it is; the general test `lag` holds that one back."""

    component: str | None = None


class HostConfig(BaseModel):
    """Settings of one kind of host. driver: its module in gameday/hosts, the name of an entry point, or
    "package.module:Class"; the table's own name where it is left out."""

    model_config = ConfigDict(extra="allow", frozen=True)


class StreamConfig(Strict):
    """One stream of records, as declared: docs/records.md. Its meaning is records/declaration.py's."""

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
    """Records of gameday's own, written through the platform's front door: docs/canary.md. The other keys are those of
    the driver's class Canary; their texts are templates.

    fields: what each field of the stream is in such a record, as templates. groups: the texts of {group}; () for a
    stream without groups. rate_hz: records a second, in each group. at_most: records of one run, of all groups; None:
    what rate_hz gives in an hour. timeout_s: an attempt that has no outcome by then is unknown. prefix: what {key}
    begins with. clean_up: another of these drivers, whose text is sent once after a run.
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
    """The table that a job exports a stream to: judged by the tests of that job, and at the end of the night.

    stream: which one, where the stack has several. job: its name under [jobs]. worker: the component that runs it.
    table: a driver that offers Archive. mirror: one that offers Mirror, where the job tells its position to people.
    """

    stream: str | None = None
    job: str
    worker: str
    table: DriverConfig
    mirror: DriverConfig | None = None


class AlertsConfig(ProbeConfig):
    """The platform's own alerts: a driver that offers Alerts.

    url: empty where the stack runs without. labels: component -> the labels of its alerts; {component = "<its name>"}
    for those left out. names: the name of an alert in a failure test -> its name here, where that differs. roles: role
    -> the name of a general test -> the alert that must fire when that is done to a component of the role.
    """

    url: str
    rate_hz: float = Field(5.0, gt=0, le=50)
    timeout_s: float = Field(2.0, gt=0, le=30)
    labels: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    names: Mapping[str, str] = Field(default_factory=dict)
    roles: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)


class ChannelConfig(DriverConfig):
    """Where people are told of a night. Every setting is kept as a secret: which of them is one, the driver knows."""

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
    """What a server of one's own was started with, as PREFECT_SERVER_API_AUTH_STRING: user:password."""
    api_key: SecretStr = SecretStr("")
    """Of Prefect Cloud."""
    ca: str = ""
    """The PEM file of who signed the server's certificate, for Prefect's own client too."""
    ui_url: Http | None = None
    alert_url: SecretStr | None = None
    """Where Prefect tells that gameday itself is in trouble: a run crashed or fell silent, a night did not begin."""
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
        """What Prefect's own clients and workers read: the server, and who asks there. The address is without user and
        password, for Prefect writes it into logs."""
        scheme, _, rest = self.api_url.partition("://")
        found = {
            "PREFECT_API_URL": f"{scheme}://{rest.rpartition('@')[2]}",
            "PREFECT_API_AUTH_STRING": self.auth_string.get_secret_value() or self._in_address,
            "PREFECT_API_KEY": self.api_key.get_secret_value(),
            "PREFECT_API_SSL_CERT_FILE": self.ca,
        }
        return {name: value for name, value in found.items() if value}

    def applied(self, environment: MutableMapping[str, str]) -> None:
        """Make Prefect's clients in this environment use this server alone; before Prefect is imported."""
        for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):  # another server's are not for this one
            environment.pop(name, None)
        environment.update(self.environment)

    @field_validator("ui_url")
    @classmethod
    def _public(cls, url: str | None) -> str | None:
        if url and address.of(url).user is not None:
            raise ValueError("must be without user and password, for it is in every report and message")
        return url


class TrendConfig(Strict):
    """What a run is that recovered as promised, but slower than its own history (gameday/verdict/trend.py): a fail, or
    told and no more."""

    regression: Literal["fail", "tell"] = "fail"


class RetentionConfig(Strict):
    """How long runs and nights are kept. The newest pass of each test and parameters stays, however old."""

    keep_days: int = Field(default=365, ge=1, le=36_500)


class MetricsConfig(Strict):
    """Where gameday's own metrics go: docs/metrics.md. textfile: instead of the state folder's metrics/gameday.prom."""

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


class TestsConfig(Strict):
    """The stack's failure tests. folder: where its own lie, NAME.py with a function NAME each, relative to
    gameday.toml; those of the trades platform when left out. general: which of flows/any a night has besides, each for
    every component that opted in; all when left out. A general test is not made where the stack's own do the same to
    that component."""

    folder: Path | None = None
    general: tuple[str, ...] | None = None


class RunbookConfig(Strict):
    """That the blocks of the runbooks are carried out during a run; without this table they are only read by people.

    folder: where they lie, relative to gameday.toml; the repository's when left out. env: what their blocks may read.
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

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    history: SecretStr
    prefect: PrefectConfig
    streams: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], StreamConfig] = Field(min_length=1)
    hosts: Mapping[str, HostConfig]
    components: Mapping[str, ComponentConfig]
    roles: Mapping[str, RoleConfig] = Field(default_factory=dict)
    """The components that have members, by name: `parse` puts them here."""
    links: Mapping[str, LinkConfig] = Field(default_factory=dict)
    hops: Mapping[str, DriverConfig]
    cursors: Mapping[str, CursorConfig] = Field(default_factory=dict)
    jobs: Mapping[str, JobConfig] = Field(default_factory=dict)
    archive: ArchiveConfig | None = None
    canary: CanaryConfig | None = None
    alerts: AlertsConfig | None = None
    several_machines: bool = False
    """Whether more than one machine may run gameday against this stack: then the lease is also a row in `history`."""
    stops: Mapping[str, StopConfig] = Field(default_factory=dict)
    channels: Mapping[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")], ChannelConfig] = Field(
        default_factory=dict
    )
    public: PublicConfig = PublicConfig()
    trend: TrendConfig = TrendConfig()
    retention: RetentionConfig = RetentionConfig()
    metrics: MetricsConfig = MetricsConfig()
    watches: Mapping[str, ProbeConfig] = Field(default_factory=dict)
    """Probes that belong to no component: their series are <watch's name>/<suffix> (serving/<slot>)."""
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
        """The role that a component is a member of; None: it stands for itself."""
        return next((name for name, role in self.roles.items() if component in role.members), None)

    def members(self, name: str) -> tuple[str, ...]:
        """The components that a role has together; of a component itself, it alone."""
        return self.roles[name].members if name in self.roles else (name,)

    def kind(self, name: str) -> str:
        """The role of a component: its own `role`, else that of what it is a member of, else the name."""
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


def revealed(value: Any, secret: Callable[[str], str], where: str) -> Any:
    """A setting of a channel as its driver takes it: secrets opened, Prefect's blocks filled in by `secret`.

    Raises ConfigError for a ${NAME} that nobody has set.
    """
    if isinstance(value, dict):
        return {key: revealed(item, secret, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [revealed(item, secret, where) for item in value]
    if not isinstance(value, SecretStr):
        return value
    text = value.get_secret_value()
    if missing := VARIABLE.search(text):
        raise ConfigError(f"{where} needs ${{{missing[1]}}}, which is not set. Remedy: export {missing[1]}=…")
    filled = _replaced(BLOCK, text, lambda match: secret(match[1]))
    for why in _no_address(filled):
        raise ConfigError(f"{where} {why}")
    return filled


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return SecretStr(value) if isinstance(value, str) else value


def default_path() -> Path:
    """$GAMEDAY_CONFIG, else the embedded stack's."""
    return Path(os.environ.get("GAMEDAY_CONFIG") or ROOT / "compose" / "trades" / "gameday.toml")


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines, as `gameday up` writes them; {} when there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}. Remedy: check its owner and mode") from e
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def load(path: Path | None = None, state: State | None = None) -> StackConfig:
    """Read, fill in ${NAME}, check. Raises ConfigError (exit 2), or NotUp (exit 3) when a name is only known once the
    stack is up."""
    path = path or default_path()
    env = {**read_env((state or State.default()).check().env), **os.environ}
    return parse(_raw(path), env, path)


def folder_of_tests(path: Path | None = None) -> Path:
    """Where the failure tests of a gameday.toml lie. Nothing else of it is looked at: also of a stack that is not up.
    A ConfigError where there is no such folder."""
    path = path or default_path()
    folder = _table(TestsConfig, "tests", path).folder
    found = placed(folder, path, TESTS)
    if not found.is_dir():
        raise ConfigError(f"{path}: tests.folder is {str(folder)!r}, and there is no folder {found}. Remedy: make it")
    return found


def folder_of_runbooks(path: Path | None = None) -> Path:
    """The same of the runbooks, which need not be there."""
    path = path or default_path()
    return placed(_table(RunbookConfig, "runbook", path).folder, path, RUNBOOKS)


def placed(folder: Path | None, path: Path, default: str) -> Path:
    """A folder that a gameday.toml names relative to itself; default: in the checkout, where it names none."""
    return (ROOT / default if folder is None else path.parent / folder).resolve()


def _table(kind: type[Table], name: str, path: Path) -> Table:
    """One table of the document, as it stands."""
    try:
        return kind.model_validate(_raw(path).get(name, {}))
    except ValidationError as e:
        raise _wrong(e, path, name) from e


def _raw(path: Path) -> Mapping[str, Any]:
    """The document as TOML gives it."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as e:
        raise ConfigError(f"no configuration at {path}. Remedy: --config FILE, or GAMEDAY_CONFIG=FILE") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"{path} can't be read: {e}. Remedy: check that it is a text file with its owner's read right"
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not TOML: {e}. Remedy: mend that line") from e


def parse(raw: Mapping[str, Any], env: Mapping[str, str], path: Path) -> StackConfig:
    """A document as TOML gave it, checked. path: where it is from, for the errors, which are those of `load`."""
    wrong: list[tuple[str, str]] = []
    unset: dict[str, str] = {}
    filled = _fill(raw, env, (), wrong, unset)
    mistakes = [f"{where} {why}" for where, why in wrong]
    if unset and not mistakes:
        raise NotUp(f"{path}: {_unset(unset)}")
    if unset:  # with values that are not known nothing more can be told
        raise ConfigError(f"{path}: " + "; ".join(mistakes))
    said = {where for where, _ in wrong}
    if filled.pop("stream", None) is not None:
        mistakes.append(STREAM_GONE)
        said.add("streams")
    mistakes += _with_roles(filled) + _with_canary(filled)
    try:
        config = StackConfig.model_validate(filled)
    except ValidationError as e:
        mistakes += [_problem(p) for p in e.errors() if ".".join(map(str, p["loc"])) not in said] + _declared(filled)
        mistakes += _files(filled)
    else:
        mistakes += _cross_check(config) + _declared(filled) + _files(filled)
        if not mistakes:
            return config
    raise ConfigError(f"{path}: " + "; ".join(dict.fromkeys(mistakes)))


def _with_roles(filled: dict[str, Any]) -> list[str]:
    """Put the components that have members where they belong; what is wrong with a table [roles]."""
    found = (
        ["roles is no table. Remedy: [components.NAME] with members"] if filled.pop("roles", None) is not None else []
    )
    components = filled.get("components")
    if isinstance(components, dict):
        named = {name: given for name, given in components.items() if isinstance(given, dict) and "members" in given}
        filled["components"] = {name: given for name, given in components.items() if name not in named}
        filled["roles"] = named
    return found


def _problem(error: Any) -> str:
    told = f"{error['msg'].lower()} (got {shown(str(error['loc'][-1:]), error['input'])})"
    where = ["components" if at == 0 and key == "roles" else str(key) for at, key in enumerate(error["loc"])]
    return f"{'.'.join(where)}: {told}. Remedy: see README, 'Point it at your own stack'"


def _declared(filled: Mapping[str, Any]) -> list[str]:
    """What is wrong with the declarations of streams, and with what hops say of them; whatever else is wrong."""
    found: list[str] = []
    streams, hops = filled.get("streams"), filled.get("hops")
    hops = hops if isinstance(hops, dict) else {}
    tables: dict[str, dict[str, Any]] = {}
    for name, given in streams.items() if isinstance(streams, dict) else ():
        try:
            tables[name] = StreamConfig.model_validate(given).model_dump()
        except ValidationError:
            continue  # told as such
    known = {name: declaration.stream(name, table, list(hops), found) for name, table in tables.items()}
    for hop, given in hops.items():
        if "/" in hop or hop == ARCHIVED:
            found.append(f"hops.{hop} can't be called so. Remedy: another name than {ARCHIVED}, without /")
        named = [name for name, table in tables.items() if hop in table["hops"]]
        if len(named) > 1:
            found.append(
                f"hops.{hop} is named by {' and '.join(f'streams.{name}.hops' for name in named)}, but a hop holds one "
                f"stream. Remedy: a [hops.NAME] for each, such as [hops.{named[1]}-{hop}] for {named[1]}"
            )
        elif isinstance(given, dict) and hop != CANARY:
            found += declaration.hop_mistakes(hop, given, known[named[0]] if named else None)
    if isinstance(filled.get(CANARY), dict):
        found += _canary_mistakes(filled[CANARY], tables, known)
    return found


def _with_canary(filled: dict[str, Any]) -> list[str]:
    """Add the hop that [canary] is; what is wrong with hops that are called so."""
    hops, canary = filled.get("hops"), filled.get(CANARY)
    if not isinstance(hops, dict):
        return []
    found = [
        f"hops.{name} is the canary's. Remedy: leave it out; [canary] makes the hop {CANARY!r}"
        for name, given in hops.items()
        if name == CANARY or (isinstance(given, dict) and given.get("driver") == CANARY)
    ]
    if isinstance(canary, dict) and not found:
        told = {key: canary[key] for key in ("fields", "prefix") if key in canary}
        filled["hops"] = {CANARY: {"driver": CANARY, **told}, **hops}
    return found


def _canary_mistakes(
    filled: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], known: Mapping[str, Stream | None]
) -> list[str]:
    """What is wrong with [canary], beside the kinds of its values."""
    try:
        config = CanaryConfig.model_validate(filled)
    except ValidationError:
        return []  # told as such
    texts = list(_texts(config.settings))
    found = [
        f"canary has {{{name}}}, which stands for nothing. Remedy: one of {{{'}, {'.join(attempts.NAMES)}}}"
        for name in dict.fromkeys(n for text in (*texts, *config.fields.values()) for n in attempts.misnamed(text))
    ]
    if config.clean_up is not None:
        found += [
            f"canary.clean_up has {{{name}}}, but it is sent once for all records. Remedy: a condition on the prefix"
            for text in _texts(config.clean_up.settings)
            for name in attempts.named(text)
            if name in attempts.NAMES
        ]
    named = [name for name, table in tables.items() if CANARY in table["hops"]]
    if not named:
        return [*found, 'canary is there, but no stream has it. Remedy: streams.NAME.hops = ["canary", …]']
    at, stream = f"streams.{named[0]}", known[named[0]]
    if tables[named[0]]["hops"][0] != CANARY:
        found.append(f"{at}.hops has {CANARY!r} in another place than the first. Remedy: put it first")
    if tables[named[0]]["gapless"]:
        found.append(f"{at}.gapless is true, but a number whose attempt is refused is left out. Remedy: leave it out")
    if stream is None:
        return found
    if stream.placed:
        found.append(f"{at} has no key, but canary writes records, not places in a log. Remedy: {at}.key")
        return found
    if stream.keyed:
        found.append(f"{at} has no sequence, but canary counts its records. Remedy: {at}.sequence, a field with {{n}}")
        return found
    templates = attempts.templates(stream, config.fields)
    found += [
        f"canary.fields has {name!r}, which {at} has not. Remedy: one of {', '.join(stream.types)}"
        for name in config.fields
        if name not in stream.types
    ]
    found += [
        f"canary.fields lacks {name!r}. Remedy: the value that the record has there, such as "
        f'canary.fields.{name} = "…", or leave it out of {at}.fields'
        for name in stream.types
        if name not in templates
    ]
    used = {name: attempts.named(template) for name, template in templates.items()}
    written = {name for text in texts for name in attempts.named(text)}
    written |= attempts.MOMENT if written & attempts.MOMENT else set()
    found += [
        f"canary.fields.{field} is {templates[field]!r}, but nothing that is written has {{{name}}}. Remedy: put it "
        "into the template"
        for field, names in used.items()
        for name in names
        if name in attempts.NAMES and name not in written
    ]
    if not any(set(used.get(field, ())) & {"n", "key", "uuid"} for field in stream.own):
        found.append(f"canary.fields gives {at}.key the same in each record. Remedy: {{n}}, {{key}} or {{uuid}}")
    grouped = any("group" in used.get(field, ()) for field in stream.group)
    if grouped and not config.groups:
        found.append('canary.groups is missing, but fields has {group}. Remedy: its texts, such as ["gameday"]')
    if config.groups and not grouped:
        found.append(
            f"canary.groups is {list(config.groups)}, but no field of {at}.group has {{group}}. Remedy: leave groups "
            f"out, or a field in {at}.group"
        )
    if len(set(config.groups)) < len(config.groups):
        found.append(f"canary.groups is {list(config.groups)}. Remedy: each once")
    sample = attempts.values(Attempt(1, (config.groups or ("",))[0], SAMPLE_UUID, 1_795_000_000_123_456), config.prefix)
    for name, template in templates.items():
        try:
            stream.types[name].canonical(attempts.filled(template, sample))
        except Malformed as e:
            found.append(f"canary.fields.{name} is {template!r}: {e}. Remedy: a value that {at}.fields.{name} takes")
    return found


SAMPLE_UUID = "6f1c0a52-3f0e-4a8e-9d55-0d8a3c2b7e11"


def _texts(value: Any) -> Iterator[str]:
    """All texts in a driver's settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _files(value: Any, at: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with the files of TLS that tables with a driver or an address name."""
    if not isinstance(value, dict):
        return []
    found = [mistake for key, inner in value.items() for mistake in _files(inner, (*at, str(key)))]
    texts = [text for text in value.values() if isinstance(text, str)]
    if "driver" in value or any(text.startswith(("http://", "https://")) for text in texts):
        ready = {key: text for key, text in value.items() if not isinstance(text, str) or not VARIABLE.search(text)}
        found += tls.mistakes(".".join(at), ready)
    return found


def _wrong(error: ValidationError, path: Path, *table: str) -> ConfigError:
    """All that is wrong, with the keys, of the document or of one table in it."""
    problems = "; ".join(_problem({**p, "loc": (*table, *p["loc"])}) for p in error.errors())
    return ConfigError(f"{path}: {problems}")


def _unset(places: Mapping[str, str]) -> str:
    """All that is to be exported, and the first keys that need it. places: NAME -> where it is needed."""
    by_place: dict[str, list[str]] = {}
    for name, where in places.items():
        by_place.setdefault(where, []).append(f"${{{name}}}")
    shown = list(by_place.items())[:UNSET_SHOWN_MAX]
    needed = [f"{where} needs {' and '.join(names)}" for where, names in shown]
    if more := len(places) - sum(len(names) for _, names in shown):
        needed.append(f"and there are {more} more")
    exports = " ".join(f"{name}=…" for name in places) if len(places) <= UNSET_EXPORTED_MAX else "each of them"
    verb = "is" if len(places) == 1 else "are"
    return f"{', '.join(needed)}, which {verb} not set. Remedy: gameday up (embedded stack), or export {exports}"


def _fill(
    value: Any, env: Mapping[str, str], at: tuple[str, ...], wrong: list[tuple[str, str]], unset: dict[str, str]
) -> Any:
    """Replace ${NAME} in every string. wrong: where a mistake is and which is added for each; its value is left empty,
    for it may hold a secret. unset: where each NAME is added that has no value."""
    where = ".".join(at)
    if isinstance(value, dict):
        wrong += [(where or "a name", why) for key in value for why in _unknown(key)]
        return {k: _fill(v, env, (*at, k), wrong, unset) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, env, at, wrong, unset) for v in value]
    if not isinstance(value, str):
        return value

    told = where.startswith(TELLING)
    mistakes = _unknown(value)
    if (block := BLOCK.search(value)) and not told:
        mistakes.append(
            f"refers to Prefect's block {block[1]!r}, which only {' and '.join(TELLING)} may: what mends a stack must "
            "not need Prefect. Remedy: ${NAME} from the environment"
        )
    missing = [name for name in VARIABLE.findall(value) if name not in env and not told]
    for name in missing:
        unset.setdefault(name, where)
    filled = _replaced(VARIABLE, value, lambda match: env.get(match[1]))
    later = told and (BLOCK.search(value) or VARIABLE.search(filled))  # then `revealed` fills it in
    if not mistakes and not missing and not later:
        mistakes += _no_address(filled)
    wrong += [(where, why) for why in mistakes]
    return "" if mistakes else filled


def _replaced(pattern: re.Pattern[str], text: str, value: Callable[[re.Match[str]], str | None]) -> str:
    """The text with each match replaced, percent-encoded where it is an address's user or password; None: it stays."""
    login = USERINFO.match(text)
    end = login.end(1) if login else 0

    def one(match: re.Match[str]) -> str:
        found = value(match)
        if found is None:
            return match[0]
        return address.encoded(found) if match.start() < end else found

    return pattern.sub(one, text)


def _unknown(text: str) -> list[str]:
    """The ${…} of a form that isn't filled in: as it stands it would be a part of an address or name."""
    rest = BLOCK.sub("", VARIABLE.sub("", text))
    if "${" not in rest:
        return []
    form = re.match(r"\$\{[^}]*\}?", rest[rest.index("${") :])
    return [
        f"has {form[0] if form else rest!r}, which gameday doesn't fill in. Remedy: ${{NAME}}, of capitals, digits and "
        "_, with a value in the environment; there are no defaults"
    ]


def _no_address(text: str) -> list[str]:
    """Why a text that begins as an address is none."""
    if not address.looks_like_one(text):
        return []
    try:
        address.of(text)
    except ValueError as e:
        return [
            f"is {address.hidden(text)!r}, which is no address: {e}. Remedy: percent-encode what is special in its "
            "user and password (# is %23), or let ${NAME} stand for them there: that is encoded as it is filled in"
        ]
    return []


def _cross_check(config: StackConfig) -> list[str]:
    """Names that refer to each other must exist: one sentence for each that doesn't."""
    found = []
    for kind, placed in (("components", config.components), ("links", config.links)):
        for name, one in placed.items():
            if one.host not in config.hosts:
                found.append(
                    f"{kind}.{name}.host is {one.host!r}, but there is no [hosts.{one.host}]. "
                    f"Known: {', '.join(config.hosts)}"
                )
    if (archive := config.archive) is not None:
        for key, name, section in (("job", archive.job, config.jobs), ("worker", archive.worker, config.components)):
            if name not in section:
                found.append(f"archive.{key} is {name!r}. Known: {', '.join(section) or 'none'}")
        several = archive.stream is None and len(config.streams) > 1
        if several or (archive.stream is not None and archive.stream not in config.streams):
            given = "missing" if archive.stream is None else repr(archive.stream)
            found.append(f"archive.stream is {given}. Remedy: which stream is exported: {', '.join(config.streams)}")
        elif (exported := config.archived) is not None and CANARY in config.streams[exported].hops:
            found.append(
                f"archive.stream is {exported!r}, the canary's. Remedy: a stream of the platform's own records"
            )
        elif (exported := config.archived) is not None and config.streams[exported].sequence is None:
            found.append(
                f"archive is there, but streams.{exported} has no sequence, by which commits are told apart. Remedy: "
                f"streams.{exported}.sequence, or leave [archive] out"
            )
    known = {**config.components, **config.roles}
    for name in config.alerts.labels if config.alerts else ():
        if name not in known:
            found.append(_no_component(f"alerts.labels names {name!r}", name, config))
    kinds = {config.kind(name) for name in known}
    for name in config.alerts.roles if config.alerts else ():
        if name not in kinds:
            found.append(f"alerts.roles.{name}: no component has that role. Known: {', '.join(sorted(kinds))}")
    for name, cursor in config.cursors.items():
        if cursor.component is not None and cursor.component not in known:
            at = f"cursors.{name}.component"
            found.append(_no_component(f"{at} is {cursor.component!r}", cursor.component, config))
    for name, role in config.roles.items():
        for member in role.members:
            if member not in config.components:
                found.append(_no_component(f"components.{name}.members names {member!r}", member, config))
            elif config.together(member) != name or role.members.count(member) > 1:
                found.append(f"{member!r} is a member twice. Remedy: once in one components.NAME.members")
    for name, link in config.links.items():
        for end in link.between:
            if end in config.roles:
                members = ", ".join(config.members(end))
                found.append(f"links.{name}.between names {end!r}, which has members. Remedy: one of {members}")
            elif end not in config.components:
                found.append(_no_component(f"links.{name}.between names {end!r}", end, config))
    for name, stream in config.streams.items():
        for step in stream.path:
            if "{" not in step and step not in known:
                found.append(_no_component(f"streams.{name}.path has {step!r}", step, config))
    return found


def _no_component(what: str, name: str, config: StackConfig) -> str:
    return f"{what}, but there is no [components.{name}]. Known: {', '.join([*config.components, *config.roles])}"


def shown(key: str, value: Any) -> str:
    """A value in an error's text: shortened, and of what may hold a secret only its kind."""
    if isinstance(value, Mapping):
        return f"a table of {', '.join(map(str, value)) or 'nothing'}"
    if SECRET.search(key) or isinstance(value, list):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
