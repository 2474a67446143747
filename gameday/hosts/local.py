"""Breaks processes of this machine under gameday's supervisor, through its socket. Signals go to processes directly.

The supervisor revives them, judges their readiness and keeps their logs.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from gameday.errors import ConfigError, DriverError
from gameday.hosts._ports import Ports
from gameday.hosts._signals import Signals
from gameday.model import Json
from gameday.system.process import STOPPED, Process, boot_id, descendants, families, listening, sockets
from gameday.system.unix import reachable

__all__ = ["Host"]

T = TypeVar("T")

ANSWER_S = 5.0
"""The supervisor answers `status` in milliseconds."""

SHARED_WITHIN_S = 0.25
"""How long to wait for another thread's look before asking oneself."""

ORDER_S = 15.0
"""What `start` and `stop` may take beyond the grace: the supervisor waits up to 10 s for a process to come or go."""


@dataclass
class _Look(Generic[T]):
    """The last answer to a question that many threads ask at once, or why there was none, and when it was asked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked_ns: int = -1
    answer: T | DriverError | None = None

    def get(self, ask: Callable[[], T]) -> T:
        """Return the answer to a look that began after this call. A thread that waits takes the answer of another
        thread's look, so questions about all components at once need one or two looks. No thread waits long for a look
        that hangs."""
        came_ns = time.monotonic_ns()
        if not self.lock.acquire(timeout=SHARED_WITHIN_S):
            return ask()
        try:
            if self.asked_ns < came_ns:
                self.asked_ns = time.monotonic_ns()
                try:
                    self.answer = ask()
                except DriverError as e:
                    self.answer = e
            if isinstance(self.answer, DriverError):
                raise self.answer
            return cast("T", self.answer)
        finally:
            self.lock.release()


@dataclass(frozen=True)
class Host(Signals):
    """socket: the supervisor's unix socket. names: role -> the supervisor's name for it. Offers Holds, Kill,
    Lives, Pause."""

    socket: str
    names: Mapping[str, str] = field(default_factory=dict)
    _look: _Look[Mapping[str, Json]] = field(default_factory=_Look, init=False, repr=False, compare=False)
    _walk: _Look[Mapping[int, Sequence[Process]]] = field(default_factory=_Look, init=False, repr=False, compare=False)
    _ports: Ports = field(default_factory=Ports, init=False, repr=False, compare=False)

    # ---- Host ------------------------------------------------------------------------------------------------

    def identity(self, component: str) -> Json | None:
        found = self._process(component)
        if found is None:
            return None
        process, status = found
        return {**process.json(), "started_us": status["started_us"]}

    def start(self, component: str) -> None:
        self._ask({"op": "start", "name": self._name(component)}, ORDER_S)

    def stop(self, component: str, grace_s: float) -> None:
        self._ask({"op": "stop", "name": self._name(component), "grace_s": grace_s}, ORDER_S + grace_s)

    # ---- Holds -----------------------------------------------------------------------------------------------

    def holds(self, component: str, port: int) -> bool | None:
        """Whether it holds the port. This is asked with every answer of every probe, so the holder is looked for again
        only when a process or a socket has changed."""
        root, own = self._ports.owners.get(component, (None, frozenset()))
        if root is not None and root.state not in (None, *STOPPED) and self._ports.recent(port) <= own:
            return True
        who = self._process(component)
        if who is None:
            return False
        root = who[0]
        now = listening().get(port, frozenset())
        if not now or root.stopped:
            return False
        own = sockets(root.pid)
        if not now <= own:  # a child listens, or another process; finding all children means reading all of /proc
            own = own.union(*(sockets(process.pid) for process in self._tree(root)))
        self._ports.owners[component] = (root, own)
        return True if now <= own else None

    # ---- Lives -----------------------------------------------------------------------------------------------

    def lives(self, component: str, since_us: int) -> Sequence[Json]:
        answer = self._ask({"op": "lives", "name": self._name(component)})
        return [life for life in answer["lives"] if life["started_us"] > since_us]

    # ---- Serves, Desires -------------------------------------------------------------------------------------

    def unserved(self, component: str) -> str | None:
        """Say what the supervisor's own check finds. An answer of another process on the port doesn't count there."""
        status = self._ask({"op": "status"})["processes"].get(self._name(component), {"pid": None})
        if status["pid"] is None:
            return "it does not run"
        if status["ready"]:
            return None
        return (
            f"its supervisor gets no answer from it, and has started it again {status['restarts']} times. Its log: "
            f"{status['log']}"
        )

    def stopped(self, component: str) -> bool:
        status = self._status()["processes"].get(self._name(component), {})
        return status.get("want") is False and status.get("error") is None

    # ---- the supervisor --------------------------------------------------------------------------------------

    def _name(self, component: str) -> str:
        try:
            return self.names[component]
        except KeyError:
            raise ConfigError(
                f"host local runs no component {component!r}. It has {', '.join(sorted(self.names)) or 'none'}"
            ) from None

    def _process(self, component: str) -> tuple[Process, Mapping[str, Json]] | None:
        """Return the process that runs now, with its entry in the supervisor's status."""
        name = self._name(component)
        processes = self._status()["processes"]
        if name not in processes:
            raise ConfigError(
                f"the supervisor has no process {name!r} (component {component}). It has {', '.join(sorted(processes))}"
            )
        status = processes[name]
        if status["pid"] is None or status["start_ticks"] is None:
            return None
        process = Process(status["pid"], status["start_ticks"], boot_id())
        return (process, status) if process.alive else None

    def _status(self) -> Mapping[str, Json]:
        """Return the supervisor's status of all its processes."""
        return self._look.get(lambda: self._ask({"op": "status", "ready": False}))

    def _family(self, component: str) -> Callable[[], Sequence[Process]]:
        found = self._process(component)
        return list if found is None else lambda: self._tree(found[0])

    def _tree(self, root: Process) -> list[Process]:
        """Return the process and all its descendants (Postgres's backends), parents first."""
        return [p for p in (root, *descendants(root.pid, self._walk.get(families))) if p.alive]

    def _ask(self, order: Mapping[str, Json], timeout_s: float = ANSWER_S) -> Mapping[str, Json]:
        """Send one order, return its answer. Raises DriverError: definite when nobody listens or it was refused."""
        sent = False
        try:
            with reachable(self.socket) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(timeout_s)
                connection.connect(path)
                sent = True
                connection.sendall(json.dumps(order).encode() + b"\n")
                with connection.makefile("rb") as lines:
                    line = lines.readline()
        except TimeoutError as e:
            raise DriverError(
                f"the supervisor at {self.socket} did not answer {order['op']!r} within {timeout_s:g} s. "
                f"Remedy: see its log in the state folder",
                definite=not sent,
            ) from e
        except OSError as e:
            raise DriverError(
                f"no supervisor answers at {self.socket}: {e.strerror}. Remedy: gameday up", definite=not sent
            ) from e
        if not line:
            raise DriverError(f"the supervisor at {self.socket} ended before it answered {order}", definite=False)
        answer: Mapping[str, Json] = json.loads(line)
        if not answer["ok"]:
            raise DriverError(f"the supervisor refused {order['op']}: {answer['error']}", definite=True)
        return answer
