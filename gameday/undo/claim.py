"""The lease's row in gameday's Postgres, where several machines may run gameday against one stack (`several_machines`).

On one machine the lock says all (lease.py). An owner on another machine is never displaced by itself: whether it lives
can't be known from here, so a person says that it is gone, and `token` tells the owner if it comes back.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from gameday.errors import Busy, ConfigError
from gameday.model import Json
from gameday.past.database import connected
from gameday.system.process import Process, boot_id
from gameday.undo.lease import Holder

__all__ = ["Claim", "displace", "elsewhere", "place", "take"]


@dataclass(frozen=True)
class Claim:
    """This process's row. token: the fencing token, higher than that of any owner before."""

    dsn: str
    stack: str
    token: int

    def holds(self) -> bool:
        """Whether nobody has displaced it. Raises NotUp when Postgres doesn't tell."""
        with connected(self.dsn) as connection:
            return self.token in _tokens(connection, self.stack)

    def release(self) -> None:
        """Give the stack back, if it is still this owner's."""
        with connected(self.dsn) as connection:
            connection.execute(
                "UPDATE claims SET run = NULL WHERE stack = %s AND token = %s",
                (self.stack, self.token),
            )


def take(dsn: str, stack: str, holder: Holder) -> Claim:
    """Take the stack for a run whose guardian has the lock here.

    Raises Busy, naming who holds it where since when; NotUp when Postgres doesn't tell.
    """
    with connected(dsn) as connection:
        connection.execute("INSERT INTO claims (stack, token) VALUES (%s, 0) ON CONFLICT DO NOTHING", (stack,))
        if (owner := _owner(connection, stack)) is not None:
            raise Busy(owner)
        (token,) = connection.execute(
            """
            UPDATE claims SET token = token + 1, run = %s, test = %s, place = %s, guardian = %s,
                since = now(), until = now() + make_interval(secs => %s)
            WHERE stack = %s RETURNING token
            """,
            (
                *(holder.run, holder.test, Jsonb(place()), Jsonb(holder.guardian.json())),
                *((holder.until_us - holder.since_us) / 1e6, stack),
            ),
        ).fetchone() or (0,)
    return Claim(dsn, stack, token)


def elsewhere(dsn: str, stack: str) -> str | None:
    """Who holds the stack and is not known to be dead, in words; None: nobody. Raises NotUp like take."""
    with connected(dsn) as connection:
        return _owner(connection, stack)


def displace(dsn: str, stack: str, machine: str) -> str:
    """Take the stack from a run on a machine that is gone for good; the run's id. ConfigError: it holds nothing."""
    with connected(dsn) as connection:
        found = connection.execute(
            "SELECT run, place ->> 'machine' FROM claims WHERE stack = %s AND run IS NOT NULL FOR UPDATE", (stack,)
        ).fetchone()
        if found is None or found[1] != machine:
            owner = "nobody does" if found is None else f"run {found[0]} on machine {found[1]} does"
            raise ConfigError(f"no run on machine {machine!r} holds stack {stack}: {owner}. Remedy: gameday status")
        connection.execute("UPDATE claims SET token = token + 1, run = NULL WHERE stack = %s", (stack,))
    return str(found[0])


def place() -> dict[str, Json]:
    """Where this process runs. Two that share machine, boot_id and pids see each other's processes by the same numbers,
    also when one is in a container that has no machine_id; that one tells a machine after it has booted again."""
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine_id = ""
    return {
        "machine": socket.gethostname(),
        "machine_id": machine_id,
        "boot_id": boot_id(),
        "pids": os.readlink("/proc/self/ns/pid"),
    }


def _owner(connection: psycopg.Connection[Any], stack: str) -> str | None:
    """The living owner in words, with its row locked until the transaction's end; None when it is certainly gone."""
    found = connection.execute(
        "SELECT run, test, place, guardian, since, until FROM claims WHERE stack = %s AND run IS NOT NULL FOR UPDATE",
        (stack,),
    ).fetchone()
    if found is None:
        return None
    run, test, where, guardian, since, until = found
    if _gone(where, Process.parse(guardian)):
        return None
    machine = where["machine"]
    return (
        f"the stack is held by run {run} ({test}) on machine {machine} since {since:%Y-%m-%d %H:%M:%S %Z}, until "
        f"{until:%Y-%m-%d %H:%M:%S %Z}. Remedy: wait, or on that machine: gameday abort. If it is gone for good: "
        f"gameday heal --displace {machine}"
    )


def _gone(where: Json, guardian: Process) -> bool:
    """Whether the guardian is certainly dead: looked for among the same processes, or its machine has booted since."""
    here = place()
    if all(where[name] == here[name] for name in ("machine", "boot_id", "pids")):
        return not guardian.alive
    same = here["machine_id"] and all(where[name] == here[name] for name in ("machine", "machine_id"))
    return bool(same and where["boot_id"] != here["boot_id"])


def _tokens(connection: psycopg.Connection[Any], stack: str) -> set[int]:
    rows = connection.execute("SELECT token FROM claims WHERE stack = %s AND run IS NOT NULL", (stack,))
    return {token for (token,) in rows}
