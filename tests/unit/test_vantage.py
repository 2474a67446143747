"""How a server reacts to noise: told here, and by a vantage point, in the same words."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from gameday.errors import DriverError
from gameday.hosts.toxiproxy import Host
from gameday.vantage import PATIENCE_S, asked_s, server
from tests.contract.sockets import END_SEEN_S

Ask = Callable[[str], float | None]


@pytest.fixture(scope="module")
def vantage() -> Iterator[str]:
    with server("127.0.0.1", 0) as point:
        threading.Thread(target=point.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield f"http://127.0.0.1:{point.server_address[1]}"
        point.shutdown()


@pytest.fixture(params=["here", "there"])
def ask(request: pytest.FixtureRequest, vantage: str) -> Ask:
    """As the links' host asks: from this machine, or at a vantage point."""
    return Host("http://127.0.0.1:1", vantage if request.param == "there" else None).reaction_s


@contextmanager
def listening(treat: Callable[[socket.socket], None]) -> Iterator[str]:
    """Somebody who takes one connection and treats it so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                treat(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_an_answer_and_a_hang_up_are_reactions(ask: Ask) -> None:
    """Both come from a server that was reached."""
    for treat in (lambda c: c.sendall(c.recv(100)), lambda c: c.recv(100)):
        with listening(treat) as address:
            took_s = ask(address)
            assert took_s is not None
            assert 0 <= took_s < PATIENCE_S


def test_silence_is_none(ask: Ask) -> None:
    """A black hole takes everything and says nothing."""
    done = threading.Event()

    def keep(_: socket.socket) -> None:
        done.wait(10)

    with listening(keep) as address:
        assert ask(address) is None
        done.set()


def test_a_refusal_is_told(ask: Ask) -> None:
    """Nobody listens: the link is cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        ask(address)


def test_a_reset_is_told(ask: Ask) -> None:
    """Somebody listens, and breaks every connection."""

    def reset(connection: socket.socket) -> None:
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(reset) as address, pytest.raises(ConnectionResetError):
        ask(address)


def test_a_name_that_nobody_has_is_told(vantage: str) -> None:
    """Neither refused nor silent: nothing is known of the link, so nothing is proved."""
    with pytest.raises(DriverError, match=r"broker\.invalid:1, as seen from"):
        asked_s(vantage, "broker.invalid:1")


def test_a_vantage_point_that_is_gone_is_named() -> None:
    """Its own refusal must never pass for the link's."""
    with pytest.raises(DriverError, match=r"the vantage point http://127\.0\.0\.1:1 does not tell"):
        asked_s("http://127.0.0.1:1", "127.0.0.1:2")


@pytest.mark.parametrize("target", ["/reaction", "/reaction?address=nowhere", "/reaction?address=a:1&address=b:2", "/"])
def test_it_tells_what_it_takes(vantage: str, target: str) -> None:
    """And does nothing else."""
    connection = http.client.HTTPConnection(urlsplit(vantage).netloc, timeout=5)
    connection.request("GET", target)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (400, "GET /reaction?address=HOST:PORT, or /healthz")
    connection.close()
