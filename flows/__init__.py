"""The failure tests, one a file, and the night that runs them. `catalogue` is the only list of them there is."""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gameday.errors import ConfigError
from gameday.model import FailureTest, Json
from gameday.stack import function, near
from tasks.definition import definition, looking

if TYPE_CHECKING:
    from prefect.flows import Flow

__all__ = ["catalogue", "definitions", "find", "parameters"]


def catalogue() -> dict[str, Flow[..., Any]]:
    """Every failure test by name, in the order of their files' docstrings ("Failure test 1: ...")."""
    from prefect.flows import Flow

    from tasks.run import as_flow

    flows: dict[str, Flow[..., Any]] = {}
    for name in _names():
        made = function(f"flows.{name}:{name}")
        if not isinstance(made, Flow):  # it was imported by who only looked
            made = as_flow(made)
            setattr(sys.modules[f"flows.{name}"], name, made)
        flows[name] = made
    return dict(sorted(flows.items(), key=lambda item: _place(item[0])))


def definitions() -> dict[str, Callable[..., FailureTest]]:
    """The same as plain functions. Needs no Prefect where nobody has asked for the flows yet."""
    with looking():
        found = {name: definition(function(f"flows.{name}:{name}")) for name in _names()}
    return dict(sorted(found.items(), key=lambda item: _place(item[0])))


def _names() -> Iterator[str]:
    return (module.name for module in pkgutil.iter_modules(__path__) if module.name != "nightly")


def _place(name: str) -> tuple[str, str]:
    return sys.modules[f"flows.{name}"].__doc__ or "", name


def find(name: str) -> Flow[..., Any]:
    """One failure test, by its name with underscores or dashes; a ConfigError with near names when there is none."""
    known = catalogue()
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
    return checked
