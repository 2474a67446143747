"""A message as a record of the stream: the keys that a platform has for its fields, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gameday.drivers.kafka.log import KEYS, Hop, record
from gameday.errors import ConfigError

OURS = {
    "venue": "kraken",
    "symbol": "BTC/USD",
    "trade_id": 7,
    "price": "60000.25",
    "quantity": "0.5",
    "side": "sell",
    "exchange_us": 1_790_000_000_000_001,
}
NUMBERS = (7, 6_000_025_000_000, 50_000_000, 1, 1_790_000_000_000_001)


def test_a_message_of_the_reference_platform_is_a_record() -> None:
    """Group, and id, price, quantity, side and time as integers."""
    assert record(orjson.dumps(OURS)) == (("kraken", "BTC/USD"), NUMBERS)


def test_a_platform_has_its_own_keys() -> None:
    """Milliseconds, capital letters, an id as text, a venue that the topic alone tells."""
    theirs = {"s": "BTC/USD", "t": "7", "p": "60000.25", "q": "0.5", "S": "SELL", "T": 1_790_000_000_000}
    keys = {**KEYS, "symbol": "s", "id": "t", "price": "p", "quantity": "q", "side": "S", "time_ms": "T"}
    assert record(orjson.dumps(theirs), keys, "kraken") == (
        ("kraken", "BTC/USD"),
        (*NUMBERS[:4], 1_790_000_000_000_000),
    )


def test_messages_may_have_no_side() -> None:
    """It is then the same everywhere."""
    told = {name: value for name, value in OURS.items() if name != "side"}
    assert record(orjson.dumps(told), {**KEYS, "side": ""})[1][3] == 0
    with pytest.raises(KeyError):
        record(orjson.dumps(told))


@pytest.mark.parametrize(
    "change",
    [
        {"trade_id": "7a"},
        {"trade_id": 7.0},
        {"trade_id": True},
        {"exchange_us": "1"},
        {"side": "short"},
        {"price": 1.5},
    ],
    ids=str,
)
def test_what_would_have_to_be_guessed_is_no_record(change: dict[str, Any]) -> None:
    """It is counted as malformed."""
    with pytest.raises((ValueError, AttributeError)):
        record(orjson.dumps({**OURS, **change}))


def test_an_unknown_key_and_a_foreign_topic_are_named() -> None:
    """With what is known."""
    with pytest.raises(ConfigError, match=r"hops\.broker\.keys has \['time'\]\. Known: venue, .*time_ms"):
        Hop("127.0.0.1:1", ["a"], keys={"time": "T"})
    with pytest.raises(ConfigError, match=r"venues has \['b'\]"):
        Hop("127.0.0.1:1", ["a"], venues={"b": "kraken"})
