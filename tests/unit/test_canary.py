"""The canary: its templates, its file, its ledger, its pace, and how what it wrote is judged."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.drivers.canary import Hop
from gameday.errors import ConfigError, DriverError, GamedayError
from gameday.model import (
    Baseline,
    Columns,
    Digest,
    Evidence,
    Followed,
    Group,
    Marks,
    Outcome,
    Sent,
    Tally,
    Verdict,
    Window,
)
from gameday.plan import FailureTest, Heal
from gameday.ports import Attempts, Ledger
from gameday.records import attempts
from gameday.records.attempts import Attempt, Book, Reader
from gameday.records.declaration import Stream, stream
from gameday.run import Halt, Run
from gameday.sampling.canary import UNDER_WAY_MAX, fly
from gameday.stack.config import CanaryConfig
from gameday.stack.live import LiveStream, open_stack
from gameday.stack.reading import load
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.verdict.checks import no_duplicates, no_loss, unchanged
from tasks import survey, verify
from tasks.look import look
from tests.fakes import CONSUMER
from tests.trades import stack_of

UUID = "6f1c0a52-3f0e-4a8e-9d55-0d8a3c2b7e11"
AT_US = 1_795_000_000_123_456
OWN: Group = ()

DECLARED: Mapping[str, Any] = {
    "key": ["n"],
    "sequence": "n",
    "fields": {"id": "text", "at": "time"},
    "hops": ["canary", "log", "sink"],
    "visible": "sink",
    "path": ["consumer"],
}
FIELDS = {"id": "{key}", "at": "{now}"}


def made(**changes: Any) -> Stream:
    mistakes: list[str] = []
    given = {**DECLARED, **changes}
    found = stream("orders", given, given["hops"], mistakes)
    assert found is not None, mistakes
    return found


# ---- templates -------------------------------------------------------------------------------------------------------


def test_a_template_keeps_all_braces_but_its_own() -> None:
    """JSON, and an array of SQL's, stay as they are."""
    known = attempts.values(Attempt(7, "", UUID, AT_US), "gameday-")
    told = attempts.filled('{"id": "{key}", "n": {n}, "in": {"at": "{now}"}, "no": {}}', known)
    assert json.loads(told) == {"id": "gameday-7", "n": 7, "in": {"at": "2026-11-18T11:06:40.123456Z"}, "no": {}}
    assert attempts.filled("{now_ms} {now_s} {uuid}", known) == f"1795000000123 1795000000 {UUID}"


def test_a_misspelt_name_is_told() -> None:
    """It would be written as it stands."""
    assert attempts.misnamed('{"a": {nn}, "b": {n}}') == ["nn"]


# ---- the file --------------------------------------------------------------------------------------------------------


def write(path: Path, *told: tuple[int, str | None], group: str = "") -> None:
    """Attempts of these numbers, each with its outcome; None: it has none."""
    book = Book(path)
    for number, outcome in told:
        place = book.begin(Attempt(number, group, UUID, AT_US + number))
        if outcome:
            book.end(place, Sent(Outcome(outcome)))


def test_an_attempt_without_an_outcome_is_unknown(tmp_path: Path) -> None:
    """So is one whose outcome was being written when the process was killed."""
    path = tmp_path / "canary.jsonl"
    write(path, (1, "done"), (2, "refused"), (3, None), (4, "done"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    read = Reader(path)
    read.update()
    assert [a.outcome for a in read.attempts] == [Outcome.DONE, Outcome.REFUSED, None, None]
    path.write_bytes(whole)
    read.update()
    assert read.attempts[-1].outcome is Outcome.DONE


def test_another_file_in_its_place_is_read_from_the_beginning(tmp_path: Path) -> None:
    """The next run's: `canary` in the state folder is a link to the newest."""
    link = tmp_path / "canary"
    for name, numbers in (("a", (1, 2)), ("b", (9,))):
        write(tmp_path / name, *((n, "done") for n in numbers))
    link.symlink_to(tmp_path / "a")
    read = Reader(link)
    read.update()
    assert [a.number for a in read.attempts] == [1, 2]
    link.unlink()
    link.symlink_to(tmp_path / "b")
    read.update()
    assert [a.number for a in read.attempts] == [9]


def test_a_file_that_was_changed_says_so(tmp_path: Path) -> None:
    """An attempt that was taken out would make its record look foreign."""
    path = tmp_path / "canary.jsonl"
    write(path, (1, "done"), (2, "done"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[2:]))
    with pytest.raises(DriverError, match=r"no file of a canary's attempts.*Remedy"):
        Reader(path).update()


# ---- the ledger ------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state").ensure()


def ledger(state: State, *told: tuple[int, str | None], of: Stream | None = None) -> Hop:
    state.canary.unlink(missing_ok=True)
    write(state.canary, *told)
    return Hop(of or made(), state, FIELDS)


def test_the_ledger_tells_what_must_be_there_and_what_may(state: State) -> None:
    """What was refused is in neither; an attempt without an outcome may be there."""
    hop = ledger(state, (11, "done"), (12, "refused"), (13, "unknown"), (14, None), (15, "done"))
    window = Window({OWN: 10}, {OWN: 15})
    (must,) = hop.digest(window)
    assert (must.groups[OWN].rows, must.groups[OWN].lo, must.groups[OWN].hi) == (2, 11, 15)
    assert hop.rows(OWN, 10, 15)["n"].tolist() == [11, 15]
    assert hop.rows(OWN, 10, 15)["id"].tolist() == ["gameday-11", "gameday-15"]
    assert hop.doubtful(window)[OWN]["n"].tolist() == [13, 14]
    assert hop.symptoms(window, 0, {}) == {"outcomes": {"done": 2, "refused": 1, "unknown": 2}}
    assert isinstance(hop, Attempts)
    assert not isinstance(hop, Ledger)


def test_its_heads_are_those_of_all_attempts(state: State) -> None:
    """While the front door takes nothing they rise all the same, and what users see falls behind."""
    hop = ledger(state, (11, "done"), (12, "refused"), (13, None))
    assert hop.heads() == {OWN: 13}
    assert hop.begun() == {OWN: 10}


def test_before_the_first_run_there_is_nothing(state: State) -> None:
    """Which is no error: `gameday check` asks it."""
    hop = Hop(made(), state, FIELDS)
    assert hop.heads() == {}
    assert hop.rows(OWN, 0, 9)["n"].tolist() == []


def test_a_stream_without_a_number_goes_by_its_time(state: State) -> None:
    """As such a stream does everywhere: a platform whose keys are texts needs no number."""
    of = made(key=["id"], sequence=None, time="at", fields={"id": "text", "at": "time"})
    assert ledger(state, (1, "done"), (2, "done"), of=of).heads() == {OWN: AT_US + 2}


# ---- the pace --------------------------------------------------------------------------------------------------------


class Door:
    """What it is told becomes of an attempt; looks into the file as each is sent."""

    def __init__(self, path: Path, outcome: Callable[[int], Sent]) -> None:
        self.path, self.outcome, self.seen = path, outcome, 0
        self.under_way = self.most = 0
        self._lock = threading.Lock()

    def send(self, known: Mapping[str, str]) -> Sent:
        read = Reader(self.path)
        read.update()
        assert known["n"] in [str(a.number) for a in read.attempts], "it is written down before it is sent"
        with self._lock:
            self.seen += 1
            number = self.seen
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            return self.outcome(number)
        finally:
            with self._lock:
                self.under_way -= 1


def flown(tmp_path: Path, outcome: Callable[[int], Sent], **given: Any) -> tuple[list[Attempt], Door, bool]:
    config = CanaryConfig(driver="none", rate_hz=20.0, timeout_s=30.0, **given)
    path, (stop, end) = tmp_path / "canary.jsonl", os.pipe()
    door = Door(path, outcome)
    told = fly(config, door, Book(path), (stop,))
    os.close(stop)
    os.close(end)
    read = Reader(path)
    read.update()
    return read.attempts, door, told


def test_it_never_writes_more_than_it_was_told(tmp_path: Path) -> None:
    """In all groups together; the numbers of each leave none out."""
    found, door, told = flown(tmp_path, lambda n: Sent(Outcome.DONE), at_most=7, groups=["a", "b"])
    assert (len(found), door.seen, told) == (7, 7, False)
    for group in ("a", "b"):
        numbers = [a.number for a in found if a.group == group]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert all(a.outcome is Outcome.DONE for a in found)


def test_its_times_are_whole_milliseconds(tmp_path: Path) -> None:
    """A column that holds no more must have the time that was attempted."""
    found, _, _ = flown(tmp_path, lambda n: Sent(Outcome.DONE), at_most=7)
    assert [a.at_us % 1000 for a in found] == [0] * 7


def test_what_a_driver_raises_is_unknown(tmp_path: Path) -> None:
    """Nothing says what became of the record."""

    def broken(number: int) -> Sent:
        raise RuntimeError("half-way")

    found, _, _ = flown(tmp_path, broken, at_most=2)
    assert [a.outcome for a in found] == [Outcome.UNKNOWN] * 2
    assert "half-way" in found[0].why


def test_at_most_a_few_are_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes nothing is not given more and more, however many ticks pass; what never ends has no
    outcome."""
    hang = threading.Event()

    def waiting(number: int) -> Sent:
        hang.wait()
        return Sent(Outcome.DONE)

    config = CanaryConfig(driver="none", rate_hz=20.0, timeout_s=0.1, at_most=50)
    path = tmp_path / "canary.jsonl"
    door = Door(path, waiting)
    ticks = iter(range(5 * UNDER_WAY_MAX))

    def tick(stop: Sequence[int], *_: object) -> tuple[Sequence[int], list[int], list[int]]:
        if next(ticks, None) is not None:
            return [], [], []
        until(lambda: door.under_way == UNDER_WAY_MAX, within_s=60.0, what="those under way")
        return stop, [], []

    monkeypatch.setattr("gameday.sampling.canary.select", SimpleNamespace(select=tick))
    assert fly(config, door, Book(path), (0,))
    assert (door.seen, door.most) == (UNDER_WAY_MAX, UNDER_WAY_MAX)
    read = Reader(path)
    read.update()
    assert [a.outcome for a in read.attempts] == [None] * UNDER_WAY_MAX
    hang.set()


# ---- what is declared ------------------------------------------------------------------------------------------------

HEAD = (
    CONSUMER
    + """
[hops.log]
driver = "kafka"
brokers = "127.0.0.1:1"
topics = ["orders"]
where = { id = "gameday-*" }
[hops.sink]
driver = "clickhouse"
url = "http://127.0.0.1:1"
kind = "once"
table = "orders"
[streams.canary]
key = ["n"]
sequence = "n"
fields = { id = "text" }
hops = ["canary", "log", "sink"]
visible = "sink"
path = ["consumer"]
"""
)

CANARY = """
[canary]
driver = "kafka"
brokers = "127.0.0.1:1"
topic = "orders"
text = '{"n": {n}, "id": "{key}"}'
fields = { id = "{key}" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "gameday.toml"
    path.write_text(text)
    return path


def test_a_canary_is_a_streams_first_hop(tmp_path: Path, state: State) -> None:
    """[canary] makes the hop; the stack needs no other stream."""
    stack = open_stack(written(tmp_path, HEAD + CANARY), state)
    assert isinstance(stack.streams["canary"].ledger, Hop)
    assert stack.canary is not None
    assert stack.canary_clean_up is None
    assert "order" in stack.untold()


def test_by_default_a_few_a_second_for_an_hour(tmp_path: Path, state: State) -> None:
    """More must be asked for, and there is a maximum."""
    config = load(written(tmp_path, HEAD + CANARY), state).canary
    assert config is not None
    assert (config.rate_hz, config.most) == (4.0, 14_400)
    with pytest.raises(ConfigError, match=r"canary\.rate_hz: .*less than or equal to 20.*got 1000"):
        load(written(tmp_path, HEAD + CANARY + "rate_hz = 1000\n"), state)


def test_all_mistakes_of_a_canary_are_told_at_once(tmp_path: Path, state: State) -> None:
    """Each with key, value and remedy."""
    text = (HEAD + CANARY).replace('id = "text"', 'id = "int", total = "decimal(2)"').replace("{n}", "{nn}")
    text = text.replace('sequence = "n"', 'sequence = "n"\ngapless = true')
    text = text.replace('"canary", "log"', '"log", "canary"')
    text += 'clean_up = { driver = "clickhouse", url = "http://127.0.0.1:1", text = "DELETE {n}" }\n'
    with pytest.raises(ConfigError) as told:
        load(written(tmp_path, text + 'groups = ["a"]\n'), state)
    for mistake in (
        "canary has {nn}, which stands for nothing. Remedy: one of {n}",
        "streams.canary.hops has 'canary' in another place than the first. Remedy",
        "streams.canary.gapless is true, but a number whose attempt is refused is left out. Remedy",
        "canary.fields lacks 'total'. Remedy",
        "canary.clean_up has {n}, but it is sent once for all records. Remedy",
        "canary.fields.n is '{n}', but nothing that is written has {n}. Remedy",
        "canary.fields.id is '{key}': 'gameday-a-1' is no whole number",
        "canary.groups is ['a'], but no field of streams.canary.group has {group}. Remedy",
    ):
        assert mistake in str(told.value)


def test_a_canary_that_no_stream_has_is_told(tmp_path: Path, state: State) -> None:
    """And a hop that takes its name."""
    text = (HEAD + CANARY).replace('hops = ["canary", "log", "sink"]', 'hops = ["log", "sink"]')
    with pytest.raises(ConfigError, match=r'no stream has it. Remedy: streams.NAME.hops = \["canary"'):
        load(written(tmp_path, text), state)
    with pytest.raises(ConfigError, match=r"hops\.mine is the canary's. Remedy: leave it out"):
        load(written(tmp_path, HEAD + CANARY + '[hops.mine]\ndriver = "canary"\n'), state)


def test_a_wrong_setting_of_the_driver_names_what_it_takes(tmp_path: Path, state: State) -> None:
    """As everywhere."""
    stack = open_stack(written(tmp_path, HEAD + CANARY + "topics = 3\n"), state)
    with pytest.raises(ConfigError, match=r"canary\.driver: unknown topics\. Canary of .* takes brokers, topic, text"):
        _ = stack.canary


# ---- acknowledged ⊆ held ⊆ attempted ---------------------------------------------------------------------------------


class Held:
    """A hop with these numbers, each as it was attempted unless it is changed."""

    def __init__(self, name: str, of: Stream, numbers: Sequence[int], changed: int = 0) -> None:
        self.name, self._of, self._numbers, self._changed = name, of, numbers, changed

    def heads(self) -> Mapping[Group, int]:
        return {OWN: max(self._numbers, default=0)}

    def rows(self, group: Group, lo: int, hi: int) -> Columns:
        from gameday.records.columns import array

        numbers = [n for n in self._numbers if lo < n <= hi]
        texts = [f"gameday-{n}" + ("!" if n == self._changed else "") for n in numbers]
        held: dict[str, Any] = {"n": numbers, "id": texts, "at": [AT_US + n for n in numbers]}
        return {name: array(kind, held[name]) for name, kind in self._of.types.items()}

    def digest(self, window: Window) -> Sequence[Digest]:
        """And where its rows lie in a log: a stream of its own."""
        rows = self.rows(OWN, window.lo[OWN], window.hi[OWN])
        places: dict[Group, Tally] = {("orders", "0"): Tally(9, 9, 1, 9, 9)}
        return [
            Digest(self._of.name, self.name, "final", {OWN: self._of.tally(rows)}),
            Digest("offsets", self.name, "raw", places),
        ]


TOLD = ((11, "done"), (12, "refused"), (13, "unknown"), (14, None), (15, "done"), (16, "done"))
WINDOW = Window({OWN: 10}, {OWN: 16})


def judged(state: State, log: Sequence[int], sink: Sequence[int], changed: int = 0) -> dict[str, str]:
    """What the checks say where the two hops have these numbers: check -> verdict and reason."""
    of = made()
    hops: dict[str, Any] = {
        "canary": ledger(state, *TOLD),
        "log": Held("log", of, log),
        "sink": Held("sink", of, sink, changed),
    }
    live = LiveStream(of, hops.__getitem__)
    followed = Followed("orders", of.hops, "sink", gapless=False, window=WINDOW)
    known = Evidence("t", {}, "s", followed=(followed,))
    run = SimpleNamespace(
        stack=stack_of(live),
        lasts=lambda: None,
        log=lambda text: None,
        evidence=lambda: known,
        followed={"orders": followed},
        arrived={},
    )
    digests = verify._agreed(run, live, WINDOW, list(hops), {})  # type: ignore[arg-type]
    evidence = replace(known.of(followed), digests=digests)
    found = [check(evidence) for check in (no_loss, no_duplicates, unchanged)]
    return {one.check: f"{one.verdict}: {one.why}" for one in found}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(verify, "PASSED_WITHIN_S", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("log", "sink"),
    [
        ([11, 15, 16], [11, 15, 16]),  # no unknown one arrived
        ([11, 13, 15, 16], [11, 13, 15, 16]),  # one did
        ([15, 11, 13, 14, 16], [11, 13, 14, 15, 16]),  # all did, in another order
    ],
)
def test_an_unknown_record_may_be_there_or_not(state: State, log: list[int], sink: list[int]) -> None:
    """As long as every hop behind has it too."""
    found = judged(state, log, sink)
    assert all(told.startswith("pass") for told in found.values()), found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("log", "sink", "changed", "check", "why"),
    [
        ([11, 15, 16], [11, 16], 0, "no_loss", "sink has 1 order fewer than canary"),
        ([11, 13, 15, 16], [11, 15, 16], 0, "no_loss", "sink has 1 order fewer than canary"),  # it did arrive
        ([11, 13, 16], [11, 13, 16], 0, "no_loss", "log has 1 order fewer than canary"),  # 13 stands in for 15
        ([11, 12, 15, 16], [11, 12, 15, 16], 0, "no_duplicates", "log has 1 order too many"),  # it was refused
        ([11, 15, 16], [11, 13, 14, 12, 15, 16], 0, "no_duplicates", "sink has 1 order too many"),
        ([11, 15, 16], [11, 15, 15, 16], 0, "no_duplicates", "sink has 1 order too many"),
        ([11, 13, 15, 16], [11, 13, 15, 16], 15, "unchanged", "sink has at least 1 order unlike canary's"),
        ([11, 13, 15, 16], [11, 13, 15, 16], 13, "unchanged", "sink has at least 1 order unlike canary's"),
    ],
)
def test_what_was_acknowledged_must_be_there_and_nothing_that_was_not_attempted(
    state: State, log: list[int], sink: list[int], changed: int, check: str, why: str
) -> None:
    """A record that arrived at one hop is lost where the next one lacks it, whatever its sender was told."""
    told = judged(state, log, sink, changed)[check]
    assert told.startswith("fail"), told
    assert why in told


def test_a_hop_that_stands_among_an_earlier_runs_records_is_judged_by_this_runs(state: State) -> None:
    """What the ledger doesn't know must not look foreign."""
    of = made()
    hops: dict[str, Any] = {"canary": ledger(state, (101, "done"), (102, "done"))}
    hops |= {name: Held(name, of, [5, 101, 102]) for name in ("log", "sink")}
    marks = Marks(0, 0, heads={"canary": {OWN: 101}, "log": {OWN: 101}, "sink": {OWN: 5}})
    run: Any = SimpleNamespace(
        stack=stack_of(live := LiveStream(of, hops.__getitem__)),
        baseline=Baseline(marks, 0.3, 1.0, {}),
        followed={"orders": Followed("orders", of.hops, "sink", groups=(OWN,))},
        lasts=lambda: None,
        log=lambda text: None,
    )
    assert verify.window(run, live) == Window({OWN: 100}, {OWN: 102})


def test_what_is_sent_again_from_before_the_window_may_be_of_unknown_outcome(state: State) -> None:
    """Of earlier runs nothing is known; what this one was refused, or never attempted, is not its own."""
    of = made()
    hop = ledger(state, *TOLD)
    live = LiveStream(of, {"canary": hop}.__getitem__)
    whole = Held("log", of, range(8, 18)).rows(OWN, 0, 99)
    sample = [[n, value] for n, value in zip(whole["n"].tolist(), of.row_hashes(whole).tolist(), strict=True)]
    assert [name.rpartition(" ")[2] for name in verify._unknown(live, sample)] == ["12", "17"]


# ---- a run and its canary --------------------------------------------------------------------------------------------


class Bird:
    """In place of the process."""

    def __init__(self, fails: str = "") -> None:
        self.alive, self.end, self._fails = True, "exit code -9", fails
        self.stopped: list[bool] = []

    def await_done(self) -> None:
        if self._fails:
            raise GamedayError(self._fails)

    def stop(self, clean_up: bool) -> str | None:
        self.stopped.append(clean_up)
        return "the canary's records are still there: refused" if clean_up else None


def running(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, bird: Bird, text: str = CANARY) -> Run:
    monkeypatch.setattr("gameday.run.Flight", SimpleNamespace(launch=lambda stack, run: bird))
    head = HEAD if text else HEAD.replace('"canary", "log"', '"log"')
    stack = open_stack(written(tmp_path, head + text), state)
    test = FailureTest(plan=(Heal(),), mttr_max_s=1, checks=())
    return Run(stack, "t", {}, test, "n", said.append)


said: list[str] = []


def test_a_run_ends_its_canary_with_the_clean_up_when_it_has_all_evidence(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what is left; giving the stack back, it sends no clean-up any more."""
    said.clear()
    run = running(tmp_path, state, monkeypatch, bird := Bird())
    run.let_fly()
    run.watching()
    run.land()
    run.close()
    assert bird.stopped == [True]
    assert said == ["t: the canary's records are still there: refused"]


def test_a_run_that_is_given_up_sends_no_clean_up(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may have begun, whose records it would take away."""
    run = running(tmp_path, state, monkeypatch, bird := Bird())
    run.let_fly()
    run.close()
    assert bird.stopped == [False]


def test_a_run_whose_canary_has_died_can_prove_nothing(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without its sampler."""
    run = running(tmp_path, state, monkeypatch, bird := Bird())
    run.let_fly()
    bird.alive = False
    with pytest.raises(Halt, match="the canary ended before the evidence was there: exit code -9") as told:
        run.watching()
    assert told.value.verdict is Verdict.UNKNOWN


def test_nothing_is_broken_where_the_platform_takes_no_record(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ended all the same."""
    run = running(tmp_path, state, monkeypatch, bird := Bird("the platform took no record"))
    with pytest.raises(Halt, match="took no record"):
        run.let_fly()
    run.close()
    assert bird.stopped == [False]


def test_a_stack_without_a_canary_lets_none_fly(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """As before."""
    run = running(tmp_path, state, monkeypatch, bird := Bird(), text="")
    run.let_fly()
    run.land()
    run.close()
    assert run.canary is None
    assert bird.stopped == []


def test_a_look_leaves_the_canary_out_and_a_check_says_what_it_would_write(tmp_path: Path, state: State) -> None:
    """Neither writes anything; a wrong setting is told."""
    stack = open_stack(written(tmp_path, HEAD + CANARY), state)
    assert "nothing was sent" in survey._canary(stack)
    assert "4 records a second, at most 14,400 in a run" in survey._canary(stack)
    of = made()
    hops: dict[str, Any] = {"canary": ledger(state, (1, "done")), **{n: Held(n, of, [1]) for n in ("log", "sink")}}
    small = stack_of(LiveStream(of, hops.__getitem__))
    small.config.hops = {name: SimpleNamespace(settings={}) for name in hops}
    rows = {row["what"]: row for row in look(small)}
    assert rows["look at canary"]["ok"]
    assert "written in a run" in rows["look at canary"]["note"]
    assert "look from canary to log" not in rows
    assert rows["look from log to sink"]["ok"]
    hops |= {name: Held(name, of, []) for name in ("log", "sink")}  # before the first run
    rows = {row["what"]: row for row in look(small)}
    assert [row["ok"] for row in rows.values()] == [True] * 3
    assert "a run writes them" in rows["look at log"]["note"]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_a_stack(tmp_path: Path, state: State) -> None:
    """docs/canary.md, as it stands: nothing is missing."""
    page = (ROOT / "docs" / "canary.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    head = HEAD[: HEAD.index("[hops.log]")]
    stack = open_stack(written(tmp_path, head + example), state)
    assert stack.canary is not None
    assert list(stack.streams["canary"].hops) == ["canary", "orders-log", "orders-table"]


def test_every_name_of_a_template_is_on_the_page() -> None:
    """Who looks for one finds it there."""
    page = (ROOT / "docs" / "canary.md").read_text()
    assert all(f"`{{{name}}}`" in page for name in attempts.NAMES)
