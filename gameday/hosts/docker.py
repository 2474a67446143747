"""Breaks containers of a Docker engine, found by Compose project and name; only those that opted in there too.

The engine's restart policy revives them. Two things bypass the engine and need root on its machine: a kill, because the
engine suspends the policy of a container that it kills, and looking from inside a component's network namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, InvalidVersion, NotFound
from requests.exceptions import RequestException, Timeout

from gameday.errors import ConfigError, DriverError, GamedayError, TooLate
from gameday.model import Json
from gameday.ports import Isolate, Kill, Revived
from gameday.system.polling import until
from gameday.system.process import Process

__all__ = ["OPT_IN", "Host"]

OPT_IN = "gameday.opt-in"
"""A container whose label of this name is "true" may be touched."""

PROJECT, SERVICE, ONE_OFF = (f"com.docker.compose.{key}" for key in ("project", "service", "oneoff"))

ANSWER_S = 5.0
"""For an order that only looks; it takes the engine 10 ms at most."""

ORDER_S = 20.0
"""For an order that does something, beyond a stop's grace. It takes 0.5 s, and 5 s on a machine without a free core."""

SETTLE_S = 10.0
"""How long to wait until the engine shows what was done."""

PATIENCE_S = 0.3
"""How long to wait for a neighbour's answer; on one machine it takes less than a millisecond."""

NEIGHBOURS_MAX = 3
UNUSED_PORT = 9
"""Discard. A neighbour refuses the connection or takes it; either is an answer. A component that is cut off gets none.
"""

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

Found = Mapping[str, Any]
"""A container as the engine's inspect shows it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Host:
    """url: the engine's. project: the Compose project of the containers; "": any, or none. allow: names of containers
    that may be touched without the label. cut: the networks from which a component is cut off, with or without the
    project's name in front; (): all it has. names: role -> container, or service of the project.
    """

    url: str = "unix:///var/run/docker.sock"
    project: str = ""
    allow: Sequence[str] = ()
    cut: Sequence[str] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    # ---- Host ------------------------------------------------------------------------------------------------

    def identity(self, component: str) -> Json | None:
        """Return {"id", "name", "pid", "started_us", "opt_in"}; the pid is the one on the engine's machine."""
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._found(api, component)
        return None if found is None else _identity(found)

    def lives(self, component: str, since_us: int) -> Sequence[Json]:
        """Read the engine's events, of which it keeps the last 256. They name the container, but no pid."""
        with self._engine(f"list the starts of {component}", definite=True) as api:
            found = self._there(api, component)
            wanted = {"container": found["Name"].lstrip("/"), "type": "container", "event": "start"}
            began = api.events(since=since_us / 1e6, until=time.time(), filters=wanted, decode=True)
            found_us = [(one["id"], one["timeNano"] // 1000) for one in began]  # the engine's "since" is inclusive
        return [{"id": who, "started_us": us} for who, us in found_us if us > since_us]

    def start(self, component: str) -> None:
        with self._engine(f"start {component}") as api:
            found = self._there(api, component)
            if _identity(found) is not None:
                return
            self._permit(component, found)
            if found["State"]["Restarting"]:  # it waits up to a minute before it is revived: a stop ends the wait
                api.stop(found["Id"], timeout=0)
            api.start(found["Id"])

    def stop(self, component: str, grace_s: float) -> None:
        """Stop it. The engine counts the grace in whole seconds, so it is rounded up."""
        with self._engine(f"stop {component}") as api:
            found = self._found(api, component)
            if found is None or not (found["State"]["Running"] or found["State"]["Restarting"]):
                return
            self._permit(component, found)
            if found["State"]["Paused"]:  # the engine doesn't stop a paused container
                api.unpause(found["Id"])
            api.stop(found["Id"], timeout=math.ceil(grace_s))
        self._await(lambda: self.identity(component) is None, f"{component} to be gone")

    # ---- Serves, Desires -------------------------------------------------------------------------------------

    def unserved(self, component: str) -> str | None:
        """Say what keeps it from serving. A health check that has not run yet is ignored: it may run every minute."""
        with self._engine(f"look at {component}", definite=True) as api:
            state = self._there(api, component)["State"]
        if state["Paused"]:
            return "its container is paused"
        if (state.get("Health") or {}).get("Status") == "unhealthy":
            return "its container's health check fails"
        return None

    def stopped(self, component: str) -> bool:
        """Whether a person stopped it: it ended under a policy that always revives, and isn't being revived."""
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._found(api, component)
        if found is None or found["State"]["Running"] or found["State"]["Restarting"]:
            return False
        return found["HostConfig"]["RestartPolicy"]["Name"] in ("always", "unless-stopped")

    # ---- Kill ------------------------------------------------------------------------------------------------

    def kill(self, component: str, identity: Json) -> None:
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._found(api, component)
        now = None if found is None else _identity(found)
        if found is None or now != identity:
            shown = "nobody" if now is None else f"pid {now['pid']} of container {now['id'][:12]}"
            raise DriverError(
                f"{component} is not the process that was to be killed (pid {identity.get('pid')} of container "
                f"{str(identity.get('id'))[:12]}): {shown} runs now",
                definite=True,
            )
        self._permit(component, found)
        try:
            _process(component, found).send(signal.SIGKILL)
        except GamedayError as e:
            raise DriverError(f"{component}: {e}", definite=True) from e
        self._await(lambda: self.identity(component) != identity, f"the engine to notice the end of {component}")

    # ---- Pause -----------------------------------------------------------------------------------------------

    def pause(self, component: str) -> None:
        with self._engine(f"pause {component}") as api:
            found = self._there(api, component)
            if found["State"]["Paused"]:
                return
            if _identity(found) is None:
                raise DriverError(f"{component} does not run, so it can't be paused", definite=True)
            self._permit(component, found)
            api.pause(found["Id"])

    def resume(self, component: str) -> None:
        with self._engine(f"unpause {component}") as api:
            found = self._found(api, component)
            if found is not None and found["State"]["Paused"]:
                self._permit(component, found)
                api.unpause(found["Id"])

    def paused(self, component: str) -> bool:
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._found(api, component)
        return found is not None and bool(found["State"]["Paused"])

    # ---- Isolate ---------------------------------------------------------------------------------------------

    def attached(self, component: str) -> Json:
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._there(api, component)
            every = found["NetworkSettings"]["Networks"]
            mine = {name: one for name, one in every.items() if self._is_cut(name)}
            neighbours: dict[str, str] = {}
            for one in mine.values():
                network = api.inspect_network(one["NetworkID"])
                for key, other in network["Containers"].items():
                    if key != found["Id"] and other["IPv4Address"]:
                        neighbours[other["Name"]] = other["IPv4Address"].partition("/")[0]
                if (
                    len(mine) == len(every) and one["Gateway"]
                ):  # through other networks the engine's machine is still reached
                    neighbours["the engine's machine"] = one["Gateway"]
        return {
            "id": found["Id"],
            "networks": [_endpoint(name, one, found["Id"]) for name, one in sorted(mine.items())],
            "neighbours": dict(list(neighbours.items())[:NEIGHBOURS_MAX]),
            "published": sorted(_published(found)) if len(mine) == len(every) else [],
        }

    def isolate(self, component: str, attached: Json) -> None:
        with self._engine(f"cut off {component}") as api:
            found = self._there(api, component)
            if found["Id"] != attached["id"]:
                raise DriverError(
                    f"{component} is another container than the one that was to be cut off", definite=True
                )
            self._permit(component, found)
            for one in attached["networks"]:
                if _has(found, one):
                    api.disconnect_container_from_network(found["Id"], one["id"])

    def rejoin(self, component: str, attached: Json) -> None:
        """Connect it again. Do nothing if the container, or a network, was removed or created anew meanwhile: this act
        did not cut that one off."""
        with self._engine(f"connect {component} again") as api:
            try:
                found = api.inspect_container(attached["id"])
            except NotFound:
                return
            for one in attached["networks"]:
                if not _has(found, one) and _exists(api, one):
                    links = [tuple(link.split(":", 1)) for link in one["links"]]
                    settings = {key: one[key] or None for key in ("ipv4_address", "ipv6_address", "link_local_ips")}
                    settings |= {"aliases": one["aliases"], "links": links, "driver_opt": one["driver_opt"] or None}
                    api.connect_container_to_network(found["Id"], one["id"], **settings)

    def isolated(self, component: str, attached: Json) -> bool:
        with self._engine(f"look at {component}", definite=True) as api:
            try:
                found = api.inspect_container(attached["id"])
            except NotFound:
                return False
        return any(not _has(found, one) for one in attached["networks"])

    def adrift(self, component: str) -> bool:
        with self._engine(f"look at {component}", definite=True) as api:
            found = self._found(api, component)
        if found is None or _shares(mode := found["HostConfig"]["NetworkMode"]):
            return False
        made_for = "bridge" if mode == "default" else mode
        networks = found["NetworkSettings"]["Networks"]
        return not any(made_for in (name, one["NetworkID"]) for name, one in networks.items())

    def reached(self, component: str, attached: Json) -> Sequence[str]:
        with self._engine(f"look at {component}", definite=True) as api:
            process = _process(component, self._there(api, component))

        def ask() -> list[str]:
            return [name for name, address in attached["neighbours"].items() if _answers(address)]

        return _inside(component, process, ask)

    # ---- Inside ----------------------------------------------------------------------------------------------

    def run(self, component: str, command: Sequence[str], timeout_s: float) -> None:
        """Run it without reading its output: the engine's stream has no time-out. A command that hangs goes on."""
        with self._engine(f"run {command[0]} in {component}", timeout_s) as api:
            found = self._there(api, component)
            self._permit(component, found)
            made = api.exec_create(found["Id"], list(command))["Id"]
            api.exec_start(made, detach=True)
            self._await(lambda: not api.exec_inspect(made)["Running"], f"{command[0]} in {component}", timeout_s)
            code = api.exec_inspect(made)["ExitCode"]
        if code != 0:
            raise DriverError(f"{component}: {command[0]} ended with {code}", definite=True)

    # ---- Limited ---------------------------------------------------------------------------------------------

    def cannot(self, component: str, need: type) -> str | None:
        with self._engine(f"look at {component}", definite=True) as api:
            try:
                found = self._there(api, component)
                self._permit(component, found)
                if need in (Kill, Revived, Isolate) and _identity(found) is not None:
                    process = _process(component, found)
                    if os.geteuid() != 0:
                        return f"{component}: only root can {need.__name__.lower()} it. Remedy: run gameday as root"
                    if need is Isolate:
                        _inside(component, process, lambda: None)
            except (ConfigError, DriverError) as e:
                return str(e)
        mode = found["HostConfig"]["NetworkMode"]
        has = list(found["NetworkSettings"]["Networks"])
        if need is Isolate and (_shares(mode) or not any(map(self._is_cut, has))):
            return (
                f"{component} has no network of its own, so it can't be cut off: network_mode is {mode!r}, networks "
                f"are {', '.join(has) or 'none'}, and hosts.docker.cut is {', '.join(self.cut) or 'every one'}"
            )
        return None

    # ---- which container -------------------------------------------------------------------------------------

    def _name(self, component: str) -> str:
        try:
            return self.names[component]
        except KeyError:
            raise ConfigError(
                f"host docker runs no component {component!r}. It has {', '.join(sorted(self.names)) or 'none'}"
            ) from None

    def _found(self, api: docker.APIClient, component: str) -> Found | None:
        """Return the component's container, in any state; None: there is none. Raises when there are several."""
        name = self._name(component)
        wanted = {"label": f"{PROJECT}={self.project}"} if self.project else {"name": f"^/{re.escape(name)}$"}
        matching = [
            one["Id"]
            for one in api.containers(all=True, filters=wanted)
            if f"/{name}" in one["Names"]
            or (self.project and one["Labels"].get(SERVICE) == name and one["Labels"].get(ONE_OFF) != "True")
        ]
        if len(matching) > 1:
            raise DriverError(
                f"{component}: {len(matching)} containers of project {self.project} are called {name!r}. "
                f"Remedy: components.{component}.name = the name of one container in gameday.toml",
                definite=True,
            )
        try:
            found: Found = api.inspect_container(matching[0]) if matching else {}
        except NotFound:
            found = {}
        return found or None

    def _there(self, api: docker.APIClient, component: str) -> Found:
        found = self._found(api, component)
        if found is None:
            where = f"project {self.project!r}" if self.project else "engine"
            raise DriverError(
                f"{component}: the {where} at {self.url} has no container {self._name(component)!r}. "
                f"Remedy: docker compose up -d, or components.{component}.name in gameday.toml",
                definite=True,
            )
        return found

    def _permit(self, component: str, found: Found) -> None:
        """Raise unless the container opted in."""
        if not self._opted_in(found):
            raise DriverError(
                f"container {found['Name'].lstrip('/')} ({component}) has not opted in. Remedy, if it may be broken: "
                f"its label {OPT_IN}=true, or its name in hosts.docker.allow",
                definite=True,
            )

    def _opted_in(self, found: Found) -> bool:
        return _label(found) == "true" or found["Name"].lstrip("/") in self.allow

    def _is_cut(self, network: str) -> bool:
        return not self.cut or network in self.cut or network.removeprefix(f"{self.project}_") in self.cut

    # ---- the engine ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _engine(self, order: str, timeout_s: float | None = None, definite: bool = False) -> Iterator[docker.APIClient]:
        """Yield a connection for one order. definite: the order only looks, so that an error had no effect."""
        timeout_s = timeout_s or (ANSWER_S if definite else ORDER_S)
        try:
            api = docker.APIClient(base_url=self.url, version="auto", timeout=timeout_s)
        except InvalidVersion as e:
            raise DriverError(
                f"the engine at {self.url} is too old: {e}. Remedy: an engine with API 1.24 or later", definite=True
            ) from e
        except (DockerException, RequestException) as e:
            raise DriverError(
                f"no Docker engine answers at {self.url}: {e}. Remedy: start it, set hosts.docker.url, or let "
                f"gameday's user use its socket",
                definite=True,
            ) from e
        with contextlib.closing(api):
            try:
                yield api
            except APIError as e:
                refused = e.is_client_error()
                raise DriverError(
                    f"the engine at {self.url} did not {order}: {e.explanation or e}", definite=definite or refused
                ) from e
            except Timeout as e:
                raise DriverError(
                    f"the engine at {self.url} did not {order} within {timeout_s:g} s. Remedy: look at its log",
                    definite=definite,
                ) from e
            except (DockerException, RequestException, OSError) as e:
                raise DriverError(
                    f"the engine at {self.url} went away when asked to {order}: {e}. Remedy: start it",
                    definite=definite,
                ) from e

    def _await(self, condition: Callable[[], bool], what: str, within_s: float = SETTLE_S) -> None:
        try:
            until(condition, within_s, what=what)
        except TooLate as e:
            raise DriverError(str(e), definite=False) from e


def _identity(found: Found) -> Json | None:
    """Return the identity of the container's process; None: none runs (also while it waits to be revived)."""
    state = found["State"]
    if not state["Running"] or state["Restarting"] or not state["Pid"]:
        return None
    return {
        "id": found["Id"],
        "name": found["Name"].lstrip("/"),
        "pid": state["Pid"],
        "started_us": _us(state["StartedAt"]),
        "opt_in": _label(found),
    }


def _label(found: Found) -> str | None:
    return (found["Config"]["Labels"] or {}).get(OPT_IN)


def _us(text: str) -> int:
    """Convert the engine's "2026-01-02T03:04:05.123456789Z" to microseconds; the engine leaves out zeros at the end."""
    whole, _, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 1_000_000 + int(f"{rest:<06.6}")


def _endpoint(name: str, one: Found, container: str) -> Json:
    """Return a container's settings in a network: connecting it again restores none of them by itself. The engine adds
    the start of the container's id to the aliases; that alias is left to it."""
    fixed = one["IPAMConfig"] or {}
    return {
        "id": one["NetworkID"],
        "name": name,
        "aliases": [a for a in one["Aliases"] or [] if a != container[:12]],
        "links": list(one["Links"] or []),
        "ipv4_address": fixed.get("IPv4Address", ""),
        "ipv6_address": fixed.get("IPv6Address", ""),
        "link_local_ips": list(fixed.get("LinkLocalIPs") or []),
        "driver_opt": dict(one["DriverOpts"] or {}),
    }


def _has(found: Found, endpoint: Json) -> bool:
    return any(one["NetworkID"] == endpoint["id"] for one in found["NetworkSettings"]["Networks"].values())


def _exists(api: docker.APIClient, endpoint: Json) -> bool:
    try:
        api.inspect_network(endpoint["id"])
    except NotFound:
        return False
    return True


def _shares(mode: str) -> bool:
    """Whether a container of this network_mode has no network of its own."""
    return mode in ("host", "none") or mode.startswith("container:")


def _published(found: Found) -> set[str]:
    ports = found["NetworkSettings"]["Ports"] or {}
    return {f"{b['HostIp']}:{b['HostPort']}" for bound in ports.values() for b in bound or ()}


# ---- without the engine ----------------------------------------------------------------------------------------------


def _process(component: str, found: Found) -> Process:
    """Return the container's first process as this machine sees it. Raises if it may be another process: the engine's
    pid may belong to another machine or process namespace."""
    pid = found["State"]["Pid"]
    process = Process.of(pid) if pid else None
    cgroup = ""
    if process is not None:
        with contextlib.suppress(OSError):
            cgroup = Path(f"/proc/{pid}/cgroup").read_text()
    if process is None or found["Id"] not in cgroup or not process.alive:
        raise DriverError(
            f"{component}: process {pid} of container {found['Name'].lstrip('/')} is not seen from here. Remedy: run "
            f"gameday on the engine's machine; in a container, with pid: host",
            definite=True,
        )
    return process


def _inside(component: str, process: Process, ask: Callable[[], T]) -> T:
    """Ask from inside the process's network namespace. A thread enters it, and ends afterwards."""

    def entered() -> T:
        handle = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not process.alive:
                raise DriverError(f"{component} ended meanwhile", definite=True)
            if _libc.setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(handle)
        return ask()

    with ThreadPoolExecutor(1) as one:
        try:
            return one.submit(entered).result()
        except OSError as e:
            raise DriverError(
                f"{component}: its network can't be entered: {e}. Remedy: run gameday as root on the engine's machine",
                definite=True,
            ) from e


def _answers(address: str) -> bool:
    """Whether anybody is at this address, seen from this thread's network namespace."""
    try:
        socket.create_connection((address, UNUSED_PORT), PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
