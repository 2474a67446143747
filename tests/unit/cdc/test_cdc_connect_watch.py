"""Who restarts a connector's task that has failed, and which one nobody restarts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.cdc import connect_watch
from pipelines.cdc.connect_watch import Watch

LOST = (
    "io.debezium.DebeziumException: The connector is trying to read change stream starting at 0/15, but this is no "
    "longer available on the server. Reconfigure the connector to use a snapshot mode when needed."
)


class Connect(ThreadingHTTPServer):
    """Answers for one connector, and notes what it is asked to do."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def failed(self, trace: str) -> None:
        self.tasks = [{"id": 0, "state": "FAILED", "trace": trace}]


class Handler(BaseHTTPRequestHandler):
    server: Connect

    def do_GET(self) -> None:
        self._answer({"name": "cdc", "connector": {"state": "RUNNING"}, "tasks": self.server.tasks})

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self._answer({})

    def _answer(self, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def connect() -> Iterator[Connect]:
    with Connect() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_task_that_has_failed_is_restarted_and_one_that_runs_is_not(connect: Connect) -> None:
    """Only what has failed of the connector is asked for."""
    watch = Watch(connect.url, "cdc")
    connect.tasks = [{"id": 0, "state": "RUNNING"}]
    assert not watch.look()
    connect.failed("java.lang.RuntimeException: no")
    assert watch.look()
    assert connect.asked == ["/connectors/cdc/restart?includeTasks=true&onlyFailed=true"]


def test_one_that_fails_again_waits_longer_each_time(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 2, 4 s ... and at once again where it has run for a minute."""
    now = [100.0]
    monkeypatch.setattr(connect_watch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    watch = Watch(connect.url, "cdc")
    connect.failed("java.lang.RuntimeException: no")
    restarted = []
    for now[0] in (100.0, 100.9, 101.0, 102.9, 103.0, 106.9, 107.0):
        if watch.look():
            restarted.append(now[0])
    assert restarted == [100.0, 101.0, 103.0, 107.0]
    connect.tasks = [{"id": 0, "state": "RUNNING"}]
    now[0] = 168.0
    assert not watch.look()
    connect.failed("java.lang.RuntimeException: no")
    assert watch.look()
    now[0] = 169.0
    assert watch.look()


def test_a_task_that_has_lost_its_slot_is_left_alone(connect: Connect) -> None:
    """A restart could only make a new slot, behind a gap that nobody is told of."""
    watch = Watch(connect.url, "cdc")
    connect.failed(f"org.apache.kafka.connect.errors.ConnectException: failed\nCaused by: {LOST}")
    assert [watch.look() for _ in range(3)] == [False, False, False]
    assert connect.asked == []
