"""What the one contract suite for hosts runs on: real processes, under the supervisor and under nobody, real containers
of a real engine.

Each rig has the same roles: web answers HTTP, family has children, stubborn ignores SIGTERM, bystander never opted in.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from compose import supervisor
from compose.engine import Engine, host_image, unavailable
from compose.ports import free_ports
from compose.servers import toxiproxy
from compose.service import Service
from gameday.errors import GamedayError
from gameday.faults.isolate import Isolate
from gameday.faults.partition import Partition
from gameday.model import Json
from gameday.ports import Fault
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, listening
from tests.fakes import TOY, write_config

ROLES = ("web", "family", "stubborn")
BYSTANDER = "bystander"

WEB = (
    "import http.server, signal, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), http.server.BaseHTTPRequestHandler).serve_forever()\n"
)
FAMILY = (
    "import signal, subprocess, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
    "subprocess.Popen(['sleep', '1000']); subprocess.run(['sh', '-c', 'sleep 1000 & sleep 1000'])"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
)

IDLE = "import time; time.sleep(1000)"

ANSWER_S = 0.3
PORT = 8080


class Rig(Protocol):
    """A stack of one host, and what a test must know beside gameday's own word."""

    @property
    def stack(self) -> Stack: ...

    @property
    def revives(self) -> bool:
        """Whether somebody starts a component again that was killed."""
        ...

    @property
    def port(self) -> int:
        """Where web listens."""
        ...

    def partition(self) -> Fault:
        """The fault that cuts web off from its client."""
        ...

    def answered(self) -> bool:
        """Whether web answers its client."""
        ...

    def said(self, role: str) -> str:
        """What it printed."""
        ...

    def recreate(self, role: str) -> None:
        """Its creator makes it anew, whatever gameday did to it."""
        ...

    def mistaken(self, identity: Json) -> Sequence[Json]:
        """Identities of somebody else who could be taken for it."""
        ...


# ---- processes -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Local:
    """Under the supervisor; web's client reaches it over a link."""

    stack: Stack
    link: toxiproxy.Link

    revives = True

    @property
    def port(self) -> int:
        return self.link.upstream

    def partition(self) -> Fault:
        return Partition("web", self.link.name)

    def answered(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.link.listen, timeout=ANSWER_S)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def said(self, role: str) -> str:
        return (self.stack.state.root / f"{role}.log").read_text()

    def recreate(self, role: str) -> None:
        """Its supervisor was started anew, as far as this process can tell."""
        supervisor.ask(self.stack.state, op="stop", name=role)
        supervisor.ask(self.stack.state, op="start", name=role)

    def mistaken(self, identity: Json) -> Sequence[Json]:
        return [{**identity, "start_ticks": identity["start_ticks"] - 1}, {**identity, "boot_id": "another"}]


@contextmanager
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With a socket path that is too long for the kernel."""
    folder = tmp_path_factory.mktemp(
        "a-state-folder-whose-name-is-longer-than-a-socket-address-may-be-in-the-kernel-is"
    )
    state = State(folder)
    toxiproxy.get(print)
    api, listen, port = free_ports(3)
    link = toxiproxy.Link("client-web", listen, port)
    specs = {
        "web": (sys.executable, "-c", WEB, "127.0.0.1", str(port)),
        "family": (sys.executable, "-c", FAMILY),
        "stubborn": (sys.executable, "-c", STUBBORN),
        BYSTANDER: ("sleep", "infinity"),
    }
    services = [Service(name, argv, str(folder), grace_s=0.5) for name, argv in specs.items()]
    services.append(toxiproxy.process(folder / "toxiproxy", api, [link]))
    path = write_config(folder, opted_in=ROLES, others=(BYSTANDER,))
    with path.open("a") as config:
        config.write(f'[hosts.toxiproxy]\nurl = "http://127.0.0.1:{api}"\n')
        config.write(f'[links]\n{link.name} = {{ host = "toxiproxy", between = ["bystander", "web"] }}\n')
    supervisor.launch(state, services)
    try:
        for service in services:
            supervisor.ask(state, op="start", name=service.name)
        until(lambda: supervisor.ask(state, op="status")["processes"]["toxiproxy"]["ready"], 15, what="toxiproxy")
        yield Local(open_stack(path, state), link)
    finally:
        supervisor.ask(state, op="shutdown")
        until(lambda: supervisor.pid_of(state) is None, 15, what="the supervisor's end")


# ---- processes that nobody supervises --------------------------------------------------------------------------------

NOBODYS = (
    TOY
    + """
[hosts.processes.commands]
{commands}
[hosts.toxiproxy]
url = "http://127.0.0.1:{api}"
[links]
{link} = {{ host = "toxiproxy", between = ["bystander", "web"] }}
"""
)


@dataclasses.dataclass(frozen=True)
class Unsupervised(Local):
    """Started by hand; web's client reaches it over a link."""

    revives = False

    def recreate(self, role: str) -> None:
        """As a person would: it ends the one that runs, and starts the line again."""
        host: Any = self.stack.host(role)
        found = host.identity(role)
        if found is not None:
            os.kill(found["pid"], signal.SIGKILL)
            until(lambda: Process.parse(found).state is None, 10, what="its end")
        subprocess.run(["setsid", "--fork", "sh", "-c", host.commands[role]], check=True)
        until(lambda: host.identity(role), 10, what=role)


@contextmanager
def unsupervised(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("unsupervised")
    state = State(folder)
    toxiproxy.get(print)
    api, listen, port = free_ports(3)
    link = toxiproxy.Link("client-web", listen, port)
    for name, text in {
        "web": WEB,
        "family": FAMILY,
        "stubborn": STUBBORN,
        BYSTANDER: "import time; time.sleep(1000)",
    }.items():
        (folder / f"{name}.py").write_text(text)
    words = {name: f"{folder}/{name}.py" for name in (*ROLES, BYSTANDER)} | {"web": f"{folder}/web.py 127.0.0.1 {port}"}
    lines = {name: f"exec {sys.executable} {its} > {folder}/{name}.log 2>&1" for name, its in words.items()}
    text = NOBODYS.format(
        commands="\n".join(f"{name} = {json.dumps(line)}" for name, line in lines.items()), api=api, link=link.name
    )
    for name, its in words.items():
        text += COMPONENT.format(role=name).replace('"docker"', f'"processes"\nname = "{its}"')
    path = folder / "gameday.toml"
    path.write_text(text.replace(f'{BYSTANDER}.py"\nopt_in = true', f'{BYSTANDER}.py"\nopt_in = false'))
    service = toxiproxy.process(folder / "toxiproxy", api, [link])
    with subprocess.Popen(service.argv, env={**os.environ, **service.env}) as proxy:
        stack = open_stack(path, state)
        host: Any = stack.host("web")
        try:
            for name in words:
                host.start(name)
            until(lambda: Process.of(proxy.pid) and api in listening(), 15, what="toxiproxy")
            yield Unsupervised(stack, link)
        finally:
            for name in words:
                host.stop(name, 0.0)
            proxy.terminate()


# ---- containers ------------------------------------------------------------------------------------------------------

PROJECT = "rig"
IMAGE = "gameday/host:1"
NETWORKS: Mapping[str, str] = {"front": "10.77.1.0/24", "back": "10.77.2.0/24"}
"""Only in the engine's own network namespace."""
ADDRESS = "10.77.1.10"
ALIASES: Mapping[str, str] = {"front": "www", "back": "store"}

COMMANDS: Mapping[str, Sequence[str]] = {
    "web": ("python3", "-c", WEB, "0.0.0.0", str(PORT)),
    "family": ("python3", "-c", FAMILY),
    "stubborn": ("python3", "-c", STUBBORN),
    BYSTANDER: ("sleep", "infinity"),
    "client": ("sleep", "infinity"),
}

CONFIG = (
    TOY
    + """
[hosts.docker]
url = "{url}"
project = "{project}"
"""
)

COMPONENT = """
[components.{role}]
host = "docker"
opt_in = true
probes.health = {{ driver = "http", url = "http://127.0.0.1:1/" }}
"""


@dataclasses.dataclass(frozen=True)
class Docker:
    """Containers as Compose makes them. web has a fixed address and an alias on one network, an alias on another, and a
    link to its client."""

    stack: Stack
    engine: Engine

    revives = True

    @property
    def port(self) -> int:
        return PORT

    def partition(self) -> Fault:
        return Isolate("web")

    def answered(self) -> bool:
        """Asked by the client, by the names that web has on its networks."""
        ask = (
            "import socket, sys\n"
            "for name in sys.argv[1:]:\n"
            f"    with socket.create_connection((name, {PORT}), {ANSWER_S}) as s:\n"
            f"        s.settimeout({ANSWER_S}); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); assert s.recv(1)\n"
        )
        try:
            self.engine.docker("exec", f"{PROJECT}-client", "python3", "-c", ask, *ALIASES.values())
        except GamedayError:
            return False
        return True

    def said(self, role: str) -> str:
        return self.engine.docker("logs", f"{PROJECT}-{role}")

    def recreate(self, role: str) -> None:
        self.engine.docker("rm", "--force", f"{PROJECT}-{role}")
        self.create(role)

    def mistaken(self, identity: Json) -> Sequence[Json]:
        return [
            {**identity, "id": "0" * 64},
            {**identity, "started_us": identity["started_us"] - 1},
            {**identity, "pid": os.getpid()},
        ]

    def create(self, role: str, *options: str, name: str = "") -> None:
        """A container of the project's."""
        name = name or f"{PROJECT}-{role}"
        labels = {"com.docker.compose.project": PROJECT, "com.docker.compose.service": role}
        if role in ROLES:
            labels["gameday.opt-in"] = "true"
        options += ("--network", f"{PROJECT}_front", "--restart", "unless-stopped", "--volume", "/usr:/usr:ro")
        if role == "web":
            options += ("--ip", ADDRESS, "--network-alias", ALIASES["front"], "--link", f"{PROJECT}-client:mate")
        labelled = [part for key, value in labels.items() for part in ("--label", f"{key}={value}")]
        self.engine.docker("create", "--name", name, *labelled, *options, IMAGE, *COMMANDS[role])
        if role in ("web", "client"):
            alias = ("--alias", ALIASES["back"]) if role == "web" else ()
            self.engine.docker("network", "connect", *alias, f"{PROJECT}_back", name)
        self.engine.docker("start", name)


@contextmanager
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """On an engine of the test's own; skipped, with the reason, where none can be started."""
    if why := unavailable():
        pytest.skip(f"no Docker engine can be started here: {why}")
    folder = tmp_path_factory.mktemp("docker")
    with tempfile.TemporaryDirectory(prefix="engine") as short:
        engine = Engine(Path(short))
        try:
            engine.up(print, plugins=False)
        except GamedayError as e:
            pytest.skip(f"no Docker engine can be started here: {e}")
        try:
            host_image(engine, IMAGE)
            for name, subnet in NETWORKS.items():
                engine.docker("network", "create", "--subnet", subnet, f"{PROJECT}_{name}")
            text = CONFIG.format(url=engine.env["DOCKER_HOST"], project=PROJECT)
            path = folder / "gameday.toml"
            path.write_text(text + "".join(COMPONENT.format(role=role) for role in (*ROLES, BYSTANDER)))
            rig = Docker(open_stack(path, State(folder)), engine)
            for role in ("client", *ROLES, BYSTANDER):
                rig.create(role)
            yield rig
        finally:
            with suppress(GamedayError):  # else the engine waits ten seconds for those that are deaf to SIGTERM
                engine.docker("kill", *engine.docker("ps", "--quiet").split())
            engine.down()


RIGS: Mapping[str, Callable[[pytest.TempPathFactory], AbstractContextManager[Rig]]] = {
    "local": local,
    "processes": unsupervised,
    "docker": docker,
}


def frozen(process: Process) -> bool:
    """Whether the kernel lets this process do nothing: it is stopped, or its cgroup is frozen (version 1 or 2)."""
    if process.stopped:
        return True
    for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for file, text in (
            (Path(f"/sys/fs/cgroup/freezer{path}/freezer.state"), "FROZEN"),
            (Path(f"/sys/fs/cgroup{path}/cgroup.events"), "frozen 1"),
        ):
            if (controllers in ("freezer", "")) and path != "/" and file.exists() and text in file.read_text():
                return True
    return False
