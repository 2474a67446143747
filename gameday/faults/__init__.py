"""One fault a file: what it needs, what it notes before, act, proof that it bit, heal. What they share is here.

Acts run in the guardian, and a fault's value is all that its journal entry needs to be mended by another process.
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
    """ConfigError unless the fault's `how` is one of the right ones."""
    if value not in right:
        raise ConfigError(f"{fault}: how={value!r} is unknown. Remedy: one of {', '.join(right)}")


def running(stack: Reach, component: str) -> Json:
    """The identity of who runs now; an error when nobody does, for then there is nothing to break."""
    identity = stack.host(component).identity(component)
    if identity is None:
        raise GamedayError(f"{component} does not run, so it can't be broken. Remedy: gameday status, gameday up")
    return identity


def stopped(stack: Reach, component: str) -> bool:
    """Whether somebody stopped the component, as far as its host can tell."""
    host = stack.host(component)
    return isinstance(host, Desires) and host.stopped(component)


def revive(stack: Reach, component: str) -> None:
    """Start it, unless it runs or somebody stopped it: a fault that only kills has left what is wanted as it was."""
    if not stopped(stack, component):
        stack.host(component).start(component)


def unserved(stack: Reach, component: str) -> str | None:
    """What keeps the component from serving, in words: nobody runs, its host speaks against it, or a probe gets no
    answer. None: it serves."""
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
    """An identity in words."""
    return f"pid {identity['pid']}" if "pid" in identity else str(identity.get("id", identity))
