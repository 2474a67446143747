"""The on-call engineer's inbox, in place of a chat or a pager: python -m pipelines.pager --port P --file F.

POST /alerts appends any alert to the file; GET /healthz returns how many there are. The platform decides what it alerts
about. POST /watchman and /gameday are for the programs that watch and break the platform, and are counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["main"]

ALERT_MAX_BYTES = 1 << 16
READ_WITHIN_S = 5.0


SENDERS = ("alerts", "watchman", "gameday")


class Inbox:
    """Keeps alerts in a file, one per line, and counts them by sender."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        known = path.read_text().splitlines() if path.exists() else []
        self._count = Counter(json.loads(line).get("sender", SENDERS[0]) for line in known)

    def counts(self) -> dict[str, int]:
        return {sender: self._count[sender] for sender in SENDERS}

    def put(self, sender: str, text: str) -> None:
        line = json.dumps({"at_us": time.time_ns() // 1000, "sender": sender, "alert": text})
        with self._lock, self._path.open("a") as file:
            file.write(line + "\n")
            self._count[sender] += 1


def server(host: str, port: int, inbox: Inbox) -> ThreadingHTTPServer:
    """Return a server that listens and doesn't answer yet."""

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_WITHIN_S

        def do_GET(self) -> None:
            if self.path != "/healthz":
                return self._answer(404, {"error": f"no {self.path}. Remedy: GET /healthz, POST /alerts"})
            return self._answer(200, {"ok": True, **inbox.counts()})

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            sender = self.path.removeprefix("/")
            if sender not in SENDERS or not size.isdecimal() or int(size) > ALERT_MAX_BYTES:
                return self._answer(400, {"error": f"POST /alerts takes up to {ALERT_MAX_BYTES} bytes"})
            inbox.put(sender, self.rfile.read(int(size)).decode(errors="replace"))
            return self._answer(200, {"ok": True})

        def log_message(self, *_: Any) -> None:
            return

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer((host, port), Handler)


def main() -> int:
    """Serve until SIGTERM ends the process: every alert is in the file when it was answered."""
    parser = argparse.ArgumentParser(description="The on-call engineer's inbox.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    with server(options.host, options.port, Inbox(options.file)) as serving:
        serving.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
