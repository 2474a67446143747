"""The faults, one a file: what a fault needs, what it notes before, its act, the proof of its effect, its heal.

This module has what they share. The guardian carries out the acts. A fault's fields and what it noted before are in
the journal, and any process can heal it from these alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.model import Json
from gameday.ports import Desires, Reach, Serves

__all__ = ["GRACE_S", "one_of", "revive", "running", "stopped", "unserved", "who"]

GRACE_S = 10.0
"""How long a component may take to end by itself; Kafka's controlled shutdown needs up to 4 s."""


def one_of(fault: str, value: str, right: Sequence[str]) -> None:
    """Raise ConfigError unless `value`, the fault's `how`, is one of `right`."""
    if value not in right:
        raise ConfigError(f"{fault}: how={value!r} is unknown. Remedy: one of {', '.join(right)}")


def running(stack: Reach, component: str) -> Json:
    """Return the identity of the component's process. Raises GamedayError when it does not run: nothing can break."""
    identity = stack.host(component).identity(component)
    if identity is None:
        raise GamedayError(f"{component} does not run, so it can't be broken. Remedy: gameday status, gameday up")
    return identity


def stopped(stack: Reach, component: str) -> bool:
    """Say whether a person stopped the component, as far as its host knows."""
    host = stack.host(component)
    return isinstance(host, Desires) and host.stopped(component)


def revive(stack: Reach, component: str) -> None:
    """Start the component, unless it runs or a person stopped it. (A fault that only kills doesn't stop it.)"""
    if not stopped(stack, component):
        stack.host(component).start(component)


def unserved(stack: Reach, component: str) -> str | None:
    """Say what keeps the component from serving: it does not run, its host says so, or a probe gets no answer.

    None: it serves.
    """
    host = stack.host(component)
    identity = host.identity(component)
    if identity is None:
        return f"{component} does not run"
    if isinstance(host, Serves) and (why := host.unserved(component)) is not None:
        return f"{component} ({who(identity)}) was started and does not serve: {why}"
    for name, probe in stack.own_probes(component).items():
        try:
            probe.read()
        except DriverError as e:
            return f"{component} ({who(identity)}) was started and does not serve: its probe {name} says: {e}"
    return None


def who(identity: Json) -> str:
    """Name an identity in a message: "pid 4500", or a container's id."""
    return f"pid {identity['pid']}" if "pid" in identity else str(identity.get("id", identity))
