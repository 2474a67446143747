"""Breaks units of this machine's systemd, or of its manager for one user, through systemctl. Signals go to the
processes directly.

systemd revives them (Restart=) and keeps their logs. It needs systemd 247 or newer.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gameday.errors import ConfigError, DriverError, TooLate
from gameday.hosts._ports import Ports
from gameday.hosts._signals import Signals
from gameday.model import Json
from gameday.system.polling import until
from gameday.system.process import STOPPED, Process, listening, sockets

__all__ = ["Host"]

ANSWER_S = 5.0
"""For one answer; systemctl takes 10 ms."""

ORDER_S = 15.0
"""What `start` and `stop` may take beyond the grace."""

POLL_S = 0.05

CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"))
"""Where the cgroups show which process belongs to which unit: version 2, version 1, and both at once."""

ASKED = ("LoadState", "ActiveState", "SubState", "MainPID", "ExecMainStartTimestamp", "ControlGroup", "Restart")
TIME = "%a %Y-%m-%d %H:%M:%S.%f UTC"

SERVING = ("active", "reloading")
DOWN = ("inactive", "failed")


@dataclass(frozen=True)
class Host(Signals):
    """names: role -> its unit; one without a suffix is a service. manager: "system", or "user": the manager of the user
    who runs gameday. runtime: the folder of that manager's socket, if it is neither XDG_RUNTIME_DIR nor
    /run/user/<uid>. Offers Desires, Holds, Kill, Pause, Serves."""

    names: Mapping[str, str] = field(default_factory=dict)
    manager: Literal["system", "user"] = "system"
    runtime: str = ""
    _ports: Ports = field(default_factory=Ports, init=False, repr=False, compare=False)
    _groups: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    # ---- Host ------------------------------------------------------------------------------------------------

    def identity(self, component: str) -> Json | None:
        state = self._state(component)
        process = Process.of(int(state["MainPID"])) if state["MainPID"] != "0" else None
        if process is None:
            return None
        started = datetime.strptime(state["ExecMainStartTimestamp"], TIME).replace(tzinfo=UTC)
        return {**process.json(), "started_us": round(started.timestamp() * 1e6)}

    def start(self, component: str) -> None:
        """Start it. Before that, reset systemd's count of recent starts, which might make it refuse."""
        self._state(component)
        with contextlib.suppress(DriverError):  # systemd refuses this for a unit that it has not loaded
            self._order(component, "reset-failed")
        self._order(component, "start", "--no-block")
        self._await(lambda: self._runs(component), f"a process of {self._unit(component)}")

    def stop(self, component: str, grace_s: float) -> None:
        """Stop it through systemd, which then doesn't revive it. Processes that are left after the grace are killed,
        whatever the unit's TimeoutStopSec is."""
        self._order(component, "stop", "--no-block")
        with contextlib.suppress(TooLate):
            until(lambda: self._gone(component), grace_s, every_s=POLL_S, what="its end")
            return
        self._order(component, "kill", "--signal=SIGKILL")
        self._await(lambda: self._gone(component), f"the end of {self._unit(component)}")

    # ---- Holds -----------------------------------------------------------------------------------------------

    def holds(self, component: str, port: int) -> bool | None:
        """Whether it holds the port. This is asked with every answer of every probe, so the cgroup is read instead of
        asking systemctl."""
        root, own = self._ports.owners.get(component, (None, frozenset()))
        if root is not None and root.state not in (None, *STOPPED) and self._ports.recent(port) <= own:
            return True
        processes = self._processes(component)
        now = listening().get(port, frozenset())
        if not processes or not now or any(process.stopped for process in processes):
            return False
        own = frozenset[str]().union(*(sockets(process.pid) for process in processes))
        holders = [process for process in processes if sockets(process.pid) & now]
        if holders:
            self._ports.owners[component] = (holders[0], own)
        return True if now <= own else None

    # ---- Serves, Desires -------------------------------------------------------------------------------------

    def unserved(self, component: str) -> str | None:
        state = self._state(component)
        if state["ActiveState"] in SERVING:
            return None
        unit = self._unit(component)
        return f"its unit {unit} is {state['ActiveState']} ({state['SubState']}). Its log: journalctl --unit {unit}"

    def stopped(self, component: str) -> bool:
        """Whether a person stopped it. Known only if systemd would have revived it after any other end."""
        state = self._state(component)
        return state["ActiveState"] == "inactive" and state["Restart"] == "always"

    # ---- systemd ---------------------------------------------------------------------------------------------

    def _unit(self, component: str) -> str:
        try:
            name = self.names[component]
        except KeyError:
            raise ConfigError(
                f"host systemd runs no component {component!r}. It has {', '.join(sorted(self.names)) or 'none'}"
            ) from None
        return name if "." in name else f"{name}.service"

    def _state(self, component: str) -> Mapping[str, str]:
        """Return the unit's properties, as systemd shows them."""
        unit = self._unit(component)
        told = self._systemctl("show", "--timestamp=us+utc", f"--property={','.join(ASKED)}", "--", unit)
        state = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        if state.get("LoadState") != "loaded":
            raise ConfigError(
                f"the {self.manager} manager of systemd has no unit {unit} (component {component}): it is "
                f"{state.get('LoadState', 'unknown')}. Remedy: components.{component}.name = the unit's name, or "
                "hosts.systemd.manager"
            )
        if state["ControlGroup"]:  # none while it is down
            self._groups[component] = state["ControlGroup"]
        return {name: state.get(name, "") for name in ASKED}

    def _family(self, component: str) -> Callable[[], Sequence[Process]]:
        """List by cgroup: systemctl freeze needs version 2 of cgroups, and a user's manager doesn't have it."""
        return lambda: self._processes(component)

    def _processes(self, component: str) -> Sequence[Process]:
        """Return all live processes of the unit, also those in cgroups below its own."""
        if component not in self._groups:
            self._state(component)
        group = self._groups.get(component)
        if group is None:
            return []
        pids: set[int] = set()
        for top in CGROUPS:
            for listed in (top / group.lstrip("/")).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):  # it ended meanwhile
                    pids.update(map(int, listed.read_text().split()))
        return [process for process in map(Process.of, sorted(pids)) if process is not None]

    def _runs(self, component: str) -> bool:
        state = self._state(component)
        if state["ActiveState"] == "failed":
            unit = self._unit(component)
            raise DriverError(f"{unit} does not start. Remedy: journalctl --unit {unit}", definite=False)
        return state["MainPID"] != "0" and Process.of(int(state["MainPID"])) is not None

    def _gone(self, component: str) -> bool:
        return self._state(component)["ActiveState"] in DOWN and not self._processes(component)

    def _order(self, component: str, *order: str) -> None:
        self._systemctl(*order, "--no-ask-password", "--", self._unit(component))

    def _systemctl(self, *arguments: str) -> str:
        """Return its answer. Raises DriverError; definite if it refuses."""
        command = ["systemctl", f"--{self.manager}", "--no-pager", *arguments]
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=ANSWER_S,
            )
        except subprocess.TimeoutExpired as e:
            raise DriverError(f"{' '.join(command)}: no answer within {ANSWER_S:g} s", definite=False) from e
        except OSError as e:
            raise DriverError(f"no systemctl: {e.strerror}. Remedy: a machine that systemd runs", definite=True) from e
        if done.returncode != 0:
            why = " ".join(done.stderr.split())
            remedy = "as root, or hosts.systemd.manager" if "uthentication" in why else "hosts.systemd.manager"
            raise DriverError(f"{' '.join(command)}: {why}. Remedy: {remedy}", definite=True)
        return done.stdout

    @property
    def _environment(self) -> Mapping[str, str]:
        environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
        if self.manager == "user":  # a worker or a guardian has no session
            environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
            if self.runtime:
                environment["XDG_RUNTIME_DIR"] = self.runtime
        return environment

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        try:
            until(condition, ORDER_S, every_s=POLL_S, what=what)
        except TooLate as e:
            raise DriverError(str(e), definite=False) from e
