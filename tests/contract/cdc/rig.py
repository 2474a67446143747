"""Processes of the CDC platform, bare: on databases of the test's own, to be started and killed one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from compose.ports import free_ports
from gameday.state import ROOT
from gameday.system.polling import until
from pipelines.cdc.sink import Sink
from pipelines.cdc.tape import FOREIGN, POISON_SHARD, SCALE, moment, transaction
from tests.contract.cdc.debezium import Log

__all__ = ["WAIT_S", "Process", "Rows", "folded", "held", "sinking", "until_applied", "until_done"]

WAIT_S = 60.0


class Process:
    """One program of pipelines/cdc, with its failpoints at a socket. A process that has ended can be started again."""

    def __init__(self, module: str, folder: Path, env: Mapping[str, str], *arguments: str) -> None:
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{module}.log"
        self.evidence = folder / f"{module}.jsonl"
        self._argv = [sys.executable, "-m", f"pipelines.cdc.{module}", "--port", str(self.port), *arguments]
        self._env = {"FAILPOINTS_ENABLE": "1", "FAILPOINTS_EVIDENCE": str(self.evidence), **env}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> Process:
        with self.log.open("ab") as out:
            environment = {**os.environ, **self._env, **env}
            self.process = subprocess.Popen(self._argv, cwd=ROOT, env=environment, stdout=out, stderr=out)
        until(self._answers, WAIT_S, 0.05, f"{self.log.stem} to answer")
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def ended(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and answer; body: it is a POST of it."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended: {self.log.read_text()[-3000:]}"
        try:
            self.ask("/healthz")
        except OSError:
            return False
        return True

    @contextmanager
    def running(self, **env: str) -> Iterator[Process]:
        try:
            yield self.start(**env)
        finally:
            if self.process is not None and self.process.poll() is None:
                self.kill()


Rows = dict[int, tuple[Any, ...]]


def held(dsn: str, table: str) -> Rows:
    """What a table holds but for poison: id -> number, shard, foreign key, status, amount, note, facts, time."""
    foreign = FOREIGN.get(table, "NULL::bigint")
    sql = (
        f"SELECT id, change, shard, {foreign}, status, (amount * {SCALE})::text::numeric, note, facts, at "
        f"FROM {table} WHERE shard <> {POISON_SHARD}"
    )
    with psycopg.connect(dsn) as connection:
        return {row[0]: row[1:] for row in connection.execute(sql.encode()).fetchall()}


def folded(tape: Mapping[str, Any], table: str, upto: Mapping[str, int]) -> Rows:
    """The same by the tape, of all transactions from the first on. upto: shard -> its last one."""
    found: Rows = {}
    for shard, last in upto.items():
        for j in range(1, last + 1):
            for change in transaction(tape, shard, j, table):
                row = change.row
                if change.op == "d":
                    del found[row["id"]]
                    continue
                values = (row.get(name) for name in (FOREIGN.get(table, ""), "status", "amount", "note", "facts"))
                found[row["id"]] = (change.number, row["shard"], *values, moment(row["at"]))
    return found


def until_done(process: Process, shard: str, j: int) -> None:
    """Until the workload has done transaction j of a shard."""
    until(lambda: process.ask("/healthz")[1]["done"][shard] >= j, WAIT_S, 0.05, f"transaction {j} of shard {shard}")


@contextmanager
def sinking(log: Log, dsn: str, defect: str = "") -> Iterator[Sink]:
    """A sink in this process, on the log's topics."""
    sink = Sink(dsn, log.broker, log.prefix, defect, group=log.prefix)
    thread = threading.Thread(target=sink.run)
    thread.start()
    try:
        yield sink
    finally:
        sink.end()
        thread.join(30)
        assert not thread.is_alive()


def until_applied(log: Log, dsn: str) -> None:
    """Until the target has all that the log has."""
    log.flush()

    def passed() -> bool:
        with psycopg.connect(dsn) as connection:
            rows = connection.execute("SELECT topic, next FROM cdc_position").fetchall()
        places: dict[str, int] = dict(rows)
        return all(places.get(topic, 0) >= end for topic, end in log.ends.items())

    until(passed, WAIT_S, 0.1, "the sink to come to the log's end")
