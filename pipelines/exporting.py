"""Has what all exporters share: it looks at each part of a platform once a second, and serves metrics for Prometheus.

Each platform says at what to look: trades/exporter.py, cdc/exporter.py.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

__all__ = ["ANSWER_WAIT_S", "Lag", "Line", "Looks", "server"]

LOOK_EVERY_S = 1.0
ANSWER_WAIT_S = 1.0
"""A broker or a database that needs longer counts as down."""

KEPT_S = 900.0
"""For how long it is kept when records were written: a consumer that is further behind counts as so far behind."""

Line = tuple[str, dict[str, str], float]
"""A sample: name, labels, value."""

log = structlog.get_logger()


@dataclass
class Lag:
    """Measures how far a consumer is behind the end of one partition, in records and in seconds: the age of the first
    record that it has not committed."""

    ends: deque[tuple[float, int]] = field(default_factory=deque)

    def seen(self, at_s: float, end: int) -> None:
        """Note that the partition ended there."""
        if not self.ends or end > self.ends[-1][1]:
            self.ends.append((at_s, end))
        while len(self.ends) > 1 and self.ends[1][0] < at_s - KEPT_S:
            self.ends.popleft()

    def behind_s(self, at_s: float, committed: int) -> float:
        """Return the seconds; 0.0 when the consumer has all records."""
        return next((at_s - since for since, end in self.ends if end > committed), 0.0)


class Looks(Collector):
    """The last look at each part: its metrics, or that it did not answer. All are gauges."""

    def __init__(self, parts: dict[str, tuple[Callable[[], Iterator[Line]], type[Exception]]]) -> None:
        """parts: name -> the function that looks, and its error when the part doesn't answer: then NAME_up is 0."""
        self._lines: dict[str, list[Line]] = {}
        for name, (look, silent) in parts.items():
            threading.Thread(target=self._keep, args=(name, look, silent), name=name, daemon=True).start()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Lines of one name are one metric."""
        found: dict[str, Metric] = {}
        for name, labels, value in itertools.chain.from_iterable(list(self._lines.values())):
            found.setdefault(name, Metric(name, "", "gauge")).add_sample(name, labels, value)
        yield from found.values()

    def _keep(self, name: str, look: Callable[[], Iterator[Line]], silent: type[Exception]) -> None:
        pause, well = threading.Event(), True
        while True:
            try:
                self._lines[name] = list(look())
                well = True
            except silent as e:
                self._lines[name] = [(f"{name}_up", {}, 0.0)]
                if well:
                    log.warning("no_answer", of=name, why=str(e))
                well = False
            pause.wait(LOOK_EVERY_S)


def server(host: str, port: int, looks: Looks, folder: Path | None) -> ThreadingHTTPServer:
    """Return a server that listens and doesn't answer yet. folder: its *.prom files, from other programs, are served
    too."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(looks)

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            status, data = 200, b""
            if self.path == "/metrics":
                data = generate_latest(registry) + _textfiles(folder)
            elif self.path != "/healthz":
                status, data = 404, f"no {self.path}. Remedy: GET /metrics\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    return ThreadingHTTPServer((host, port), Handler)


def _textfiles(folder: Path | None) -> bytes:
    """Return the files that other programs have left there, unchanged."""
    found = sorted(folder.glob("*.prom")) if folder is not None else []
    return b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in found)
