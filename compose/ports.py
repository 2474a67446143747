"""Draws ports for servers: free now, and below the range that the kernel gives to outgoing connections.

Any client could take a port inside that range while its server is down, and the server could not come back. A port is
drawn before its server listens on it: so no other process draws it as long as the one that drew it lives.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Container
from pathlib import Path

from compose.service import holders
from gameday.errors import GamedayError

__all__ = ["free", "free_ports", "holder"]

LOWEST = 10240
HIGHEST = 32767
TRIES_MAX = 2000
CONNECT_TIMEOUT_S = 0.5
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

RESERVED = "\0gameday-port-{}"
"""An abstract unix socket's name: it belongs to the network namespace, as ports do. It ends with its process and
leaves no file."""

_drawn: list[socket.socket] = []
"""The sockets that reserve this process's ports."""


def free_ports(count: int, besides: Container[int] = ()) -> list[int]:
    """Draw different ports on which nobody listens, none of `besides`. They stay reserved while this process lives."""
    below = min(HIGHEST + 1, int(RANGE.read_text().split()[0]))
    found: list[int] = []
    for _ in range(TRIES_MAX):
        if below <= LOWEST or len(found) == count:
            break
        port = random.randrange(LOWEST, below)
        if port not in besides and free(port) and _reserve(port):
            found.append(port)
    if len(found) < count:
        raise GamedayError(
            f"only {len(found)} of {count} ports are free between {LOWEST} and {below}. "
            f"Remedy: raise the lower bound in {RANGE}"
        )
    return found


def free(port: int) -> bool:
    """Whether a server could listen there: nothing answers, and the kernel lets us listen."""
    with socket.socket() as s:
        s.settimeout(CONNECT_TIMEOUT_S)
        if s.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a former server may linger
        try:
            s.bind(("127.0.0.1", port))
            s.listen(1)
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Keep others from drawing this port; False when somebody has drawn it."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name.bind(RESERVED.format(port))
    except OSError:
        name.close()
        return False
    _drawn.append(name)
    return True


def holder(port: int) -> str:
    """Name the process that listens there, for an error message, as far as our rights show it."""
    for pid in holders(port, map(int, filter(str.isdigit, os.listdir("/proc")))):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"process {pid} ({command[:80].strip()})"
    return "another process"
