"""Servers that ask who somebody is, and prove who they are: an address with user and password is enough, whatever they
consist of; TLS goes by the files that the table beside the address names.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from gameday.drivers import clickhouse, http, prefect_api, prometheus, s3, slack, tape
from gameday.drivers._post import post
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.hosts import toxiproxy
from gameday.past.history import Board
from gameday.reports import metrics
from gameday.stack.live import open_stack
from gameday.state import State
from gameday.system import vantage
from gameday.system.tls import PLAIN, Tls
from tests.contract.certificates import Authority, secured
from tests.contract.test_channels import message
from tests.fakes import write_config
from tests.trades import TRADES

USER, PASSWORD = "gameday", "p@ss'w/rd?#[%41]: é"
ANSWER: dict[str, Any] = {"heads": {}, "data": {"groups": []}, "manner": vantage.ANSWERS, "ok": True, "ts": "1"}
"""Something for each of them."""


class Guarded(BaseHTTPRequestHandler):
    """Answers whoever knows the password, and 401 to all others. open: whoever comes."""

    open = False

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        body = json.dumps([] if self.path.endswith("/filter") else ANSWER).encode()
        self.send_response(200 if self.headers.get("Authorization") == f"Basic {known}" or self.open else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


Ask = Callable[[str, Tls], object]

ASKS: dict[str, Ask] = {
    "http": lambda url, tls: http.Probe(f"{url}/healthz", 2.0, tls=tls).read(),
    "prometheus": lambda url, tls: prometheus.Alerts(url, 2.0, tls=tls).firing(),
    "alertmanager": lambda url, tls: prometheus.Alerts(url, 2.0, url, tls).silenced("x"),
    "prefect": lambda url, tls: prefect_api.Job(f"{url}/api", "f/d", tls).runs(0),
    "clickhouse": lambda url, tls: clickhouse.Server(url, tls=tls).rows("SELECT 1", 2.0),
    "tape": lambda url, tls: tape.Hop(url, "m:f", TRADES, tls=tls).heads(),
    "toxiproxy": lambda url, tls: toxiproxy.Host(url, tls=tls)._ask("GET", "/proxies"),
    "vantage": lambda url, tls: vantage.asked_manner(url, "127.0.0.1:1", tls),
    "a post": lambda url, tls: post("it", f"{url}/hook", {}, {}, 2.0, tls),
    "push gateway": lambda url, tls: metrics.push(url, Board(), "trades", 2.0, tls),
}

OF_LIBRARIES: dict[str, Ask] = {
    "slack": lambda url, tls: slack.Channel(SecretStr("xoxb-1"), "C1", url, tls).send(message(), None, 2.0),
    "s3": lambda url, tls: s3.Rights(url, "b", "k", "s", "p", "k", "s", ca=tls.ca).policy(),
}
"""They have logins of their own."""


@pytest.mark.parametrize("ask", ASKS)
def test_the_login_in_an_address_is_told_to_its_server(ask: str, port: int) -> None:
    """Percent-encoded in the address, and as it is in the request."""
    ASKS[ask](f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}", PLAIN)


def test_a_refused_login_is_an_error_without_it(port: int) -> None:
    """The address is named, the password isn't."""
    with pytest.raises(DriverError, match=r"gameday:\*\*\*@127\.0\.0\.1.* 401") as raised:
        http.Probe(f"http://gameday:hunter2@127.0.0.1:{port}/healthz", 2.0).read()
    assert "hunter2" not in str(raised.value)


# ---- proxies -----------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_for_others(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message to the world goes through it, with its login; what is on this machine is asked directly."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    login = f"{USER}:{quote(PASSWORD, safe='')}"
    post("it", f"http://{login}@127.0.0.1:{port}/hook", {}, {}, 2.0)
    with pytest.raises(GamedayError, match="refused"):
        post("it", f"http://{login}@chat.example/hook", {}, {}, 2.0)
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
    post("it", f"http://{login}@chat.example/hook", {}, {}, 2.0)


# ---- TLS ---------------------------------------------------------------------------------------------------

CLIENTS = {**ASKS, **OF_LIBRARIES}


class Open(Guarded):
    """Answers whoever has come through TLS."""

    open = True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("trusted"), "trusted")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def tls_port(authority: Authority) -> Iterator[int]:
    with secured(Open, authority.certificate("server")) as port:
        yield port


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_server_of_an_own_authority_is_trusted(ask: str, tls_port: int, authority: Authority) -> None:
    """Its file is all that is needed."""
    CLIENTS[ask](f"https://127.0.0.1:{tls_port}", Tls(str(authority.ca)))


@pytest.mark.parametrize("trusted", ["another authority", "this machine's"])
@pytest.mark.parametrize("ask", CLIENTS)
def test_a_server_that_nobody_vouches_for_is_not(ask: str, trusted: str, tls_port: int, stranger: Authority) -> None:
    """And it is said what to do."""
    tls = Tls(str(stranger.ca)) if trusted == "another authority" else PLAIN
    with pytest.raises(GamedayError, match=r"certificate is not trusted \(.*Remedy: ca = "):
        CLIENTS[ask](f"https://127.0.0.1:{tls_port}", tls)


@pytest.mark.parametrize("ask", [name for name in CLIENTS if name != "s3"])
def test_a_certificate_for_another_server_is_none(ask: str, authority: Authority) -> None:
    """Whoever signed it. S3's client says so in its own words."""
    with (
        secured(Open, authority.certificate("other", "other.example")) as port,
        pytest.raises(GamedayError, match=r"not valid for.*Remedy: the address by a name"),
    ):
        CLIENTS[ask](f"https://127.0.0.1:{port}", Tls(str(authority.ca)))


@pytest.mark.parametrize("ask", ASKS)
def test_a_server_that_wants_to_know_its_clients(ask: str, authority: Authority) -> None:
    """The client's own certificate is shown; without one it is said what is wanted."""
    with secured(Open, authority.certificate("server"), clients=authority.ca) as port:
        ASKS[ask](f"https://127.0.0.1:{port}", Tls(str(authority.ca), *authority.certificate("client")))
        with pytest.raises(
            GamedayError, match=r"it refuses the client .*Remedy: certificate = |wants to know its clients"
        ):
            ASKS[ask](f"https://127.0.0.1:{port}", Tls(str(authority.ca)))


@pytest.mark.parametrize("ask", CLIENTS)
def test_tls_to_a_server_that_does_not_speak_it_is_said(ask: str, port: int) -> None:
    """With the address that would be right."""
    with pytest.raises(GamedayError, match=r"does not speak TLS\. Remedy: http://"):
        CLIENTS[ask](f"https://127.0.0.1:{port}", PLAIN)


@pytest.mark.parametrize("ask", ASKS)
def test_plain_http_to_a_server_that_speaks_tls_is_said(ask: str, tls_port: int) -> None:
    """The same the other way round."""
    with pytest.raises(GamedayError, match=r"speaks TLS.* https:// in its address"):
        ASKS[ask](f"http://127.0.0.1:{tls_port}", PLAIN)


def test_the_files_are_named_in_the_table_of_the_address(tls_port: int, authority: Authority, tmp_path: Path) -> None:
    """`ca` beside the url of a hop, a probe: its driver uses it."""
    path = write_config(tmp_path)
    tape_of = f'driver = "tape"\nurl = "https://127.0.0.1:{tls_port}"\nrecords = "m:f"\nca = "{authority.ca}"'
    path.write_text(path.read_text().replace('driver = "tape"', tape_of))
    assert open_stack(path, State(tmp_path)).hop("one").heads() == {}


def test_a_driver_without_tls_takes_no_file_of_it(authority: Authority, tmp_path: Path) -> None:
    """It would be ignored: the error names what the driver takes."""
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace('path = "/"', f'path = "/", ca = "{authority.ca}"'))
    with pytest.raises(ConfigError, match=r"unknown ca\. Probe of gameday\.drivers\.disk takes path"):
        open_stack(path, State(tmp_path)).own_probes("web")
