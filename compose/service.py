"""Describes one supervised process as data, and asks whether it serves. supervisor.py starts and revives it."""

from __future__ import annotations

import dataclasses
import functools
import http.client
import signal
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gameday.state import ROOT
from gameday.system import address
from gameday.system.process import descendants, listening, sockets

__all__ = ["READY_BUCKET", "Service", "answers", "holders", "listens", "port_of", "python"]

API_VERSIONS = struct.pack(">hhih", 18, 0, 1, 7) + b"gameday"
"""Kafka's request 18 in version 0, correlation id 1, client id "gameday": every broker answers it to any client."""

READY_BUCKET = "ready"
"""The bucket into which one byte is written to test writes: after a kill some servers list and read long before that.
"""


@dataclass(frozen=True)
class Service:
    """What runs, where it runs, and when it counts as ready.

    folder: its own folder; it holds <name>.log, and is the working directory unless cwd says otherwise. ready: a URL
    whose scheme is the protocol that must answer (http, kafka, postgresql, redis, s3), None: it is ready when it
    exists. after: names that must be ready before its first start. stop_signal: what ends it in good order within
    grace_s. user: the user and group id under which it runs when root starts it. niceness: above 0 for a process that
    may be late.
    """

    name: str
    argv: tuple[str, ...]
    folder: str
    ready: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    after: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    grace_s: float = 10.0
    user: int | None = None
    niceness: int = 0

    @property
    def log(self) -> Path:
        return Path(self.folder) / f"{self.name}.log"

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Service:
        """Return the inverse of dataclasses.asdict, after JSON."""
        kinds = {f.name for f in dataclasses.fields(cls) if str(f.type).startswith("tuple")}
        return cls(**{k: tuple(v) if k in kinds else v for k, v in value.items()})  # type: ignore[arg-type]


def python(name: str, folder: Path, *args: str, env: Mapping[str, str] | None = None, **more: object) -> Service:
    """Return a process of the checkout's Python: `python ARGS`, in the checkout and with it on the path."""
    settings = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
    return Service(name, (sys.executable, *args), str(folder), env=settings, cwd=str(ROOT), **more)  # type: ignore[arg-type]


# ---- does it serve? --------------------------------------------------------------------------------------------------


def port_of(url: str | None) -> int | None:
    """The port in a readiness URL."""
    return urlsplit(url).port if url else None


def answers(url: str | None, timeout_s: float) -> bool:
    """Whether the process that listens there answers the URL's protocol now. `listens` says whose process it is."""
    if url is None:
        return True
    parts = urlsplit(url)
    ask = {"http": _http, "kafka": _kafka, "postgresql": _postgres, "redis": _redis, "s3": _s3}[parts.scheme]
    try:
        return ask(url, parts.hostname or "127.0.0.1", parts.port or 0, timeout_s)
    except (OSError, http.client.HTTPException):
        return False


def _http(url: str, host: str, port: int, timeout_s: float) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", urlsplit(url).path or "/")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _kafka(_url: str, host: str, port: int, timeout_s: float) -> bool:
    with socket.create_connection((host, port), timeout_s) as s:
        s.sendall(struct.pack(">i", len(API_VERSIONS)) + API_VERSIONS)
        head = s.recv(10, socket.MSG_WAITALL)
    return len(head) == 10 and head[4:] == struct.pack(">ih", 1, 0)


def _postgres(url: str, _host: str, _port: int, timeout_s: float) -> bool:
    import psycopg  # only here: the supervisor of a stack without Postgres needs no client

    try:
        with psycopg.connect(url, connect_timeout=max(2, round(timeout_s))) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.Error:
        return False


def _redis(url: str, host: str, port: int, timeout_s: float) -> bool:
    at = address.of(url)
    words = [["AUTH", at.user or "default", at.password]] if at.password else []
    with socket.create_connection((host, port), timeout_s) as s:
        answer = b""
        for command in [*words, ["PING"]]:
            s.sendall(
                b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in map(str.encode, command))
            )
            answer = s.recv(256)  # one short line; another one: it is loading, or does not know the user
    return answer == b"+PONG\r\n"


def _s3(url: str, _host: str, _port: int, timeout_s: float) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        _s3_client(url, timeout_s).put_object(Bucket=READY_BUCKET, Key="ready", Body=b"1")
    except (BotoCoreError, ClientError):
        return False
    return True


@functools.cache
def _s3_client(url: str, timeout_s: float) -> Any:
    """Return a cached client: making one takes longer than asking."""
    import boto3  # only here: the supervisor of a stack without S3 needs no client
    from botocore.config import Config

    at = address.of(url)
    return boto3.client(
        "s3",
        endpoint_url=f"http://{at.host}:{at.port}",
        aws_access_key_id=at.user,
        aws_secret_access_key=at.password,
        region_name="us-east-1",
        config=Config(connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 1}),
    )


# ---- who is it? ------------------------------------------------------------------------------------------------------


def listens(pid: int, port: int) -> bool:
    """Whether the process, or a descendant, holds the socket that listens on this port: no other process counts."""
    return any(holders(port, (pid, *(below.pid for below in descendants(pid)))))


def holders(port: int, pids: Iterable[int]) -> Iterator[int]:
    """Yield those processes that hold a socket which listens on this port, as far as our rights show it."""
    wanted = listening().get(port, frozenset())
    for pid in pids if wanted else ():
        if not wanted.isdisjoint(sockets(pid)):
            yield pid
