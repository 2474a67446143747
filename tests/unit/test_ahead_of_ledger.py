"""What hops show that the ledger never had, and a ledger that is asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gameday.drivers import tape as driver
from gameday.model import EMPTY, Group, Window
from gameday.stack.live import Stack, open_stack
from gameday.verdict import ahead
from tests.fakes import write_config
from tests.trades import TRADES

BTC, DOGE = ("binance", "BTCUSDT"), ("binance", "DOGEUSDT")
TAPE: Mapping[str, Any] = {
    "seed": 1,
    "rate": 200.0,
    "segments": [],
    "heads": {"binance": {"BTCUSDT": 100}, "kraken": {"BTC/USD": 50}},
}


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> driver.Hop:
    """A tape with 100 and 50 trades, whatever they are."""
    import numpy as np

    def records(_: Mapping[str, Any], group: Group, lo: int, hi: int) -> dict[str, Any]:
        assert group in (BTC, ("kraken", "BTC/USD")), "the simulator knows no other"
        assert hi <= 100, "it would compute for ever"
        ids = np.arange(lo + 1, hi + 1, dtype=np.int64)
        return {name: ids for name in TRADES.types}

    hop = driver.Hop("http://127.0.0.1:1", "tests:none", TRADES)
    monkeypatch.setattr(driver.Hop, "_tape", lambda self: TAPE)
    monkeypatch.setattr(driver.Hop, "_function", property(lambda self: records))
    return hop


@pytest.fixture
def stack(tmp_path: Path, ledger: driver.Hop, monkeypatch: pytest.MonkeyPatch) -> Stack:
    opened = open_stack(write_config(tmp_path, opted_in=("web",)))
    monkeypatch.setattr(opened, "_hops", {"one": ledger})
    return opened


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        ({BTC: 100}, None),
        ({BTC: 0}, None),
        ({BTC: 1_000_100}, "id 1000100 of binance/BTCUSDT, one has had only 100"),
        ({BTC: 100, DOGE: 1}, "id 1 of binance/DOGEUSDT, one has had no such group"),
    ],
)
def test_what_is_ahead_of_the_ledger_is_named(stack: Stack, heads: Mapping[Group, int], sentence: str | None) -> None:
    """A foreign group, an id far beyond; what is behind may still come, and is no matter of this."""
    found = ahead.told(stack, ahead.beyond(stack, {"two": heads}))
    expected = [] if sentence is None else [f"two shows {sentence}: a foreign record, or the ledger began anew"]
    assert found == expected


def test_the_ledger_knows_nothing_of_what_it_never_had(ledger: driver.Hop) -> None:
    """Nothing dies of a foreign group, and nothing is computed for an id of 10^15."""
    window = Window({}, {BTC: 10**15, DOGE: 5})
    groups = ledger.digest(window)[0].groups
    assert (groups[BTC].rows, groups[DOGE]) == (100, EMPTY)
    assert len(ledger.rows(BTC, 90, 10**15)["trade_id"]) == 10
    assert len(ledger.rows(DOGE, 0, 5)["trade_id"]) == 0
    assert ledger.rows(BTC, -2, 1)["trade_id"].tolist() == [1], "there is no trade 0"
    assert ledger.digest(Window({BTC: -1}, {BTC: 5}))[0].groups[BTC].rows == 5
