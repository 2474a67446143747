"""Which dead letters had to be and which are there, of a real store and a caller's tape."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest

from compose.router.letters import Letters
from gameday.model import Act, Evidence, Verdict
from gameday.verdict.checks import dead_lettered
from pipelines.router import tape as tapes
from pipelines.router.worker import tables

pytestmark = pytest.mark.suite("router")

SEED = 1
NATURAL = next(n for n in range(1, 2_000) if tapes.is_poison("t0", n))
"""A request of a tenant that can't be handled."""

ROW = """
INSERT INTO outcomes (id, tenant, n, kind, amount, deadline_ms, body_md5, attempt, reason)
VALUES (%s, %s, %s, %s, 1, 1, '', %s, %s)
"""


@pytest.fixture
def caller() -> Iterator[str]:
    """A tape with one request that was asked for besides."""
    made = tapes.asked(SEED, 1, "raises")
    asked = {"n": 1, "kind": "raises", "id": made["id"], "done": True, "at_us": time.time_ns() // 1000 + 60_000_000}
    told = {"seed": SEED, "poison": [asked]}
    body = json.dumps(told).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to anybody."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def letters(dsn: str, caller: str) -> Letters:
    """Of a store in which a tenant's requests around one that can't be handled have ended."""
    tables(dsn)
    with psycopg.connect(dsn, autocommit=True) as store:
        for n in (NATURAL - 1, NATURAL + 1):
            store.execute(ROW, [tapes.request(SEED, "t0", n)["id"], "t0", n, "done", 1, None])
        store.execute(
            "INSERT INTO heads VALUES ('t0', %s) ON CONFLICT (tenant) DO UPDATE SET n = EXCLUDED.n", [NATURAL + 1]
        )
    return Letters(dsn, caller, 5, False, ends_within_s=0.5)


def _judged(letters: Letters) -> Any:
    at_us = time.time_ns() // 1000 - 1_000_000
    act = Act("a", "r", 1, at_us, "inject", "ask", {"component": "router-a", "job": "poison"}, {}, "t", "p", 2)
    told = letters.told(at_us)
    return dead_lettered(Evidence("t", {}, "s", acts=(act,), symptoms={"accounts": {"letters": told}}))


def _dead(dsn: str, tenant: str, n: int, attempts: int = 5, reason: str = "no rule") -> None:
    with psycopg.connect(dsn, autocommit=True) as store:
        store.execute(ROW, [tapes.request(SEED, tenant, n)["id"], tenant, n, "dead", attempts, reason])


def test_all_that_had_to_be_dead_is(letters: Letters, dsn: str) -> None:
    """The tenant's own, and the one that was asked for."""
    _dead(dsn, "t0", NATURAL)
    _dead(dsn, tapes.POISON, 1)
    found = _judged(letters)
    assert (found.verdict, "all 2 that had to be dead" in found.why) == (Verdict.PASS, True), found.why


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("t0", NATURAL, 5, "no rule")], "not dead, and should be"),
        ([("t0", NATURAL, 5, "no rule"), (tapes.POISON, 1, 5, "")], "without a reason"),
        ([("t0", NATURAL, 2, "no rule"), (tapes.POISON, 1, 5, "no rule")], "dead too soon"),
        ([("t0", NATURAL, 5, "x"), (tapes.POISON, 1, 5, "x"), ("t0", NATURAL + 2, 5, "x")], "dead, and should not be"),
    ],
)
def test_what_is_wrong_with_dead_letters_is_said(
    letters: Letters, dsn: str, rows: list[tuple[str, int, int, str]], told: str
) -> None:
    """With the request's id."""
    for tenant, n, attempts, reason in rows:
        _dead(dsn, tenant, n, attempts, reason)
    found = _judged(letters)
    assert (found.verdict, told in found.why) == (Verdict.FAIL, True), found.why
