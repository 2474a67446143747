"""A small campaign of kills; the large one is `python -m benchmarks.offload_kills --random 200 --each 20`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gameday.state import ROOT


@pytest.mark.suite("offload")
def test_a_run_that_is_killed_anywhere_loses_and_doubles_nothing() -> None:
    """At each point once and ten times at random, resumed after each."""
    campaign = [sys.executable, "-m", "benchmarks.offload_kills", "--random", "10", "--each", "1"]
    done = subprocess.run(campaign, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "17 of" in done.stdout
