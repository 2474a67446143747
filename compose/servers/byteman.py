"""Adds Byteman to a JVM: failpoints in a running JVM, without a change to its program. It is one jar, an agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compose.servers import LOOPBACK, SHARE, Report, shared
from compose.servers.jars import Jars
from compose.service import Service

__all__ = ["VERSION", "armable", "get"]

VERSION = "4.0.26"
JARS = Jars("byteman", Path(__file__).with_name(f"byteman-{VERSION}.lock"), SHARE / f"byteman-{VERSION}")


def get(report: Report) -> None:
    """Fetch the jar, unless a verified one is there."""
    with shared():
        JARS.fetch(report)


def armable(service: Service, port: int) -> Service:
    """Return the same service, a JVM, with the agent listening.

    The agent asks for no password and carries out what it gets: it listens on loopback only, and is for test stacks.
    """
    java, *rest = service.argv
    agent = f"-javaagent:{JARS.paths[0]}=listener:true,port:{port},address:{LOOPBACK}"
    return replace(service, argv=(java, agent, *rest))
