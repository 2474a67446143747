"""Every planted defect of the sink is damage in gameday's own words, at its hop, with its keys; and what a count of
rows says beside it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from gameday.system.polling import until
from pipelines.cdc.defects import DEFECTS
from pipelines.cdc.tape import POISON_ID, SHARDS, TABLES, Change, poison, state, transaction
from tests.contract.cdc.debezium import Log, envelope, key_of, row_of
from tests.contract.cdc.judging import judge, taped
from tests.contract.cdc.rig import WAIT_S, Process, sinking, until_applied
from tests.contract.conftest import freeze

pytestmark = pytest.mark.suite("cdc")

START_US = 1_790_000_000_000_000
J = 40
LONG = 214
"""So many that rows are deleted."""

Tape = dict[str, Any]


class Case:
    """One target and its log, and a sink with a defect."""

    def __init__(self, log: Log, target: str, folder: Path, defect: str) -> None:
        self.log, self.target, self.folder, self.defect = log, target, folder, defect
        self.tape: Tape = tape(J)

    def upto(self, upto: int) -> None:
        """The tape from where the log ends, and the sink with it."""
        self.log.transactions(self.tape, self.log.sent, upto)

    def process(self) -> Process:
        env = {"TARGET_URL": self.target, "SINK_DEFECT": self.defect}
        return Process("sink", self.folder, env, "--brokers", self.log.broker, "--prefix", self.log.prefix)

    def letters(self) -> list[int]:
        with psycopg.connect(self.target) as connection:
            return [id_ for (id_,) in connection.execute("SELECT id FROM dead_letters").fetchall()]


def tape(begun: int, **more: Any) -> Tape:
    shards = {shard: {"begun": begun, "segments": [[1, START_US, 100_000]]} for shard in SHARDS}
    return {"seed": 1, "shards": shards, "bursts": [], "versions": [], "poison": [], **more}


# ---- what is done to a sink ------------------------------------------------------------------------------------------


def plain(case: Case) -> None:
    """Nothing but traffic."""
    case.upto(J)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)


def long(case: Case) -> None:
    """Traffic until rows are deleted."""
    case.tape = tape(LONG)
    case.upto(LONG)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)


def again(case: Case) -> None:
    """What was sent once is sent again, by a source that isn't exactly-once."""
    case.upto(J)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)
        lsn = 1_000
        for j in range(1, J // 2):
            for shard in SHARDS:
                for change in transaction(case.tape, shard, j):
                    lsn += 8
                    case.log.change(change, lsn)
        until_applied(case.log, case.target)


def killed(point: str) -> Callable[[Case], None]:
    def kill(case: Case) -> None:
        process = case.process()
        case.upto(J // 2)
        with process.running():
            until_applied(case.log, case.target)
            process.stop()
            case.upto(J)
            process.start(FAILPOINTS=f"{point}=kill")
            until(lambda: process.ended() is not None, WAIT_S, 0.05, "the failpoint to kill")
            process.start()
            until_applied(case.log, case.target)

    return kill


def unanswered(case: Case) -> None:
    """The answer to a commit is lost."""
    process = case.process()
    case.upto(J)
    with process.running(FAILPOINTS="sink::after_commit=1*raise(OSError: lost)"):
        until_applied(case.log, case.target)


def poisoned(case: Case) -> None:
    """A row that the target refuses for good, among others."""
    case.tape["poison"] = [{"kind": "check", "at_us": START_US}]
    case.upto(J // 2)
    case.log.change(Change("orders", 1, "c", poison(case.tape, 0)))
    case.upto(J)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)


def poisoned_and_killed(case: Case) -> None:
    """The same, and the sink dies where the dead letter is to be written."""
    case.tape["poison"] = [{"kind": "check", "at_us": START_US}]
    case.upto(J)
    case.log.change(Change("orders", 1, "c", poison(case.tape, 0)))
    case.log.flush()
    process = case.process()
    with process.running(FAILPOINTS="sink::dead_letter=kill"):
        until(lambda: process.ended() is not None, WAIT_S, 0.05, "the failpoint to kill")
        process.start()
        until_applied(case.log, case.target)


def reshaped(case: Case) -> None:
    """A column is added, and has another name later."""
    places = [dict.fromkeys(SHARDS, j) for j in (11, 31)]
    case.tape["versions"] = [{"kind": "add", "j": places[0]}, {"kind": "rename", "j": places[1]}]
    with sinking(case.log, case.target, case.defect):
        for j in (20, 30, J):
            case.upto(j)
            until_applied(case.log, case.target)


def backfilled(case: Case) -> None:
    """A burst of rows that are a day old."""
    case.tape["bursts"] = [{"shard": "0", "j": 20, "rows": 30, "age_us": 86_400_000_000}]
    plain(case)


def resnapshot(case: Case) -> None:
    """For three transactions no slot is there; then all is read anew."""
    case.tape = tape(LONG)
    case.upto(LONG - 4)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)
        lsn = case.log.lsn = case.log.lsn + 10_000
        for table in TABLES:
            numbers = {(table, shard): newest(case.tape, table, shard, LONG - 1) for shard in SHARDS}
            there = state(case.tape, numbers)
            changes = {c.row["id"]: c for group, n in numbers.items() for c in all_of(case.tape, group, n)}
            ids = there["id"].tolist()
            for place, id_ in enumerate(ids):
                final = "last_in_data_collection" if place == len(ids) - 1 else "true"
                row = row_of(Change(table, 0, "c", changes[id_].row))
                case.log.put(table, key_of(id_), envelope(table, "r", None, row, lsn, snapshot=final))
        until_applied(case.log, case.target)
        case.log.sent = LONG - 1
        case.upto(LONG)
        until_applied(case.log, case.target)


def newest(told: Tape, table: str, shard: str, j: int) -> int:
    return max(c.number for at in range(max(1, j - 20), j + 1) for c in transaction(told, shard, at, table))


def all_of(told: Tape, group: tuple[str, str], number: int) -> Iterator[Change]:
    return (
        c
        for j in range(1, LONG + 1)
        for c in transaction(told, group[1], j, group[0])
        if c.number <= number and c.op != "d"
    )


def cut(case: Case) -> None:
    """The log forgets what the sink has not read."""
    case.upto(J // 2)
    with sinking(case.log, case.target, case.defect):
        until_applied(case.log, case.target)
    case.upto(J - 1)
    admin = AdminClient({"bootstrap.servers": case.log.broker})
    gone = [TopicPartition(case.log.topic(table), 0, case.log.ends[case.log.topic(table)]) for table in TABLES]
    for done in admin.delete_records(gone).values():
        done.result()
    with sinking(case.log, case.target, case.defect) as sink:
        until(lambda: sink.health()["state"] == "running", WAIT_S, 0.1, "the sink to read")
        case.upto(J)
        until_applied(case.log, case.target)


def twice(case: Case) -> None:
    """Two sinks on one target."""
    case.upto(J // 2)
    with sinking(case.log, case.target, case.defect), sinking(case.log, case.target, case.defect):
        for j in range(J // 2, J):
            case.upto(j + 1)
            until_applied(case.log, case.target)


def paused(case: Case) -> None:
    """The process stands still for three seconds."""
    process = case.process()
    case.upto(J // 2)
    with process.running():
        until_applied(case.log, case.target)
        assert process.process is not None
        freeze(process.process.pid)
        with psycopg.connect(case.target) as connection:
            connection.execute("SELECT pg_sleep(3)")
        case.upto(J)
        process.process.send_signal(signal.SIGCONT)
        until_applied(case.log, case.target)


LOST, GHOST, CHANGED = ("target", "lost"), ("target", "ghost"), ("target", "changed")
UNTOLD, DOUBLED = ("history", "lost"), ("history", "doubled")

CASES: Mapping[str, tuple[Callable[[Case], None], tuple[str, str]]] = {
    "position_first": (killed("sink::before_commit"), LOST),
    "position_apart": (killed("sink::before_position"), DOUBLED),
    "no_guard": (again, CHANGED),
    "insert_only": (reshaped, CHANGED),
    "oldest_in_batch": (plain, CHANGED),
    "log_errors": (poisoned, UNTOLD),
    "drop_batch": (poisoned, LOST),
    "dead_letter_apart": (poisoned_and_killed, UNTOLD),
    "ignore_delete": (long, GHOST),
    "delete_by_tombstone": (long, UNTOLD),
    "write_placeholder": (reshaped, CHANGED),
    "keep_absent": (reshaped, CHANGED),
    "ignore_new_column": (reshaped, CHANGED),
    "float_amount": (plain, CHANGED),
    "zone_slip": (plain, CHANGED),
    "null_as_empty": (plain, CHANGED),
    "cut_text": (plain, CHANGED),
    "no_sweep": (resnapshot, GHOST),
    "sweep_too_high": (resnapshot, LOST),
    "reset_earliest": (cut, LOST),
    "reset_latest": (cut, LOST),
    "no_fence": (twice, DOUBLED),
    "no_history_key": (again, DOUBLED),
    "autocommit": (killed("sink::before_position"), DOUBLED),
    "retry_blind": (unanswered, DOUBLED),
    "by_business_time": (backfilled, LOST),
    "drop_after_pause": (paused, LOST),
    "swap_rows": (long, LOST),
}
ELSEWHERE = {"keep_old_key", "ignore_truncate"}
"""No tape has what they need: test_cdc_sink.py shows them."""

COUNT_SEES = {LOST, GHOST}
"""Damage by which a table has another number of rows, unless as many are there too many as are missing."""


def test_every_defect_is_shown() -> None:
    """In one of both files."""
    assert CASES.keys() | ELSEWHERE == DEFECTS.keys()


@pytest.mark.parametrize("defect", CASES)
def test_a_defect_is_found_at_its_hop_with_its_keys(target: str, broker: str, tmp_path: Path, defect: str) -> None:
    """A count of rows sees nothing where content differs, where a change was applied twice, or where a ghost makes up
    for a lost row."""
    did, expected = CASES[defect]
    case = Case(Log(broker), target, tmp_path, defect)
    did(case)
    with taped(case.tape) as url:
        judged = judge(tmp_path, case.log, target, url)
        found = judged.damage()
    assert found[expected]
    assert all("/" in str(one) for one in found[expected])
    if defect == "swap_rows":
        assert found[GHOST]
    have, should = counts(case)
    sees = have != should
    assert sees == (expected in COUNT_SEES and defect != "swap_rows")


def counts(case: Case) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of each table, in the target and by the tape."""
    with psycopg.connect(case.target) as connection:
        have = {
            table: connection.execute(f"SELECT count(*) FROM {table} WHERE shard < 9".encode()).fetchall()[0][0]
            for table in TABLES
        }
    done = {shard: of["begun"] for shard, of in case.tape["shards"].items()}
    should = {
        table: len(state(case.tape, {(table, s): newest(case.tape, table, s, j) for s, j in done.items()})["id"])
        for table in TABLES
    }
    return have, should


@pytest.mark.parametrize("did", [plain, again, reshaped, backfilled, long, poisoned], ids=lambda did: did.__name__)
def test_what_shows_a_defect_does_a_sound_sink_no_harm(
    target: str, broker: str, tmp_path: Path, did: Callable[[Case], None]
) -> None:
    """So it is the defect that is found, and not what was done."""
    case = Case(Log(broker), target, tmp_path, "")
    did(case)
    with taped(case.tape) as url:
        assert judge(tmp_path, case.log, target, url).damage() == {}


def test_a_poison_row_is_a_dead_letter_of_a_sound_sink(target: str, broker: str, tmp_path: Path) -> None:
    """Also where it dies as it writes it."""
    case = Case(Log(broker), target, tmp_path, "")
    poisoned_and_killed(case)
    assert case.letters() == [POISON_ID]
