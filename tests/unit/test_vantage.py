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

from gameday.drivers.kafka.wire import _address
from gameday.errors import DriverError
from gameday.hosts.toxiproxy import Host
from gameday.system.vantage import (
    ANSWERS,
    HANGS_UP,
    PATIENCE_S,
    REFUSES,
    RESETS,
    SILENT,
    UNASKED,
    asked_s,
    server,
)
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
def listening(treat: Callable[[socket.socket], object]) -> Iterator[str]:
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


@pytest.fixture(params=["here", "there"])
def manner(request: pytest.FixtureRequest, vantage: str) -> Callable[[str], str]:
    """As the links' host asks: from this machine, or at a vantage point."""
    return Host("http://127.0.0.1:1", vantage if request.param == "there" else None).manner


def hang_up_unasked(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset_on_noise(connection: socket.socket) -> None:
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("treat", "told"),
    [
        (lambda c: c.sendall(c.recv(100)), ANSWERS),
        (lambda c: c.sendall(b"220 ready"), ANSWERS),
        (lambda c: c.recv(100), HANGS_UP),
        (hang_up_unasked, UNASKED),
        (reset_on_noise, RESETS),
    ],
    ids=["answers", "speaks first", "hangs up", "hangs up unasked", "resets"],
)
def test_a_manner_is_told(manner: Callable[[str], str], treat: Callable[[socket.socket], object], told: str) -> None:
    """A proxy that reaches nobody hangs up before it is asked anything; a server that is reached waits for noise."""
    with listening(treat) as address:
        assert manner(address) == told


def test_a_manner_of_nobody_and_of_a_black_hole(manner: Callable[[str], str]) -> None:
    """Neither is a reaction of a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert manner(address) == SILENT
    assert manner(address) == REFUSES


@pytest.mark.parametrize("host", ["[::]", "0.0.0.0", "", "[::1]"])
def test_an_address_in_brackets_and_every_address_are_asked(host: str) -> None:
    """Toxiproxy shows a proxy that listens everywhere as "[::]:9101"."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            for _ in range(2):
                with listener.accept()[0] as connection:
                    connection.sendall(connection.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        host_of_links = Host("http://127.0.0.1:1")
        assert host_of_links.reaction_s(f"{host}:{port}") is not None
        assert host_of_links.manner(f"{host}:{port}") == ANSWERS
    assert _address(f"[::1]:{port}") == ("::1", port)


def test_every_address_is_one_of_toxiproxys_machine(vantage: str) -> None:
    """A vantage point would ask its own; the links' host has to be told how their clients call it."""
    with pytest.raises(DriverError, match=r"listens on every address \(\[::\]:9101\).*hosts.toxiproxy.address"):
        Host("http://127.0.0.1:1", vantage).manner("[::]:9101")
    with listening(lambda c: c.sendall(c.recv(100))) as address:
        port = address.rpartition(":")[2]
        assert Host("http://127.0.0.1:1", vantage, "127.0.0.1").manner(f"[::]:{port}") == ANSWERS


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
