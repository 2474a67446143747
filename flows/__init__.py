"""The failure tests, one a file, in a folder a platform; and the night that runs them. `catalogue` is the only list of
a platform's own there is: the files of the folder that its gameday.toml names. Those in flows/any are every stack's."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gameday.errors import ConfigError, GamedayError
from gameday.model import Json
from gameday.plan import FailureTest
from gameday.stack.reading import default_path, folder_of_tests
from gameday.stack.registry import importable, near
from gameday.state import ROOT
from tasks.definition import definition, looking, required

if TYPE_CHECKING:
    from prefect.flows import Flow

__all__ = ["GENERAL", "catalogue", "definitions", "find", "general", "parameters"]

HERE = Path(__file__).resolve().parent
GENERAL = HERE / "any"


def catalogue(stack: Path | None = None) -> dict[str, Flow[..., Any]]:
    """Every failure test of a platform's own by name, in the order of their files' docstrings ("Failure test 1: ...").

    stack: its gameday.toml; the default one's when left out.
    """
    return _flows(_own(stack))


def general() -> dict[str, Flow[..., Any]]:
    """The failure tests of any component, by name."""
    return _flows(GENERAL)


def _flows(folder: Path) -> dict[str, Flow[..., Any]]:
    from prefect.flows import Flow

    from tasks.run import as_flow

    flows: dict[str, Flow[..., Any]] = {}
    for name, module in _modules(folder):
        made = _of(module, name)
        if not isinstance(made, Flow):  # it was imported by who only looked
            made = as_flow(made)
            setattr(module, name, made)
        flows[name] = made
    return flows


def definitions(stack: Path | None = None) -> dict[str, Callable[..., FailureTest]]:
    """The platform's own, then those of any component that it has not replaced by one of that name, as plain functions.
    Needs no Prefect where nobody has asked for the flows yet."""
    with looking():
        own, others = (
            {name: definition(_of(module, name)) for name, module in _modules(folder)}
            for folder in (_own(stack), GENERAL)
        )
    return {**own, **{name: test for name, test in others.items() if name not in own}}


def _own(stack: Path | None) -> Path:
    """The folder of a platform's own tests, which may import modules beside its gameday.toml."""
    importable(stack or default_path())
    return folder_of_tests(stack)


def _modules(folder: Path) -> Iterator[tuple[str, ModuleType]]:
    """Name and module of each failure test of a folder, in their order."""
    files = (path for path in folder.glob("*.py") if not path.name.startswith("_"))
    modules = {path.stem: _load(path) for path in files}
    yield from sorted(modules.items(), key=lambda item: (item[1].__doc__ or "", item[0]))


def _load(path: Path) -> ModuleType:
    """A file as a module: of this package where it lies in it, else of its own, under a name that no other has."""
    ours = path.is_relative_to(HERE)
    folder = hashlib.md5(str(path.parent).encode(), usedforsecurity=False).hexdigest()[:8]
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts) if ours else f"failure_tests_{folder}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    try:
        if ours:
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except GamedayError:
        sys.modules.pop(name, None)
        raise
    except Exception as e:
        sys.modules.pop(name, None)
        raise ConfigError(f"{path} can't be imported: {type(e).__name__}: {e}. Remedy: mend that file") from e


def _of(module: ModuleType, name: str) -> Any:
    """The failure test that its file is named after."""
    try:
        return getattr(module, name)
    except AttributeError:
        raise ConfigError(
            f"{module.__file__} has no function {name!r}. Remedy: a failure test is the function of its file's name, "
            "with @failure_test before it (gameday new NAME writes one)"
        ) from None


def find(name: str, stack: Path | None = None) -> Flow[..., Any]:
    """One failure test, by its name with underscores or dashes; a ConfigError with near names when there is none."""
    known = {**general(), **catalogue(stack)}
    try:
        return known[name.replace("-", "_")]
    except KeyError:
        raise ConfigError(f"there is no failure test {name!r}. {near(name, list(known))}") from None


def parameters(flow: Flow[..., Any], given: Mapping[str, str]) -> dict[str, Json]:
    """The given texts as the test's parameters, checked; a ConfigError names the parameter, its value and what is
    allowed."""
    from pydantic import TypeAdapter, ValidationError

    wanted = inspect.signature(definition(flow), eval_str=True).parameters
    checked: dict[str, Json] = {}
    for name, text in given.items():
        if name not in wanted:
            raise ConfigError(f"{flow.name} has no parameter {name!r}. {near(name, list(wanted))}")
        try:
            checked[name] = TypeAdapter(wanted[name].annotation).validate_python(text)
        except ValidationError as e:
            raise ConfigError(f"{flow.name}: {name}={text!r}: {e.errors()[0]['msg'].lower()}") from e
    if missing := [name for name in required(definition(flow)) if name not in checked]:
        raise ConfigError(
            f"{flow.name}: {' and '.join(missing)} missing. Remedy: -p {missing[0]}=NAME, as gameday.toml names it; "
            f"without any -p it is run for all that opted in"
        )
    return checked
