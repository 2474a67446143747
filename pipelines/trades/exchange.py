"""The exchange simulator: python -m pipelines.trades.exchange --port P --state DIR [--rate 300] [--seed 1].

It is one process with three venues (simulated/) and one tape (tape.py). It serves /healthz too, and /tape, which is all
that the ledger needs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

import failpoints
from failpoints import point
from pipelines.kept import TapeError
from pipelines.trades.lines import log_json
from pipelines.trades.simulated.binance import Binance
from pipelines.trades.simulated.coinbase import Coinbase
from pipelines.trades.simulated.kraken import Kraken
from pipelines.trades.simulated.market import Market, SimTrade, Venue, trades
from pipelines.trades.tape import SYMBOLS, Tape, count

__all__ = ["Exchange", "main"]

PACE_S = 0.025
"""How often new trades are sent. Each time wakes links and handlers too: with 10 ms all of them took half as much again
of the processor, for trades that handlers send on every 100 ms."""

RESERVE_EVERY_S = 0.1
"""How often to check whether the tape's promise must be extended: well within half of what it is ahead."""

PUBLISH = point("exchange::before_publish", "trades have happened and nobody was told: a venue that hangs, or is late")

AHEAD_NS = 1_000_000_000
"""How much of the tape is computed at once: numpy's cost is per call."""

log = structlog.get_logger()


class Exchange:
    """The simulator as an aiohttp application."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._market = market = Market(tape)
        self._venues: tuple[Venue, ...] = (Binance(market), Kraken(market), Coinbase(market))
        self._trouble = ""

    def app(self) -> web.Application:
        """Return the application: routes, and loops that run as long as it does."""
        app = web.Application()
        app.add_routes([web.get("/healthz", self._healthz), web.get("/tape", self._tape_json)])
        for venue in self._venues:
            app.add_routes(venue.routes())
        app.cleanup_ctx.append(self._loops)
        return app

    async def _loops(self, _: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(loop) for loop in (self._reserve(), self._publish(), self._beat())]
        yield
        for task in tasks:
            task.cancel()
        for venue in self._venues:
            for client in list(venue.clients):
                with contextlib.suppress(ConnectionError):
                    await client.ws.close(code=1001, message=b"shutting down")
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tape.close()

    async def _reserve(self) -> None:
        """Keep the tape's promise ahead of it. If the disk refuses, the tape stands still and /healthz says so."""
        while True:
            if self._tape.due():
                try:
                    await asyncio.to_thread(self._tape.reserve)
                    self._trouble = ""
                except OSError as e:
                    if not self._trouble:
                        log.error("tape_not_durable", error=str(e), remedy="make room in the --state folder")
                    self._trouble = f"the tape can't be made durable: {e}"
            await asyncio.sleep(RESERVE_EVERY_S)

    async def _publish(self) -> None:
        """Send every trade when its time on the tape has come."""
        queue: deque[tuple[int, str, str, SimTrade]] = deque()
        ahead_ns = self._tape.now_ns()
        heads = {(v, s): count(self._tape.json(), v, s, ahead_ns) for v in SYMBOLS for s in SYMBOLS[v]}
        self._market.published.update(heads)
        start_us, anchor_us = self._tape.segments[-1][0] // 1000, self._tape.segments[-1][1]
        while True:
            now_ns = self._tape.now_ns()
            if now_ns > ahead_ns - AHEAD_NS // 10:
                ahead_ns = now_ns + AHEAD_NS
                queue.extend(sorted(self._compute(heads, ahead_ns)))
            until_us = anchor_us + now_ns // 1000 - start_us
            new: dict[str, dict[str, list[SimTrade]]] = {}
            while queue and queue[0][0] <= until_us:
                _, venue, symbol, trade = queue.popleft()
                new.setdefault(venue, {}).setdefault(symbol, []).append(trade)
                self._market.published[venue, symbol] = trade.id
            if PUBLISH.on is not None and new:
                await PUBLISH.hit_async()
            for v in self._venues:
                if v.name in new and v.clients:
                    await v.publish(new[v.name])
            await asyncio.sleep(PACE_S)

    def _compute(self, heads: dict[tuple[str, str], int], ahead_ns: int) -> list[tuple[int, str, str, SimTrade]]:
        """Return the trades after `heads` up to ahead_ns on the tape, and move the heads on."""
        found: list[tuple[int, str, str, SimTrade]] = []
        for (venue, symbol), lo in heads.items():
            hi = count(self._tape.json(), venue, symbol, ahead_ns)
            found += [(t.time_us, venue, symbol, t) for t in trades(self._tape, venue, symbol, lo, hi)]
            heads[venue, symbol] = hi
        return found

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1)
            for venue in self._venues:
                await venue.beat()

    async def _healthz(self, _: web.Request) -> web.Response:
        clients = {venue.name: len(venue.clients) for venue in self._venues}
        body: dict[str, Any] = {"ok": not self._trouble, "tape_ns": self._tape.now_ns(), "clients": clients}
        if self._trouble:
            body["error"] = self._trouble
        return web.json_response(body, status=503 if self._trouble else 200)

    async def _tape_json(self, _: web.Request) -> web.Response:
        tape = self._tape.json()
        heads = {v: {s: count(tape, v, s, tape["tape_ns"]) for s in symbols} for v, symbols in SYMBOLS.items()}
        return web.json_response({**tape, "heads": heads})


async def _serve(tape: Tape, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(Exchange(tape).app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        log.info(
            "exchange_up",
            port=port,
            seed=tape.seed,
            rate=tape.rate,
            tape_s=tape.now_ns() / 1e9,
            segments=len(tape.segments),
        )
        await stop.wait()
    finally:
        await runner.cleanup()
    log.info("exchange_down", tape_s=tape.reserved_ns / 1e9)


def main() -> int:
    """Run until SIGTERM. Exit 2: the port or the state folder can't be used."""
    parser = argparse.ArgumentParser(description="An exchange that never was: three venues over a reproducible tape.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--state", type=Path, required=True, help="folder that keeps the tape")
    parser.add_argument("--rate", type=float, default=300.0, help="trades a second, all symbols together (default 300)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    log_json()
    if options.rate <= 0:
        parser.error(f"--rate is {options.rate:g}, but must be above 0")
    failpoints.listen()
    try:
        tape = Tape(options.state, options.seed, options.rate)
        asyncio.run(_serve(tape, options.host, options.port))
    except TapeError as e:
        log.error("exchange_cannot_start", error=str(e))
        return 2
    except OSError as e:
        log.error("exchange_cannot_start", error=str(e), remedy=f"a free --port instead of {options.port}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
