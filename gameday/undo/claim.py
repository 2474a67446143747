"""Keeps which machine's run holds the stack, as a row in gameday's Postgres, where `several_machines` is set.

On one machine the lock alone decides (lease.py). This machine can't tell whether a process on another one lives, so
gameday never displaces an owner there by itself: a person says that the machine is gone. If it comes back, its `token`
no longer matches, so that owner knows that it was displaced.
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
        """Say whether the row is still this process's. Raises NotUp when Postgres doesn't answer."""
        with connected(self.dsn) as connection:
            return self.token in _tokens(connection, self.stack)

    def release(self) -> None:
        """Give the stack back, unless another owner has it by now."""
        with connected(self.dsn) as connection:
            connection.execute(
                "UPDATE claims SET run = NULL WHERE stack = %s AND token = %s",
                (self.stack, self.token),
            )


def take(dsn: str, stack: str, holder: Holder) -> Claim:
    """Take the stack for a run whose guardian has the lock on this machine.

    Raises Busy when another run holds it, with its machine and since when; NotUp when Postgres doesn't answer.
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
    """Describe the run that holds the stack, for an error message. None: no run does, or its guardian is dead.

    Raises NotUp when Postgres doesn't answer.
    """
    with connected(dsn) as connection:
        return _owner(connection, stack)


def displace(dsn: str, stack: str, machine: str) -> str:
    """Take the stack from a run on a machine that is gone for good. Returns the run's id.

    Raises ConfigError when no run on that machine holds the stack.
    """
    with connected(dsn) as connection:
        row = connection.execute(
            "SELECT run, place ->> 'machine' FROM claims WHERE stack = %s AND run IS NOT NULL FOR UPDATE", (stack,)
        ).fetchone()
        if row is None or row[1] != machine:
            owner = "nobody does" if row is None else f"run {row[0]} on machine {row[1]} does"
            raise ConfigError(f"no run on machine {machine!r} holds stack {stack}: {owner}. Remedy: gameday status")
        connection.execute("UPDATE claims SET token = token + 1, run = NULL WHERE stack = %s", (stack,))
    return str(row[0])


def place() -> dict[str, Json]:
    """Describe where this process runs: machine (host name), machine_id, boot_id, pids (its namespace of processes).

    Two places with the same machine, boot_id and pids see the same processes under the same numbers. That holds in a
    container without a machine_id too. The machine_id recognizes a machine that has booted again.
    """
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
    """Describe the owner, and lock its row until the transaction's end. None when it is certainly gone."""
    row = connection.execute(
        "SELECT run, test, place, guardian, since, until FROM claims WHERE stack = %s AND run IS NOT NULL FOR UPDATE",
        (stack,),
    ).fetchone()
    if row is None:
        return None
    run, test, its_place, guardian, since, until = row
    if _gone(its_place, Process.parse(guardian)):
        return None
    machine = its_place["machine"]
    return (
        f"the stack is held by run {run} ({test}) on machine {machine} since {since:%Y-%m-%d %H:%M:%S %Z}, until "
        f"{until:%Y-%m-%d %H:%M:%S %Z}. Remedy: wait, or on that machine: gameday abort. If it is gone for good: "
        f"gameday heal --displace {machine}"
    )


def _gone(its_place: Json, guardian: Process) -> bool:
    """Say whether the guardian is certainly dead: this process would see it, or its machine has booted since."""
    this_place = place()
    if all(its_place[name] == this_place[name] for name in ("machine", "boot_id", "pids")):
        return not guardian.alive
    same_machine = this_place["machine_id"] and all(
        its_place[name] == this_place[name] for name in ("machine", "machine_id")
    )
    return bool(same_machine and its_place["boot_id"] != this_place["boot_id"])


def _tokens(connection: psycopg.Connection[Any], stack: str) -> set[int]:
    rows = connection.execute("SELECT token FROM claims WHERE stack = %s AND run IS NOT NULL", (stack,))
    return {token for (token,) in rows}
