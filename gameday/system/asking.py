"""A question to a server ends in its time, whatever its driver, a library or the server does; and the server is left
nothing of one that was given up. What is asked is the callers'.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from gameday.errors import DriverError

__all__ = ["answer", "connected", "give_up"]

T = TypeVar("T")

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""

LOOK_EVERY_S = 0.5

IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


def answer(
    ask: Callable[[], T],
    within_s: float,
    what: str,
    watch: Callable[[], object] = lambda: None,
    definite: bool = True,
) -> T:
    """What `ask` returns, or raises. DriverError, naming `what`, when neither is there within within_s.

    It is asked in a thread of its own; one that hangs is left to itself and ends with the process, for nothing in
    Python ends it sooner. watch: called every LOOK_EVERY_S; what it raises ends the waiting too. definite: see
    DriverError; a question changes nothing.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as e:  # noqa: BLE001 - it is raised where it was asked
            answers.put((None, e))

    deadline = time.monotonic() + within_s
    threading.Thread(target=work, name=f"ask {what}", daemon=True).start()
    while True:
        try:
            found, error = answers.get(timeout=max(0.0, min(LOOK_EVERY_S, deadline - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise DriverError(f"{what}: no answer within {within_s:g} s", definite=definite) from None
            watch()
            continue
        if error is not None:
            raise error
        return found  # type: ignore[return-value]  # the other half of the pair says that it is an answer


def connected(host: str, port: int, within_s: float) -> socket.socket:
    """A connection, for what connects many times a second: an address is not looked up as a name would be, which takes
    a fifth of a probe's time. Raises OSError."""
    if not IPV4.fullmatch(host):
        return socket.create_connection((host, port), within_s)
    connection = socket.socket()
    try:
        connection.settimeout(within_s)
        connection.connect((host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def give_up(descriptor: int) -> None:
    """Make the closing of this socket end its connection at the server too, at once.

    An ordinary end has to be read by the server: one that is frozen or too busy for that keeps each connection that was
    given up, and they were more than a thousand. Below 0: it has ended already.
    """
    if descriptor < 0:
        return
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
