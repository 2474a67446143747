"""A program's own metrics as samples, and an account over HTTP, from a server of this test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from gameday.drivers.http import Account
from gameday.drivers.openmetrics import SERIES_MAX, Probe
from gameday.errors import DriverError


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """A server that gives everybody this; its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to anybody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_each_series_is_a_sample_with_its_labels() -> None:
    """Of the names that were asked for; a histogram by its sum and count, and what it is beside it."""
    registry = CollectorRegistry()
    Counter("shop_orders_total", "Orders", ["why"], registry=registry).labels('a "b"').inc(3)
    Histogram("shop_seconds", "Time", registry=registry).observe(0.5)
    Counter("other_total", "Else", registry=registry)
    with answering(generate_latest(registry)) as (url, _):
        found = Probe(url, 2.0, ("shop_",)).read()
    assert found == {
        "": 1.0,
        ".series": 3.0,
        "# counter shop_orders_total": 1.0,
        "# histogram shop_seconds": 1.0,
        'shop_orders_total{"why": "a \\"b\\""}': 3.0,
        "shop_seconds_count{}": 1.0,
        "shop_seconds_sum{}": 0.5,
    }


def test_a_label_without_bound_costs_no_more_than_so_many_series() -> None:
    """Their number is told all the same."""
    registry = CollectorRegistry()
    counter = Counter("shop_orders_total", "Orders", ["id"], registry=registry)
    for number in range(SERIES_MAX + 5):
        counter.labels(str(number))
    with answering(generate_latest(registry)) as (url, _):
        found = Probe(url, 5.0, ("shop_",)).read()
    assert found[".series"] == SERIES_MAX + 5
    assert sum("{" in name for name in found) == SERIES_MAX


@pytest.mark.parametrize(("body", "status"), [(b"# TYPE\nwhat", 200), (b"", 503)])
def test_what_is_no_metrics_is_no_answer(body: bytes, status: int) -> None:
    """With where it was asked."""
    with answering(body, status) as (url, _), pytest.raises(DriverError, match=url):
        Probe(url, 2.0, ("shop_",)).read()


def test_an_account_is_what_the_server_told_and_what_is_known_besides() -> None:
    """Of the time since then."""
    with answering(json.dumps({"redelivered": []}).encode()) as (url, asked):
        assert Account(url, known={"most": 5}).told(17) == {"redelivered": [], "most": 5}
    assert asked == ["/?since_us=17"]


@pytest.mark.parametrize(("body", "status"), [(b"[]", 200), (b"{}", 503), (b"no", 200)])
def test_an_account_that_is_none_is_an_error(body: bytes, status: int) -> None:
    """A list, another status, no JSON."""
    with answering(body, status) as (url, _), pytest.raises(DriverError, match=url):
        Account(url).told(0)
