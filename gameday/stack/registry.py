"""The lazy registry of hosts, drivers and faults: nothing else uses importlib.

A module is imported when its name is first used: a Kafka client is never imported for a stack without Kafka. A name
that is none of ours is looked for among the entry points of installed packages (docs/drivers.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib
import pkgutil
import re
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gameday.errors import ConfigError, GamedayError
from gameday.model import Json
from gameday.ports import Fault
from gameday.stack.reading import shown
from gameday.system.tls import KEYS, Tls

__all__ = ["build", "driver_class", "fault_from", "fault_kind", "function", "near", "offered"]

EXTRAS: Mapping[str, str] = {"boto3": "iceberg", "pyarrow": "iceberg", "pyiceberg": "iceberg"}
"""Import name of a client -> the extra of ours that installs it."""


def fault_kind(fault: Fault) -> str:
    """The fault's name, by which other processes find it again: its module's, or its entry point's. Raises ConfigError
    for one without: what nobody else could mend must not be done."""
    made = type(fault)
    package, _, stem = made.__module__.rpartition(".")
    if package == "gameday.faults":
        return stem
    for name, entry in _entries("faults").items():
        with contextlib.suppress(ConfigError):
            if entry.module == made.__module__ and offered("faults", name, _camel(name), "") is made:
                return name
    raise ConfigError(
        f"nobody but this process knows the fault {made.__name__} of {made.__module__}, so nobody else could mend it. "
        "Remedy: a module of gameday/faults, or an entry point gameday.faults of its package (docs/drivers.md)"
    )


def fault_from(kind: str, args: Mapping[str, Json]) -> Fault:
    """The fault that a journal entry names. Its class is that name in CamelCase."""
    return _make("faults", kind, _camel(kind), dict(args), f"fault {kind}")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def function(path: str) -> Any:
    """The object behind "package.module:name" in gameday.toml."""
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(
            f"{path!r} can't be imported: {e}. Remedy: 'module:name' of a module beside gameday.toml, or installed"
        ) from e


def near(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """The end of an error about an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def offered(kind: str, name: str, cls: str, where: str) -> Any:
    """A class of a host, driver or fault. name: of a module in gameday/<kind>, or of an entry point in the group
    gameday.<kind>, which is such a module or the class itself. cls: what a module is asked for."""
    package = importlib.import_module(f"gameday.{kind}")
    ours = [m.name for m in pkgutil.iter_modules(package.__path__)]
    if name in ours:
        return _from(_module(kind, name), cls, where)
    theirs = _entries(kind)
    if name not in theirs:
        besides = f" Installed packages offer {', '.join(sorted(theirs))}" if theirs else ""
        raise ConfigError(f"{where}: there is no {name!r} in gameday/{kind}. {near(name, [*ours, *theirs])}{besides}")
    found = _loaded(theirs[name])
    return _from(found, cls, where) if isinstance(found, ModuleType) else found


def _module(kind: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"gameday.{kind}.{name}")
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        extra = EXTRAS.get(missing)
        remedy = f"pip install 'gameday[{extra}]'" if extra else f"pip install {missing}"
        raise GamedayError(f"gameday/{kind}/{name}.py needs the package {missing!r}. Remedy: {remedy}") from e


def _entries(kind: str) -> dict[str, metadata.EntryPoint]:
    """What installed packages offer, by name. Raises ConfigError where two offer different things under one."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=f"gameday.{kind}"):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ConfigError(
                f"{_package(other)} and {_package(entry)} both offer {entry.name!r} under gameday.{kind}. Remedy: "
                "uninstall one of them"
            )
    return found


def _loaded(entry: metadata.EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as e:
        raise GamedayError(
            f"{_package(entry)} offers {entry.name!r} under {entry.group}, and {entry.value} can't be imported: "
            f"{type(e).__name__}: {e}. Remedy: install what it needs, or uninstall it"
        ) from e


def _package(entry: metadata.EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "a package"


def driver_class(driver: str, offers: str, where: str) -> Any:
    """The class that `driver` names: a module of gameday/drivers or an entry point and maybe its class, or
    "package.module:Class"."""
    if ":" in driver:
        return function(driver)
    module, _, cls = driver.partition(".")
    found = offered("drivers", module, cls or offers, where)
    if cls and found.__name__ != cls:  # an entry point that is one class alone
        raise ConfigError(f"{where}: driver {module!r} is {found.__name__}, not {cls}. Remedy: driver = {module!r}")
    return found


def _make(kind: str, name: str, cls: str, settings: Mapping[str, Any], where: str) -> Any:
    """Build a class of the registry from settings."""
    return build(offered(kind, name, cls, where), settings, where)


def build(made: Any, settings: Mapping[str, Any], where: str) -> Any:
    """Build a class from settings; a ConfigError tells all that is wrong with them, the right keys where one is unknown
    or missing, and what the class itself refuses. One with a field `tls` takes the keys of a Tls."""
    cls = f"{made.__name__} of {made.__module__}"
    fields = {f.name: f for f in dataclasses.fields(made) if f.init}
    secured: dict[str, Tls] = {}
    if fields.pop("tls", None) is not None:
        secured["tls"] = Tls(**{name: settings[name] for name in KEYS if name in settings})
        settings = {name: value for name, value in settings.items() if name not in KEYS}
    required = {
        n for n, f in fields.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    takes = ", ".join([*fields, *(KEYS if secured else ())])
    mistakes = []
    if wrong := set(settings) - set(fields):
        mistakes.append(f"{where}: unknown {', '.join(sorted(wrong))}. {cls} takes {takes or 'nothing'}")
    if missing := required - set(settings):
        mistakes.append(f"{where}: {', '.join(sorted(missing))} missing. {cls} takes {takes}")
    given = {}
    for name, value in settings.items():
        if name in fields:
            try:
                given[name] = _checked(made, name, value, where)
            except ConfigError as e:
                mistakes.append(str(e))
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    try:
        return made(**given, **secured)
    except ValueError as e:  # such as an address that is none
        raise ConfigError(f"{where}: {cls} refuses its settings: {e}. It takes {takes}") from None


def _from(module: ModuleType, cls: str, where: str) -> Any:
    made = getattr(module, cls, None)
    if made is None:
        raise ConfigError(
            f"{where}: {module.__name__} offers no {cls}. It has "
            f"{', '.join(n for n in getattr(module, '__all__', vars(module)) if re.match('[A-Z][a-z]', n))}"
        )
    return made


@functools.cache
def _hints(made: type) -> Mapping[str, Any]:
    return get_type_hints(made, include_extras=True)


@functools.cache
def _type(made: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(made)[name])


def _checked(made: type, name: str, value: Any, where: str) -> Any:
    """A setting as its field's type has it; a ConfigError when it isn't."""
    if type(value) is _hints(made)[name]:  # a text for a text, a number for a number: there is no more to it
        return value
    try:
        return _type(made, name).validate_python(value)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join((where, name, *(map(str, first["loc"]) if isinstance(value, Mapping) else ())))
        got = shown(name, value)
        raise ConfigError(f"{key}: {first['msg'].lower().removeprefix('value error, ')} (got {got})") from e
