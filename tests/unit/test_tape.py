"""The tape: what the ledger says of any trade, and what of the clock survives."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.system.polling import until
from pipelines.kept import TapeError
from pipelines.trades.tape import RESERVE_NS, SYMBOLS, Tape, count, count_until, trades

GROUPS = [(venue, symbol) for venue in SYMBOLS for symbol in SYMBOLS[venue]]
START_US = 1_790_000_000_000_000
COLUMNS = ("id", "price", "quantity", "side", "time_us")


def one_segment(seed: int = 1, rate: float = 300.0) -> dict[str, Any]:
    return {"seed": seed, "rate": rate, "segments": [[0, START_US]]}


@st.composite
def tapes(draw: st.DrawFn) -> dict[str, Any]:
    """Up to four runs of a few minutes, the wall clock anywhere at each start, put right as Tape does."""
    segments: list[list[int]] = []
    start_us = 0
    for length_s in draw(st.lists(st.integers(0, 500), min_size=1, max_size=4)):
        wall_us = START_US + draw(st.integers(-(10**9), 10**9))
        if segments:
            wall_us = max(wall_us, segments[-1][1] + start_us - segments[-1][0] // 1000 + 1)
        segments.append([start_us * 1000, wall_us])
        start_us += length_s * 1_000_000 + draw(st.integers(0, 999_999))
    return {"seed": draw(st.integers(0, 5)), "rate": draw(st.sampled_from([9.0, 300.0, 2000.0])), "segments": segments}


@given(tapes(), st.sampled_from(GROUPS), st.integers(0, 50_000), st.integers(0, 3_000))
@settings(max_examples=60, deadline=None)
def test_ids_are_contiguous_and_times_strictly_rise(
    tape: dict[str, Any], group: tuple[str, str], lo: int, rows: int
) -> None:
    """Whatever the segments and the wall clock: lo < id <= hi without a gap, and no two trades share a microsecond."""
    found = trades(tape, *group, lo, lo + rows)
    assert found["id"].tolist() == list(range(lo + 1, lo + rows + 1))
    assert (np.diff(found["time_us"]) > 0).all()


@given(tapes(), st.sampled_from(GROUPS), st.lists(st.integers(0, 1_200_000_000_000), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_counting_agrees_with_the_times_of_the_trades(
    tape: dict[str, Any], group: tuple[str, str], moments: list[int]
) -> None:
    """count says how many trades have happened by a moment of the tape, count_until the same by exchange time."""
    starts, anchors = zip(*tape["segments"], strict=True)
    for tape_ns in moments:
        n = count(tape, *group, tape_ns)
        segment = max(i for i, start in enumerate(starts) if start // 1000 <= tape_ns // 1000)
        now_us = anchors[segment] + tape_ns // 1000 - starts[segment] // 1000
        around = trades(tape, *group, max(0, n - 2), n + 2)
        assert int((around["time_us"] <= now_us).sum()) + max(0, n - 2) == n
        assert count_until(tape, *group, now_us) == n
        if n:
            assert count_until(tape, *group, int(trades(tape, *group, n - 1, n)["time_us"][0])) == n


@given(st.sampled_from(GROUPS), st.integers(0, 10**7), st.integers(1, 200), st.integers(0, 199))
@settings(max_examples=100, deadline=None)
def test_a_trade_does_not_depend_on_how_it_is_asked_for(group: tuple[str, str], lo: int, rows: int, at: int) -> None:
    """Trade k alone equals trade k within any range: restarts and other readers see the same."""
    many, k = trades(one_segment(), *group, lo, lo + rows), lo + min(at, rows - 1) + 1
    alone = trades(one_segment(), *group, k - 1, k)
    assert [alone[c][0] for c in COLUMNS] == [many[c][k - lo - 1] for c in COLUMNS]


@given(tapes(), st.sampled_from(GROUPS))
@settings(max_examples=40, deadline=None)
def test_a_new_segment_changes_no_trade_before_it(tape: dict[str, Any], group: tuple[str, str]) -> None:
    """Segments are only appended, and each leaves what is older as it was."""
    before = {**tape, "segments": tape["segments"][:-1] or tape["segments"]}
    head = count(tape, *group, tape["segments"][-1][0] - 1000)
    old, new = trades(before, *group, 0, head), trades(tape, *group, 0, head)
    assert all((old[c] == new[c]).all() for c in COLUMNS)


@pytest.mark.parametrize("group", GROUPS)
def test_values_are_those_of_the_venue(group: tuple[str, str]) -> None:
    """Prices and quantities are positive multiples of the instrument's steps; both sides occur; neighbours are near."""
    found, instrument = trades(one_segment(), *group, 0, 20_000), SYMBOLS[group[0]][group[1]]
    assert (found["price"] > 0).all()
    assert (found["quantity"] > 0).all()
    assert not (found["price"] % instrument.tick).any()
    assert not (found["quantity"] % instrument.step).any()
    assert 0.45 < found["side"].mean() < 0.55
    assert np.abs(np.diff(found["price"])).max() < instrument.price // 100


def test_the_rate_is_kept_with_bursts() -> None:
    """All symbols together come at the rate asked for, and the busiest second has more than three times as many."""
    seconds = [sum(count(one_segment(), v, s, t * 10**9) for v, s in GROUPS) for t in range(601)]
    per_second = np.diff(seconds)
    assert per_second.mean() == pytest.approx(300, rel=0.01)
    assert per_second.max() > 3 * 300
    assert min(count(one_segment(), v, s, 10**9) for v, s in GROUPS) > 0


def test_other_seeds_make_other_trades() -> None:
    """The seed matters."""
    one, two = (trades(one_segment(seed), "kraken", "BTC/USD", 0, 100) for seed in (1, 2))
    assert (one["price"] != two["price"]).any()


def test_the_rows_of_a_known_tape_stay_what_they_are() -> None:
    """A ledger whose past changes with a new version would call every stored trade wrong."""
    found = trades(one_segment(), "binance", "BTCUSDT", 0, 3)
    assert np.stack([found[c] for c in COLUMNS], axis=1).tolist() == [
        [1, 6357982000000, 151000, 1, START_US + 11291],
        [2, 6357926000000, 395000, 0, START_US + 28706],
        [3, 6357870000000, 15000, 0, START_US + 55521],
    ]


def test_a_rate_beyond_the_microsecond_is_refused() -> None:
    """Two trades of a symbol would have to share a microsecond."""
    with pytest.raises(TapeError, match="--rate"):
        trades(one_segment(rate=1e7), "binance", "BTCUSDT", 0, 1)


# ---- the clock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The two clocks, in nanoseconds, to be moved by hand."""
    at = {"mono": 5_000_000_000_000, "wall": START_US * 1000}
    monkeypatch.setattr("pipelines.trades.tape.time.monotonic_ns", lambda: at["mono"])
    monkeypatch.setattr("pipelines.trades.tape.time.time_ns", lambda: at["wall"])
    return at


def crash(tape: Tape) -> None:
    """Let go of the folder as SIGKILL does: without a word to the disk."""
    tape._file.close()


def test_the_tape_runs_only_while_it_is_open(tmp_path: Path, clock: dict[str, int]) -> None:
    """A night between close and start leaves no trades to be filled in."""
    tape = Tape(tmp_path, 1, 300.0)
    clock["mono"] += 800_000_000
    tape.close()
    stopped_ns = tape.reserved_ns
    clock["mono"] += 8 * 3600 * 10**9
    clock["wall"] += 8 * 3600 * 10**9
    again = Tape(tmp_path, 1, 300.0)
    assert again.now_ns() == stopped_ns == 800_001_000
    assert count(again.json(), "binance", "BTCUSDT", again.now_ns()) == count(
        tape.json(), "binance", "BTCUSDT", stopped_ns
    )


def test_a_promise_under_way_when_the_tape_is_closed_neither_fails_nor_comes_late(tmp_path: Path) -> None:
    """The exchange saves in a thread, which a shutdown can't call back; after the close the folder may be another's."""
    tape = Tape(tmp_path, 1, 300.0)
    ended = threading.Event()

    def keep_on() -> None:
        while not ended.is_set():
            tape.reserve()

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(keep_on) for _ in range(4)]
        try:
            until(lambda: tape.reserved_ns > RESERVE_NS, within_s=10)
            tape.close()
            closed = (tmp_path / "tape.json").read_text()
            tape.reserve()
        finally:
            ended.set()
        for one in running:
            one.result()
    assert (tmp_path / "tape.json").read_text() == closed


def test_no_trade_that_was_ever_seen_is_undone_by_a_crash(tmp_path: Path, clock: dict[str, int]) -> None:
    """The next start begins at the promise, which nothing had passed; what was seen stays as it was."""
    tape = Tape(tmp_path, 1, 300.0)
    clock["mono"] += 700_000_000
    tape.reserve()
    clock["mono"] += 900_000_000
    seen = tape.json()
    head = count(seen, "coinbase", "ETH-USD", seen["tape_ns"])
    crash(tape)
    clock["wall"] -= 3600 * 10**9  # and the wall clock was set back meanwhile
    again = Tape(tmp_path, 1, 300.0)
    assert again.now_ns() >= seen["tape_ns"]
    new = again.json()
    old_rows, new_rows = trades(seen, "coinbase", "ETH-USD", 0, head), trades(new, "coinbase", "ETH-USD", 0, head)
    assert all((old_rows[c] == new_rows[c]).all() for c in COLUMNS)
    assert (np.diff(trades(new, "coinbase", "ETH-USD", 0, head + 500)["time_us"]) > 0).all()


def test_nothing_exists_beyond_what_the_disk_has(tmp_path: Path, clock: dict[str, int]) -> None:
    """Without a new promise the tape stands still, and goes on when there is one."""
    tape = Tape(tmp_path, 1, 300.0)
    clock["mono"] += 60 * 10**9
    assert tape.due()
    assert tape.now_ns() == tape.reserved_ns == json.loads((tmp_path / "tape.json").read_text())["reserved_ns"]
    tape.reserve()
    assert tape.now_ns() == 60 * 10**9
    assert not tape.due()


def test_a_full_disk_stops_the_tape_and_not_the_past(
    tmp_path: Path, clock: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promise that could not be written was not made."""
    tape = Tape(tmp_path, 1, 300.0)
    promised = tape.reserved_ns

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.kept.os.fsync", full)
    clock["mono"] += 10 * 10**9
    with pytest.raises(OSError, match="No space"):
        tape.reserve()
    assert tape.reserved_ns == promised
    assert json.loads((tmp_path / "tape.json").read_text())["reserved_ns"] == promised


def test_a_tape_keeps_its_seed_and_rate(tmp_path: Path, clock: dict[str, int]) -> None:
    """With others every trade would change, so they are refused."""
    crash(Tape(tmp_path, 1, 300.0))
    with pytest.raises(TapeError, match="every trade would change"):
        Tape(tmp_path, 1, 100.0)


def test_a_folder_serves_one_tape_at_a_time(tmp_path: Path, clock: dict[str, int]) -> None:
    """Two exchanges on one folder would promise past each other."""
    tape = Tape(tmp_path, 1, 300.0)
    with pytest.raises(TapeError, match="another exchange"):
        Tape(tmp_path, 1, 300.0)
    tape.close()


def test_a_damaged_file_is_named(tmp_path: Path, clock: dict[str, int]) -> None:
    """Nobody's history is silently begun anew."""
    (tmp_path / "tape.json").write_text("{")
    with pytest.raises(TapeError, match=r"tape\.json can't be read"):
        Tape(tmp_path, 1, 300.0)
