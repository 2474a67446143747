"""Handles the HTTP requests of the ledgers: a question as a JSON object, with its values checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import web

__all__ = ["Add", "handler", "kind", "number"]

Add = Callable[[dict[str, Any]], Awaitable[Any]]
"""Takes the question, and returns the answer once it is on the disk. Raises ValueError: the question is wrong; OSError:
the disk refuses."""


def handler(add: Add) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler of aiohttp's. It answers 400 where the question is wrong, and 503 where the disk refuses."""

    async def handle(request: web.Request) -> web.Response:
        try:
            given = await request.json()
            if not isinstance(given, dict):
                raise ValueError(f"the body is {given!r}. Remedy: a JSON object")
            return web.json_response(await add(given))
        except ValueError as e:
            return web.json_response({"error": str(e)}, status=400)
        except OSError as e:
            return web.json_response({"error": f"the tape can't be made durable: {e}"}, status=503)

    return handle


def number(given: dict[str, Any], name: str, least: float, most: float) -> float:
    """Return given[name]; `least` where it is left out. Raises ValueError."""
    value = given.get(name, least)
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}. Remedy: a number from {least:g} to {most:g}")
    return float(value)


def kind(given: dict[str, Any], known: Collection[str]) -> str:
    """Return given["kind"], which must be known. Raises ValueError."""
    if given.get("kind") not in known:
        raise ValueError(f"kind is {given.get('kind')!r}. Remedy: one of {', '.join(known)}")
    return str(given["kind"])
