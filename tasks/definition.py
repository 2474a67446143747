"""Reads a failure test as it is written: a function that returns a FailureTest.

This module imports no Prefect: that alone takes longer than a command may last that only lists tests. tasks/run.py
makes the flow.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from gameday.model import Json
from gameday.plan import FailureTest

if TYPE_CHECKING:
    from gameday.stack.config import StackConfig

__all__ = ["STACK", "definition", "described", "looking", "only_looked_at", "parameter_sets", "question", "required"]

STACK = "path of a gameday.toml; the default one's when left empty."
"""The description of the parameter `stack`, which every failure test's flow has besides its own parameters."""

ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
"""Matches one parameter with its description in the section Args of a dedented docstring."""

only_looked_at: ContextVar[bool] = ContextVar("only_looked_at", default=False)


@contextmanager
def looking() -> Iterator[None]:
    """Keep failure tests that are imported inside of this block plain functions: nobody runs them there."""
    token = only_looked_at.set(True)
    try:
        yield
    finally:
        only_looked_at.reset(token)


def definition(test: Any) -> Callable[..., FailureTest]:
    """Return the function that a failure test's flow was made of. test: the flow, or that function."""
    return inspect.unwrap(getattr(test, "fn", test))


def question(function: Callable[..., FailureTest]) -> str:
    """Return what a failure test asks: the first line of its docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def parameter_sets(function: Callable[..., FailureTest], config: StackConfig | None) -> list[dict[str, Json]]:
    """Return the parameter sets that a failure test is run with.

    A test whose parameters all have defaults names them itself (`nightly`). A general test demands a component, and
    maybe a link or a cursor: it is run for each component that opted in, with each of its links, or with each cursor
    that names it. Where a role has members, it is run once with one of them and once with all.

    Args:
        config: the stack; None while it isn't known, then a general test has no parameter set.
    """
    demanded = required(function)
    if not demanded:
        return [dict(params) for params in function().nightly]
    if config is None:
        return []
    roles = [role for role, component in config.components.items() if component.opt_in]
    if "cursor" in demanded:
        named = [(name, cursor.component) for name, cursor in config.cursors.items()]
        return [
            {"component": component, "cursor": name}
            for name, component in named
            if component is not None and set(config.members(component)) & set(roles)
        ]
    if "link" in demanded:
        ends = [(name, end) for name, link in config.links.items() for end in link.between if end in roles]
        return [{"component": end, "link": name} for name, end in ends]
    several = [name for name, role in config.roles.items() if set(role.members) & set(roles)]
    alone = [{"component": role} for role in roles if config.together(role) is None]
    return [*alone, *({"component": name, "members": which} for name in several for which in ("one", "all"))]


def required(function: Callable[..., FailureTest]) -> list[str]:
    """Return the parameters without a default; only general failure tests have any."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.default is inspect.Parameter.empty]


def described(function: Callable[..., FailureTest]) -> dict[str, Json]:
    """Return the parameters of a failure test's flow as Prefect shows them.

    Returns: name -> JSON Schema with title, description, default and position.
    """
    from pydantic import TypeAdapter

    descriptions = _descriptions(inspect.getdoc(function) or "")
    schemas: dict[str, Json] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        schema = dict(TypeAdapter(parameter.annotation).json_schema())
        if parameter.default is not inspect.Parameter.empty:
            schema["default"] = parameter.default
        if name in descriptions:
            schema["description"] = descriptions[name]
        schemas[name] = schema
    schemas["stack"] = {"type": "string", "default": "", "description": STACK}
    return {
        name: dict(sorted({**schema, "title": name, "position": position}.items()))
        for position, (name, schema) in enumerate(schemas.items())
    }


def _descriptions(docstring: str) -> Mapping[str, str]:
    """Return each parameter's description in the section Args, with its line breaks."""
    _, _, arguments = docstring.partition("\nArgs:\n")
    return {name: "\n".join(line.strip() for line in text.splitlines()) for name, text in ARGUMENT.findall(arguments)}
