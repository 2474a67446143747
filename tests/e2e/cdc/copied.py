"""The platform of change data capture, brought up for one file of tests, and what they ask of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compose import own
from compose.up import clean, up
from gameday.state import State
from gameday.undo import lease
from tests.e2e.command import gameday, results
from tests.stackfixture import drawn

__all__ = ["carried_out", "failed", "here", "platform"]

WITHIN_S = 420
PLATFORM = "cdc"


@contextmanager
def platform(folder: Path, defect: str = "") -> Iterator[State]:
    """The platform, up; with a defect of the sink's, if one is named."""
    state = State(folder)
    replaced = {}
    if defect:
        services = own.processes(own.platform(PLATFORM), state, drawn(state, PLATFORM), {})
        (sink,) = (service for service in services if service.name == "sink")
        replaced = {"sink": ("env", f"SINK_DEFECT={defect}", *sink.argv)}
    try:
        up(state, functools.partial(print, flush=True), replaced, PLATFORM)
        lease.hold(state, None)
        yield state
    finally:
        clean(state)


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
