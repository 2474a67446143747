"""Bounds every question to a server: it ends in its time, whatever its driver, a library or the server does.

It also has the connection for such questions, and closes one that is given up so that the server keeps nothing of it.
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
"""SO_LINGER's value with which closing a socket resets its connection."""

LOOK_EVERY_S = 0.5

IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


def answer(
    ask: Callable[[], T],
    within_s: float,
    what: str,
    watch: Callable[[], object] = lambda: None,
    definite: bool = True,
) -> T:
    """Call `ask` in a thread of its own. Returns what it returns, raises what it raises.

    Args: what: names the question in an error. watch: called every LOOK_EVERY_S; what it raises ends the wait too.
    definite: as in DriverError; True because a question changes nothing.
    Raises DriverError when there is no answer within within_s. A thread that hangs lives until the process ends:
    nothing in Python ends it sooner.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((ask(), None))
        except BaseException as e:  # noqa: BLE001 - the caller's thread raises it below
            answers.put((None, e))

    deadline = time.monotonic() + within_s
    threading.Thread(target=work, name=f"ask {what}", daemon=True).start()
    while True:
        try:
            value, error = answers.get(timeout=max(0.0, min(LOOK_EVERY_S, deadline - time.monotonic())))
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise DriverError(f"{what}: no answer within {within_s:g} s", definite=definite) from None
            watch()
            continue
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # no error, so it is what ask returned


def connected(host: str, port: int, within_s: float) -> socket.socket:
    """Connect, for callers that do so many times a second. Raises OSError.

    An IPv4 address is not looked up as a name would be: that look-up takes a fifth of a probe's time.
    """
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
    """Make the closing of this socket end its connection at the server at once. descriptor < 0: it is closed already.

    The server has to read an ordinary end. A frozen or busy server doesn't, and keeps each connection that was given
    up; there were more than a thousand of them.
    """
    if descriptor < 0:
        return
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
