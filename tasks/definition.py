"""A failure test as it is written: a function that returns a FailureTest. Without Prefect, which takes longer to import
than a command that only looks may last; making a flow of it is tasks/run.py's.
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
"""What the parameter says that every failure test's flow has besides its own."""

ARGUMENT = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
"""A parameter with what it says, in the section Args of a docstring that is dedented."""

only_looked_at: ContextVar[bool] = ContextVar("only_looked_at", default=False)


@contextmanager
def looking() -> Iterator[None]:
    """Failure tests that are imported meanwhile stay functions: nobody here runs them."""
    token = only_looked_at.set(True)
    try:
        yield
    finally:
        only_looked_at.reset(token)


def definition(test: Any) -> Callable[..., FailureTest]:
    """The function that a failure test's flow was made of. test: the flow, or that function."""
    return inspect.unwrap(getattr(test, "fn", test))


def question(function: Callable[..., FailureTest]) -> str:
    """What a failure test asks: the first line of its docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def parameter_sets(function: Callable[..., FailureTest], config: StackConfig | None) -> list[dict[str, Json]]:
    """What a failure test is run with: what it says itself. A general one, which demands a component and maybe a link
    or a cursor, is for each component that opted in, and for each link of such a one, or cursor that names it; for none
    as long as the stack isn't known. Where a role has members, one of them is struck, and all."""
    demanded = required(function)
    if not demanded:
        return [dict(params) for params in function().nightly]
    if config is None:
        return []
    roles = [role for role, component in config.components.items() if component.opt_in]
    if "cursor" in demanded:
        places = [(name, cursor.component) for name, cursor in config.cursors.items()]
        whose = [(name, one) for name, one in places if one is not None and set(config.members(one)) & set(roles)]
        return [{"component": one, "cursor": name} for name, one in whose]
    if "link" in demanded:
        ends = [(name, end) for name, link in config.links.items() for end in link.between if end in roles]
        return [{"component": end, "link": name} for name, end in ends]
    several = [name for name, role in config.roles.items() if set(role.members) & set(roles)]
    alone = [{"component": role} for role in roles if config.together(role) is None]
    return [*alone, *({"component": name, "members": which} for name in several for which in ("one", "all"))]


def required(function: Callable[..., FailureTest]) -> list[str]:
    """The parameters that a failure test can't do without: a general one's."""
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.default is inspect.Parameter.empty]


def described(function: Callable[..., FailureTest]) -> dict[str, Json]:
    """The parameters of a failure test's flow by name, each as JSON Schema with its title, description, default and
    position: what Prefect shows of them."""
    from pydantic import TypeAdapter

    told = _told(inspect.getdoc(function) or "")
    found: dict[str, Json] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        schema = dict(TypeAdapter(parameter.annotation).json_schema())
        if parameter.default is not inspect.Parameter.empty:
            schema["default"] = parameter.default
        if name in told:
            schema["description"] = told[name]
        found[name] = schema
    found["stack"] = {"type": "string", "default": "", "description": STACK}
    return {
        name: dict(sorted({**schema, "title": name, "position": position}.items()))
        for position, (name, schema) in enumerate(found.items())
    }


def _told(docstring: str) -> Mapping[str, str]:
    """What the section Args says of each parameter; lines of one parameter stay lines."""
    _, _, arguments = docstring.partition("\nArgs:\n")
    return {name: "\n".join(line.strip() for line in text.splitlines()) for name, text in ARGUMENT.findall(arguments)}
