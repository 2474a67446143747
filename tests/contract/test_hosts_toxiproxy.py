"""The links of a real Toxiproxy server, and the faults of a link as its client meets them."""

from __future__ import annotations

import http.server
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.ports import free_ports
from compose.servers import toxiproxy
from compose.service import answers
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.faults.blackhole import Blackhole
from gameday.faults.latency import Latency
from gameday.faults.partition import Partition
from gameday.faults.reset import Reset
from gameday.faults.truncate import Truncate
from gameday.hosts.toxiproxy import Host
from gameday.ports import Fault, Held, Shape
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from gameday.system.polling import until
from gameday.system.vantage import reaction_s
from gameday.undo import mending
from tests import fakes
from tests.contract.sockets import END_SEEN_S

LINK = "db-web"
FAULTS: list[Any] = [
    Partition("web", LINK),
    Blackhole("web", LINK),
    Latency("web", LINK, latency_ms=200),
    Reset("web", LINK),
    Truncate("web", LINK, after_bytes=4096),
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    """The port of a small HTTP server."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def server(upstream: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, toxiproxy.Link]]:
    """Its address, and the one link that it has."""
    folder = tmp_path_factory.mktemp("toxiproxy")
    toxiproxy.get(print)
    port, listen = free_ports(2)
    link = toxiproxy.Link(LINK, listen, upstream)
    service = toxiproxy.process(folder, port, [link])
    log = Path(service.folder) / "log"
    with log.open("wb") as out, subprocess.Popen(service.argv, cwd=folder, stdout=out, stderr=out) as running:
        until(lambda: answers(service.ready, 1.0), within_s=10, what="toxiproxy")
        yield f"http://127.0.0.1:{port}", link
        running.terminate()


@pytest.fixture
def stack(server: tuple[str, toxiproxy.Link], tmp_path: Path) -> Iterator[Stack]:
    """A stack of two components and the link between them; the link is whole before and after each test."""
    url, _ = server
    path = fakes.write_config(tmp_path, opted_in=("web", "other"), others=("db",))
    with path.open("a") as config:
        config.write(f'[hosts.toxiproxy]\nurl = "{url}"\n')
        config.write(f'[links]\n{LINK} = {{ host = "toxiproxy", between = ["db", "web"] }}\n')
    made = open_stack(path, State(tmp_path))
    yield made
    host = made.named_host("toxiproxy")
    assert isinstance(host, Shape)
    host.join(LINK)
    for toxic in host.links()[LINK]["toxics"]:
        host.restore(LINK, toxic["name"])
    assert whole(made)


def whole(stack: Stack) -> bool:
    state = stack.named_host("toxiproxy").links()[LINK]  # type: ignore[attr-defined]
    return bool(state["enabled"]) and not state["toxics"]


def test_links_tell_where_they_lead_and_what_was_done_to_them(server: tuple[str, toxiproxy.Link]) -> None:
    """A whole link, a slowed one, a cut one; asking twice for the state that already is, is fine."""
    url, link = server
    state = {
        "listen": f"127.0.0.1:{link.listen}",
        "upstream": f"127.0.0.1:{link.upstream}",
        "enabled": True,
        "toxics": [],
    }
    host = Host(url)
    assert isinstance(host, Shape)
    assert host.links() == {link.name: state}
    for _ in range(2):
        host.distort(LINK, "slow", "latency", "downstream", {"latency": 10})
    assert [t["name"] for t in host.links()[LINK]["toxics"]] == ["slow"]
    for _ in range(2):
        host.restore(LINK, "slow")
    for _ in range(2):
        host.cut(LINK)
    assert host.links() == {LINK: {**state, "enabled": False}}
    for _ in range(2):
        host.join(LINK)
    assert host.links() == {LINK: state}


def test_an_unknown_link_and_an_absent_server_are_named(server: tuple[str, toxiproxy.Link]) -> None:
    """A DriverError with the address; whether anything happened is told."""
    url, _ = server
    with pytest.raises(DriverError, match="404") as refused:
        Host(url).cut("nowhere")
    assert refused.value.definite
    Host(url).join("nowhere")  # an undo is not held up by a link that somebody removed
    (port,) = free_ports(1)
    with pytest.raises(DriverError, match=f"127.0.0.1:{port}"):
        Host(f"http://127.0.0.1:{port}").links()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__.lower())
def test_a_fault_of_a_link_bites_holds_and_heals(stack: Stack, fault: Any) -> None:
    """No proof before the act; a proof after it; mending.nothing_left names it; nothing of it after the heal, however
    often that is asked for."""
    assert [isinstance(fault, kind) for kind in (Fault, Held)] == [True, True]
    assert stack.lacks(fault) == []
    stack.permit(fault)
    before = fault.before(stack)
    assert not fault.holds(stack, before)
    assert fault.proof(stack, before) is None
    for _ in range(2):
        fault.act(stack, before, "act-1")
    assert fault.holds(stack, before)
    proof = fault.proof(stack, before)
    assert proof is not None
    assert LINK in proof
    assert any(LINK in line for line in mending.nothing_left(stack))
    for _ in range(2):
        fault.heal(stack, before)
    assert not fault.holds(stack, before)
    assert fault.proof(stack, before) is None
    assert whole(stack)


def test_a_held_connection_feels_the_cut(stack: Stack, server: tuple[str, toxiproxy.Link]) -> None:
    """Not only new ones: the victim's open connection ends."""
    _, link = server
    fault = Partition("web", LINK)
    with socket.create_connection(("127.0.0.1", link.listen), 5) as held:
        fault.act(stack, {}, "act-1")
        held.settimeout(5)
        assert held.recv(1) == b""


def test_a_link_that_is_broken_already_is_not_broken_again(stack: Stack) -> None:
    """Its heal would undo what somebody else did."""
    Latency("web", LINK).act(stack, {}, "act-1")
    with pytest.raises(GamedayError, match="already"):
        Partition("web", LINK).before(stack)


def test_only_an_end_that_opted_in_may_lose_its_link(stack: Stack) -> None:
    """The other end, a component beside the link and an unknown link are refused before any act."""
    with pytest.raises(ConfigError, match="has not opted in"):
        stack.permit(Partition("db", LINK))
    with pytest.raises(ConfigError, match="no link 'db-wed'"):
        stack.permit(Partition("web", "db-wed"))
    with pytest.raises(ConfigError, match="other is at neither end of link db-web"):
        stack.permit(Partition("other", LINK))


def test_noise_is_answered_by_whoever_is_there(upstream: int) -> None:
    """What the proofs compare: a server reacts within milliseconds."""
    took_s = reaction_s(f"127.0.0.1:{upstream}")
    assert took_s is not None
    assert took_s < 0.5
