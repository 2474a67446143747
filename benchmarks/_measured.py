"""How a benchmark ends: with its figures, or with a line that says why there are none. A table of zeros would look like
a good one, and a traceback like a bug.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gameday.errors import GamedayError

__all__ = ["INTERRUPTED", "NOTHING", "carry_out", "ended", "nothing"]

NOTHING, INTERRUPTED = 3, 130
"""The exit codes, as `gameday` ends where there is no verdict, and after Ctrl-C."""


def nothing(why: object) -> int:
    """Say so on stderr; returns the exit code."""
    print(f"nothing was measured: {why}", file=sys.stderr)
    return NOTHING


def ended(main: Callable[[], int]) -> NoReturn:
    """End the process as `main` says. Ctrl-C, an error that gameday explains and a command that failed are a line."""
    try:
        code = main()
    except KeyboardInterrupt:
        print("interrupted: what is not printed above was not measured", file=sys.stderr)
        code = INTERRUPTED
    except GamedayError as e:
        code = nothing(e)
    except subprocess.CalledProcessError as e:
        code = nothing(f"{shlex.join(e.cmd)} ended with exit code {e.returncode}")
    sys.exit(code)


def carry_out(command: Sequence[str]) -> None:
    """Run a command of gameday's, with its words left out. After Ctrl-C its end is awaited: it undoes what it broke,
    and subprocess.run would kill it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # where no terminal has told it
            process.wait()
            raise
