"""The platform of change data capture, brought up for one file of tests, and what they ask of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from gameday.state import State
from tests.e2e.command import gameday, results
from tests.stackfixture import brought_up

__all__ = ["carried_out", "failed", "here", "platform"]

WITHIN_S = 420
PLATFORM = "cdc"


def platform(folder: Path, defect: str = "") -> AbstractContextManager[State]:
    """The platform, up; with a defect of the sink's, if one is named."""
    return brought_up(PLATFORM, folder, f"SINK_DEFECT={defect}", ["sink"] if defect else ())


def carried_out(state: State, folder: Path, test: str, *params: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the result of one run."""
    file = folder / "results.json"
    given = [part for param in params for part in ("-p", param)]
    done = gameday(state, *here(state), "run", test, *given, "--json", str(file), within_s=WITHIN_S)
    assert file.exists(), done.stdout + done.stderr
    (result,) = results(file)
    return done.returncode, result


def here(state: State) -> tuple[str, ...]:
    return "--platform", PLATFORM, "--state", str(state.root)


def failed(result: dict[str, Any]) -> dict[str, str]:
    """Check -> its reason."""
    return {found["check"]: found["why"] for found in result["findings"] if found["verdict"] == "fail"}
