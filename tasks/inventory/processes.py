"""Which process of this machine holds the port of a server, and whether systemd runs it. Reads /proc alone."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gameday.stack.init.seen import Runs
from gameday.system.process import command_of, families, listening, sockets

__all__ = ["processes", "unit_of", "words_of"]

LOOPBACK = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[?::1\]?):(\d+)")

HANDING_ON = ("docker-proxy", "rootlessport", "slirp4netns", "conmon", "ssh", "sshd", "socat", "kubectl", "toxiproxy")
"""Who listens for somebody else: it is not the server."""

WHOLE_MAX, LINE_MAX = 100, 1000
"""Characters of a command line that is a component's name as it is, and of one that may stand in gameday.toml."""

OWN_MANAGER = re.compile(r"/user@\d+\.service/(.+)")
UNIT = re.compile(r"[^/]+\.service")


def processes(places: Sequence[tuple[str, str]]) -> list[Runs]:
    """places: kind of server and host:port of each. Left out: who is elsewhere, or not ours to look into."""
    wanted = [(kind, place, int(at[2])) for kind, place in places if (at := LOOPBACK.fullmatch(place))]
    if not wanted:
        return []
    ports, parents = listening(), {child.pid: pid for pid, below in families().items() for child in below}
    held = {pid: sockets(pid) for pid in parents}
    found = []
    for kind, place, port in wanted:
        holders = {pid for pid, own in held.items() if own & ports.get(port, frozenset())}
        for pid in sorted(pid for pid in holders if parents[pid] not in holders)[:1]:
            if Path(command_of(pid)[0]).name.startswith(HANDING_ON):
                continue
            unit, manager = unit_of(_read(pid, "cgroup"))
            found.append(Runs(kind, place, pid, words_of(pid, parents), _line(pid), unit, manager))
    return found


def unit_of(cgroup: str) -> tuple[str, str]:
    """The unit that a process belongs to, by its /proc/PID/cgroup, and whose manager has it; "": none."""
    for line in cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "name=systemd"):
            continue
        own = OWN_MANAGER.search(path)
        named = UNIT.findall(own[1] if own else path)
        if named and not named[-1].startswith("user@"):
            return named[-1], "user" if own else "system"
    return "", "system"


def words_of(pid: int, others: Mapping[int, int]) -> str:
    """The whole command line where it is short; else as few of its last words as no other process has."""
    line = command_of(pid)
    if len(whole := shlex.join(line)) <= WHOLE_MAX:
        return whole
    lines = [command_of(other) for other in others if other != pid]
    for size in range(2, len(line)):
        if not any(line[-size:] == other[n : n + size] for other in lines for n in range(len(other) - size + 1)):
            return shlex.join(line[-size:])
    return whole


def _line(pid: int) -> str:
    with suppress(OSError):
        line = f"cd {shlex.quote(os.readlink(f'/proc/{pid}/cwd'))} && exec {shlex.join(command_of(pid))}"
        return line if len(line) <= LINE_MAX else ""
    return ""


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""
