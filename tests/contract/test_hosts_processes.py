"""Processes that nobody supervises: which one a component's words mean, and what can't be done to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from compose.ports import free_ports
from gameday import ports
from gameday.errors import ConfigError, DriverError
from gameday.faults.kill import Kill
from gameday.faults.pause import Pause
from gameday.faults.restart import Restart
from gameday.hosts.processes import Host
from gameday.ports import Desires, Holds, Limited, Lives
from gameday.stack.live import open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.process import Process, command_of, descendants, listening
from tasks.inventory.processes import WHOLE_MAX, processes
from tests.fakes import TOY

IDLE = "import time; time.sleep(1000)"
FORKING = "import os, time; os.fork(); time.sleep(1000)"
WRAPPING = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What is put here is ended with the test, and all below it."""
    found: list[subprocess.Popen[bytes]] = []
    with ExitStack() as ended:
        yield found
        for process in found:
            ended.enter_context(process)
            for below in descendants(process.pid):
                os.kill(below.pid, 9)
            process.kill()


def run(started: list[subprocess.Popen[bytes]], *argv: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv)
    started.append(process)
    until(lambda: command_of(process.pid) == list(argv), 10, what="its command line")
    return process


def script(folder: Path, text: str, name: str = "one.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def pid(host: Host, component: str = "web") -> int | None:
    found = host.identity(component)
    return None if found is None else found["pid"]


def test_what_it_offers() -> None:
    """Nobody remembers who ran, or knows whether somebody stopped it."""
    host = Host()
    assert isinstance(host, Holds)
    assert isinstance(host, Limited)
    assert not isinstance(host, Lives | Desires)


def test_words_are_whole_and_follow_each_other(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """As the command line has them; a part of one, or another order, means nobody."""
    path = script(tmp_path, IDLE)
    process = run(started, sys.executable, path, "--topic", "orders")
    for words in (f"{path} --topic", f"{path} --topic orders", f"'{sys.executable}' {path}", path):
        assert pid(Host({"web": words})) == process.pid
    for words in (path[:-1], f"{path} orders", f"--topic {path}"):
        assert pid(Host({"web": words})) is None


def test_two_that_may_be_meant_are_none(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """The wrong one must not be struck: both are named, and what tells them apart helps."""
    path = script(tmp_path, IDLE)
    first, second = (run(started, sys.executable, path, name) for name in ("a", "b"))
    with pytest.raises(
        DriverError, match=rf"2 processes have the words.*pid {first.pid}: .*pid {second.pid}: .*Remedy"
    ):
        pid(Host({"web": path}))
    assert pid(Host({"web": f"{path} b"})) == second.pid


def test_what_wraps_it_is_another(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """A command line that begins with the words goes before one that has them further on."""
    path = script(tmp_path, IDLE)
    wrapper = run(started, sys.executable, script(tmp_path, WRAPPING, "wrap.py"), sys.executable, path)
    inner = until(lambda: descendants(wrapper.pid), 10, what="what it wraps")[0]
    until(lambda: path in command_of(inner.pid), 10, what="its command line")
    with pytest.raises(DriverError, match="2 processes have the words"):
        pid(Host({"web": path}))
    assert pid(Host({"web": f"{sys.executable} {path}"})) == inner.pid


def test_one_with_what_it_forked_is_its_first_and_all_are_killed(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """Nobody else would end those that are left, and they would go on to serve."""
    path = script(tmp_path, FORKING)
    process = run(started, sys.executable, path)
    below = until(lambda: descendants(process.pid), 10, what="its fork")
    host = Host({"web": path}, {"web": "true"})
    found = host.identity("web")
    assert found is not None
    assert found["pid"] == process.pid
    host.kill("web", found)
    process.wait()
    until(lambda: not any(one.alive for one in below), 10, what="the end of all")
    assert host.identity("web") is None


def test_one_that_nothing_starts_may_only_be_frozen(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> None:
    """It is told what is missing, before anything is done to it."""
    path = script(tmp_path, IDLE)
    process = run(started, sys.executable, path)
    text = f'[hosts.processes]\n[components.web]\nhost = "processes"\nname = "{path}"\nopt_in = true\n'
    config = tmp_path / "gameday.toml"
    config.write_text(f'{TOY}{text}probes.health = {{ driver = "disk", path = "/" }}\n')
    stack = open_stack(config, State(tmp_path))
    for fault in (Kill("web"), Restart("web")):
        (lack,) = stack.lacks(fault)
        assert "Remedy: hosts.processes.commands.web = the line that starts it" in lack
    assert stack.lacks(Pause("web")) == []
    pause = Pause("web")
    before = pause.before(stack)
    pause.act(stack, before, "r1-1")
    assert Process.parse(before["identity"]).stopped
    pause.heal(stack, before)
    assert not Process.parse(before["identity"]).stopped
    assert process.poll() is None
    process.kill()
    process.wait()
    with pytest.raises(DriverError, match=r"nobody would start web again.*hosts\.processes\.commands\.web"):
        stack.host("web").start("web")


def test_what_nobody_revives_is_restarted_and_never_left_to_itself(tmp_path: Path) -> None:
    """gameday starts it after a restart; whether somebody else would is known: nobody."""
    host = Host({"web": script(tmp_path, IDLE)}, {"web": "true"})
    assert host.cannot("web", ports.Kill) is None
    assert "Remedy: run it under a supervisor" in str(host.cannot("web", ports.Revived))


def test_a_line_that_starts_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words that are missed, the line, and what to try."""
    monkeypatch.setattr("gameday.hosts.processes.ORDER_S", 0.5)
    with pytest.raises(DriverError, match=r"'none\.py' after `false`.*Remedy: try the line by hand") as told:
        Host({"web": "none.py"}, {"web": "false"}).start("web")
    assert not told.value.definite


LISTENING = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(1000)"


def test_init_finds_who_holds_a_port_by_words_that_the_host_knows(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """A long command line by the end that only it has; it is the one that the host takes these words for."""
    one, two, free = free_ports(3)
    path = script(tmp_path, LISTENING)
    short = run(started, sys.executable, path, str(one))
    long = run(started, sys.executable, path, str(two), "x" * 200, "--name", "b")
    run(started, sys.executable, path, str(free), "y", "--name", "c")
    until(lambda: {one, two, free} <= listening().keys(), 10, what="their ports")
    whole = f"{sys.executable} {path} {one}"
    elsewhere = ("redis", f"10.0.0.1:{one}")
    found = processes([("connect", f"localhost:{one}"), ("broker", f"127.0.0.1:{two}"), elsewhere])
    assert [(runs.kind, runs.pid, runs.words) for runs in found] == [
        ("connect", short.pid, whole if len(whole) <= WHOLE_MAX else f"{path} {one}"),
        ("broker", long.pid, "--name b"),
    ]
    assert found[0].line == f"cd {Path.cwd()} && exec {whole}"
    for runs in found:
        assert pid(Host({"web": runs.words})) == runs.pid


def test_init_takes_nobody_for_a_server_who_only_hands_on(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    """An engine's proxy belongs to the engine: to strike it would strike all containers."""
    (port,) = free_ports(1)
    argv = ["/usr/bin/docker-proxy", script(tmp_path, LISTENING), str(port)]
    home = {**os.environ, "PYTHONHOME": sys.base_prefix}  # Python finds its own by its first word, else
    started.append(subprocess.Popen(argv, executable=os.path.realpath(sys.executable), env=home))
    until(lambda: port in listening(), 10, what="its port")
    assert processes([("broker", f"127.0.0.1:{port}")]) == []


@pytest.mark.parametrize(
    ("names", "commands", "why"),
    [
        ({"web": "'x"}, {}, r"components\.web\.name is \"'x\": No closing quotation. Remedy: as a shell"),
        ({"web": " "}, {}, r"components\.web\.name is empty"),
        (
            {"web": "x"},
            {"wep": "x"},
            r"hosts\.processes\.commands has wep, and no such component is on this host. It has web",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(names: dict[str, str], commands: dict[str, str], why: str) -> None:
    """The key, its value, and what would be right."""
    with pytest.raises(ConfigError, match=why):
        pid(Host(names, commands))
