"""What the commands share: the two consoles, the exit codes, the stack, and how an error is told."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gameday.errors import ConfigError, GamedayError, NotUp
from gameday.reports.words import plain
from gameday.state import State

if TYPE_CHECKING:
    from gameday.stack.config import StackConfig

__all__ = [
    "EXIT_FAIL",
    "EXIT_INTERRUPTED",
    "EXIT_NO_VERDICT",
    "AsJson",
    "configuration",
    "err",
    "explain",
    "opened_stack",
    "out",
    "quiet_prefect",
    "say",
    "split",
    "writable",
]

PIPED_COLUMNS = 400
"""Programs read a row on a line, however narrow the terminal is."""

_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed when the command began


class Plain(Console):
    """A console that says what comes from outside as it is: [archive] is no markup, and nothing steers a terminal. What
    is coloured is a Text."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(plain(one) if isinstance(one, str) else one for one in objects), **options)


out = Plain(highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if _terminal else PIPED_COLUMNS)
_watched = sys.stderr is not None and sys.stderr.isatty()
err = Plain(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=not _watched)

EXIT_FAIL, EXIT_NO_VERDICT, EXIT_INTERRUPTED = 1, 3, 130

HEARTBEAT_S = "30"
"""How often a flow tells Prefect that it lives; deployments/automations.py waits for it. Prefect takes no less."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(text: str) -> None:
    """One line of progress, with the time."""
    out.print(f"{datetime.now():%H:%M:%S} {text}")


def explain(error: Exception) -> int:
    """Say what went wrong; the exit code for it. What gameday can't explain is a bug, and told with where it is."""
    if isinstance(error, GamedayError):
        err.print(f"gameday: {error}", style="red")
        return error.exit_code
    err.print("".join(traceback.format_exception(error)))
    return EXIT_NO_VERDICT


def opened_stack() -> Any:
    """The stack that this command is about."""
    from gameday.stack.live import open_stack

    return open_stack()


def configuration() -> tuple[StackConfig | None, NotUp | None]:
    """The configuration, or why it can't be known before the stack is up."""
    from gameday.stack.reading import load

    try:
        return load(), None
    except NotUp as e:
        return None, e


def quiet_prefect(config: StackConfig | None) -> None:
    """Prefect reads its settings when it is imported: its server, a home of our own, and a console that is ours
    alone."""
    os.environ["PREFECT_HOME"] = str(State.default().prefect)
    warnings.filterwarnings("ignore", message="Failed to create the Prefect home")  # before `gameday up` there is none
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_S)
    os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_FLOW_RUNS_LEVEL"] = "CRITICAL"
    if config is not None:
        config.prefect.applied(os.environ)


def split(param: str) -> tuple[str, str]:
    name, equals, value = param.partition("=")
    if not equals:
        raise ConfigError(f"{param!r} is not NAME=VALUE")
    return name, value


def writable(path: Path | None) -> None:
    """ConfigError when the results can't be written there: told before anything is broken."""
    if path is None:
        return
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a pipe would wait for its reader
            return
        known = path.exists()
        path.open("ab").close()
        if not known:
            path.unlink()
    except OSError as e:
        raise ConfigError(f"{path} can't be written: {e.strerror}. Remedy: a file in a folder that exists") from e
