"""Arming from outside: the environment, the socket, and what a process leaves that did not survive its fault."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from failpoints import GrammarError, UnknownPoint, point, points, server
from failpoints.server import Listener, ListenError, listen, reachable
from failpoints.trail import Trail, count
from gameday.state import ROOT
from gameday.system.polling import until

STEP = point("test::step", "the process is told to go on")
TOLD = point("test::told", "another value is told", returns=str)


class Unix(http.client.HTTPConnection):
    """HTTP to a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        with reachable(self.path) as short:
            self.sock.connect(short)


def ask(path: str, method: str, target: str, body: str | None = None) -> tuple[int, Any]:
    """Status and body of one request."""
    connection = Unix(path)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """This process listens nowhere afterwards, and nothing is armed."""
    yield
    if server._listener is not None:
        server._listener.close()
    for name in points.known():
        points.disarm(name)
    points.configure(Trail())


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The socket of this process, listening."""
    made = str(tmp_path / "points.sock")
    environment = {
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS_SOCKET": made,
        "FAILPOINTS_EVIDENCE": str(tmp_path / "evidence.jsonl"),
    }
    assert isinstance(listen(environment), Listener)
    return made


# ---- the environment ------------------------------------------------------------------------------------------------


def test_the_environment_arms_and_the_socket_is_taken_out_of_it(tmp_path: Path) -> None:
    """A child that inherits what is left does not take the socket for its own."""
    environment = {
        "FAILPOINTS_ENABLE": "1",
        "FAILPOINTS": "test::step=2@raise",
        "FAILPOINTS_SOCKET": str(tmp_path / "s"),
    }
    listen(environment)
    assert str(STEP.armed) == "2@raise"
    assert "FAILPOINTS_SOCKET" not in environment
    assert listen(environment) is listen(environment)


def test_a_file_arms_like_the_environment_until_it_is_deleted(tmp_path: Path) -> None:
    """Both may arm; what is gone arms nothing."""
    file = tmp_path / "entries"
    file.write_text("test::step=2@raise\n")
    environment = {"FAILPOINTS_ENABLE": "1", "FAILPOINTS": "test::told=off", "FAILPOINTS_FILE": str(file)}
    listener = listen(environment)
    assert listener is not None
    assert [str(p.current()) for p in (STEP, TOLD)] == ["2@raise", "off"]
    listener.close()
    for name in points.known():
        points.disarm(name)
    file.unlink()
    listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_FILE": str(file)})
    assert STEP.current() is None


def test_who_connects_is_answered_once_the_file_is_armed(tmp_path: Path) -> None:
    """So whoever deletes the file and then asks knows whether it was read."""
    path, file = str(tmp_path / "s"), tmp_path / "entries"
    os.mkfifo(file)
    answers: list[Any] = []

    def client() -> None:
        until(lambda: Path(path).exists(), 10, what="the socket")
        asking = threading.Thread(target=lambda: answers.append(ask(path, "GET", "/points")))
        asking.start()
        asking.join(0.1)
        assert not answers
        file.write_text("test::step=off")
        asking.join(10)

    other = threading.Thread(target=client)
    other.start()
    listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_SOCKET": path, "FAILPOINTS_FILE": str(file)})
    other.join(10)
    ((status, told),) = answers
    assert (status, told["points"]["test::step"]["term"]) == (200, "off")


def test_without_the_switch_nothing_happens_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A FAILPOINTS left over in production is a warning, and no socket is opened."""
    assert listen({"FAILPOINTS": "test::step=kill", "FAILPOINTS_SOCKET": str(tmp_path / "s")}) is None
    assert STEP.on is None
    assert "FAILPOINTS=test::step=kill is ignored" in caplog.text
    assert not (tmp_path / "s").exists()
    caplog.clear()
    assert listen({}) is None
    assert caplog.text == ""


def test_an_environment_that_makes_no_sense_ends_the_process() -> None:
    """It would run without the fault that somebody counts on."""
    with pytest.raises(GrammarError, match="at position 11"):
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS": "test::step="})
    with pytest.raises(UnknownPoint, match="Did you mean test::step"):
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS": "test::stepp=off"})
    with pytest.raises(ListenError, match="FAILPOINTS_FILE=/ can't be read"):
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_FILE": "/"})
    with pytest.raises(ValueError, match=r"no folder of claims\. Remedy: FAILPOINTS_CLAIMS"):
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS": "test::step=kill[global]"})
    with pytest.raises(ListenError, match=r"/nowhere/e can't be used"):
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_EVIDENCE": "/nowhere/e"})


# ---- the socket -----------------------------------------------------------------------------------------------------


def test_every_point_is_listed_with_its_counts(path: str) -> None:
    """What it stands for, what is armed, since when it counts."""
    assert ask(path, "PUT", "/points/test::step?ttl_s=60&run=r1", "2@print()->off")[0] == 200
    STEP()
    STEP()
    _, listed = ask(path, "GET", "/points")
    assert listed["pid"] == os.getpid()
    mine = listed["points"]["test::step"]
    assert 50 < mine.pop("left_s") <= 60
    assert mine == {
        "point": "test::step", "about": "the process is told to go on", "returns": False, "term": "2@print()->off",
        "run": "r1", "paused": 0, "loaded": mine["loaded"], "evaluated": 2, "fired": 1,
    }  # fmt: skip
    assert ask(path, "GET", "/points/test::step")[1]["fired"] == 1
    assert 'failpoint_fired_total{point="test::step"}' in ask(path, "GET", "/metrics")[1]


def test_delete_disarms_and_lets_go_who_is_paused(path: str) -> None:
    """Doing it twice does no harm."""
    ask(path, "PUT", "/points/test::step?ttl_s=60", "pause")
    thread = threading.Thread(target=STEP)
    thread.start()
    assert ask(path, "GET", "/points/test::step/wait?fired=1&within_s=10")[0] == 200
    until(lambda: ask(path, "GET", "/points/test::step")[1]["paused"], within_s=5)
    assert ask(path, "DELETE", "/points/test::step")[1]["term"] is None
    thread.join(5)
    assert not thread.is_alive()
    assert ask(path, "DELETE", "/points/test::step")[0] == 200
    assert STEP.on is None


def test_release_lets_go_and_leaves_it_armed(path: str) -> None:
    """The number that was let go is told."""
    ask(path, "PUT", "/points/test::step?ttl_s=60", "pause")
    thread = threading.Thread(target=STEP)
    thread.start()
    until(lambda: ask(path, "GET", "/points/test::step")[1]["paused"], within_s=5)
    released = ask(path, "POST", "/points/test::step/release")[1]
    thread.join(5)
    assert (released["released"], released["term"]) == (1, "pause")


def test_wait_answers_when_it_has_fired_or_when_that_is_too_late(path: str) -> None:
    """Also when it is disarmed meanwhile: nobody waits for what can't come any more."""
    ask(path, "PUT", "/points/test::step?ttl_s=60", "print()")
    STEP()
    assert ask(path, "GET", "/points/test::step/wait?fired=1&within_s=10")[1]["fired"] == 1
    status, body = ask(path, "GET", "/points/test::step/wait?fired=2&within_s=0.05")
    assert (status, body["error"]) == (408, "test::step has fired 1 times, not 2: that took too long")
    answers: list[tuple[int, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(ask(path, "GET", "/points/test::step/wait?fired=2&within_s=9"))
    )
    waiting.start()
    assert ask(path, "DELETE", "/points/test::step")[0] == 200
    waiting.join(5)
    assert answers[0][0] in (408, 409)
    assert ask(path, "GET", "/points/test::step/wait?fired=1&within_s=1")[0] == 409


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "error"),
    [
        ("PUT", "/points/test::step?ttl_s=60", "3*0ff", 400, "no action"),
        ("PUT", "/points/test::step?ttl_s=60", "return", 400, "return means nothing there"),
        ("PUT", "/points/test::step?ttl_s=60", "", 400, "no action"),
        ("PUT", "/points/test::step?ttl_s=60", "print(" + "x" * (1 << 16), 400, "at most 65536 bytes"),
        ("PUT", "/points/test::step", "off", 400, "ttl_s is missing or no number"),
        ("PUT", "/points/test::step?ttl_s=nan", "off", 400, "ttl_s is nan"),
        ("PUT", "/points/test::step?ttl_s=100000", "off", 400, "at most 86400"),
        ("PUT", "/points/test::stepp?ttl_s=60", "off", 404, "Did you mean test::step"),
        ("GET", "/points/nonesuch", None, 404, "no point 'nonesuch'"),
        ("GET", "/points/test::step/wait?fired=x&within_s=1", None, 400, "invalid literal"),
        ("POST", "/points/test::step", None, 404, "no POST /points/test::step"),
        ("GET", "/", None, 404, "no GET /"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    path: str, method: str, target: str, body: str | None, status: int, error: str
) -> None:
    """The error says what is wrong, and nothing is armed."""
    answered, told = ask(path, method, target, body)
    assert (answered, error in told["error"]) == (status, True), told
    assert STEP.on is None


def test_garbage_and_clients_that_hang_up_leave_it_serving(path: str) -> None:
    """In the middle of a request, of a body, of a wait; half a body arms nothing."""
    ask(path, "PUT", "/points/test::step?ttl_s=60", "off")
    for data in (
        b"\x00\xff garbage\r\n\r\n",
        b"GET /poi",
        b"PUT /points/test::step?ttl_s=60 HTTP/1.1\r\nContent-Length: 100\r\n\r\nkill",
        b"PUT /points/test::step?ttl_s=60 HTTP/1.1\r\nContent-Length: many\r\n\r\nkill",
        b"GET /points/test::step/wait?fired=9&within_s=300 HTTP/1.1\r\n\r\n",
    ):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(path)
        connection.sendall(data)
        connection.close()
    assert ask(path, "GET", "/points/test::step")[1]["term"] == "off"
    until(lambda: not [t for t in threading.enumerate() if "process_request" in t.name], within_s=5, what="their end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_only_its_own_user_and_root_are_heard() -> None:
    """Others can't open it; and one who could, the mode having been changed by hand, is hung up on."""
    code = (
        "import os, socket, sys\n"
        "os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'GET /points HTTP/1.0\\r\\n\\r\\n')\n"
        "    print(len(s.recv(100)))\n"
        "except ConnectionError:\n"
        "    print('hung up')\n"
    )

    def tried(path: str) -> str:
        nobody = str(pwd.getpwnam("nobody").pw_uid)
        done = subprocess.run([sys.executable, "-c", code, path, nobody], capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr.splitlines()[-1]

    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        path = f"{folder}/points.sock"
        listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_SOCKET": path})
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert "PermissionError" in tried(path)
        os.chmod(path, 0o666)
        assert tried(path) in ("0", "hung up")


def test_a_path_too_long_for_the_kernel_is_served(tmp_path: Path) -> None:
    """Both ends reach it through its folder."""
    folder = tmp_path / ("a-very-long-name-" * 8)
    folder.mkdir()
    path = str(folder / "points.sock")
    assert len(path) > 108
    listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_SOCKET": path})
    assert ask(path, "GET", "/points")[0] == 200


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    """SIGKILL gives nobody the time to clean up."""
    path = tmp_path / "points.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    listen({"FAILPOINTS_ENABLE": "1", "FAILPOINTS_SOCKET": str(path)})
    assert ask(str(path), "GET", "/points")[0] == 200


# ---- other processes ------------------------------------------------------------------------------------------------

PROCESS = """
import os, subprocess, sys, threading
import failpoints
STEP = failpoints.point("test::step", "before each line is answered")
READ = failpoints.point("test::told", "another value is told", returns=str)
try:
    failpoints.listen()
except Exception as e:
    sys.exit(f"{type(e).__name__}: {e}")
print("listening", flush=True)
for line in sys.stdin:
    if line.startswith("child"):
        done = subprocess.run([sys.executable, "-c", "import failpoints; print(failpoints.listen().path)"])
    if line.startswith("fork"):
        pid = os.fork()
        if pid == 0:
            threading.Event().wait(60)
        print(pid, flush=True)
    STEP()
    instead = READ()
    print(instead.value if instead else "done", flush=True)
"""


class Process:
    """A program that hits test::step for each line that it is sent."""

    def __init__(self, folder: Path, **more: str) -> None:
        self.path = str(folder / "points.sock")
        self.evidence = folder / "evidence.jsonl"
        environment = {
            "FAILPOINTS_ENABLE": "1",
            "FAILPOINTS_SOCKET": self.path,
            "FAILPOINTS_EVIDENCE": str(self.evidence),
            "FAILPOINTS_CLAIMS": str(folder / "claims"),
            **more,
        }
        self.popen = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        assert self.line() == "listening"
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.communicate()

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def step(self, text: str = "") -> str:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{text}\n")
        self.popen.stdin.flush()
        return self.line()


def test_kill_leaves_its_line_of_evidence(tmp_path: Path) -> None:
    """Written before the signal: name, hit, time, pid, action, run."""
    with Process(tmp_path, FAILPOINTS_RUN="r7") as process:
        ask(process.path, "PUT", "/points/test::step?ttl_s=60", "2@kill")
        assert [process.step(), process.step()] == ["done", ""]
        assert process.popen.wait(5) == -signal.SIGKILL
        line = json.loads(process.evidence.read_text())
        assert line.pop("at_us") > 1_700_000_000_000_000
        assert line == {
            "point": "test::step",
            "hit": 2,
            "fired": 1,
            "pid": process.popen.pid,
            "action": "2@kill",
            "run": "r7",
        }
    assert count(process.evidence, "test::step") == 1


def test_a_fault_of_the_environment_strikes_once_over_all_restarts(tmp_path: Path) -> None:
    """[global]: who inherits the environment of a process that was killed is spared; another run is struck anew."""

    def ends(run: str) -> list[int]:
        codes = []
        for _ in range(3):
            with Process(tmp_path, FAILPOINTS="test::step=1*kill[global]", FAILPOINTS_RUN=run) as process:
                codes.append(0 if process.step() else process.popen.wait(5))
        return codes

    assert ends("r1") == [-signal.SIGKILL, 0, 0]
    assert ends("r2") == [-signal.SIGKILL, 0, 0]
    assert count(tmp_path / "evidence.jsonl", "test::step") == 2


def test_a_second_process_at_the_same_socket_is_refused(tmp_path: Path) -> None:
    """The first one goes on being served."""
    with Process(tmp_path) as first:
        second = Process(tmp_path)
        assert "ListenError: another process listens at" in second.popen.communicate(timeout=10)[1]
        assert ask(first.path, "GET", "/points")[1]["pid"] == first.popen.pid


def test_children_leave_their_parents_socket_alone(tmp_path: Path) -> None:
    """One that is started inherits the environment without the socket; one that is forked holds nothing open."""
    with Process(tmp_path) as process:
        assert process.step("child") == "None"
        assert process.line() == "done"
        forked = int(process.step("fork"))
        assert process.line() == "done"
        try:
            assert ask(process.path, "GET", "/points")[1]["pid"] == process.popen.pid
            process.popen.kill()
            process.popen.wait()
            with Process(tmp_path) as successor:
                assert ask(successor.path, "GET", "/points")[1]["pid"] == successor.popen.pid
        finally:
            os.kill(forked, signal.SIGKILL)


def test_exit_ends_with_its_code(tmp_path: Path) -> None:
    """At once, and without the program's own clean-up."""
    with Process(tmp_path, FAILPOINTS="test::step=exit(7)") as process:
        process.step()
        assert process.popen.wait(5) == 7


def test_process_1_of_a_container_ends_with_137() -> None:
    """The kernel spares it its own SIGKILL; what comes after it must end it all the same."""
    code = (
        "import os, failpoints.armed as a\n"
        "from failpoints import point, points\n"
        "P = point('p', 'here')\n"
        "a.os.kill = lambda *_: None\n"
        "points.arm('p', 'kill')\n"
        "P()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 137


def test_a_thousand_armings_a_second_over_the_registry_while_the_socket_is_asked(path: str) -> None:
    """Arming in the process and asking from outside don't wait for each other."""
    over = threading.Event()

    def hot() -> None:
        while not over.is_set():
            if TOLD.on is not None:
                TOLD()

    thread = threading.Thread(target=hot)
    thread.start()
    began = monotonic()
    try:
        for n in range(1000):
            points.arm("test::told", "return(x)", ttl_s=60)
            points.disarm("test::told")
            if n % 100 == 0:
                assert ask(path, "GET", "/points")[0] == 200
    finally:
        over.set()
        thread.join()
    assert monotonic() - began < 30
