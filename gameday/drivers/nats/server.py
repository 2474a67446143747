"""Asks a NATS server, each question on a new connection and within its time.

The client never reconnects by itself: otherwise the client would be measured instead of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError, NoServersError

from gameday.errors import ConfigError, DriverError
from gameday.system import address
from gameday.system.asking import give_up
from gameday.system.tls import PLAIN, Tls, context, said

__all__ = ["Asks", "Server", "Session"]

T = TypeVar("T")

PORT = 4222
CLOSES_WITHIN_S = 0.2
NONE_SUCH = 10037
"""JetStream's code for a message that is deleted, or was never there."""

JWT = "BEGIN NATS USER JWT"
"""A file of credentials has this; otherwise the file holds only a seed."""


class Refused(Exception):
    """The server's answer to a request that it does not carry out."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Client(Client):
    """A client that sends no password to a server without TLS, if TLS is asked for."""

    secured = False

    def _connect_command(self) -> bytes:
        if self.secured and not self._server_info.get("tls_required"):
            raise Error("it does not speak TLS. Remedy: nats:// in its address")
        found: bytes = super()._connect_command()
        return found


@dataclass(frozen=True)
class Session:
    """A connection for one question. told: errors that the server has reported besides."""

    client: Client
    told: list[Exception]
    info: Mapping[str, Any]

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return JetStream's answer. Raises Refused."""
        answer = await self.client.request(f"$JS.API.{subject}", orjson.dumps(body) if body else b"", timeout=3600)
        told = orjson.loads(answer.data)
        if "error" in told:
            raise Refused(told["error"].get("err_code", 0), told["error"].get("description", "an error"))
        return told

    async def stream(self, name: str) -> Any:
        """Return a stream's configuration and state."""
        return await self.api(f"STREAM.INFO.{name}")

    async def message(self, stream: str, **asked: Any) -> Any | None:
        """Return the message with this `seq` from the stream's leader; None: there is none. `next_by_subj`: that or the
        next one."""
        try:
            return (await self.api(f"STREAM.MSG.GET.{stream}", asked))["message"]
        except Refused as e:
            if e.code == NONE_SUCH:
                return None
            raise

    async def request(self, subject: str, body: bytes, headers: dict[str, str] | None, within_s: float) -> Msg:
        """Send a message, return the answer. Raises TimeoutError without one."""
        return await self.client.request(subject, body, timeout=within_s, headers=headers)


@dataclass(frozen=True)
class Server:
    """The address of a NATS server, or of several of a cluster, and the user. credentials: a file with credentials, or
    with the seed of a key; "": user and password, or a token, are in the address."""

    url: str
    credentials: str = ""
    tls: Tls = field(default=PLAIN)

    def __post_init__(self) -> None:
        if self.credentials:
            try:
                Path(self.credentials).read_bytes()
            except OSError as e:
                raise ConfigError(
                    f"credentials is {self.credentials!r}: {e.strerror}. Remedy: the path of a file of credentials, or "
                    "of one with a seed, that gameday may read"
                ) from e

    def ask(self, question: Callable[[Session], Awaitable[T]], within_s: float, what: str) -> T:
        """Return the question's result. Raises DriverError, definite, naming `what`, if there is none in time."""
        try:
            return self.talk(question, within_s)
        except Refused as e:
            raise DriverError(f"{what} at {self}: {e}", definite=True) from e
        except (OSError, Error, ValueError, KeyError) as e:
            raise DriverError(f"{what} at {self}: {self.words(e, within_s)}", definite=True) from e

    def talk(self, question: Callable[[Session], Awaitable[T]], within_s: float) -> T:
        """Do the same, but raise the client's own errors."""
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(self._talked(question, within_s))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def words(self, error: BaseException, within_s: float) -> str:
        """Say what happened."""
        if isinstance(error, TimeoutError):
            return f"no answer within {within_s:g} s"
        if isinstance(error, NoRespondersError):
            return "it has no JetStream, or none for this account"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused"
        return said(error, self.tls if self._address.scheme == "tls" else None).removeprefix("nats: ")

    def __str__(self) -> str:
        return f"NATS {self._address.host}" + (f":{self._address.port}" if self._address.port else "")

    async def _talked(self, question: Callable[[Session], Awaitable[T]], within_s: float) -> T:
        deadline = time.monotonic() + within_s
        hosts = self._address.host.split(",") if "," in self._address.host else [self._one]
        for number, host in enumerate(hosts):
            left_s = (deadline - time.monotonic()) / (len(hosts) - number)
            client = _Client()
            told: list[Exception] = []
            client.secured = self._address.scheme == "tls"

            async def note(error: Exception, told: list[Exception] = told) -> None:
                told.append(error)

            try:
                await asyncio.wait_for(self._connected(client, host, note, left_s), left_s)
            except (OSError, Error) as e:  # a time-out is an OSError
                _abandon(client)
                if number + 1 == len(hosts):
                    raise (told[-1] if told and isinstance(e, NoServersError) else e) from None
                continue
            try:
                session = Session(client, told, client._server_info)
                found = await asyncio.wait_for(question(session), max(0.0, deadline - time.monotonic()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.close(), CLOSES_WITHIN_S)
                return found
            finally:
                _abandon(client)
        raise AssertionError("an address has a host")

    async def _connected(self, client: Client, host: str, note: Any, within_s: float) -> None:
        at = self._address
        told: dict[str, Any] = {"error_cb": note, "connect_timeout": within_s}
        # it never reconnects; 0 attempts would mean without end, even then
        told |= {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.001}
        if self.credentials and JWT in Path(self.credentials).read_text(errors="replace"):
            told["user_credentials"] = self.credentials
        elif self.credentials:
            told["nkeys_seed"] = self.credentials
        elif at.user is not None and at.password is None:
            told["token"] = at.user
        elif at.user is not None:
            told |= {"user": at.user, "password": at.password}
        if at.scheme == "tls" or self.tls != PLAIN:
            told["tls"] = context(self.tls)
        await client.connect(f"{at.scheme}://{host}", **told)

    @property
    def _address(self) -> address.Address:
        return address.of(self.url)

    @property
    def _one(self) -> str:
        host = f"[{self._address.host}]" if ":" in self._address.host else self._address.host
        return f"{host}:{self._address.port or PORT}"


class Asks:
    """The base of classes that ask a NATS server: a dataclass with a Server's fields."""

    url: str
    credentials: str
    tls: Tls

    def __post_init__(self) -> None:
        self._server  # noqa: B018 - it refuses what is wrong with them

    @property
    def _server(self) -> Server:
        return Server(self.url, self.credentials, self.tls)


def _abandon(client: Client) -> None:
    """Reset the connection, so that the server drops it too: a frozen one would keep those that are only closed."""
    writer = getattr(client._transport, "_io_writer", None)
    if writer is None or writer.transport.is_closing():
        return
    with contextlib.suppress(OSError):
        give_up(writer.get_extra_info("socket").fileno())
    writer.transport.abort()
