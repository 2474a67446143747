"""Reads a gameday.toml into a StackConfig. No other module reads configuration. ${NAME} comes from the environment,
else from the state folder's stack.env.

Every error names the file, the key, the value without its password, and what would be right.
"""

from __future__ import annotations

import copy
import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gameday.errors import ConfigError, NotUp
from gameday.stack.config import CANARY, RunbookConfig, StackConfig, TestsConfig
from gameday.stack.mistakes import cross_check, declared, files
from gameday.stack.variables import fill, told_unset
from gameday.state import PLATFORM, ROOT, RUNBOOKS, TESTS, State

__all__ = [
    "all_of",
    "default_path",
    "folder_of_runbooks",
    "folder_of_tests",
    "load",
    "near",
    "parse",
    "placed",
    "platform_config",
    "platform_of",
    "read_env",
    "shown",
]

PLATFORMS = ROOT / "compose"
"""The folder with this checkout's platforms. Each has a folder of its name with its processes.py and gameday.toml."""

STREAM_GONE = (
    "[stream] is gone. Remedy: [streams.NAME] with key, group, fields and sequence besides hops, visible and path "
    "(docs/records.md)"
)

FILE_MAX_BYTES = 1 << 20
"""Of a gameday.toml: a hundred times as much as any platform has needed."""

SECRET = re.compile(r"secret|password|token|key|auth|dsn|uri|url|history|clickhouse", re.IGNORECASE)
"""Keys whose values are secrets, or addresses that may hold one."""

TOLD_MAX = 40
"""Mistakes of one file; of more there is one cause."""

AT, BARE = re.compile("url|uri|dsn|history", re.IGNORECASE), re.compile(r"[\w.:/\[\]-]+")
"""Keys of addresses, and a value of such a key that has no place for a secret."""

Table = TypeVar("Table", bound=BaseModel)


def default_path() -> Path:
    """Return $GAMEDAY_CONFIG, else the default platform's gameday.toml."""
    return Path(os.environ.get("GAMEDAY_CONFIG") or PLATFORMS / PLATFORM / "gameday.toml")


def platform_config(name: str) -> Path:
    """Return the gameday.toml of a platform of this checkout.

    Raises:
        ConfigError: there is no such platform; the text has those that there are.
    """
    known = sorted(path.parent.name for path in PLATFORMS.glob("*/processes.py"))
    if name not in known:
        raise ConfigError(f"there is no platform {name!r}. Known: {', '.join(known)}")
    return PLATFORMS / name / "gameday.toml"


def platform_of(path: Path) -> str:
    """Return the platform of this checkout whose gameday.toml that is; for any other file the default platform."""
    ours = path.resolve().parent.parent == PLATFORMS and path.with_name("processes.py").exists()
    return path.resolve().parent.name if ours else PLATFORM


def load(path: Path | None = None, state: State | None = None) -> StackConfig:
    """Read a gameday.toml, fill in ${NAME}, and check it.

    Raises:
        ConfigError: something is wrong with it (exit code 2).
        NotUp: a ${NAME} is only known once the stack is up (exit code 3).
    """
    path = path or default_path()
    env = {**read_env((state or State.default()).check().env), **os.environ}
    return parse(_raw(path), env, path)


def read_env(path: Path) -> dict[str, str]:
    """Read NAME=value lines, as `gameday up` writes them; {} if there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}. Remedy: check its owner and mode") from e
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def folder_of_tests(path: Path | None = None) -> Path:
    """Return the folder with the failure tests of a gameday.toml. It reads nothing else, so the stack need not be up.

    Raises:
        ConfigError: there is no such folder.
    """
    path = path or default_path()
    folder = _table(TestsConfig, "tests", path).folder
    found = placed(folder, path, TESTS)
    if not found.is_dir():
        raise ConfigError(f"{path}: tests.folder is {str(folder)!r}, and there is no folder {found}. Remedy: make it")
    return found


def folder_of_runbooks(path: Path | None = None) -> Path:
    """Return the folder with the runbooks of a gameday.toml. It need not exist."""
    path = path or default_path()
    return placed(_table(RunbookConfig, "runbook", path).folder, path, RUNBOOKS)


def placed(folder: Path | None, path: Path, default: str) -> Path:
    """Return a folder that a gameday.toml names relative to itself. default: the folder in the checkout, if it names
    none."""
    return (ROOT / default if folder is None else path.parent / folder).resolve()


def _table(kind: type[Table], name: str, path: Path) -> Table:
    """Read one table of the document, without filling in ${NAME}."""
    try:
        return kind.model_validate(_raw(path).get(name, {}))
    except ValidationError as e:
        raise _wrong(e, path, name) from e


def _raw(path: Path) -> Mapping[str, Any]:
    """Return the document as TOML has it."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX_BYTES + 1)
        if len(data) > FILE_MAX_BYTES:
            raise ConfigError(f"{path} is larger than {FILE_MAX_BYTES:,} bytes. Remedy: is it a gameday.toml?")
        return tomllib.loads(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except FileNotFoundError as e:
        raise ConfigError(f"no configuration at {path}. Remedy: --config FILE, or GAMEDAY_CONFIG=FILE") from e
    except IsADirectoryError as e:
        raise ConfigError(f"{path} is a folder. Remedy: --config {path / 'gameday.toml'}") from e
    except RecursionError as e:
        raise ConfigError(f"{path} has tables or lists in each other that are too deep. Remedy: flatten them") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"{path} can't be read: {e}. Remedy: check that it is a text file with its owner's read right"
        ) from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not TOML: {e}. Remedy: mend that line") from e


def parse(raw: Mapping[str, Any], env: Mapping[str, str], path: Path) -> StackConfig:
    """Check a document and make the StackConfig of it. path: the document's file, for errors.

    Raises: as `load`.
    """
    wrong: list[tuple[str, str]] = []
    unset: dict[str, str] = {}
    filled = fill(raw, env, (), wrong, unset)
    mistakes = [f"{where} {why}" for where, why in wrong]
    if unset and not mistakes:
        raise NotUp(f"{path}: {told_unset(unset)}")
    if unset:  # without these values nothing more can be checked
        raise ConfigError(all_of(path, mistakes))
    said = {where for where, _ in wrong}
    if filled.pop("stream", None) is not None:
        mistakes.append(STREAM_GONE)
        said.add("streams")
    mistakes += _with_roles(filled) + _with_canary(filled)
    config, problems = _validated(filled)
    mistakes += [_problem(p) for p in problems if ".".join(map(str, p["loc"])) not in said]
    mistakes += (cross_check(config) if config else []) + declared(filled) + files(filled)
    if config is None or mistakes:
        raise ConfigError(all_of(path, mistakes))
    return config


def all_of(path: Path, mistakes: Sequence[str]) -> str:
    """What is wrong with a file: one mistake on the same line, several on a line each."""
    each = list(dict.fromkeys(mistakes))
    if len(each) == 1:
        return f"{path}: {each[0]}"
    more = [f"and {len(each) - TOLD_MAX} more"] if len(each) > TOLD_MAX else []
    return "\n- ".join([f"{path} has {len(each)} mistakes:", *each[:TOLD_MAX], *more])


def _validated(filled: dict[str, Any]) -> tuple[StackConfig | None, list[Any]]:
    """The file, and what is wrong with its values. None: more than keys that nobody knows, without which it is read, so
    that what names refer to is told too."""
    problems: list[Any] = []
    try:
        return StackConfig.model_validate(filled), problems
    except ValidationError as e:
        problems = list(e.errors())
    if any(problem["type"] != "extra_forbidden" for problem in problems):
        return None, problems
    known = copy.deepcopy(filled)
    for problem in problems:
        *above, key = problem["loc"]
        table: Any = known
        for step in above:
            table = table[step]
        del table[key]
    return StackConfig.model_validate(known), problems


def _with_roles(filled: dict[str, Any]) -> list[str]:
    """Move the components that have members to `roles`. Return what is wrong with a table [roles]."""
    found = (
        ["roles is no table. Remedy: [components.NAME] with members"] if filled.pop("roles", None) is not None else []
    )
    components = filled.get("components")
    if isinstance(components, dict):
        named = {name: given for name, given in components.items() if isinstance(given, dict) and "members" in given}
        filled["components"] = {name: given for name, given in components.items() if name not in named}
        filled["roles"] = named
    return found


def _with_canary(filled: dict[str, Any]) -> list[str]:
    """Add the hop that [canary] is. Return what is wrong with other hops of that name."""
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


def _problem(error: Any) -> str:
    where = ".".join("components" if at == 0 and key == "roles" else str(key) for at, key in enumerate(error["loc"]))
    if error["type"] == "missing":
        return f"{where} is missing. Remedy: set it; README, 'Point it at your own stack', has an example"
    if error["type"] == "extra_forbidden":
        right = _keys(StackConfig, error["loc"][:-1])
        remedy = near(str(error["loc"][-1]), right) if right else "Remedy: leave it out"
        return f"{where} is no key that gameday knows (got {_got(error)}). {remedy}"
    told = error["msg"].lower().removeprefix("value error, ")
    return f"{where}: {told} (got {_got(error)}). Remedy: see README, 'Point it at your own stack'"


def _got(error: Any) -> str:
    return shown(str(error["loc"][-1:]), error["input"])


def _keys(kind: Any, loc: Sequence[Any]) -> list[str]:
    """The keys that a table at this place may have; []: not known."""
    for key in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            known = kind.model_fields.get(str(key))
            kind = known.annotation if known is not None else None
        else:  # a mapping: name -> table
            kind = get_args(kind)[-1] if get_args(kind) else None
        kind = next((one for one in get_args(kind) if one is not type(None)), kind) if _maybe(kind) else kind
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _maybe(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _wrong(error: ValidationError, path: Path, *table: str) -> ConfigError:
    """Make the error that tells everything that is wrong with the document, or with one table in it, by key."""
    return ConfigError(all_of(path, [_problem({**p, "loc": (*table, *p["loc"])}) for p in error.errors()]))


def near(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """Return the end of an error about an unknown name: similar names."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(sorted(known)) or 'none'}"


def shown(key: str, value: Any) -> str:
    """Return a value as an error shows it: shortened, and only its type if it may hold a secret."""
    if isinstance(value, Mapping):
        return f"a table of {', '.join(map(str, value)) or 'nothing'}"
    bare = isinstance(value, str) and AT.search(key) and BARE.fullmatch(value)
    if (SECRET.search(key) and not bare) or isinstance(value, list):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
