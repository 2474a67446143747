"""Nights one after the other: each passes, and what runs for weeks needs no more at the end than after the first."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose import supervisor
from gameday.state import State
from tests.e2e.command import gameday, results

NIGHTS = 3
NIGHT_S = 900

GROWS_MAX = 1.5
"""From the first night's end to the last one's. Caches fill in the first; what grows in each night is a leak."""

LASTING = ("reconciler", "prefect-worker", "offload-worker", "exporter", "exchange", "handler-kraken", "consumer-watch")
"""The processes of ours that no canonical test restarts. Servers' caches grow by design."""

pytestmark = [pytest.mark.suite("soak"), pytest.mark.timeout(NIGHTS * NIGHT_S + 300)]


def used(state: State) -> dict[tuple[str, str], int]:
    """(process, what) -> how much of it: descriptors, threads, resident kilobytes."""
    processes = supervisor.ask(state, op="status")["processes"]
    found = {}
    for name in LASTING:
        proc = Path("/proc") / str(processes[name]["pid"])
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        found[name, "descriptors"] = len(list((proc / "fd").iterdir()))
        found[name, "threads"] = int(status["Threads"])
        found[name, "resident kB"] = int(status["VmRSS"].split()[0])
    return found


def test_nights_in_a_row_pass_and_nothing_grows(stack_state: State, tmp_path: Path) -> None:
    """All verdicts are passes, the whole history is right after each, and no process was replaced or has grown."""
    after: list[dict[tuple[str, str], int]] = []
    before = {name: supervisor.ask(stack_state, op="status")["processes"][name]["pid"] for name in LASTING}
    for number in range(NIGHTS):
        found = tmp_path / f"{number}.json"
        done = gameday(stack_state, "run", "--all", "--json", str(found), within_s=NIGHT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {r["verdict"] for r in results(found)} == {"pass"}, done.stdout
        assert "history: pass" in done.stdout
        after.append(used(stack_state))
    assert {name: supervisor.ask(stack_state, op="status")["processes"][name]["pid"] for name in LASTING} == before
    first, last = after[0], after[-1]
    assert {what: (first[what], last[what]) for what in first if last[what] > GROWS_MAX * first[what]} == {}
