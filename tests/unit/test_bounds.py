"""Every question to a server ends in its time, and says which it was and why; so does a run whose samples are gone."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError

import gameday.run
from gameday.drivers.kafka import log
from gameday.drivers.kafka.wire import Slot
from gameday.drivers.prefect_api import Job
from gameday.drivers.prometheus import Alerts
from gameday.errors import DriverError, GamedayError, NotUp
from gameday.model import Baseline, Digest, Evidence, Followed, JobRun, Marks, Now, Verdict, Window
from gameday.past import database
from gameday.plan import Await
from gameday.run import Halt, Run, marks
from gameday.sampling import conditions
from gameday.sampling.sampler import Tail
from gameday.state import State
from gameday.system import asking
from gameday.verdict import checks
from gameday.verdict.checks.isolation import _others_changed
from tasks import closing, preflight, survey, verify
from tasks.night import Night
from tasks.wait import wait
from tests.contract.sockets import dripping
from tests.trades import TRADES, live, stack_of

BTC = ("binance", "BTCUSDT")
WINDOW = Window({BTC: 0}, {BTC: 10})
PATIENCE_S = 0.2
NOTHING = Evidence("t", {}, "s", alert="Down", inject_ns=1)

HANGS_S = 30.0
"""A question that hangs ends after so long; who waits for it has waited too long."""


class Asked(threading.local):
    """Of the question that this thread asks: told as soon as it hangs."""

    hangs = threading.Event()


ASKED = Asked()


class Hanging:
    """A hop, an archive, a cursor that answers nothing until the test is over, in every method but those given."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.over = threading.Event()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("derived", "sums"):  # it has rows of its own, and counts them one by one
            raise AttributeError(name)
        return lambda *_: self.answers[name] if name in self.answers else self._hang()

    def _hang(self) -> bool:
        ASKED.hangs.set()
        return self.over.wait(HANGS_S)


def bounded(ask: Callable[[], Any], within_s: float, what: str, watch: Callable[[], object] = lambda: None) -> Any:
    """As asking.answer, but the bound begins when the question hangs: one that is answered has its answer, however late
    a busy machine lets its thread begin."""
    hangs = threading.Event()

    def asked() -> Any:
        ASKED.hangs = hangs
        return ask()

    def watched() -> None:
        watch()
        if hangs.is_set():
            asking.answer(Hanging().heads, within_s, what, watch)

    return asking.answer(asked, HANGS_S, what, watched)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a fifth of a second for what hangs."""
    monkeypatch.setattr(asking, "LOOK_EVERY_S", PATIENCE_S)
    for module in (closing, verify, survey, preflight, gameday.run):
        monkeypatch.setattr(module, "answer", bounded)
    for module in (closing, verify, survey):
        monkeypatch.setattr(module, "ANSWER_WITHIN_S", PATIENCE_S)
    for module in (closing, verify, preflight, gameday.run):
        monkeypatch.setattr(module, "HEADS_WITHIN_S", PATIENCE_S)


@contextmanager
def soon() -> Iterator[None]:
    """What is inside takes no time to speak of."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < HANGS_S / 3


def test_an_answer_is_handed_on_and_an_error_too() -> None:
    """As if it had been asked without a bound."""
    assert asking.answer(lambda: 7, HANGS_S, "x") == 7
    with pytest.raises(DriverError, match="refused"):
        asking.answer(lambda: (_ for _ in ()).throw(DriverError("refused", definite=True)).__next__(), HANGS_S, "x")


def test_no_answer_is_an_error_that_names_the_question() -> None:
    """Definite, for a question changes nothing; unless it is said to be no question."""
    with soon(), pytest.raises(DriverError, match=r"the digest of silver: no answer within 0\.2 s") as caught:
        asking.answer(Hanging().digest, PATIENCE_S, "the digest of silver")
    assert caught.value.definite


def test_who_waits_for_an_answer_goes_on_watching() -> None:
    """An abort is not noticed only when the answer has come."""

    def aborted() -> None:
        raise Halt(Verdict.UNKNOWN, "aborted")

    with soon(), pytest.raises(Halt, match="aborted"):
        asking.answer(Hanging().digest, HANGS_S, "x", watch=aborted)


# ---- the evidence, the history, a look ---------------------------------------------------------------------


def run_over(**hops: Any) -> Any:
    """A run over these hops, the first the ledger."""
    at = Marks(0, 0, {name: {BTC: 0} for name in hops}, {}, {}, {})
    return SimpleNamespace(
        stack=stack_of(live(hops)),
        followed={"trades": Followed("trades", tuple(hops), list(hops)[-1], groups=(BTC,))},
        baseline=Baseline(at, 0.0, 1.0, {}),
        lasts=lambda: None,
        log=lambda text: None,
        acts=(),
        commit="c",
        symptoms={},
    )


TELLS: Mapping[str, Any] = {"heads": {BTC: 10}, "digest": (Digest("trades", "x", "final", {}),)}


@pytest.mark.usefixtures("impatient")
def test_a_hop_that_hangs_is_missing_from_the_evidence_and_says_so() -> None:
    """Its digest, its symptoms and its heads, each in its time; the others are judged."""
    run = run_over(exchange=Hanging(**TELLS), silver=Hanging(heads={BTC: 10}, tells=()))
    trouble: dict[str, str] = {}
    with soon():
        found = verify._digests(run, WINDOW, [*run.stack.hops], trouble)
        verify._symptoms(run, WINDOW, [*run.stack.hops], trouble)
        heads = marks(run.stack).heads
    assert [d.hop for d in found] == ["x"]
    assert trouble["silver"].startswith("the ")
    assert "of silver: no answer within 0.2 s" in trouble["silver"]
    assert set(heads) == {"exchange", "silver"}


@pytest.mark.usefixtures("impatient")
def test_heads_that_hang_leave_a_hop_out_of_the_marks() -> None:
    """As one that does not answer: left out, not zero."""
    run = run_over(exchange=Hanging(**TELLS), silver=Hanging())
    run.stack.cursors = {"ch": Hanging()}
    with soon():
        here = marks(run.stack)
    assert (set(here.heads), here.positions) == ({"exchange"}, {})


@pytest.mark.usefixtures("impatient")
def test_a_ledger_or_an_archive_that_hangs_is_named() -> None:
    """The window's end, the archive's commits, its job: in their time, with what was asked."""
    run = run_over(exchange=Hanging())
    with soon(), pytest.raises(DriverError, match="the ledger's heads: no answer"):
        verify.window(run, run.stack.streams["trades"])
    run.stack.export = lambda: (Hanging(), Hanging())
    with soon():
        _, trouble = verify._exported(run)
    assert trouble == {
        "archive": "the archive's commits: no answer within 0.2 s",
        "the archive's job": "the schedule of the archive's job: no answer within 0.2 s",
    }


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("hop", "asked"), [({}, "the heads of silver"), ({"heads": {BTC: 10}}, "the digest of silver")]
)
def test_a_history_that_hangs_is_unknown_and_names_the_hop(
    hop: Mapping[str, Any], asked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The night goes on to its report."""
    monkeypatch.setattr(closing, "Ledger", Hanging)
    run = run_over(exchange=Hanging(**TELLS), silver=Hanging(**hop))
    run.stack.state = State(tmp_path)
    night = Night("n")
    with soon():
        closing.close_night.fn(night, run.stack)
    assert [(f.verdict, f"{asked}: no answer within 0.2 s" in f.why) for f in night.findings] == [
        (Verdict.UNKNOWN, True)
    ]


@pytest.mark.parametrize("error", [KeyError("DOGEUSDT"), ValueError("10^15"), GamedayError("away")], ids=repr)
def test_whatever_the_history_dies_of_the_night_has_its_results(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a finding that says so, not the night's end."""
    monkeypatch.setattr(closing, "_whole", lambda stack: (_ for _ in ()).throw(error))
    night = Night("n")
    closing.close_night.fn(night, SimpleNamespace())  # type: ignore[arg-type]  # it is handed on
    assert [(f.check, f.verdict) for f in night.findings] == [("history", Verdict.UNKNOWN)]


@pytest.mark.usefixtures("impatient")
def test_a_look_at_a_stack_ends_too() -> None:
    """`gameday status` and `gameday check` name what gave no answer."""
    with soon():
        assert survey._found(Hanging().heads)["ok"] is False
        stack = run_over(exchange=Hanging()).stack
        trades = stack.streams["trades"]
        asks = [lambda: asking.answer(trades.ledger.heads, PATIENCE_S, "the ledger's heads")]
        _, trouble = survey._groups(stack, trades, asks)
    assert trouble == ["streams: the ledger's heads: no answer within 0.2 s"]


# ---- servers that break a client's bounds ------------------------------------------------------------------

HTTP_DRIP = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
ASKS: Mapping[str, Callable[[int], object]] = {
    "prefect": lambda port: Job(f"http://127.0.0.1:{port}/api", "f/d").runs(0),
    "prometheus": lambda port: Alerts(f"http://127.0.0.1:{port}", PATIENCE_S).firing(),
}


@pytest.mark.parametrize("ask", ASKS)
def test_a_server_that_drips_is_given_up_in_time(ask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte renews a socket's own time-out."""
    monkeypatch.setattr("gameday.drivers.prefect_api.ASK_WITHIN_S", PATIENCE_S)
    with dripping(HTTP_DRIP) as port, soon(), pytest.raises(DriverError, match=r"127\.0\.0\.1.*no answer within"):
        ASKS[ask](port)


@contextmanager
def frozen_postgres() -> Iterator[int]:
    """A server that lets one in and then answers nothing, as one that is stopped in the middle."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            line, _ = listener.accept()
            line.recv(1 << 16)
            line.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")
            over.wait(HANGS_S)
            line.close()

        over = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        over.set()


def test_a_postgres_that_freezes_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no statement_timeout of its own then; what waits for it is a run's end."""
    monkeypatch.setattr(database, "ANSWER_WITHIN_S", PATIENCE_S, raising=False)
    with frozen_postgres() as port, soon():
        dsn = f"postgresql://u@127.0.0.1:{port}/d?sslmode=disable&gssencmode=disable"
        with pytest.raises(NotUp, match=r"can't be used: no answer within 0\.2 s"), database.connected(dsn):
            pass


class Message:
    """What a consumer hands out: a record, or the event that the partition's end was reached there."""

    def __init__(self, slot: Slot, offset: int, end: bool = False) -> None:
        self._slot, self._offset, self._end = slot, offset, end

    def topic(self) -> str:
        return self._slot[0]

    def partition(self) -> int:
        return self._slot[1]

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self._end else None

    def value(self) -> bytes:
        return b"no trade"

    def timestamp(self) -> tuple[int, int]:
        return 1, 1


class Consumer:
    """Two partitions: one goes on and on, the other has an open transaction at offset 5 of 10."""

    def __init__(self) -> None:
        self.flowing = 0
        self.until = time.monotonic() + HANGS_S

    def assign(self, partitions: object) -> None:
        """All there is."""

    def unassign(self) -> None:
        """Nothing to give back."""

    def consume(self, number: int, within_s: float) -> list[Message]:
        assert time.monotonic() < self.until, "it is read for ever"
        self.flowing += 1
        threading.Event().wait(0.01)
        return [Message(("t", 0), self.flowing - 1), Message(("t", 1), 5, end=True)]


def test_a_partition_that_gives_nothing_is_named_whatever_the_others_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """An open transaction: the end is beyond what may be read. Other partitions renew no patience."""
    monkeypatch.setattr(log, "READ_WITHIN_S", PATIENCE_S)
    hop = log.Hop("127.0.0.1:1", TRADES, ["t"])
    hop.__dict__["_consumer"] = Consumer()
    with (
        soon(),
        pytest.raises(DriverError, match=r"t/1 gives nothing beyond offset 0 of 10: timed out"),
        log._errors("b"),
    ):
        hop._read({("t", 0): (0, 10), ("t", 1): (0, 10)})


def test_a_reading_takes_no_longer_than_its_size_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """One record now and then is progress, and not enough of it."""
    monkeypatch.setattr(log, "READ_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(log, "READ_RECORDS_S_MIN", 1_000_000, raising=False)
    hop = log.Hop("127.0.0.1:1", TRADES, ["t"])
    hop.__dict__["_consumer"] = Consumer()
    with soon(), pytest.raises(DriverError, match=r"t/0 gives nothing beyond offset \d+ of 100000"), log._errors("b"):
        hop._read({("t", 0): (0, 100_000)})


# ---- samples that are taken away ---------------------------------------------------------------------------


def sampled(folder: Path) -> Tail:
    """A run's samples as they lie there."""
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.jsonl").write_text('{"series":"component/web/health"}\n[1,1,{"":1.0}]\n')
    tail = Tail(folder)
    tail.update()
    return tail


def remove(folder: Path) -> None:
    shutil.rmtree(folder.parent)


def remove_one(folder: Path) -> None:
    (folder / "1.jsonl").unlink()


def replace_one(folder: Path) -> None:
    (folder / "new").write_bytes((folder / "1.jsonl").read_bytes())
    (folder / "new").rename(folder / "1.jsonl")


@pytest.mark.parametrize("how", [remove, remove_one, replace_one])
def test_a_run_whose_samples_are_taken_away_says_so_at_its_next_look(
    tmp_path: Path, how: Callable[[Path], None]
) -> None:
    """Its folder, or a file in it: unknown at once, with the path, not a wait in vain for what nobody can see."""
    (tmp_path / "run").mkdir()
    folder = tmp_path / "run" / "samples"
    run: Any = SimpleNamespace(_tail=sampled(folder), sampler=SimpleNamespace(alive=True), canary=None)
    Run.watching(run)
    how(folder)
    with pytest.raises(Halt, match=rf"{folder}/\d.jsonl was removed, or another.*so nothing can be measured") as caught:
        Run.watching(run)
    assert caught.value.verdict is Verdict.UNKNOWN


def test_an_alert_without_samples_is_no_advice_to_install_something() -> None:
    """The stack has alerts; that none was sampled is unknown."""
    evidence = replace(NOTHING, symptoms={"alert.trouble": "it was not sampled"})
    found = checks.alert(evidence)
    assert (found.verdict, found.why) == (Verdict.UNKNOWN, "Down was not seen: it was not sampled")


# ---- words -------------------------------------------------------------------------------------------------


def test_records_that_the_ledger_does_not_know_are_named() -> None:
    """Hop, group and id, the first of them."""
    rows = {name: np.array([7, 8], dtype=np.int64) for name in TRADES.types}
    trades = live({"exchange": SimpleNamespace(rows=lambda *_: rows)})
    assert verify._unknown(trades, [[*BTC, 7, 1], [*BTC, 9, 1]]) == ["binance/BTCUSDT 7", "binance/BTCUSDT 9"]
    late = {
        "rows": 5,
        "unknown": 3,
        "looked_at": 5,
        "named": ["binance/BTCUSDT 7", "binance/BTCUSDT 9"],
    }
    told = checks.unchanged(replace(NOTHING, symptoms={"broker.late": late})).why
    assert told == (
        "broker: 3 of 5 records re-sent from before the window are not the ledger's: "
        "binance/BTCUSDT 7, binance/BTCUSDT 9, and 1 more"
    )


BUSY = JobRun("1", "calm-fox", "Running", 1_795_000_000_000_000, None, "", 0, True)
NOW = Now(0, {}, "worker", (BTC,), (BTC,), "silver", "exchange", 1.0)


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (replace(NOW, busy=(BUSY,)), "run calm-fox of its job is Running since 11:06:40 UTC"),
        (replace(NOW, busy=None, busy_why="no answer"), "whether its job is idle can't be seen: no answer"),
    ],
)
def test_a_job_that_was_not_idle_in_time_says_what_kept_it_busy(now: Now, why: str) -> None:
    """Which run, in which state, since when; or that nobody could be asked, and why."""
    run: Any = SimpleNamespace(
        name="t", still_broken=lambda: None, now=lambda at_least_s: now, fired=dict, busy=lambda _: None
    )
    with pytest.raises(Halt) as caught:
        wait.fn(run, Await(conditions.job_idle, within_s=0.0))
    assert str(caught.value) == f"waited 0 s for 'job_idle', which did not come: {why}"


def test_a_stream_that_did_not_flow_in_time_says_which() -> None:
    """The same for what is waited for most often."""
    assert "silver" in conditions.lacks(conditions.flowing, NOW)


def test_another_component_s_restart_is_told_as_what_it_may_be() -> None:
    """A crash through the fault and a restart by someone else look the same: a fail that says both."""
    before = Marks(0, 0, {}, {}, {}, {"web": {"pid": 1}, "db": {"pid": 2}})
    after = replace(before, identities={"web": {"pid": 1}, "db": {"pid": 3}})
    (told,) = _others_changed(NOTHING, before, after, 0, 1)
    assert told == "db is another process than before: it ended with the fault, or someone else restarted it"
