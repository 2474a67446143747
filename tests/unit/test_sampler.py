"""The sampler without servers: its files' format, its open loop against probes that answer, fail or hang, and its
reader.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday import codec, samplelog
from gameday.errors import DriverError
from gameday.model import Sample
from gameday.ports import Probe
from gameday.sampling import sampler
from gameday.sampling.sampler import Tail
from gameday.stack.probes import ProbeSpec
from gameday.system.polling import until


@dataclass
class Scripted:
    """Answers at once, or fails, or hangs until released."""

    fails: bool = False
    hangs: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def read(self) -> Mapping[str, float]:
        self.asked += 1
        if self.hangs:
            self.released.wait(30)
        if self.fails:
            raise DriverError("refused", definite=True)
        return {"": 1.0, ".connects": 3.0}


@contextmanager
def sampling(folder: Path, *specs: ProbeSpec) -> Iterator[Tail]:
    """The sampler's loop over these probes, until the block ends."""
    ended, end = os.pipe()
    loop = threading.Thread(target=sampler.sample, args=(specs, folder, (ended,), sampler.Lateness()))
    loop.start()
    tail = Tail(folder)
    try:
        until(lambda: tail.update() and tail.begun, within_s=5, what="the first readings")
        yield tail
    finally:
        os.close(end)
        loop.join(5)
        os.close(ended)
        assert not loop.is_alive()


def spec(probe: Probe, name: str = "component/a/b", rate_hz: float = 50.0, timeout_s: float = 0.2) -> ProbeSpec:
    return ProbeSpec(name, probe, rate_hz, timeout_s)


def wait_for(tail: Tail, name: str, count: int) -> list[Sample]:
    """The series, once it has so many samples."""

    def enough() -> list[Sample] | None:
        samples = tail.recent(60).get(name, [])
        return samples if len(samples) >= count else None

    return until(enough, within_s=10, what=name)


def test_a_failed_reading_is_a_missing_value_in_every_series_seen_so_far() -> None:
    """So is what an answer leaves out. What failed before the first answer counts in every series of that one."""
    parser = samplelog.Parser()
    lines = [
        samplelog.opening("p"),
        samplelog.reading(1, 2, None),
        samplelog.reading(3, 1, {"x": 7.0}),
        samplelog.reading(5, 1, {"x": 8.0, ".y": 1.0}),
        samplelog.reading(7, 9, None),
        samplelog.reading(20, 1, {"x": 9.0}),
    ]
    parser.feed(b"".join(lines[:2]))
    assert parser.series == {"p": [Sample(1, 2, None)]}
    parser.feed(b"".join(lines[2:]))
    assert parser.series == {
        "p/x": [
            Sample(1, 2, None),
            Sample(3, 1, 7.0),
            Sample(5, 1, 8.0),
            Sample(7, 9, None),
            Sample(20, 1, 9.0),
        ],
        "p.y": [Sample(5, 1, 1.0), Sample(7, 9, None), Sample(20, 1, None)],
    }
    assert parser.readings == 5


VALUES = st.none() | st.dictionaries(st.sampled_from(["", "x", ".y", "x/z"]), st.floats(0, 9), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 20), VALUES), max_size=12))
def test_a_run_and_its_verdict_read_the_same_series(readings: list[tuple[int, dict[str, float] | None]]) -> None:
    """However the file grew: from its beginning, which the one saw before it knew what the probe has."""
    now = time.monotonic_ns()
    lines = [samplelog.opening("p"), *(samplelog.reading(now + at, 1, values) for at, values in readings)]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "0.jsonl").open("ab", buffering=0) as file:
        tail = Tail(Path(folder))
        for line in lines:
            file.write(line)
            tail.update()
        assert tail.recent(60) == codec.read_samples(Path(folder))


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_the_parser_gives_the_same_samples_however_the_file_is_cut(size: int) -> None:
    """A reader that comes in the middle of a line sees it once it is whole; a torn last line is never seen."""
    data = samplelog.opening("p") + b"".join(samplelog.reading(n, 1, {"x": float(n)}) for n in range(50)) + b"[51, 1, {"
    parser = samplelog.Parser()
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
    assert {name: [s.at_ns for s in samples] for name, samples in parser.series.items()} == {"p/x": list(range(50))}


def test_a_value_that_json_cannot_carry_is_refused() -> None:
    """Not-a-number must not become a line that no reader understands."""
    with pytest.raises(ValueError, match="finite"):
        samplelog.reading(1, 1, {"": float("nan")})


def test_a_whole_file_reads_in_the_order_sent_though_it_is_written_in_the_order_ended(tmp_path: Path) -> None:
    """A reading that timed out is written after younger ones that were answered."""
    path = tmp_path / "0.jsonl"
    path.write_bytes(
        samplelog.opening("p")
        + samplelog.reading(10, 1, {"": 1.0})
        + samplelog.reading(30, 1, {"": 1.0})
        + samplelog.reading(20, 100, None)
    )
    assert [s.at_ns for s in codec.read_samples(tmp_path)["p"]] == [10, 20, 30]


def test_each_reading_is_written_once_at_its_rate(tmp_path: Path) -> None:
    """An answering probe gives one line a tick, spaced by the period."""
    with sampling(tmp_path / "samples", spec(Scripted(), rate_hz=100)) as tail:
        samples = wait_for(tail, "component/a/b", 60)
    assert all(s.value == 1.0 for s in samples)
    gaps = [b.at_ns - a.at_ns for a, b in itertools.pairwise(samples)]
    assert 9e6 < sorted(gaps)[len(gaps) // 2] < 11e6
    assert {"component/a/b", "component/a/b.connects"} == set(tail.recent(60))


def test_a_probe_that_fails_gives_samples_without_value(tmp_path: Path) -> None:
    """A refused connection is an answer about the component: none."""
    with sampling(tmp_path / "samples", spec(Scripted(fails=True))) as tail:
        assert all(s.value is None for s in wait_for(tail, "component/a/b", 10))


def test_a_hung_probe_delays_no_other_and_its_readings_end_at_their_deadline(tmp_path: Path) -> None:
    """The hung one's samples come at its own rate, without value, each about its deadline after it was sent."""
    hung, well = Scripted(hangs=True), Scripted()
    try:
        with sampling(tmp_path / "samples", spec(hung, "hung"), spec(well, "well")) as tail:
            bad = wait_for(tail, "hung", 30)
            good = wait_for(tail, "well", 30)
    finally:
        hung.released.set()
    assert all(s.value is None for s in bad)
    assert all(s.took_ns >= 0.2e9 for s in bad if s.took_ns)
    for samples in (good, bad):
        gaps = sorted(b.at_ns - a.at_ns for a, b in itertools.pairwise(samples))
        assert 15e6 < gaps[len(gaps) // 2] < 25e6


@pytest.mark.parametrize(("rate_hz", "timeout_s"), [(50.0, 0.5), (20.0, 1.0), (2.0, 1.0)])
def test_at_most_two_questions_are_open_at_a_time(tmp_path: Path, rate_hz: float, timeout_s: float) -> None:
    """Of a server that answers nothing for several deadlines; each tick is told all the same, as unanswered."""
    probe = Patient(timeout_s)
    with sampling(tmp_path / "samples", spec(probe, rate_hz=rate_hz, timeout_s=timeout_s)) as tail:
        until(lambda: probe.ended >= 6, within_s=10 * timeout_s, what="six deadlines")
        samples = tail.recent(60)["component/a/b"]
    assert probe.most == min(2, int(rate_hz * timeout_s))
    assert {s.value for s in samples} == {None}
    gaps_s = sorted((b.at_ns - a.at_ns) / 1e9 for a, b in itertools.pairwise(samples))
    assert gaps_s[len(gaps_s) // 2] < 1.3 / rate_hz


@dataclass
class Patient:
    """Keeps each question for as long as it may, as a driver does that waits for a frozen server."""

    timeout_s: float
    open: int = 0
    most: int = 0
    ended: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    values: Mapping[str, float] = field(default_factory=lambda: {"": 1.0, ".connects": 3.0})

    def read(self) -> Mapping[str, float]:
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        try:
            if not self.released.wait(self.timeout_s):
                raise DriverError("timed out", definite=True)
            return self.values
        finally:
            with self.lock:
                self.open -= 1
                self.ended += 1


def test_a_tick_that_could_not_be_asked_is_answered_with_those_that_were(tmp_path: Path) -> None:
    """So the moment at which a frozen server answers again is known to one period, though it was hardly asked."""
    probe = Patient(1.0)
    with sampling(tmp_path / "samples", spec(probe, rate_hz=20, timeout_s=1.0)) as tail:
        until(lambda: probe.ended >= 2, within_s=5, what="two deadlines")
        began_ns = time.monotonic_ns()
        until(lambda: time.monotonic_ns() - began_ns > 0.3e9, within_s=5, what="a few ticks more")
        probe.released.set()
        back_ns = time.monotonic_ns()
        samples = wait_for(tail, "component/a/b.connects", 5)
        until(lambda: any(s.at_ns > back_ns for s in tail.recent(60)["component/a/b"]), within_s=5, what="the next")
        samples = tail.recent(60)["component/a/b"]
    answered = [s for s in samples if s.value is not None]
    pending = [s for s in answered if s.at_ns < back_ns]
    assert len(pending) > 5
    assert all(abs(s.counts_ns - back_ns) < 0.2e9 for s in pending)
    assert back_ns - pending[-1].at_ns < 0.15e9


def test_a_tick_that_could_not_be_asked_has_no_head(tmp_path: Path) -> None:
    """A head that a slow server tells may be older than the tick: it would show a delay that there was not."""
    probe = Patient(0.5, values={"kraken/BTC%2FUSD": 41.0})
    probe.released.set()
    with sampling(tmp_path / "samples", spec(probe, "head/silver", rate_hz=20, timeout_s=1.0)) as tail:
        wait_for(tail, "head/silver/kraken/BTC%2FUSD", 3)
        probe.released = slow = threading.Event()
        asked = probe.ended
        began_ns = time.monotonic_ns()
        until(lambda: time.monotonic_ns() - began_ns > 0.5e9, within_s=5, what="ten ticks")
        slow.set()
        until(lambda: probe.ended > asked + 2, within_s=5, what="the slow answers")
        samples = tail.recent(60)["head/silver/kraken/BTC%2FUSD"]
    waited = [s for s in samples if s.value is not None and s.took_ns > 0.1e9]
    assert 1 <= len(waited) <= sampler.TELLING_MAX


def test_a_driver_that_breaks_its_word_does_not_blind_its_probe(tmp_path: Path) -> None:
    """Two readings that never return are given up, and others ask again."""
    probe = Scripted(hangs=True)
    try:
        with sampling(tmp_path / "samples", spec(probe, rate_hz=50, timeout_s=0.1)) as tail:
            until(lambda: probe.asked >= 2, within_s=5, what="two that hang")
            probe.hangs = False
            until(lambda: any(s.value for s in tail.recent(60)["component/a/b"]), within_s=5, what="an answer")
    finally:
        probe.released.set()


def test_how_late_its_ticks_are_is_a_series(tmp_path: Path) -> None:
    """The worst since the reading before, of all probes; beside it what the machine tells of itself."""
    lateness = sampler.Lateness()
    lateness.note(5_000_000)
    lateness.note(70_000_000)
    lateness.note(1_000)
    suspect = sampler.Suspect(lateness)
    assert suspect.read()["late"] == 0.07
    assert suspect.read()["late"] == 0.0
    with sampling(tmp_path / "samples", ProbeSpec("machine", sampler.Suspect(sampler.Lateness()), 50.0, 1.0)) as tail:
        wait_for(tail, "machine/late", 10)
        assert "machine/stolen" in tail.recent(60)


def test_a_late_answer_is_no_answer_and_is_not_written_twice(tmp_path: Path) -> None:
    """When hung readings come back after their deadline, the file keeps the one line each of them has."""
    probe = Scripted(hangs=True)
    folder = tmp_path / "samples"
    with sampling(folder, spec(probe)) as tail:
        wait_for(tail, "component/a/b", 10)
        probe.hangs = False
        probe.released.set()
        until(lambda: [s for s in tail.recent(60)["component/a/b"] if s.value], within_s=5, what="an answer")
    times = [json.loads(line)[0] for line in (folder / "0.jsonl").read_text().splitlines()[1:]]
    assert len(times) == len(set(times))


def test_no_worker_of_a_probe_that_answers_outlives_the_sampling(tmp_path: Path) -> None:
    """Those that sleep until the next tick, or have no turn, end; nothing is written any more."""

    def workers() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "ending"]

    with sampling(tmp_path / "samples", spec(Scripted(), "ending")) as tail:
        wait_for(tail, "ending", 10)
        assert workers()
    size = (tmp_path / "samples" / "0.jsonl").stat().st_size
    until(lambda: not workers(), within_s=5, what="the workers' end")
    assert (tmp_path / "samples" / "0.jsonl").stat().st_size == size


def test_workers_are_bounded_when_a_driver_never_returns(tmp_path: Path) -> None:
    """Beyond the bound a reading counts as unanswered at once, and nothing piles up."""
    probe = Scripted(hangs=True)
    before = threading.active_count()
    try:
        with sampling(tmp_path / "samples", spec(probe, rate_hz=100, timeout_s=0.1)) as tail:
            wait_for(tail, "component/a/b", 60)
            assert threading.active_count() - before <= 1 + 14
    finally:
        probe.released.set()


def test_the_tail_forgets_what_is_older_than_it_keeps(tmp_path: Path) -> None:
    """recent() gives what was sent within the asked seconds, and asking for more than is kept is an error."""
    folder = tmp_path
    now = time.monotonic_ns()
    (folder / "0.jsonl").write_bytes(
        samplelog.opening("p")
        + samplelog.reading(now - int(300e9), 1, {"": 1.0})
        + samplelog.reading(now - int(20e9), 1, {"": 2.0})
        + samplelog.reading(now - int(1e9), 1, {"": 3.0})
    )
    tail = Tail(folder)
    assert [s.value for s in tail.recent(10)["p"]] == [3.0]
    assert [s.value for s in tail.recent(60)["p"]] == [2.0, 3.0]
    with pytest.raises(ValueError, match="kept"):
        tail.recent(sampler.KEEP_S + 1)
