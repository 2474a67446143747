"""Identifies processes by boot, pid and start time, because a pid alone may belong to another process by now.

It also signals them, and lists their children and their sockets.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gameday.errors import GamedayError
from gameday.model import Json

__all__ = [
    "STOPPED",
    "Process",
    "boot_id",
    "boot_ns",
    "command_of",
    "descendants",
    "families",
    "listening",
    "owner_of",
    "sockets",
    "started_us",
    "yield_cpu",
    "yield_session",
]

STATE, PARENT, START_TICKS = 0, 1, 19
"""Places in /proc/PID/stat after the command's closing bracket; proc(5) counts pid and command too: 3, 4, 22."""

STOPPED = ("T", "t")
"""The kernel's letters for a process that SIGSTOP, or a debugger, has frozen."""

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP = 4, 20, 0x301
NLMSG_ERROR, NLMSG_DONE, NLMSG_HEAD = 2, 3, 16
TCP_LISTEN = 1 << 10
"""From linux/netlink.h, linux/sock_diag.h and linux/tcp.h."""

DIAG_REQUEST = struct.Struct("=IHHIIBBBBI48x")
"""nlmsghdr and inet_diag_req_v2: family, protocol, no extensions, states, any socket."""

DIAG_ANSWER = struct.Struct("=4xH62xI")
"""From inet_diag_msg: the socket's own port, in network byte order, and its inode."""

DIAG_WITHIN_S = 1.0
DIAG_BYTES = 1 << 16

LISTENS = "0A"
"""A socket's state in /proc/net/tcp; proc(5)."""

CLOCK_LOOKS = 5

ROUNDS_MAX = 100_000
"""Bounds a walk through a process tree. Far more than a machine has processes."""


@functools.cache
def boot_id() -> str:
    """Return the id of this machine's present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boot_ns() -> int:
    """Return the nanoseconds since boot. Suspended time counts, steps of the wall clock don't; all processes agree."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def yield_cpu(niceness: int) -> None:
    """Set the niceness of this process and of its session, as far as permitted. Its children inherit both."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    yield_session(niceness, os.getpid())


def yield_session(niceness: int, pid: int) -> None:
    """Set the niceness of that process' session, as far as the system permits it.

    Where the kernel groups tasks by session (sched_autogroup_enabled), a process' own niceness counts within its
    session only; see sched(7), "The autogroup feature".
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


@dataclass(frozen=True)
class Process:
    """One process, told apart from any later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now; None when there is none, or only its zombie."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, int(stat[START_TICKS]), boot_id())

    @classmethod
    def me(cls) -> Process:
        process = cls.of(os.getpid())
        if process is None:
            raise GamedayError(f"/proc/{os.getpid()}/stat can't be read. Remedy: mount /proc")
        return process

    @classmethod
    def parse(cls, value: Mapping[str, Json]) -> Process:
        """Read an identity from JSON. Ignores other keys. Raises KeyError, TypeError or ValueError when it is none."""
        return cls(int(value["pid"]), int(value["start_ticks"]), str(value["boot_id"]))

    def json(self) -> dict[str, Json]:
        return asdict(self)

    @property
    def state(self) -> str | None:
        """The kernel's letter (R, S, D, T…). None when this process is gone; a zombie counts as gone."""
        if self.boot_id != boot_id():
            return None
        stat = _stat(self.pid)
        return stat[STATE] if stat is not None and int(stat[START_TICKS]) == self.start_ticks else None

    @property
    def alive(self) -> bool:
        return self.state is not None

    @property
    def stopped(self) -> bool:
        """Whether it is frozen by SIGSTOP (or a debugger)."""
        return self.state in STOPPED

    def send(self, number: signal.Signals) -> bool:
        """Signal this process, never one that got its pid later. False when it is gone.

        Raises GamedayError when that isn't permitted.
        """
        try:
            handle = self.pidfd()
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        except PermissionError as e:
            raise GamedayError(
                f"process {self.pid} belongs to another user: {number.name} is not permitted. "
                f"Remedy: run gameday as root, or as that process's user"
            ) from e
        finally:
            os.close(handle)
        return True

    def pidfd(self) -> int:
        """Return a descriptor that turns readable when the process ends. Raises ProcessLookupError for an unused pid.

        Another process may have the pid by now. Check `alive` after opening: the descriptor keeps naming one process.
        """
        return os.pidfd_open(self.pid)


def started_us(process: Process) -> int:
    """When it started, wall clock, to a tenth of a second: the same from whichever process it is asked, unless somebody
    sets the clock."""
    return _booted_us() + process.start_ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


@functools.cache
def _booted_us() -> int:
    """When this machine booted. Of some looks the quickest counts: between the two clocks a process may be put off."""
    looks = []
    for _ in range(CLOCK_LOOKS):
        before_ns = boot_ns()
        wall_ns = time.time_ns()
        looks.append((boot_ns() - before_ns, wall_ns - before_ns))
    return round(min(looks)[1] / 1e8) * 100_000


def command_of(pid: int) -> list[str]:
    """The words of a process's command line; none when it is gone, or the kernel's own."""
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return [word.decode(errors="surrogateescape") for word in data.removesuffix(b"\0").split(b"\0")] if data else []


def owner_of(pid: int) -> int | None:
    """The user id that a process belongs to; None when it is gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return None


def families() -> Mapping[int, Sequence[Process]]:
    """Return pid -> its living children, for all processes with children, from one walk through /proc."""
    boot = boot_id()
    children: dict[int, list[Process]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(int(entry))) is not None:
            children.setdefault(int(stat[PARENT]), []).append(Process(int(entry), int(stat[START_TICKS]), boot))
    return children


def descendants(root: int, known: Mapping[int, Sequence[Process]] | None = None) -> list[Process]:
    """Return all living processes below root, nearest first. known: a result of families(); None: call it."""
    children = dict(families() if known is None else known)
    found: list[Process] = []
    queue = [root]
    for _ in range(ROUNDS_MAX):
        if not queue:
            break
        below = children.pop(queue.pop(0), ())
        found += below
        queue += [p.pid for p in below]
    return found


def listening() -> Mapping[int, frozenset[str]]:
    """Return TCP port -> the sockets that listen on it, on any address of this machine.

    A socket has the name that /proc/PID/fd shows: "socket:[INODE]".
    """
    by_port: dict[int, set[str]] = {}
    try:
        pairs = [pair for family in (socket.AF_INET, socket.AF_INET6) for pair in _asked(family)]
    except OSError:  # a kernel, or a container, without that question
        pairs = [pair for table in ("tcp", "tcp6") for pair in _read(table)]
    for port, inode in pairs:
        by_port.setdefault(port, set()).add(f"socket:[{inode}]")
    return {port: frozenset(names) for port, names in by_port.items()}


def _asked(family: int) -> Iterator[tuple[int, int]]:
    """Yield (port, inode) of each listening socket, asked of the kernel by sock_diag(7).

    The table in /proc has every connection of the last minute: tens of thousands, as probes connect anew each time.
    """
    request = DIAG_REQUEST.pack(
        DIAG_REQUEST.size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 0, 0, family, socket.IPPROTO_TCP, 0, 0, TCP_LISTEN
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(DIAG_WITHIN_S)
        kernel.sendto(request, (0, 0))
        for _ in range(ROUNDS_MAX):
            data = kernel.recv(DIAG_BYTES)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", data, NLMSG_HEAD)[0], "sock_diag")
                port, inode = DIAG_ANSWER.unpack_from(data, NLMSG_HEAD)
                yield socket.ntohs(port), inode
                data = data[(size + 3) & ~3 :]


def _read(table: str) -> Iterator[tuple[int, int]]:
    """Yield the same from /proc/net. Yields nothing where there is no such table."""
    try:
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except FileNotFoundError:
        return
    for fields in map(str.split, lines):
        if fields[3] == LISTENS:
            yield int(fields[1].rpartition(":")[2], 16), int(fields[9])


def sockets(pid: int) -> frozenset[str]:
    """Return the sockets among a process's descriptors. Empty when it is gone, or another user's."""
    targets = set()
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                targets.add(os.readlink(descriptor.path))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return frozenset()
    return frozenset(name for name in targets if name.startswith("socket:"))


def _stat(pid: int) -> list[str] | None:
    """Read the fields of /proc/PID/stat after the command's name. None when the process is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # a fourth of what pathlib takes; probes ask often
            data = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = data.rpartition(b")")[2].decode().split()  # not the name: it need not be text
    return None if fields[STATE] in ("Z", "X") else fields
