"""The archive's failure test beyond the night's: the worker is the victim, just after a commit that nobody was told of.
What an offload with a defect looks like to gameday is tests/contract/test_driver_iceberg.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday.state import State
from tests.e2e.command import gameday, results

WITHIN_S = 400


@pytest.mark.timeout(WITHIN_S + 60)
def test_an_orphaned_run_doubles_nothing(stack_state: State, tmp_path: Path) -> None:
    """A pass: its run is ended, every commit is whole, every trade is in the archive exactly once."""
    found = tmp_path / "r.json"
    options = ("-p", "victim=worker", "-p", "point=after_commit")
    done = gameday(stack_state, "run", "offload_failure", *options, "--json", str(found), within_s=WITHIN_S)
    (result,) = results(found)
    assert (done.returncode, result["verdict"]) == (0, "pass"), done.stdout + done.stderr
    assert {f["verdict"] for f in result["findings"] if f["check"] == "snapshots_whole"} == {"pass"}
    assert result["counts"]["lost"]["archive"] == result["counts"]["doubled"]["archive"] == 0
