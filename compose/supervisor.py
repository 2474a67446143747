"""Supervises one stack: revives its processes, knows which of them serve, and ends them when it ends itself.

`python -m compose.supervisor STATE` runs in the foreground and reads <state>/stack/processes.json. A process starts
only when an order asks for it. Orders come over a unix socket, one JSON object a line: status, lives, start, stop,
shutdown (`ask` is the client). up.py knows the order of the first start, and what must be prepared between.

Once a process serves, nothing polls: its end wakes the thread that awaits it, and `status` checks whether it still
serves. `status` with "ready": false asks only what runs, and never waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from compose.service import Service, answers, listens, port_of
from gameday.errors import DriverError, GamedayError
from gameday.state import ROOT, State
from gameday.system import console
from gameday.system.polling import until
from gameday.system.process import Process, boot_id, descendants, yield_cpu
from gameday.system.unix import reachable

__all__ = ["MARK", "ask", "launch", "main", "pid_of", "specification", "tail", "write_private"]

MARK = "GAMEDAY_SUPERVISED"
"""A variable with the state folder, in the environment of all that a supervisor starts. `down` finds strays by it."""

INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
"""The variables of `gameday up`'s environment that processes see; all others are in their specification."""

REVIVE_FIRST_S = 0.1
REVIVE_MAX_S = 5.0
STEADY_S = 10.0
"""A process that lived this long is revived after the shortest delay again."""
READY_TIMEOUT_S = 1.0
READY_STARTING_S = 0.05
READY_STEADY_S = 1.0
"""How old the status of a serving process may be; `up` asks many times a second."""

KILL_WAIT_S = 10.0
LIVES_KEPT = 100
"""How many lives of a process are kept: as many as a crash loop of ten minutes has."""

IDLE_S = 3_600.0
"""How long the server of orders sleeps without an order; by default it would wake up twice a second."""

PIPE_BYTES = 4096
REAPED_MAX = 1000
"""How many ended orphans are reaped in one go."""
LOG_MAX_BYTES = 32 * 2**20
ASK_TIMEOUT_S = 120.0
LAUNCH_S = 30.0
TAIL_LINES = 15

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_spawning = threading.Lock()
"""Held while a child exists that isn't registered yet, so that the reaper of orphans can't take its exit status."""

log = structlog.get_logger()


def specification(state: State) -> Path:
    """Return the file with the processes of a stack; the running supervisor holds a lock on it."""
    return state.servers / "processes.json"


# ---- one process -----------------------------------------------------------------------------------------------------


class Child:
    """One process and its two threads: one starts and awaits it, one asks whether it serves.

    The first lives as long as the supervisor: the kernel sends the parent-death signal when the spawning thread ends.
    """

    def __init__(self, spec: Service, mark: str, ended: Callable[[], None]) -> None:
        """ended: called each time that it has ended and its exit status was taken."""
        self.spec = spec
        self._mark = mark
        self._ended = ended
        self._changed = threading.Condition()
        self._life: subprocess.Popen[bytes] | None = None
        self._want = False
        self._hurry = False
        self._ready: bool | None = None
        self._looked_at = 0.0
        self._asked = False
        self._restarts = 0
        self._lives: deque[dict[str, int]] = deque(maxlen=LIVES_KEPT)
        self._started_us = 0
        self._error: str | None = None
        threading.Thread(target=self._live, name=f"live {spec.name}", daemon=True).start()
        threading.Thread(target=self._watch, name=f"watch {spec.name}", daemon=True).start()

    @property
    def pid(self) -> int | None:
        life = self._life
        return life.pid if life else None

    def look(self) -> None:
        """Ask the second thread to check whether it serves, unless it did so within READY_STEADY_S. `status` waits."""
        with self._changed:
            if self._ready and time.monotonic() - self._looked_at > READY_STEADY_S:
                self._asked = True
                self._changed.notify_all()

    def status(self, patience_s: float | None) -> dict[str, Any]:
        """Return what it is, and whether it serves. patience_s: how long to wait for a look that was asked for; without
        its answer the process doesn't serve. None: don't wait, return the last look's answer.
        """
        with self._changed:
            looked = patience_s is None or self._changed.wait_for(lambda: not self._asked, patience_s)
            process = Process.of(self._life.pid) if self._life else None
            return {
                "want": self._want,
                "pid": process.pid if process else None,
                "start_ticks": process.start_ticks if process else None,
                "started_us": self._started_us if process else None,
                "state": process.state if process else None,
                "restarts": self._restarts,
                "log": str(self.spec.log),
                "ready": (self._ready and looked) if process else None,
                "error": self._error,
            }

    def lives(self) -> list[dict[str, int]]:
        """Return every process that it has had since this supervisor began, oldest first, at most LIVES_KEPT."""
        with self._changed:
            return list(self._lives)

    def start(self) -> None:
        """Mark it as wanted, and wait until it exists."""
        with self._changed:
            self._want, self._hurry, self._error = True, True, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._life is not None or self._error, KILL_WAIT_S)
            if self._error:
                raise GamedayError(f"{self.spec.name} can't be started: {self._error}")

    def stop(self, grace_s: float) -> None:
        """Mark it as unwanted, send its stop signal, SIGKILL after the grace. Return when it is gone."""
        with self._changed:
            self._want = False
            self._changed.notify_all()
            life = self._life
            if life is None:
                return
            # os.kill, because Popen.send_signal may reap it: then the thread that awaits it would miss its end.
            os.kill(life.pid, self.spec.stop_signal)
            os.kill(life.pid, signal.SIGCONT)  # a paused process would not end within its grace
            if not self._changed.wait_for(self._other_than(life), grace_s):
                log.warning("killed after its grace", process=self.spec.name, pid=life.pid, grace_s=grace_s)
                os.kill(life.pid, signal.SIGKILL)
                if not self._changed.wait_for(self._other_than(life), KILL_WAIT_S):
                    raise GamedayError(f"{self.spec.name} (pid {life.pid}) outlives SIGKILL: it hangs in the kernel")

    def _live(self) -> None:
        delay_s = REVIVE_FIRST_S
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._want)
                began = time.monotonic()
                self._hurry = False
                try:
                    self._spawn()
                except OSError as e:
                    self._error, self._want = str(e), False
                    log.error("can't be started", process=self.spec.name, error=str(e))
                    self._changed.notify_all()
                    continue
                life = self._life
                assert life is not None
                self._changed.notify_all()
            os.waitid(
                os.P_PID, life.pid, os.WEXITED | os.WNOWAIT
            )  # still a zombie: its pid can't be reused under a signal
            with self._changed:
                code = life.wait()
                self._life, self._ready, self._asked = None, None, False
                self._changed.notify_all()
                self._ended()
                log.info("ended", process=self.spec.name, pid=life.pid, code=code, wanted=self._want)
                if not self._want:
                    delay_s = REVIVE_FIRST_S
                    continue
                if time.monotonic() - began >= STEADY_S:
                    delay_s = REVIVE_FIRST_S
                self._changed.wait_for(lambda: not self._want or self._hurry, delay_s)
                delay_s = min(2 * delay_s, REVIVE_MAX_S)
                self._restarts += self._want

    def _spawn(self) -> None:
        spec, parent = self.spec, os.getpid()
        who: dict[str, Any] = {}
        if spec.user is not None and os.geteuid() == 0:
            who = {"user": spec.user, "group": spec.user, "extra_groups": []}
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        prctl = _libc.prctl

        def begin() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)
            if spec.niceness:
                yield_cpu(spec.niceness)

        if spec.log.exists() and spec.log.stat().st_size > LOG_MAX_BYTES:
            spec.log.replace(spec.log.with_suffix(".log.1"))
        with _spawning, spec.log.open("ab") as out:
            self._life = subprocess.Popen(
                spec.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=spec.cwd or spec.folder,
                env={**environment, **spec.env, MARK: self._mark},
                start_new_session=True,
                preexec_fn=begin,
                **who,
            )
            self._started_us = time.time_ns() // 1000
        if begun := Process.of(self._life.pid):
            self._lives.append({**begun.json(), "started_us": self._started_us})
        self._ready = False
        log.info("started", process=spec.name, pid=self._life.pid)

    def _watch(self) -> None:
        port = port_of(self.spec.ready)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._life is not None)
                life, known = self._life, self._ready
                assert life is not None
            began = time.monotonic()
            serves = answers(self.spec.ready, READY_TIMEOUT_S)
            if serves and not known and port is not None:
                serves = listens(life.pid, port)
            with self._changed:
                if self._life is life:
                    self._ready, self._looked_at, self._asked = serves, began, False
                    self._changed.notify_all()
                if serves:
                    self._changed.wait_for(self._asked_or_other_than(life))
                else:
                    self._changed.wait_for(self._other_than(life), READY_STARTING_S)

    def _other_than(self, life: subprocess.Popen[bytes]) -> Callable[[], bool]:
        return lambda: self._life is not life

    def _asked_or_other_than(self, life: subprocess.Popen[bytes]) -> Callable[[], bool]:
        return lambda: self._asked or self._life is not life


# ---- all of them -----------------------------------------------------------------------------------------------------


class Supervisor:
    """The children of one stack, in dependency order, and the answers to orders."""

    def __init__(self, state: State, specs: list[Service]) -> None:
        self.state = state
        self._deaths, self.death_fd = os.pipe()
        os.set_blocking(self.death_fd, False)
        self.children = {spec.name: Child(spec, str(state.root), self._noted) for spec in specs}
        self.ended = threading.Event()
        self._ending = threading.Lock()
        self._closed = False
        threading.Thread(target=self._reap, name="reap", daemon=True).start()

    def obey(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one order. Return the answer without its "ok"."""
        op = order.get("op")
        if op == "status":
            return {"pid": os.getpid(), "boot_id": boot_id(), "processes": self._status(order.get("ready", True))}
        if op == "shutdown":
            self.stop_all()
            return {}
        if op not in ("start", "stop", "lives"):
            raise GamedayError(f"unknown op {op!r}. Known: status, lives, start, stop, shutdown")
        child = self.children.get(str(order.get("name")))
        if child is None:
            raise GamedayError(f"no process {order.get('name')!r}. Known: {', '.join(self.children)}")
        if op == "lives":
            return {"lives": child.lives()}
        if self._closed:
            raise GamedayError("the stack is shutting down")
        if op == "start":
            child.start()
        else:
            child.stop(float(order.get("grace_s", child.spec.grace_s)))
        return {}

    def _status(self, ready: bool) -> dict[str, dict[str, Any]]:
        """Return every process' status. ready: check all first, at the same time; else as last seen."""
        if not ready:
            return {name: child.status(None) for name, child in self.children.items()}
        deadline = time.monotonic() + READY_TIMEOUT_S
        for child in self.children.values():
            child.look()
        return {name: child.status(max(0.0, deadline - time.monotonic())) for name, child in self.children.items()}

    def stop_all(self) -> None:
        """Stop all in reverse order, then their orphans. No order to start is accepted from then on."""
        with self._ending:
            self._closed = True
            for child in reversed(self.children.values()):
                try:
                    child.stop(child.spec.grace_s)
                except GamedayError as e:
                    log.error("not stopped", error=str(e))  # the others must be, all the same
            for left in descendants(os.getpid()):
                left.send(signal.SIGKILL)

    def shutdown(self) -> None:
        """Stop all, and end."""
        self.stop_all()
        self.ended.set()

    def _noted(self) -> None:
        """Wake the reaper, because a child has ended. A full pipe wakes it already."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.death_fd, b"\0")

    def _reap(self) -> None:
        """Take the exit status of our children's orphans, which we adopt (subreaper): else they stay zombies.

        It is woken by SIGCHLD, and after the end of each own child, which may have hidden other ends.
        """
        while os.read(self._deaths, PIPE_BYTES):
            with _spawning:
                own = {child.pid for child in self.children.values()}
                for _ in range(REAPED_MAX):
                    try:
                        dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    except ChildProcessError:
                        break
                    if dead is None or dead.si_pid in own:  # its own thread takes that exit status
                        break
                    os.waitpid(dead.si_pid, 0)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    """Run until it is told to shut down, or is terminated. It goes on if its log can't be written."""
    console.tolerate()
    state = State(Path(sys.argv[1]).resolve())
    text = specification(state)
    with text.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{text} is held by another supervisor")
        specs = [Service.from_json(p) for p in json.load(held)]
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        supervisor = Supervisor(state, specs)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    try:
                        order = json.loads(line)
                        answer = {"ok": True, **supervisor.obey(order)}
                    except (GamedayError, ValueError, AttributeError) as e:
                        order, answer = {}, {"ok": False, "error": str(e)}
                    with contextlib.suppress(OSError):  # the client is gone; the order was carried out anyway
                        self.wfile.write(json.dumps(answer).encode() + b"\n")
                    if order.get("op") == "shutdown":
                        supervisor.ended.set()

        state.supervisor_socket.unlink(missing_ok=True)
        mask = os.umask(0o177)
        with reachable(str(state.supervisor_socket)) as path, _Server(path, Handler) as server:
            os.umask(mask)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: threading.Thread(target=supervisor.shutdown).start())
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.set_wakeup_fd(supervisor.death_fd, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)  # its byte in that pipe is what wakes the reaper
            threading.Thread(target=server.serve_forever, args=(IDLE_S,), daemon=True).start()
            log.info("up", pid=os.getpid(), processes=len(specs))
            supervisor.ended.wait()
            state.supervisor_socket.unlink(missing_ok=True)


# ---- the client ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _connected(state: State, timeout_s: float) -> Iterator[socket.socket]:
    with reachable(str(state.supervisor_socket)) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(timeout_s)
        s.connect(path)
        yield s


def ask(state: State, timeout_s: float = ASK_TIMEOUT_S, **order: Any) -> dict[str, Any]:
    """Send one order and return its answer. Raises DriverError: definite when nobody listens or it was refused."""
    sent = False
    try:
        with _connected(state, timeout_s) as s, s.makefile("rwb") as lines:
            lines.write(json.dumps(order).encode() + b"\n")
            lines.flush()
            sent = True
            line = lines.readline()
    except OSError as e:
        raise DriverError(f"no supervisor answers at {state.supervisor_socket}: {e}", definite=not sent) from e
    if not line:
        raise DriverError(f"the supervisor at {state.supervisor_socket} ended before it answered", definite=False)
    answer: dict[str, Any] = json.loads(line)
    if not answer["ok"]:
        raise DriverError(answer["error"], definite=True)
    return answer


def launch(state: State, specs: Sequence[Service]) -> None:
    """Start a supervisor of these processes, detached from this terminal and process. Return when it answers."""
    state.servers.mkdir(parents=True, exist_ok=True)
    write_private(specification(state), json.dumps([dataclasses.asdict(spec) for spec in specs], indent=1))
    path = state.servers / "supervisor.log"
    argv = [sys.executable, "-m", "compose.supervisor", str(state.root)]
    with path.open("ab") as out:
        process = subprocess.Popen(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )

    def answers() -> bool:
        if process.poll() is not None:
            raise GamedayError(f"the supervisor ended ({process.returncode}). The end of {path}:\n{tail(path)}")
        return pid_of(state) == process.pid

    until(answers, LAUNCH_S, what=f"the supervisor (see {path})")


def pid_of(state: State) -> int | None:
    """Ask the kernel for the process that listens on the socket, answering or not; None: there is none."""
    try:
        with _connected(state, 1.0) as s:
            return int(struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    except OSError:
        return None


# ---- files -----------------------------------------------------------------------------------------------------------


def write_private(path: Path, text: str) -> None:
    """Write the whole file or nothing, readable by the owner only: it may hold passwords."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    part.replace(path)


def tail(log: Path) -> str:
    """Return the end of a log, indented."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:]) or "    (empty)"


if __name__ == "__main__":
    main()
