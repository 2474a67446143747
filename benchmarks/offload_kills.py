"""Kills the offload at work, resumes it, counts what was lost or doubled: python -m benchmarks.offload_kills
[--random N] [--each N]

N SIGKILLs at random times of a run, and N at each failpoint, each followed by a run that is not killed. What is
promised is shown by --random 200 --each 20; the default is small. Exit code 1 when a row was lost, doubled or changed,
or there were fewer kills than wanted, 3 when none was asked for. Each killed run is a process of its own, forked from
one that has done its imports.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog

import failpoints
from benchmarks._measured import ended, nothing
from pipelines.trades.offload import engine, maintenance
from pipelines.trades.offload.settings import OffloadError, Settings
from tests.offloadrig import Offload, Servers, fired, names, servers

POINTS = (
    *("before_read", "after_data_file", "after_manifest_list", "after_metadata", "after_commit", "before_mirror"),
    "after_mirror",
)
ROWS = 3_000
"""New ones before each kill, in three commits."""

AGAIN = 100
"""Sent again with them, as a handler does that was killed itself."""

LOOK_EVERY = 20
"""Kills between two comparisons of every row; the number of rows is compared after each."""

TRIES = 3
"""For a random kill that came too late, and for a run that fails."""

RUN_S = 120.0
SEED = 5


def main() -> int:
    """Run the campaign and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, default=10, help="kills at random times (default 10)")
    parser.add_argument("--each", type=int, default=1, help="kills at each failpoint (default 1)")
    options = parser.parse_args()
    if options.random + options.each <= 0:
        return nothing("--random and --each ask for no kill")
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="offload-kills-") as folder, servers(Path(folder)) as running:
        campaign = Campaign(running, Path(folder))
        campaign.kill_at_points(options.each)
        campaign.kill_at_random(options.random)
        campaign.report()
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if campaign.good else 1


class Campaign:
    """One stream and one table, growing from kill to kill: what goes wrong once stays visible."""

    def __init__(self, running: Servers, folder: Path) -> None:
        self._offload = Offload(running, next(names), {"COMMIT_ROWS": "1000", "KEEP_SNAPSHOTS": "20"})
        self._folder = folder
        self._draw = random.Random(SEED)
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([__name__, "pipelines.trades.offload.engine"])
        self._kills: Counter[str] = Counter()
        self._wanted = 0
        self._work_s = 1.0
        self._rounds = 0
        self._wrong: list[str] = []

    @property
    def good(self) -> bool:
        return not self._wrong and self._kills.total() >= self._wanted

    def kill_at_points(self, times: int) -> None:
        """At the first, second or third time that a run passes the point."""
        self._wanted += len(POINTS) * times
        for point in POINTS * times:
            hit = self._draw.randint(1, 3)
            self._more()
            run = self._start(f"offload::{point}={hit}@kill")
            run.join(RUN_S)
            self._killed(run, point)
            self._resume(f"{point}, hit {hit}")

    def kill_at_random(self, times: int) -> None:
        """Between the run's first read and its end."""
        self._wanted += times
        for _ in range(TRIES * times):
            if self._kills["random"] == times:
                break
            self._more()
            evidence = self._folder / f"{self._rounds}"
            run = self._start("offload::before_read=1*yield", evidence)
            fired(evidence)
            run.join(self._draw.uniform(0.0, self._work_s))
            run.kill()  # nothing happens when it was too late
            run.join()
            self._killed(run, "random")
            self._resume("at random")

    def report(self) -> None:
        self._compare("in the end")
        print(f"{self._kills.total()} of {self._rounds} runs were killed: {dict(self._kills)}")
        print(f"{self._offload.place().rows} rows; {len(self._wrong)} times rows were lost, doubled or changed")
        for line in self._wrong:
            print(line)

    def _start(self, terms: str, evidence: Path | None = None) -> BaseProcess:
        armed = {"FAILPOINTS_ENABLE": "1", "FAILPOINTS": terms}
        if evidence:
            armed["FAILPOINTS_EVIDENCE"] = str(evidence)
        run = self._processes.Process(target=_run, args=({**self._offload.environment, **armed},))
        run.start()
        return run

    def _more(self) -> None:
        self._rounds += 1
        first = self._offload.place().ids.get("binance/BTCUSDT", 0) + 1
        again = min(first - 1, AGAIN)
        self._offload.write(ROWS + again, first=first - again)
        self._offload.commit()

    def _killed(self, run: BaseProcess, how: str) -> None:
        if run.exitcode == -signal.SIGKILL:
            self._kills[how] += 1

    def _resume(self, how: str) -> None:
        began = time.monotonic()
        for left in reversed(range(TRIES)):
            try:
                self._offload.run()
                break
            except OffloadError as e:  # a server was too busy to answer: what a schedule is for
                print(f"a run failed: {e}", flush=True)
                if not left:
                    raise
        self._work_s = 0.7 * self._work_s + 0.3 * (time.monotonic() - began)
        place = self._offload.place()
        if place.rows != place.ids["binance/BTCUSDT"]:
            self._wrong.append(f"killed {how}: {place.rows} rows of {place.ids}")
        if self._rounds % LOOK_EVERY == 0:
            self._compare(f"after {self._rounds} rounds")
            maintenance.run(self._offload.settings())

    def _compare(self, when: str) -> None:
        if not self._offload.whole():
            self._wrong.append(f"{when}: {self._offload.differing()}")


def _run(environment: Mapping[str, str]) -> None:
    """One run, in a child."""
    os.environ.update(environment)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    failpoints.listen()
    engine.run(Settings.of(os.environ))


if __name__ == "__main__":
    ended(main)
