"""Injects faults inside the code: points are declared in the code, armed from outside, and leave evidence of firing.

>>> from failpoints import point, scenario
>>> WRITE = point("example::write", "the disk refuses")
>>> def save():
...     if WRITE.on is not None:
...         WRITE()
...     return "saved"
>>> with scenario("example::write=2@raise(OSError: disk full)") as s:
...     print(save())
...     save()
Traceback (most recent call last):
...
OSError: disk full
>>> save()
'saved'

README.md beside this file teaches the rest in five minutes; `python -m failpoints demo` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from failpoints.armed import ArmError, Failure, Panic, Return, callback
from failpoints.grammar import GrammarError
from failpoints.points import Point, UnknownPoint, metrics, point
from failpoints.scenario import Scenario, scenario

if TYPE_CHECKING:
    from failpoints.server import Listener

__all__ = [
    "ArmError",
    "Failure",
    "GrammarError",
    "Panic",
    "Point",
    "Return",
    "Scenario",
    "UnknownPoint",
    "callback",
    "listen",
    "metrics",
    "point",
    "scenario",
]


def listen() -> Listener | None:
    """Let this process be armed by its environment and over a socket. See failpoints.server.listen.

    Without FAILPOINTS_ENABLE=1 nothing happens: a production process may call it as well.
    """
    from failpoints import server  # only here: most programs that declare points never need its HTTP server

    return server.listen()
