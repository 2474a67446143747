"""Decides a request: a pure function. Raises Unhandled, and nothing else, for a request that can't be handled."""

from __future__ import annotations

from typing import Any

import orjson

__all__ = ["BACKOFF_S", "Unhandled", "backoff_s", "decide", "decision", "read"]

BACKOFF_S = (0.05, 5.0)
"""The first and the longest wait before a request that could not be handled is delivered again."""

LANES = ("north", "east", "south", "west")
LARGE = 5_000.0
"""A request of at least this amount goes to a person."""


class Unhandled(Exception):
    """The request can't be handled; the message says why, without its values."""


def read(payload: bytes) -> dict[str, Any]:
    """Parse a request."""
    try:
        found = orjson.loads(payload)
        if isinstance(found, dict) and {"id", "tenant", "n", "kind", "amount"} <= found.keys():
            return found
    except orjson.JSONDecodeError:
        pass
    raise Unhandled("no request: its JSON has not what one has")


def decide(request: dict[str, Any]) -> str:
    """Return the lane that carries the request out."""
    if request["kind"] == "raises":
        raise Unhandled("no rule is for this request")
    return "person" if float(request["amount"]) >= LARGE else LANES[int(request["n"]) % len(LANES)]


def decision(request: dict[str, Any], lane: str, router: str, attempt: int) -> bytes:
    """Return the decision for a worker: the request as it came, and what was decided."""
    return orjson.dumps({"request": request, "lane": lane, "router": router, "attempt": attempt})


def backoff_s(attempt: int) -> float:
    """Return how long to wait after the attempt-th delivery."""
    return float(min(BACKOFF_S[0] * 2 ** (attempt - 1), BACKOFF_S[1]))
