"""Small stand-ins: a supervisor with real child processes, a stack's configuration around it, a host in memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from gameday.model import Json
from gameday.stack.live import Stack, open_stack
from gameday.stack.variables import VARIABLE
from gameday.state import State
from gameday.system.process import Process, boot_id

REVIVE_S = 0.1

TOY = """
name = "toy"
history = "postgresql://nobody@127.0.0.1:1/none"
[prefect]
api_url = "http://127.0.0.1:1/api"
[streams.numbers]
key = ["id"]
sequence = "id"
hops = ["one", "two"]
visible = "two"
path = ["web"]
[hops.one]
driver = "tape"
[hops.two]
driver = "clickhouse"
"""
"""A stack of nothing but what a configuration must have."""

CONSUMER = """
name = "s"
history = "postgresql://nobody@127.0.0.1:1/none"
prefect.api_url = "http://127.0.0.1:1/api"
hosts.local.socket = "none"
components.consumer.probes.disk = { driver = "disk", path = "/" }
"""
"""A stack of one component, without hops: what a configuration must have besides the streams that it is about."""

CONFIG = (
    TOY
    + """
[hosts.local]
socket = "{socket}"
"""
)

COMPONENT = """
[components.{role}]
opt_in = {opt_in}
probes.health = {{ driver = "disk", path = "/" }}
"""
"""Its probe is answered always: whether such a component serves, its supervisor says."""


def write_config(folder: Path, opted_in: tuple[str, ...] = ("web",), others: tuple[str, ...] = ("db",)) -> Path:
    """A gameday.toml whose components are processes of the supervisor in this folder."""
    text = CONFIG.format(socket=State(folder).supervisor_socket)
    for role in (*opted_in, *others):
        text += COMPONENT.format(role=role, opt_in=str(role in opted_in).lower())
    path = folder / "gameday.toml"
    path.write_text(text)
    return path


class Supervisor:
    """The socket protocol over `sleep` processes that are revived after REVIVE_S. A thread of the test's process.

    broken: op -> what to do instead of answering; it may raise, wait, or return the answer.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = ("web", "db")) -> None:
        self.state = State(folder)
        self.stack: Stack = open_stack(write_config(folder), self.state)
        self.broken: dict[str, Callable[[Json], Json | None]] = {}
        self.orders: list[Json] = []
        self.serves = True
        """Whether what runs is seen to serve."""
        self._names = names
        self._want = dict.fromkeys(names, True)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started_us: dict[str, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Supervisor:
        self._listener.bind(str(self.state.supervisor_socket))
        self._listener.listen(64)
        for name in self._names:
            self._spawn(name)
            threading.Thread(target=self._revive, args=(name,), daemon=True).start()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._listener.close()
        with self._lock:
            for child in self._running.values():
                child.kill()
                child.wait()

    def pid(self, name: str = "web") -> int | None:
        """Who runs now; None: nobody."""
        with self._lock:
            child = self._running.get(name)
            return None if child is None or Process.of(child.pid) is None else child.pid

    def _spawn(self, name: str) -> None:
        self._running[name] = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        self._started_us[name] = time.time_ns() // 1000

    def _revive(self, name: str) -> None:
        while not self._over.wait(0.01):
            with self._lock:
                dead = self._want[name] and self._running[name].poll() is not None
            if dead and not self._over.wait(REVIVE_S):
                with self._lock:
                    if self._want[name] and self._running[name].poll() is not None and not self._over.is_set():
                        self._spawn(name)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):  # whoever asked may be killed at any moment
            for line in connection.makefile("rb"):
                order = json.loads(line)
                self.orders.append(order)
                answer = self.broken[order["op"]](order) if order["op"] in self.broken else self.obey(order)
                if answer is None:
                    return
                connection.sendall(json.dumps(answer).encode() + b"\n")

    def obey(self, order: Json) -> Json:
        """What an unbroken supervisor does."""
        if order["op"] == "status":
            with self._lock:
                status = {name: self._status(name) for name in self._names}
            return {"ok": True, "pid": os.getpid(), "boot_id": boot_id(), "processes": status}
        name = order["name"]
        if name not in self._names:
            return {"ok": False, "error": f"no process {name!r}"}
        with self._lock:
            if self._over.is_set():
                return {"ok": False, "error": "shut down"}
            self._want[name] = order["op"] == "start"
            child = self._running[name]
            if order["op"] == "start":
                if child.poll() is not None:
                    self._spawn(name)
            else:
                child.terminate()
                child.send_signal(18)
                child.wait()
        return {"ok": True}

    def _status(self, name: str) -> Json:
        found = Process.of(self._running[name].pid)
        return {
            "want": self._want[name],
            "pid": found.pid if found else None,
            "start_ticks": found.start_ticks if found else None,
            "started_us": self._started_us[name] if found else None,
            "state": found.state if found else None,
            "restarts": 0,
            "log": "",
            "ready": self.serves if found else None,
            "error": None,
        }


@dataclass
class MemoryHost:
    """A host in memory that offers everything; `inert`: it accepts every order and does nothing."""

    inert: bool = False
    running: dict[str, int | None] = field(default_factory=lambda: {"web": 1})
    frozen: set[str] = field(default_factory=set)
    calls: list[tuple[Json, ...]] = field(default_factory=list)
    births: int = 1
    off: set[str] = field(default_factory=set)
    alone: bool = False
    mute: str | None = None
    """Why what runs does not serve."""
    by_hand: bool = False
    """Whether what is down was stopped by somebody."""

    def identity(self, component: str) -> Json | None:
        pid = self.running.get(component)
        return None if pid is None else {"pid": pid, "start_ticks": pid, "boot_id": "b", "started_us": pid * 1000}

    def start(self, component: str) -> None:
        self.calls.append(("start", component))
        if not self.inert and self.running.get(component) is None:
            self.births += 1
            self.running[component] = self.births

    def unserved(self, component: str) -> str | None:
        self.calls.append(("look", component))
        return self.mute

    def stopped(self, component: str) -> bool:
        return self.by_hand and self.running.get(component) is None

    def stop(self, component: str, grace_s: float) -> None:
        self.calls.append(("stop", component, grace_s))
        if not self.inert:
            self.running[component] = None

    def kill(self, component: str, identity: Json) -> None:
        self.calls.append(("kill", component, identity["pid"]))
        if not self.inert:
            self.running[component] = None

    def pause(self, component: str) -> None:
        if not self.inert:
            self.frozen.add(component)

    def resume(self, component: str) -> None:
        self.frozen.discard(component)

    def paused(self, component: str) -> bool:
        return component in self.frozen

    def attached(self, component: str) -> Json:
        return {"id": "c", "networks": [{"name": "net"}], "neighbours": {"db": "10.0.0.2"}, "published": []}

    def isolate(self, component: str, attached: Json) -> None:
        if not self.inert:
            self.off.add(component)

    def rejoin(self, component: str, attached: Json) -> None:
        self.off.discard(component)

    def isolated(self, component: str, attached: Json) -> bool:
        return component in self.off

    def adrift(self, component: str) -> bool:
        return component in self.off

    def reached(self, component: str, attached: Json) -> list[str]:
        return [] if self.alone or component in self.off else ["db"]


@dataclass
class MemoryPoints:
    """The failpoints `spot` and `other` in memory; `inert`: they accept every order and do nothing."""

    inert: bool = False
    listens: bool = True
    terms: dict[str, str | None] = field(default_factory=lambda: {"spot": None, "other": None})
    fired: list[Json] = field(default_factory=list)
    run: str = ""

    def listed(self) -> Mapping[str, Json]:
        return {name: {"term": term, "fired": 0} for name, term in self.terms.items()} if self.listens else {}

    def arm(self, point: str, term: str, ttl_s: float, run: str) -> None:
        if not self.inert:
            self.terms[point], self.run = term, run

    def disarm(self, point: str) -> None:
        self.terms[point] = None

    def wait(self, point: str, times: int, within_s: float) -> None:
        raise NotImplementedError

    def firings(self, point: str) -> list[Json]:
        return [f for f in self.fired if f["point"] == point]

    def fire(self, point: str = "spot") -> None:
        """The code comes by."""
        line = {"hit": 3, "at_us": 1, "pid": 1, "action": self.terms[point], "run": self.run}
        self.fired.append({"point": point, **line})


class MemoryStack:
    """Just enough of a Stack for a fault: its host, and its failpoints."""

    def __init__(self, host: MemoryHost) -> None:
        self._host = host
        self._points = MemoryPoints(host.inert)
        self.probes: dict[str, Json] = {}

    def host(self, role: str) -> MemoryHost:
        return self._host

    def points(self, role: str) -> MemoryPoints:
        return self._points

    def own_probes(self, role: str) -> Mapping[str, Json]:
        return self.probes


def refuse(_: Json) -> Mapping[str, Json]:
    """A supervisor's answer when it refuses."""
    return {"ok": False, "error": "out of order"}


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own over this folder; only root can make one."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take every page that is left on its file system."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return


def embedded_env(config: Path) -> str:
    """A stack.env for a stack that isn't there: each variable of this gameday.toml, with a port where nobody listens or
    some text."""
    names = sorted(set(VARIABLE.findall(config.read_text())))
    return "".join(f"{name}={1 if name.endswith('PORT') else 'nothing'}\n" for name in names)


OWN_TEST = '''"""Failure test 1: ours."""

from gameday.verdict.checks import INTACT, recovered
from gameday.faults.restart import Restart
from gameday.plan import FailureTest, Inject
from tasks import failure_test


@failure_test
def ours(how: str = "sigkill") -> FailureTest:
    """Does ours come back?

    Args:
        how: as restart has it.
    """
    return FailureTest(plan=(Inject(Restart("broker", how=how)),), mttr_max_s=60, checks=(*INTACT, recovered))
'''
"""A failure test that a stack has of its own: ours.py."""
