"""Ports for servers: free now, and below the range that the kernel gives to outgoing connections.

A port inside that range could be taken by any client while its server is down, and the server could not come back.
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


def free_ports(count: int, besides: Container[int] = ()) -> list[int]:
    """Draw different ports that nobody listens on, none of `besides`."""
    below = min(HIGHEST + 1, int(RANGE.read_text().split()[0]))
    found: list[int] = []
    for _ in range(TRIES_MAX):
        if below <= LOWEST or len(found) == count:
            break
        port = random.randrange(LOWEST, below)
        if port not in found and port not in besides and free(port):
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


def holder(port: int) -> str:
    """Who listens there, for an error message, as far as our rights show it."""
    for pid in holders(port, map(int, filter(str.isdigit, os.listdir("/proc")))):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"process {pid} ({command[:80].strip()})"
    return "another process"
