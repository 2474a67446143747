"""The venues' formats as the feed handlers read them, from recorded forms."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.trades.topic import record
from pipelines.trades.venues import FeedError, Place, Request, Trade, Venue, binance, coinbase, kraken, micros, plain

VENUES: tuple[Venue, ...] = (binance, kraken, coinbase)
SAMPLES = {v.NAME: json.loads((Path(__file__).parent / "samples" / f"{v.NAME}.json").read_text()) for v in VENUES}
MESSAGES = [(v, sample) for v in VENUES for sample in SAMPLES[v.NAME]["messages"]]

by_venue = pytest.mark.parametrize("venue", VENUES, ids=lambda v: v.NAME)


@pytest.mark.parametrize(("venue", "sample"), MESSAGES)
def test_messages_are_read_exactly(venue: Venue, sample: dict[str, Any]) -> None:
    """Each recorded message gives its trades, side the taker's, digits as sent; others give none and break nothing."""
    parsed = venue.parse(sample["text"])
    assert [list(trade) for trade in parsed.trades] == sample["trades"]
    assert list(parsed.subscribed) == sample.get("subscribed", [])


@by_venue
def test_history_is_read_ascending_and_exactly(venue: Venue) -> None:
    """A page gives the same trades as the live stream would, oldest first."""
    page = SAMPLES[venue.NAME]["page"]
    assert [list(trade) for trade in venue.parse_page(page["symbol"], page["text"])] == page["trades"]


@by_venue
def test_refusals_are_said_in_the_venues_words(venue: Venue) -> None:
    """A refused subscription or request is an error with what the venue said, never an empty answer."""
    for text in SAMPLES[venue.NAME]["refusals"]:
        with pytest.raises(FeedError, match=venue.NAME):
            venue.parse(text)
    with pytest.raises(FeedError, match=venue.NAME):
        venue.parse_page(venue.SYMBOLS[0], SAMPLES[venue.NAME]["refused_page"])


def test_coinbase_side_is_turned_round() -> None:
    """Coinbase reports the maker's side; the taker of a resting sell bought."""
    sample = json.loads(SAMPLES["coinbase"]["messages"][0]["text"])
    assert sample["side"] == "sell"
    assert coinbase.parse(json.dumps(sample)).trades[0].side == "buy"
    assert coinbase.parse(json.dumps({**sample, "side": "buy"})).trades[0].side == "sell"


def test_history_is_asked_for_after_the_last_known_trade() -> None:
    """Each venue's own way to say where: the next id, the time, the end of the next page."""
    after = Place(41, 1_790_000_000_123_456)
    assert binance.page("BTCUSDT", after) == Request(
        "/api/v3/historicalTrades",
        {"symbol": "BTCUSDT", "fromId": "42", "limit": "1000"},
        {"X-MBX-TIME-UNIT": "MICROSECOND"},
    )
    assert kraken.page("BTC/USD", after).params == {"pair": "XBTUSD", "since": "1790000000123456000", "count": "1000"}
    assert coinbase.page("BTC-USD", after) == Request("/products/BTC-USD/trades", {"after": "1042", "limit": "1000"})


def test_binance_is_asked_for_microseconds() -> None:
    """In milliseconds the exchange's time would be cut."""
    assert binance.socket_path(binance.SYMBOLS).endswith("&timeUnit=MICROSECOND")


@given(st.integers(0, 10**20), st.integers(0, 12))
def test_decimals_stay_exact(digits: int, places: int) -> None:
    """Whatever number of digits: the text names the same number, without exponent or zeros that mean nothing."""
    value = Decimal(digits).scaleb(-places)
    for form in (str(value), format(value, "f"), f"{value:E}"):
        text = plain(form)
        assert Decimal(text) == value
        assert "E" not in text
        assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize("value", [0.1, "NaN", "Infinity", "", "0x1", None, True])
def test_what_is_no_exact_decimal_is_refused(value: object) -> None:
    """A float has been rounded already; the others are no numbers."""
    with pytest.raises(FeedError):
        plain(value)


def test_times_are_cut_to_the_microsecond() -> None:
    """Whatever precision and zone the venue writes; what is no time is refused."""
    assert micros("2026-09-21T14:13:20.708706Z") == 1790000000708706
    assert micros("2026-09-21T16:13:20+02:00") == 1790000000000000
    assert micros("2026-09-21T14:13:20.7087069Z") == 1790000000708706
    with pytest.raises(FeedError, match="yesterday"):
        micros("yesterday")


def test_the_record_is_the_trade() -> None:
    """The message on the topic has the agreed keys and types, decimals as text."""
    trade = Trade("BTC/USD", 7, "sell", "64250.1", "0.00000001", 1790000000000001)
    assert json.loads(record("kraken", trade, 1790000000000009)) == {
        "venue": "kraken",
        "symbol": "BTC/USD",
        "trade_id": 7,
        "side": "sell",
        "price": "64250.1",
        "quantity": "0.00000001",
        "exchange_us": 1790000000000001,
        "received_us": 1790000000000009,
    }
