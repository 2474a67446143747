"""HTTP servers that ask for a user and a password: an address that has them is enough, whatever they consist of."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import pytest

from gameday.drivers import http, prefect_api, prometheus, tape
from gameday.drivers._post import post
from gameday.errors import DriverError
from gameday.hosts import toxiproxy
from tests.trades import TRADES

USER, PASSWORD = "gameday", "p@ss'w/rd?#[%41]: é"
ANSWER: dict[str, Any] = {"heads": {}, "data": {"groups": []}}
"""Something for each of them."""


class Guarded(BaseHTTPRequestHandler):
    """Answers whoever knows the password, and 401 to all others."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        body = json.dumps([] if self.path.endswith("/filter") else ANSWER).encode()
        self.send_response(200 if self.headers.get("Authorization") == f"Basic {known}" else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


ASKS: dict[str, Callable[[str], object]] = {
    "http": lambda url: http.Probe(f"{url}/healthz", 2.0).read(),
    "prometheus": lambda url: prometheus.Alerts(url, 2.0).firing(),
    "prefect": lambda url: prefect_api.Job(f"{url}/api", "f/d").runs(0),
    "tape": lambda url: tape.Hop(url, "m:f", TRADES).heads(),
    "toxiproxy": lambda url: toxiproxy.Host(url)._ask("GET", "/proxies"),
    "a post": lambda url: post("it", f"{url}/hook", {}, {}, 2.0),
}


@pytest.mark.parametrize("ask", ASKS)
def test_the_login_in_an_address_is_told_to_its_server(ask: str, port: int) -> None:
    """Percent-encoded in the address, and as it is in the request."""
    ASKS[ask](f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}")


def test_a_refused_login_is_an_error_without_it(port: int) -> None:
    """The address is named, the password isn't."""
    with pytest.raises(DriverError, match=r"gameday:\*\*\*@127\.0\.0\.1.* 401") as raised:
        http.Probe(f"http://gameday:hunter2@127.0.0.1:{port}/healthz", 2.0).read()
    assert "hunter2" not in str(raised.value)
