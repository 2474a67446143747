"""The failure tests, one a file, and the night that runs them. `catalogue` is the only list of them there is."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from prefect.flows import Flow
from pydantic import TypeAdapter, ValidationError

from gameday.errors import ConfigError
from gameday.model import Json
from gameday.stack import function, near
from tasks.run import definition

__all__ = ["catalogue", "find", "parameters"]


def catalogue() -> dict[str, Flow[..., Any]]:
    """Every failure test by name, in the order of their files' docstrings ("Failure test 1: ...")."""
    flows = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name != "nightly":
            flows[module.name] = function(f"flows.{module.name}:{module.name}")
    return dict(sorted(flows.items(), key=lambda item: (inspect.getmodule(definition(item[1])).__doc__ or "", item[0])))


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
