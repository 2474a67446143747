"""The `gameday` command as a user runs it: a process of its own, a state folder, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gameday.state import State
from gameday.system.polling import until

__all__ = ["gameday", "results", "running", "seen"]

ENDS_WITHIN_S = 240
SHOWS_WITHIN_S = 120


def gameday(
    state: State, *arguments: str, env: Mapping[str, str] | None = None, within_s: float = ENDS_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        _command(arguments),
        env=_environment(state, env),
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


@contextmanager
def running(
    state: State, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run it beside the test; its output goes to the file that is handed out. It is ended with the test."""
    output = state.root / f"output-{os.urandom(4).hex()}.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            _command(arguments), env=_environment(state, env), stdout=file, stderr=file, text=True, preexec_fn=_heed
        )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def _heed() -> None:
    """Signals that the tests' own process was told to ignore (nohup, a job in the background) end this command."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def seen(process: subprocess.Popen[str], output: Path, text: str) -> None:
    """Wait until the output has this text; fails with the output when the command ends before."""

    def shown() -> bool:
        if text in output.read_text():
            return True
        assert process.poll() is None, f"ended with {process.returncode} before {text!r}:\n{output.read_text()}"
        return False

    until(shown, within_s=SHOWS_WITHIN_S, every_s=0.02, what=repr(text))


def results(path: Path) -> list[dict[str, Any]]:
    """The results of a --json file."""
    found: list[dict[str, Any]] = json.loads(path.read_text())["results"]
    return found


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [str(Path(sys.executable).with_name("gameday")), *arguments]


def _environment(state: State, more: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, "GAMEDAY_STATE": str(state.root), "COLUMNS": "120", **(more or {})}
