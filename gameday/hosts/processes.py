"""Breaks processes of this machine that nobody supervises. It finds them by words of their command lines.

Nothing revives them. If gameday.toml has the command, gameday starts one that was killed or stopped. Otherwise only
faults are allowed after which the process goes on by itself.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gameday.errors import ConfigError, DriverError, TooLate
from gameday.hosts._ports import Ports
from gameday.hosts._signals import Signals
from gameday.model import Json
from gameday.ports import Kill, Pause, Revived
from gameday.system.polling import until
from gameday.system.process import (
    STOPPED,
    Process,
    command_of,
    descendants,
    families,
    listening,
    owner_of,
    sockets,
    started_us,
)

__all__ = ["Host"]

ORDER_S = 15.0
"""How long to wait until a process has started, or has ended."""

POLL_S = 0.05

SHOWN = 3
"""How many processes an error names."""


@dataclass(frozen=True)
class Host(Signals):
    """names: role -> consecutive words of its command line, quoted as in a shell. commands: role -> the shell command
    that starts it. Offers Holds, Kill, Limited, Pause."""

    names: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    _ports: Ports = field(default_factory=Ports, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.commands if name not in self.names]:
            raise ConfigError(
                f"hosts.processes.commands has {', '.join(unknown)}, and no such component is on this host. It has "
                f"{', '.join(sorted(self.names)) or 'none'}"
            )

    # ---- Host ------------------------------------------------------------------------------------------------

    def identity(self, component: str) -> Json | None:
        process = self._process(component)
        return None if process is None else {**process.json(), "started_us": started_us(process)}

    def start(self, component: str) -> None:
        """Start it by its command, in a session of its own, so that it outlives gameday."""
        if self._process(component) is not None:
            return
        if component not in self.commands:
            raise DriverError(self._unstarted(component), definite=True)
        command = ["setsid", "--fork", "sh", "-c", self.commands[component]]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=ORDER_S,
                cwd="/",
            )
        except (OSError, subprocess.SubprocessError) as e:
            raise DriverError(f"{shlex.join(command)}: {e}", definite=False) from e
        remedy = f"try the line by hand; where its words end, hosts.processes.commands.{component} is wrong"
        self._await(
            lambda: self._process(component) is not None,
            f"a process with the words {self.names[component]!r} after `{self.commands[component]}`",
            remedy,
        )

    def stop(self, component: str, grace_s: float) -> None:
        """Send SIGTERM to the process. After the grace kill what is left of it and of its descendants."""
        root = self._process(component)
        if root is None:
            return
        family = _tree(root)
        self._send(component, root, signal.SIGTERM)

        def gone() -> bool:
            return not any(process.alive for process in family)

        with contextlib.suppress(TooLate):
            until(gone, grace_s, every_s=POLL_S, what="its end")
            return
        for process in dict.fromkeys([*family, *_tree(root)]):
            self._send(component, process, signal.SIGKILL)
        self._await(gone, f"the end of {component} (pid {root.pid})")

    # ---- Holds -----------------------------------------------------------------------------------------------

    def holds(self, component: str, port: int) -> bool | None:
        """Whether it holds the port. This is asked with every answer of every probe, so the process is looked for again
        only when a process or a socket has changed."""
        root, own = self._ports.owners.get(component, (None, frozenset()))
        if root is not None and root.state not in (None, *STOPPED) and self._ports.recent(port) <= own:
            return True
        root, now = self._process(component), listening().get(port, frozenset())
        if root is None or not now or root.stopped:
            return False
        own = frozenset[str]().union(*(sockets(process.pid) for process in _tree(root)))
        self._ports.owners[component] = (root, own)
        return True if now <= own else None

    # ---- Kill ------------------------------------------------------------------------------------------------

    def kill(self, component: str, identity: Json) -> None:
        """Kill the process and all its descendants: nobody else would end those."""
        below = self._family(component)()
        super().kill(component, identity)
        for process in below:
            self._send(component, process, signal.SIGKILL)

    # ---- Limited ---------------------------------------------------------------------------------------------

    def cannot(self, component: str, need: type) -> str | None:
        if need in (Kill, Revived) and component not in self.commands:
            return self._unstarted(component)
        if need is Revived:
            return (
                f"nobody but gameday would start {component} again. Remedy: run it under a supervisor, such as systemd"
            )
        if need in (Kill, Pause) and (process := self._process(component)) is not None:
            owner = owner_of(process.pid)
            if os.geteuid() not in (0, owner):
                return f"{component} is another user's (uid {owner}). Remedy: run gameday as root, or as that user"
        return None

    def _unstarted(self, component: str) -> str:
        return (
            f"nobody would start {component} again, so it can be frozen and cut off, and no more. Remedy: "
            f"hosts.processes.commands.{component} = the line that starts it"
        )

    # ---- /proc -----------------------------------------------------------------------------------------------

    def _process(self, component: str) -> Process | None:
        """Return the process that runs now. A command line that begins with the words is preferred to one that has them
        further on, which may be a wrapper's, and a process to its own forks. Raises DriverError if several match."""
        words = self._words(component)
        found: dict[int, Process] = {}
        begins: set[int] = set()
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            line = command_of(int(entry))
            at = next((n for n in range(len(line) - len(words) + 1) if line[n : n + len(words)] == words), None)
            if at is not None and (process := Process.of(int(entry))) is not None:
                found[process.pid] = process
                if at == 0:
                    begins.add(process.pid)
        known = {pid: process for pid, process in found.items() if not begins or pid in begins}
        if len(known) > 1:
            below = {
                child.pid for pid in known for child in descendants(pid) if command_of(pid) == command_of(child.pid)
            }
            known = {pid: process for pid, process in known.items() if pid not in below}
        if len(known) > 1:
            shown = "; ".join(f"pid {pid}: {shlex.join(command_of(pid))[:80]}" for pid in [*known][:SHOWN])
            raise DriverError(
                f"{len(known)} processes have the words {self.names[component]!r} of components.{component}.name "
                f"({shown}). Remedy: words that only one has, or its command line from the first word on",
                definite=True,
            )
        return next(iter(known.values()), None)

    def _words(self, component: str) -> list[str]:
        try:
            words = shlex.split(self.names[component])
        except KeyError:
            raise ConfigError(
                f"host processes runs no component {component!r}. It has {', '.join(sorted(self.names)) or 'none'}"
            ) from None
        except ValueError as e:
            raise ConfigError(
                f"components.{component}.name is {self.names[component]!r}: {e}. Remedy: as a shell has it"
            ) from None
        if not words:
            raise ConfigError(f"components.{component}.name is empty. Remedy: words of its command line")
        return words

    def _family(self, component: str) -> Callable[[], Sequence[Process]]:
        root = self._process(component)
        return list if root is None else lambda: _tree(root)

    def _await(self, condition: Callable[[], bool], what: str, remedy: str = "") -> None:
        try:
            until(condition, ORDER_S, every_s=POLL_S, what=what)
        except TooLate as e:
            raise DriverError(f"{e}{f'. Remedy: {remedy}' if remedy else ''}", definite=False) from e


def _tree(root: Process) -> list[Process]:
    """Return the process and all its descendants, parents first."""
    return [process for process in (root, *descendants(root.pid, families())) if process.alive]
