"""A local server that behaves as Slack's API does, and as PagerDuty's: it checks what it is sent against their limits,
asks to wait, fails, hangs, refuses.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from email.message import Message as Headers
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.contract.sockets import END_SEEN_S

Answer = tuple[int, dict[str, str], bytes]
Behaviour = Callable[[], Answer]
"""What the server does instead of answering properly, for one request."""


def status(code: int, **headers: str) -> Behaviour:
    """This status, with headers such as Retry_After."""
    return lambda: (code, {name.replace("_", "-"): value for name, value in headers.items()}, b"no JSON")


def error(code: str) -> Behaviour:
    """Slack's way to refuse: status 200 and "ok": false."""
    return lambda: (200, {}, json.dumps({"ok": False, "error": code}).encode())


def hanging(over: threading.Event) -> Behaviour:
    """No answer before the test is over."""

    def hang() -> Answer:
        over.wait(60)
        return 200, {}, b"{}"

    return hang


class Chat:
    """Serves POST /api/chat.postMessage, /v2/enqueue, and any other path as a webhook would.

    next: behaviours for the coming requests, in order; after them everything is well. always: for every request.
    """

    def __init__(self, token: str) -> None:
        self.next: list[Behaviour] = []
        self.always: Behaviour | None = None
        self.asked: list[tuple[float, str, Any, Headers]] = []
        self.taken: list[tuple[str, Any]] = []
        self.over = threading.Event()
        self._token = token
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((time.monotonic(), self.path, body, self.headers))
                behaviour = outer.next.pop(0) if outer.next else outer.always
                code, headers, data = behaviour() if behaviour else outer.well(self.path, body, self.headers)
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                with suppress(BrokenPipeError, ConnectionResetError):  # who asked has given up meanwhile
                    self.end_headers()
                    self.wfile.write(data)

            def do_GET(self) -> None:
                """Whatever else stands there: a page, as behind a wrong address."""
                self.send_response(200)
                self.send_header("Content-Length", "6")
                self.end_headers()
                self.wfile.write(b"<html>")

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def well(self, path: str, body: Any, headers: Headers) -> Answer:
        """What the real one says to this request."""
        if path == "/api/chat.postMessage":
            refused = self._slack(body, headers)
            answer: Any = (
                {"ok": False, "error": refused} if refused else {"ok": True, "ts": f"1700000000.{len(self.taken):06}"}
            )
            code = 200
        elif path == "/v2/enqueue":
            refused = self._pagerduty(body)
            answer, code = (
                {"status": "invalid event", "errors": [refused]} if refused else {"status": "success"},
                400 if refused else 202,
            )
        else:
            refused, answer, code = None, {}, 204
        if not refused:
            self.taken.append((path, body))
        return code, {"Content-Type": "application/json"}, b"" if code == 204 else json.dumps(answer).encode()

    def _slack(self, body: Any, headers: Headers) -> str | None:
        if headers["Authorization"] != f"Bearer {self._token}":
            return "invalid_auth"
        if not body.get("text"):
            return "no_text"
        if len(body["text"]) > 40_000:
            return "msg_too_long"
        blocks = body.get("blocks") or []
        if len(blocks) > 50 or any(not _block_is_well(block) for block in blocks):
            return "invalid_blocks"
        known = {f"1700000000.{n:06}" for n in range(len(self.taken))}
        return "thread_not_found" if body.get("thread_ts") and body["thread_ts"] not in known else None

    def _pagerduty(self, body: Any) -> str | None:
        if body.get("routing_key") != self._token or body.get("event_action") not in ("trigger", "resolve"):
            return "routing_key or event_action"
        if not 0 < len(body.get("dedup_key", "")) <= 255:
            return "dedup_key"
        if body["event_action"] == "resolve":
            return None
        payload = body["payload"]
        known = ("critical", "error", "warning", "info")
        if not 0 < len(payload["summary"]) <= 1024 or payload["severity"] not in known or not payload["source"]:
            return "payload"
        return None if all(set(link) == {"href", "text"} for link in body["links"]) else "links"

    def __enter__(self) -> Chat:
        threading.Thread(target=self._server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def _block_is_well(block: Any) -> bool:
    texts = [block["text"]] if block["type"] == "section" else block["elements"]
    return (
        block["type"] in ("section", "context")
        and 0 < len(texts) <= 10
        and all(0 < len(text["text"].encode("utf-16-le")) // 2 <= 3_000 for text in texts)
    )
