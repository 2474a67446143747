"""Finds hosts, drivers (channels too), faults and checks by name. No other module uses importlib.

A module is imported when its name is first used: a stack without Kafka never imports a Kafka client. A name that is not
gameday's own is looked up among the entry points of installed packages. "package.module:name" is taken from that
module, which is installed or beside gameday.toml (docs/drivers.md).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, get_type_hints

from pydantic import TypeAdapter, ValidationError

from gameday import ports
from gameday.errors import ConfigError, GamedayError
from gameday.model import Json
from gameday.ports import Fault
from gameday.stack.reading import near, shown
from gameday.system.tls import KEYS, Tls

__all__ = [
    "EXTRAS",
    "build",
    "driver_class",
    "fault_from",
    "fault_kind",
    "function",
    "importable",
    "near",
    "offered",
]

PACKAGES: Mapping[str, str] = {
    "drivers": "gameday.drivers",
    "hosts": "gameday.hosts",
    "faults": "gameday.faults",
    "checks": "gameday.verdict.checks",
}
"""Kind -> the package with gameday's own, one in each file. Other packages offer theirs as entry points of the group
gameday.<kind>."""

EXTRAS: Mapping[str, str] = {
    "boto3": "iceberg",
    "pyarrow": "iceberg",
    "pyiceberg": "iceberg",
    "nats": "brokers",
    "redis": "brokers",
}
"""Import name of a client -> gameday's extra that installs it."""


def fault_kind(fault: Fault) -> str:
    """Return the name by which other processes find this fault again: its module's, its entry point's, or else
    "package.module:Class".

    Raises:
        ConfigError: no other process could find it. Such a fault must not be injected, because nobody else could heal
            it.
    """
    made = type(fault)
    package, _, stem = made.__module__.rpartition(".")
    if package == "gameday.faults":
        return stem
    for name, entry in _entries("faults").items():
        with contextlib.suppress(ConfigError):
            if entry.module == made.__module__ and offered("faults", name, _camel(name), (Fault,), "") is made:
                return name
    path = f"{made.__module__}:{made.__name__}"
    with contextlib.suppress(ConfigError):
        if _on_path(made.__module__) and function(path, "") is made:
            return path
    raise ConfigError(
        f"nobody but this process knows the fault {made.__name__} of {made.__module__}, so nobody else could mend it. "
        "Remedy: a module of its own, beside gameday.toml or in an installed package (docs/drivers.md)"
    )


def fault_from(kind: str, args: Mapping[str, Json]) -> Fault:
    """Make the fault that a journal entry names. Its class is that name in CamelCase, unless the name has a class."""
    where = f"fault {kind}"
    made: Fault = build(offered("faults", kind, _camel(kind), (Fault,), where), dict(args), where)
    return made


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _on_path(module: str) -> bool:
    """Return whether another process would find the module too, not only this one."""
    top = module.partition(".")[0]
    return top != "__main__" and any(finder.find_spec(top, None) is not None for finder in sys.meta_path)


def function(path: str, where: str) -> Any:
    """Return the object behind "package.module:name" in gameday.toml. where: the key that names it, for errors."""
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
    except Exception as e:
        why = str(e) if isinstance(e, ImportError | ValueError) else f"{type(e).__name__}: {e}"
        raise ConfigError(
            f"{where}: {path!r} can't be imported: {why}. Remedy: 'module:name' of a module beside gameday.toml, or "
            "installed"
        ) from e
    return _from(found, name, where)


def importable(path: Path) -> None:
    """Let modules beside this gameday.toml be imported from now on; installed modules of the same name come first."""
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)


def offered(kind: str, name: str, cls: str, likes: tuple[type, ...], where: str) -> Any:
    """Return a class of a host, driver or fault, or a check.

    Args:
        name: of a module of gameday's own, of an entry point in the group gameday.<kind> (a module or the object
            itself), or "package.module:name".
        cls: the name that is looked up in a module.
        likes: the Protocols of which the class must have one; (): it is a check.
        where: the key in gameday.toml, for errors.

    Raises:
        ConfigError: there is no such object, or it is of another kind.
    """
    found = _named(kind, name, cls, where)
    lacks = [_unlike(found, like) for like in likes] or [_no_check(found)]
    if all(lacks):
        what, page = (likes[0].__name__, "docs/drivers.md") if likes else ("check", "docs/checks.md")
        raise ConfigError(f"{where}: {name!r} is no {what}: {lacks[0]} ({page})")
    return found


def _named(kind: str, name: str, cls: str, where: str) -> Any:
    if ":" in name:
        return function(name, where)
    package = importlib.import_module(PACKAGES[kind])
    ours = [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]
    if name in ours:
        return _from(_module(package.__name__, name), cls, where)
    theirs = _entries(kind)
    if name not in theirs:
        besides = f" Installed packages offer {', '.join(sorted(theirs))}" if theirs else ""
        folder = PACKAGES[kind].replace(".", "/")
        raise ConfigError(f"{where}: there is no {name!r} in {folder}. {near(name, [*ours, *theirs])}{besides}")
    found = _loaded(theirs[name])
    return _from(found, cls, where) if isinstance(found, ModuleType) else found


def _unlike(found: Any, like: type) -> str:
    """Return what an object lacks to be a class of this Protocol, with a remedy; "": nothing."""
    if not isinstance(found, type):
        return "it is no class. Remedy: the name of a class"
    if not dataclasses.is_dataclass(found):
        return "it is no dataclass, whose fields are what it is told. Remedy: @dataclass before it"
    fields = {field.name for field in dataclasses.fields(found)}
    if missing := [name for name in _members(like) if name not in fields and not hasattr(found, name)]:
        return f"it has no {', '.join(missing)}. Remedy: all that gameday.ports.{like.__name__} has"
    return ""


def _members(like: type) -> list[str]:
    """Return the members that a class of this Protocol has. Its objects may get more when they are made."""
    protocols = [one for one in like.__mro__ if one is not Protocol and getattr(one, "_is_protocol", False)]
    told = [(name, kind) for one in protocols for name, kind in vars(one).get("__annotations__", {}).items()]
    names = {name for one in protocols for name in vars(one)} | {n for n, kind in told if "ClassVar" in str(kind)}
    return sorted(name for name in names if not name.startswith("_"))


def _no_check(found: Any) -> str:
    """Return why an object is no check, with a remedy; "": it is one."""
    remedy = "Remedy: a function of the evidence that returns a Finding"
    if isinstance(found, type) or not callable(found) or not hasattr(found, "__name__"):
        return f"it is no function. {remedy}"
    try:
        inspect.signature(found).bind(None)
    except TypeError:
        return f"it can't be called with the evidence alone. {remedy}"
    return ""


def _module(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as e:
        missing = (e.name or "").partition(".")[0]
        extra = EXTRAS.get(missing)
        remedy = f"pip install 'gameday[{extra}]'" if extra else f"pip install {missing}"
        file = f"{package.replace('.', '/')}/{name}.py"
        raise GamedayError(f"{file} needs the package {missing!r}. Remedy: {remedy}") from e


def _entries(kind: str) -> dict[str, metadata.EntryPoint]:
    """Return what installed packages offer, by name.

    Raises:
        ConfigError: two packages offer different objects under one name.
    """
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
    """Return the class that `driver` names: a module of gameday/drivers or an entry point (with or without a class), or
    "package.module:Class". offers: the Protocol of gameday.ports that the table needs."""
    module, _, cls = driver.partition(".") if ":" not in driver else (driver, "", "")
    likes = (ports.Hop, ports.Derived) if offers == "Hop" else (getattr(ports, offers),)  # or made from others
    found = offered("drivers", module, cls or offers, likes, where)
    if cls and found.__name__ != cls:  # the entry point is a single class
        raise ConfigError(f"{where}: driver {module!r} is {found.__name__}, not {cls}. Remedy: driver = {module!r}")
    return found


def build(made: Any, settings: Mapping[str, Any], where: str) -> Any:
    """Make an object of a class from settings. A class with a field `tls` takes the keys of a Tls.

    Raises:
        ConfigError: the settings are wrong. The text tells everything that is wrong, the right keys if one is unknown
            or missing, and what the class itself refuses.
    """
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
        form = "[A-Z][a-z]" if cls[:1].isupper() else "[a-z]"
        has = ", ".join(n for n in getattr(module, "__all__", vars(module)) if re.match(form, n)) or "none"
        raise ConfigError(f"{where}: {module.__name__} offers no {cls or 'name'}. Remedy: one that it has: {has}")
    return made


@functools.cache
def _hints(made: type) -> Mapping[str, Any]:
    return get_type_hints(made, include_extras=True)


@functools.cache
def _type(made: type, name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(made)[name])


def _checked(made: type, name: str, value: Any, where: str) -> Any:
    """Return a setting as a value of its field's type.

    Raises:
        ConfigError: it is of another type.
    """
    if type(value) is _hints(made)[name]:  # of the right type already
        return value
    try:
        return _type(made, name).validate_python(value)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join((where, name, *(map(str, first["loc"]) if isinstance(value, Mapping) else ())))
        got = shown(name, value)
        raise ConfigError(f"{key}: {first['msg'].lower().removeprefix('value error, ')} (got {got})") from e
