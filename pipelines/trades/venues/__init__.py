"""The venues' protocols for a feed handler, one venue per file: pure functions from text to trades and from places to
requests. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple, Protocol

__all__ = ["FeedError", "Parsed", "Place", "Request", "Side", "Trade", "Venue", "micros", "plain"]

Side = Literal["buy", "sell"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class FeedError(Exception):
    """The venue refused, or sent what its documentation doesn't know; the message has what it said."""


class Trade(NamedTuple):
    """One trade as the venue reported it. side: the taker's. price, quantity: exact decimal text. exchange_us: the
    venue's time, UTC.
    """

    symbol: str
    trade_id: int
    side: Side
    price: str
    quantity: str
    exchange_us: int


class Parsed(NamedTuple):
    """A parsed message: trades in order, and symbols whose subscription it confirms."""

    trades: Sequence[Trade] = ()
    subscribed: Sequence[str] = ()


class Place(NamedTuple):
    """How far a symbol's sequence has got: the last id, and that trade's exchange time."""

    trade_id: int
    exchange_us: int


class Request(NamedTuple):
    """A GET below the venue's REST address."""

    path: str
    params: dict[str, str]
    headers: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default, never changed


class Venue(Protocol):
    """One venue's formats."""

    @property
    def NAME(self) -> str: ...

    @property
    def SYMBOLS(self) -> tuple[str, ...]: ...

    @property
    def PAGE_ROWS(self) -> int: ...

    def socket_path(self, symbols: Sequence[str]) -> str:
        """What to append to the venue's WebSocket address."""
        ...

    def subscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Messages to send once connected; none where the path subscribes."""
        ...

    def parse(self, text: str) -> Parsed:
        """A WebSocket message. FeedError for refusals and unknown forms."""
        ...

    def page(self, symbol: str, after: Place) -> Request:
        """The request for the next PAGE_ROWS trades after a place."""
        ...

    def parse_page(self, symbol: str, text: str) -> list[Trade]:
        """Its answer, ascending by id; it may hold trades from before the place too. FeedError for refusals."""
        ...


def plain(value: object) -> str:
    """A venue's number as exact decimal text without exponent and without zeros that mean nothing: "0.00000001",
    "64250.1", "40".
    """
    if not isinstance(value, str | Decimal | int) or isinstance(value, bool):
        raise FeedError(f"{value!r} is not an exact decimal")
    try:
        number = Decimal(value)
    except InvalidOperation as e:
        raise FeedError(f"{value!r} is not a decimal") from e
    if not number.is_finite():
        raise FeedError(f"{value!r} is not a finite decimal")
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def micros(stamp: str) -> int:
    """RFC 3339 -> microseconds since 1970; finer digits are cut, as a clock does."""
    try:
        at = datetime.fromisoformat(stamp)
    except (TypeError, ValueError) as e:
        raise FeedError(f"{stamp!r} is not an RFC 3339 time") from e
    return (at - EPOCH) // MICROSECOND
