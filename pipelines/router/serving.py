"""Runs a program of the router: its work in threads, and its HTTP server, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

import failpoints
from pipelines.trades.lines import log_json

__all__ = ["Handler", "Program", "run"]

Handler = Callable[[web.Request], Awaitable[web.Response]]

ENDS_WITHIN_S = 5.0
"""How long to wait for the threads at the end. One that still waits for a broker is abandoned."""

log = structlog.get_logger()


class Program:
    """What the threads share. trouble: part -> why it doesn't work now."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.trouble: dict[str, str] = {}
        self.failed: BaseException | None = None

    def health(self) -> dict[str, Any]:
        """Return the health. ok: no part is in trouble."""
        told = "; ".join(f"{what}: {why}" for what, why in sorted(self.trouble.items()))
        return {"ok": not told, "error": told}


def run(
    name: str,
    program: Program,
    work: Mapping[str, Callable[[], None]],
    metrics: Callable[[], bytes],
    host: str,
    port: int,
    routes: Mapping[tuple[str, str], Handler] | None = None,
) -> int:
    """Run until SIGTERM. work: name -> what a thread does until the program has ended. routes: (method, path) besides
    /healthz and /metrics. Exit 1: an unexpected error in a thread; 2: the port can't be used."""
    log_json()
    failpoints.listen()
    try:
        asyncio.run(_serve(name, program, work, metrics, host, port, routes or {}))
    except OSError as e:
        log.error(f"{name}_cannot_start", error=str(e), remedy=f"a free --port instead of {port}")
        return 2
    return 0 if program.failed is None else 1


async def _serve(
    name: str,
    program: Program,
    work: Mapping[str, Callable[[], None]],
    metrics: Callable[[], bytes],
    host: str,
    port: int,
    routes: Mapping[tuple[str, str], Handler],
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async def healthz(_: web.Request) -> web.Response:
        told = program.health()
        return web.json_response(told, status=200 if told["ok"] else 503)

    async def prometheus(_: web.Request) -> web.Response:
        told = metrics() + "".join(f"{line}\n" for line in failpoints.metrics()).encode()
        return web.Response(body=told, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    def carried_out(do: Callable[[], None]) -> None:
        try:
            do()
        except BaseException as e:
            log.exception("thread_failed")
            program.failed = e
            loop.call_soon_threadsafe(stop.set)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", prometheus)])
    app.add_routes([web.route(method, path, handler) for (method, path), handler in routes.items()])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    threads = [threading.Thread(target=carried_out, args=(do,), name=of, daemon=True) for of, do in work.items()]
    try:
        await web.TCPSite(runner, host, port).start()
        for thread in threads:
            thread.start()
        log.info(f"{name}_up", port=port)
        await stop.wait()
        program.ended.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, ENDS_WITHIN_S)
    finally:
        await runner.cleanup()
    log.info(f"{name}_down")
