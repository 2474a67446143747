"""A schema registry for tests: a small server that answers, over real HTTP, the two questions of Confluent's API that
gameday asks. None of the registries themselves can be had from a package registry for this machine.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["Registry", "framed", "registry"]


def framed(number: int, body: bytes) -> bytes:
    """A message as a serializer with a registry writes it."""
    return b"\0" + number.to_bytes(4, "big") + body


@dataclass
class Registry:
    """url: where it answers. asked: the paths and queries of what came, in order. login: the header that it wants."""

    url: str = ""
    login: str | None = None
    asked: list[str] = field(default_factory=list)
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, text: str, kind: str = "AVRO", references: Sequence[tuple[str, str, int]] = ()) -> int:
        """A schema; its number. references: name, subject and version of each that it imports."""
        number = len(self._answers) + 1
        self._answers[f"/schemas/ids/{number}"] = self._answer(text, kind, references)
        return number

    def subject(
        self, name: str, version: int, text: str, kind: str = "AVRO", references: Sequence[tuple[str, str, int]] = ()
    ) -> None:
        """A schema that others import."""
        self._answers[f"/subjects/{name}/versions/{version}"] = self._answer(text, kind, references)

    @staticmethod
    def _answer(text: str, kind: str, references: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
        told: dict[str, Any] = {"schema": text}
        if kind != "AVRO":  # as the real ones do
            told["schemaType"] = kind
        if references:
            told["references"] = [{"name": n, "subject": s, "version": v} for n, s, v in references]
        return told

    def of(self, path: str, login: str | None) -> tuple[int, dict[str, Any]]:
        if self.login is not None and login != self.login:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        found = self._answers.get(unquote(urlsplit(path).path))
        return (200, found) if found else (404, {"error_code": 40403, "message": "Schema not found"})


@contextmanager
def registry(tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """One that runs until the block ends."""
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            status, told = made.of(self.path, self.headers.get("Authorization"))
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        made.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
