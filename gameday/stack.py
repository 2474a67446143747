"""StackConfig -> live Stack, and the lazy registry of hosts, drivers and faults: nothing else uses importlib.

A module is imported when its name is first used: a Kafka client is never imported for a stack without Kafka.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gameday import config as configuration
from gameday.config import StackConfig
from gameday.errors import ConfigError, GamedayError
from gameday.model import Group, Json
from gameday.ports import Archive, Cursor, Fault, Hop, Host, Job, Ledger, Mirror, Points, Probe, Rights
from gameday.state import State
from gameday.stops import Stop

__all__ = ["ARCHIVE", "ProbeSpec", "Stack", "fault_from", "fault_kind", "function", "open_stack"]

INSIDE = (Points, Rights)
"""What a component offers, not its host."""

ARCHIVE = "archive"

ARCHIVE_RATE_HZ = 4.0
"""A commit is made every few seconds at most, and looking costs a query and an object."""

MIRROR_RATE_HZ = 1.0
"""Each look is a connection to a database of the platform's."""

EXTRAS: Mapping[str, str] = {
    "confluent_kafka": "kafka",
    "clickhouse_connect": "clickhouse",
    "psycopg": "postgres",
    "docker": "docker",
    "boto3": "iceberg",
    "pyiceberg": "iceberg",
}
"""Import name of a client -> the extra of ours that installs it."""


@dataclasses.dataclass(frozen=True)
class ProbeSpec:
    """One probe of the sampler: the prefix of its series, how often, how long."""

    series: str
    probe: Probe
    rate_hz: float
    timeout_s: float


class Stack:
    """One configured stack. Nothing is contacted before it is asked for; every part is made once."""

    def __init__(self, config: StackConfig, state: State, path: Path | None = None) -> None:
        """path: the gameday.toml that config came from, for the processes that a run starts; None: the default one."""
        self.config = config
        self.state = state
        self.path = path or configuration.default_path()
        self.name = config.name
        self._hosts: dict[str, Any] = {}

    # ---- components ----------------------------------------------------------------------------------------

    def component(self, role: str) -> configuration.ComponentConfig:
        """The configuration of a role; a ConfigError with near names when there is none."""
        try:
            return self.config.components[role]
        except KeyError:
            raise ConfigError(
                f"stack {self.name} has no component {role!r}. {near(role, self.config.components)}"
            ) from None

    def host(self, role: str) -> Host:
        """The host that runs this role."""
        return self.named_host(self.component(role).host)

    def named_host(self, name: str) -> Host:
        """One host, made on first use with the names of all its components."""
        if name not in self._hosts:
            settings = dict(self.config.hosts[name].model_extra or {})
            names = {role: c.name or role for role, c in self.config.components.items() if c.host == name}
            self._hosts[name] = _make(_module("hosts", name), "Host", {**settings, "names": names}, f"hosts.{name}")
        return self._hosts[name]

    def link(self, name: str) -> configuration.LinkConfig:
        """The configuration of a link; a ConfigError with near names when there is none."""
        try:
            return self.config.links[name]
        except KeyError:
            raise ConfigError(f"stack {self.name} has no link {name!r}. {near(name, self.config.links)}") from None

    def permit(self, fault: Fault) -> None:
        """Raise unless this fault may be done here: its component opted in, and is at an end of the link it strikes."""
        self.touchable(fault.component)
        name = getattr(fault, "link", None)
        if name is not None and fault.component not in self.link(name).between:
            raise ConfigError(
                f"{fault.component} is at neither end of link {name}, which is between "
                f"{' and '.join(self.link(name).between)}. Remedy: name one of these"
            )

    def lacks(self, fault: Fault) -> list[str]:
        """What the fault needs and isn't here, in words: the component, the link, or what its host (the link's, where
        it strikes a link) and its component from inside can do."""
        link = getattr(fault, "link", None)
        if fault.component not in self.config.components:
            return [f"stack {self.name} has no component {fault.component!r}"]
        if link is not None and link not in self.config.links:
            return [f"stack {self.name} has no link {link!r}"]
        component = self.component(fault.component)
        where = component.host if link is None else self.link(link).host
        able: list[object] = [self.named_host(where)]
        able += [self.points(fault.component)] if component.points else []
        able += [self.rights(fault.component)] if component.rights else []
        return [
            f"{fault.component if link is None else link} is on host {where!r}, which can't {need.__name__.lower()}"
            if need not in INSIDE
            else f"{fault.component} has no {need.__name__.lower()} in gameday.toml"
            for need in fault.needs
            if not any(isinstance(one, need) for one in able)
        ]

    def touchable(self, role: str) -> None:
        """Raise unless this role opted in: only such components are ever broken (or mended)."""
        if not self.component(role).opt_in:
            raise ConfigError(
                f"component {role!r} has not opted in. Remedy: set components.{role}.opt_in = true in gameday.toml, "
                f"if it may be broken"
            )

    def points(self, role: str) -> Points:
        """The failpoints in this role's code; a ConfigError when the configuration doesn't say how they are reached."""
        config = self.component(role).points
        if config is None:
            raise ConfigError(
                f'component {role!r} has no failpoints. Remedy: components.{role}.points = {{ driver = "failpoints", '
                f'socket = "…", evidence = "…" }} in gameday.toml, if its code has any'
            )
        return self._driver(f"components.{role}", "points", config, "Points")

    def rights(self, role: str) -> Rights:
        """What a user may do in this store; a ConfigError when the configuration doesn't say how that is changed."""
        config = self.component(role).rights
        if config is None:
            raise ConfigError(
                f"component {role!r} has no rights. Remedy: components.{role}.rights in gameday.toml, if it is a store"
            )
        return self._driver(f"components.{role}", "rights", config, "Rights")

    # ---- the stream ----------------------------------------------------------------------------------------

    @cached_property
    def hops(self) -> Mapping[str, Hop]:
        """The stream's hops by name, in order."""
        hops = self.config.hops
        return {name: self._driver("hops", name, hops[name], "Hop", name=name) for name in self.config.stream.hops}

    @property
    def ledger(self) -> Ledger:
        """The stream's first hop."""
        return self.hops[self.config.stream.hops[0]]  # type: ignore[return-value]

    @property
    def visible(self) -> Hop:
        """The hop that users query."""
        return self.hops[self.config.stream.visible]

    @cached_property
    def cursors(self) -> Mapping[str, Cursor]:
        return {name: self._driver("cursors", name, c, "Cursor") for name, c in self.config.cursors.items()}

    @cached_property
    def jobs(self) -> Mapping[str, Job]:
        return {name: self._driver("jobs", name, c, "Job") for name, c in self.config.jobs.items()}

    def job(self, name: str) -> Job:
        """A batch job of the platform; a ConfigError with near names when there is none."""
        if name not in self.jobs:
            raise ConfigError(f"stack {self.name} has no job {name!r}. {near(name, self.jobs)}")
        return self.jobs[name]

    @cached_property
    def archive(self) -> Archive | None:
        """The table that the stream is exported to; None: there is none. Its hop's name is "archive"."""
        config = self.config.archive
        return None if config is None else self._driver("archive", "table", config.table, "Archive", name=ARCHIVE)

    @cached_property
    def mirror(self) -> Mirror | None:
        """Where the archive's job tells its position to people."""
        config = self.config.archive.mirror if self.config.archive else None
        return None if config is None else self._driver("archive", "mirror", config, "Mirror")

    def run_points(self, folder: str) -> Points:
        """The failpoints of a single run of a job, whose socket and evidence are in this folder."""
        settings = {"driver": "failpoints", "socket": f"{folder}/socket", "evidence": f"{folder}/evidence"}
        return self._driver("strike", "points", configuration.DriverConfig.model_validate(settings), "Points")

    def export(self) -> tuple[Archive, Job]:
        """The archive and the job that fills it; a GamedayError where there is none."""
        if self.archive is None or self.config.archive is None:
            raise GamedayError(f"stack {self.name} has no archive. Remedy: describe it under [archive] in gameday.toml")
        return self.archive, self.jobs[self.config.archive.job]

    def affected(self, role: str, groups: tuple[Group, ...]) -> tuple[Group, ...]:
        """The groups whose path includes the component."""
        fields = self.config.stream.fields
        return tuple(
            g
            for g in groups
            if any(step.format(**dict(zip(fields, g, strict=True))) == role for step in self.config.stream.path)
        )

    # ---- what the sampler asks -----------------------------------------------------------------------------

    def probes(self, archive: bool = False) -> Iterator[ProbeSpec]:
        """Every component's probes, the heads of ledger and visible hop, the cursors, the watches, and on demand the
        archive and its mirror, which are dear to read. See model.Samples for the series."""
        for role, component in self.config.components.items():
            for name, p in component.probes.items():
                probe = self._driver(f"components.{role}.probes", name, p, "Probe", timeout_s=p.timeout_s)
                yield ProbeSpec(f"component/{role}/{name}", probe, p.rate_hz, p.timeout_s)
        for hop in (self.config.stream.hops[0], self.config.stream.visible):
            yield ProbeSpec(f"head/{hop}", _Heads(self.hops[hop]), 20.0, 1.0)
        for name, cursor in self.cursors.items():
            yield ProbeSpec(f"end/{name}", _Slots(cursor.end), 10.0, 1.0)
            yield ProbeSpec(f"position/{name}", _Slots(cursor.position), 10.0, 1.0)
        if archive and self.archive is not None:
            yield ProbeSpec("archive", self.archive, ARCHIVE_RATE_HZ, 2.0)
        if archive and self.mirror is not None:
            yield ProbeSpec("mirror", _Slots(self.mirror.position), MIRROR_RATE_HZ, 2.0)
        for name, p in self.config.watches.items():
            yield ProbeSpec(
                name, self._driver("watches", name, p, "Probe", timeout_s=p.timeout_s), p.rate_hz, p.timeout_s
            )

    def stops(self) -> list[Stop]:
        """The stack's own bounds, which end any run that crosses one; new ones, for each remembers what it has seen."""
        return [
            Stop(name, self._driver("stops", name, s, "Probe", timeout_s=s.timeout_s), s)
            for name, s in self.config.stops.items()
        ]

    def _driver(self, section: str, key: str, config: configuration.DriverConfig, offers: str, **more: Any) -> Any:
        module, _, cls = config.driver.partition(".")
        return _make(_module("drivers", module), cls or offers, {**config.settings, **more}, f"{section}.{key}")


@dataclasses.dataclass(frozen=True)
class _Heads:
    """A hop's heads as a probe."""

    hop: Hop

    def read(self) -> Mapping[str, float]:
        return {"/".join(group): float(head) for group, head in self.hop.heads().items()}


@dataclasses.dataclass(frozen=True)
class _Slots:
    """A cursor's position or end as a probe."""

    ask: Any

    def read(self) -> Mapping[str, float]:
        return {slot: float(offset) for slot, offset in self.ask().items()}


def open_stack(path: Path | None = None, state: State | None = None) -> Stack:
    """Read the configuration and make the live stack."""
    state = state or State.default()
    return Stack(configuration.load(path, state), state, path)


# ---- the registry ------------------------------------------------------------------------------------------


def fault_kind(fault: Fault) -> str:
    """The fault's name: its module's."""
    return type(fault).__module__.rpartition(".")[2]


def fault_from(kind: str, args: Mapping[str, Json]) -> Fault:
    """The fault that a journal entry names. Its class is the module's name in CamelCase."""
    name = "".join(part.capitalize() for part in kind.split("_"))
    return _make(_module("faults", kind), name, dict(args), f"fault {kind}")


def function(path: str) -> Any:
    """The object behind "package.module:name" in gameday.toml."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(
            f"{path!r} can't be imported: {e}. Remedy: 'package.module:name' of something importable from {Path.cwd()}"
        ) from e


def near(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """The end of an error about an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def _module(kind: str, name: str) -> ModuleType:
    package = importlib.import_module(f"gameday.{kind}")
    known = [m.name for m in pkgutil.iter_modules(package.__path__)]
    if name not in known:
        raise ConfigError(f"there is no {name!r} in gameday/{kind}. {near(name, known)}")
    try:
        return importlib.import_module(f"gameday.{kind}.{name}")
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        extra = EXTRAS.get(missing)
        remedy = f"pip install 'gameday[{extra}]'" if extra else f"pip install {missing}"
        raise GamedayError(f"gameday/{kind}/{name}.py needs the package {missing!r}. Remedy: {remedy}") from e


def _make(module: ModuleType, cls: str, settings: Mapping[str, Any], where: str) -> Any:
    """Build the module's class from settings; an unknown or missing key is a ConfigError that lists the right ones."""
    made = getattr(module, cls, None)
    if made is None:
        raise ConfigError(
            f"{where}: {module.__name__} offers no {cls}. It has "
            f"{', '.join(n for n in vars(module) if re.match('[A-Z][a-z]', n))}"
        )
    fields = {f.name: f for f in dataclasses.fields(made) if f.init}
    required = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if wrong := set(settings) - set(fields):
        raise ConfigError(
            f"{where}: unknown {', '.join(sorted(wrong))}. {cls} of {module.__name__} takes "
            f"{', '.join(fields) or 'nothing'}"
        )
    if missing := required - set(settings):
        raise ConfigError(
            f"{where}: {', '.join(sorted(missing))} missing. {cls} of {module.__name__} takes {', '.join(fields)}"
        )
    return made(**{name: _checked(made, name, value, where) for name, value in settings.items()})


@functools.cache
def _type(made: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(made)[name])


def _checked(made: type, name: str, value: Any, where: str) -> Any:
    """A setting as its field's type has it; a ConfigError when it isn't."""
    try:
        return _type(made, name).validate_python(value)
    except ValidationError as e:
        why = e.errors()[0]["msg"].lower()
        raise ConfigError(f"{where}.{name}: {why} (got {configuration.shown(name, value)})") from e
