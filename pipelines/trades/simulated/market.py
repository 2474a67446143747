"""Has what all simulated venues share: the trades that exist now, the connected clients, exact decimal text. Each venue
has its own message formats.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from aiohttp import WSCloseCode, web

from pipelines.trades import tape as ledger

__all__ = ["Client", "Limit", "Market", "SimTrade", "Venue", "decimal", "iso", "serve", "short"]

BUFFER_BYTES_MAX = 4 << 20
"""Unsent bytes after which a client is too slow and is disconnected."""

PING_EVERY_S = 20.0
REQUESTS_PER_S = 500
"""The limit of one venue's REST API, for all clients together."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SimTrade(NamedTuple):
    """A trade in the ledger's integers: price and quantity x 10^8, side 0 buy and 1 sell (the taker's)."""

    id: int
    price: int
    quantity: int
    side: int
    time_us: int


class Market:
    """The ledger as far as the tape has run. published: (venue, symbol) -> the last id that was sent to subscribers."""

    def __init__(self, tape: ledger.Tape) -> None:
        self.tape = tape
        self.published: dict[tuple[str, str], int] = {}

    def head(self, venue: str, symbol: str) -> int:
        """The highest id that exists now."""
        return ledger.count(self.tape.json(), venue, symbol, self.tape.now_ns())

    def until(self, venue: str, symbol: str, time_us: int) -> int:
        """The highest id with an exchange time of at most time_us; 0 when there is none."""
        return min(self.head(venue, symbol), ledger.count_until(self.tape.json(), venue, symbol, time_us))

    def history(self, venue: str, symbol: str, lo: int, hi: int) -> list[SimTrade]:
        """The trades lo < id <= hi that exist now, ascending."""
        return trades(self.tape, venue, symbol, max(0, lo), min(hi, self.head(venue, symbol)))


def trades(tape: ledger.Tape, venue: str, symbol: str, lo: int, hi: int) -> list[SimTrade]:
    """Rows of the ledger, whether or not the tape has reached them."""
    columns = ledger.trades(tape.json(), venue, symbol, lo, hi)
    return [SimTrade(*row) for row in zip(*(columns[name].tolist() for name in SimTrade._fields), strict=True)]


class Client:
    """One WebSocket connection. topics: what it has subscribed to, in its venue's own terms; options: the variables
    of its URL.
    """

    def __init__(self, ws: web.WebSocketResponse, transport: Any, options: Mapping[str, str]) -> None:
        self.ws, self.options = ws, options
        self.topics: set[str] = set()
        self._transport = transport
        transport.set_write_buffer_limits(high=2 * BUFFER_BYTES_MAX)  # a slow client must never make the others wait

    async def send(self, text: str) -> None:
        """Send, or cut the connection of a client that doesn't read."""
        if self._transport.get_write_buffer_size() > BUFFER_BYTES_MAX:
            self._transport.abort()
        if not self.ws.closed and not self._transport.is_closing():
            with contextlib.suppress(ConnectionError):  # the connection's own loop sees it end
                await self.ws.send_str(text)


class Venue(Protocol):
    """One venue's protocols over a Market."""

    name: str
    clients: set[Client]

    def routes(self) -> Iterable[web.RouteDef]:
        """Its WebSocket and REST paths, below /<name>."""
        ...

    async def connected(self, client: Client) -> None:
        """Greet a new connection."""
        ...

    async def received(self, client: Client, text: str) -> None:
        """Answer a message of a client's."""
        ...

    async def publish(self, new: Mapping[str, Sequence[SimTrade]]) -> None:
        """Send what has just happened, by symbol, to whoever subscribed."""
        ...

    async def beat(self) -> None:
        """Called once a second: heartbeats."""
        ...


async def serve(venue: Venue, request: web.Request) -> web.WebSocketResponse:
    """One WebSocket connection from handshake to end."""
    ws = web.WebSocketResponse(heartbeat=PING_EVERY_S, compress=False, max_msg_size=1 << 16)
    await ws.prepare(request)
    client = Client(ws, request.transport, {**request.match_info, **request.query})
    venue.clients.add(client)
    try:
        await venue.connected(client)
        async for message in ws:
            if not isinstance(message.data, str):
                await ws.close(code=WSCloseCode.UNSUPPORTED_DATA)
                break
            await venue.received(client, message.data)
    finally:
        venue.clients.discard(client)
    return ws


class Limit:
    """At most REQUESTS_PER_S in any second."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def exceeded(self) -> bool:
        """Count one request; whether it was one too many."""
        now = time.monotonic()
        while self._times and self._times[0] < now - 1:
            self._times.popleft()
        if len(self._times) >= REQUESTS_PER_S:
            return True
        self._times.append(now)
        return False


def decimal(value: int, places: int = 8) -> str:
    """An integer of 10^-8 as decimal text with this many places; digits are never rounded away, so it may have more."""
    text = f"{value // ledger.SCALE}.{value % ledger.SCALE:08d}"
    kept = len(text) - 8 + places
    return text[:kept] + text[kept:].rstrip("0")


def short(value: int) -> str:
    """The same with as few digits as are exact, at least one decimal: 64250.1"""
    return decimal(value, places=1)


def iso(time_us: int) -> str:
    """RFC 3339 with microseconds, UTC."""
    return (EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
