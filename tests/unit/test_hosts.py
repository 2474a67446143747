"""Hosts against servers that misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import cast

import pytest

from gameday.errors import ConfigError, DriverError
from gameday.hosts import local
from gameday.hosts.local import Host
from gameday.hosts.toxiproxy import Host as Toxiproxy
from gameday.model import Json
from gameday.ports import Host as HostPort
from gameday.ports import Kill, Links, Pause
from gameday.stack.live import Stack, open_stack
from gameday.undo import mending
from tasks import survey
from tests.contract.sockets import END_SEEN_S
from tests.fakes import Supervisor, refuse, write_config

PROXIES = {
    "exchange-binance": {
        "name": "exchange-binance",
        "listen": "127.0.0.1:2",
        "upstream": "127.0.0.1:1",
        "enabled": False,
        "toxics": [],
        "Logger": {},
    },
    "broker-clickhouse": {
        "name": "broker-clickhouse",
        "listen": "127.0.0.1:4",
        "upstream": "127.0.0.1:3",
        "enabled": True,
        "toxics": [{"name": "slow", "type": "latency"}],
        "Logger": {},
    },
}


def test_offers_what_faults_ask_for() -> None:
    """Asked with isinstance, as a test's `needs` are."""
    assert isinstance(Host("s"), HostPort)
    assert isinstance(Host("s"), Kill)
    assert isinstance(Host("s"), Pause)
    assert isinstance(Toxiproxy("u"), Links)
    assert not isinstance(Toxiproxy("u"), Kill)


def test_no_supervisor_names_socket_and_remedy(tmp_path: Path) -> None:
    """Nothing was asked of anyone, so the failure is definite."""
    host = Host(str(tmp_path / "supervisor.sock"), {"web": "web"})
    with pytest.raises(DriverError, match=r"supervisor\.sock.*gameday up") as failed:
        host.stop("web", 1.0)
    assert failed.value.definite


def test_a_refusal_is_definite_and_says_why(tmp_path: Path) -> None:
    """The supervisor's own words come through."""
    with Supervisor(tmp_path) as supervisor:
        supervisor.broken["stop"] = refuse
        with pytest.raises(DriverError, match="refused stop: out of order") as failed:
            supervisor.stack.host("web").stop("web", 1.0)
        assert failed.value.definite


def test_a_lost_answer_is_not_definite(tmp_path: Path) -> None:
    """The order may have been carried out."""
    with Supervisor(tmp_path) as supervisor:
        supervisor.broken["stop"] = lambda _: None
        with pytest.raises(DriverError, match="ended before it answered") as failed:
            supervisor.stack.host("web").stop("web", 1.0)
        assert not failed.value.definite


def test_silence_is_bounded_and_not_definite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that accepts and never answers is given up on."""
    monkeypatch.setattr(local, "ORDER_S", 0.1)
    over = threading.Event()

    def hang(_: Json) -> None:
        over.wait(10)

    with Supervisor(tmp_path) as supervisor:
        supervisor.broken["start"] = hang
        with pytest.raises(DriverError, match="did not answer 'start' within") as failed:
            supervisor.stack.host("web").start("web")
        over.set()
        assert not failed.value.definite


def test_who_waits_for_a_look_shares_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve ask at once: the first is answered, and one look more answers all who came meanwhile."""
    monkeypatch.setattr(local, "SHARED_WITHIN_S", 30.0)
    queue = Queue()
    look: local._Look[int] = local._Look(lock=cast("threading.Lock", queue))
    asked: list[int] = []

    def ask() -> int:
        asked.append(len(asked))
        assert queue.full.wait(30)
        return len(asked)

    with ThreadPoolExecutor(Queue.LENGTH) as pool:
        told = sorted(pool.map(lambda _: look.get(ask), range(Queue.LENGTH)))
    assert told == [1, *[2] * (Queue.LENGTH - 1)]


def test_nobody_waits_behind_a_look_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has waited for as long as a look is shared asks for himself."""
    monkeypatch.setattr(local, "SHARED_WITHIN_S", 0.01)
    look: local._Look[str] = local._Look()
    under_way, over = threading.Event(), threading.Event()

    def hang() -> str:
        under_way.set()
        over.wait(30)
        return "hung"

    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(look.get, hang)
        assert under_way.wait(30)
        assert look.get(lambda: "at once") == "at once"
        over.set()
        assert hung.result() == "hung"


class Queue:
    """A lock that knows when LENGTH have come for it."""

    LENGTH = 12

    def __init__(self) -> None:
        self.full = threading.Event()
        self._lock = threading.Lock()
        self._came: list[int] = []

    def acquire(self, timeout: float) -> bool:
        self._came.append(threading.get_ident())
        if len(self._came) == self.LENGTH:
            self.full.set()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_unknown_components_are_named(tmp_path: Path) -> None:
    """A role of another host, and a process that the supervisor doesn't have, are different mistakes."""
    with Supervisor(tmp_path) as supervisor:
        socket = str(supervisor.state.supervisor_socket)
        with pytest.raises(ConfigError, match=r"no component 'api'. It has web"):
            Host(socket, {"web": "web"}).start("api")
        with pytest.raises(ConfigError, match=r"no process 'httpd' \(component web\). It has db, web"):
            Host(socket, {"web": "httpd"}).identity("web")


# ---- toxiproxy -----------------------------------------------------------------------------------------------


class Api(BaseHTTPRequestHandler):
    answer = (200, json.dumps(PROXIES))

    def do_GET(self) -> None:
        code, body = self.answer
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def api() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def with_toxiproxy(folder: Path, url: str, named: tuple[str, ...] = tuple(PROXIES)) -> Stack:
    """A stack whose links are these proxies."""
    path = write_config(folder, opted_in=(), others=("web", "db"))
    links = "".join(f'{name} = {{ host = "toxiproxy", between = ["db", "web"] }}\n' for name in named)
    path.write_text(path.read_text() + f'[hosts.toxiproxy]\nurl = "{url}"\n[links]\n{links}')
    return open_stack(path)


def test_links_are_listed(api: str) -> None:
    """Every proxy with where it listens, where it leads, and what was done to it."""
    links = Toxiproxy(api).links()
    assert links["exchange-binance"] == {
        "listen": "127.0.0.1:2",
        "upstream": "127.0.0.1:1",
        "enabled": False,
        "toxics": [],
    }
    assert set(links) == set(PROXIES)


def test_cut_and_slowed_links_are_left_over(api: str, tmp_path: Path) -> None:
    """A disabled proxy or a toxic is something left behind."""
    assert mending.nothing_left(with_toxiproxy(tmp_path, api)) == [
        "link exchange-binance is cut",
        "link broker-clickhouse has the toxic slow",
    ]


def test_proxies_of_other_people_are_nothing_of_ours(api: str, tmp_path: Path) -> None:
    """A proxy that the toml doesn't name may be cut, or have a toxic: no test is refused for it, and none is shown."""
    assert mending.nothing_left(with_toxiproxy(tmp_path, api, named=())) == []
    only = with_toxiproxy(tmp_path, api, named=("broker-clickhouse",))
    assert mending.nothing_left(only) == ["link broker-clickhouse has the toxic slow"]
    host = only.named_host("toxiproxy")
    assert isinstance(host, Links)
    assert [row["name"] for row in survey._links(only, "toxiproxy", host)] == ["broker-clickhouse"]


def test_components_that_did_not_opt_in_are_not_even_asked(tmp_path: Path) -> None:
    """Processes and failpoints of other people may be down, paused or armed: nobody is asked for them."""
    with Supervisor(tmp_path) as supervisor:
        path = write_config(tmp_path, opted_in=("web",), others=("db",))
        armed = 'points = { driver = "failpoints", socket = "/nowhere", evidence = "/nowhere" }\n'
        path.write_text(path.read_text() + armed)  # of db, the last one
        supervisor.obey({"op": "stop", "name": "db"})
        assert mending.nothing_left(open_stack(path, supervisor.state)) == []


def test_a_named_link_that_is_not_there_is_left_over(api: str, tmp_path: Path) -> None:
    """Somebody deleted the proxy: its clients reach nobody, as with a cut."""
    (told,) = mending.nothing_left(with_toxiproxy(tmp_path, api, named=("broker-lake",)))
    assert told.startswith("link broker-lake is not there: its host toxiproxy has broker-clickhouse")


@pytest.mark.parametrize("answer", [(500, "broken"), (200, "not json")])
def test_a_toxiproxy_that_answers_nonsense(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Json
) -> None:
    """It names who answered what; and nothing_left doesn't take it for "nothing"."""
    monkeypatch.setattr(Api, "answer", answer)
    with pytest.raises(DriverError, match=api):
        Toxiproxy(api).links()
    assert len(mending.nothing_left(with_toxiproxy(tmp_path, api))) == 1


def test_a_toxiproxy_that_is_gone() -> None:
    """Connection refused names address and remedy."""
    with pytest.raises(DriverError, match=r"does not answer GET /proxies.*gameday status"):
        Toxiproxy("http://127.0.0.1:1").links()
