"""The `gameday` command. It stands above tasks/ and flows/, and imports them only when a command needs them: one that
looks does without Prefect (tests/unit/test_commands.py). A module here is one family of commands.

Exit codes (design): 0 pass or skipped; 1 a fail; 2 bad usage or configuration; 3 no verdict, stack down, busy or
aborted; 130 Ctrl-C. They say what was found, whoever watches: that it could not be printed changes none.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gameday.cli import afterwards, embedded, looking, running, undoing, watching, writing
from gameday.cli.points import failpoints
from gameday.cli.shared import EXIT_INTERRUPTED, EXIT_NO_VERDICT, err, explain, out
from gameday.errors import ConfigError, GamedayError
from gameday.state import PLATFORM, State
from gameday.system import console, signals
from gameday.undo.journal import Journal

__all__ = ["app", "main"]

app = typer.Typer(
    name="gameday",
    help="Failure tests for streaming data platforms: break it on purpose, tell with evidence whether it recovers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

GARBAGE_EVERY = 50_000
"""Objects that are made until Python looks for garbage. After 700, its default, it would look through all that a
command imports again and again: a tenth of what `gameday status` takes."""


@app.callback()
def settings(
    config: Annotated[
        Path | None,
        typer.Option(help="The gameday.toml of the stack (default: $GAMEDAY_CONFIG, else the embedded one)."),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(help=f"A platform of this checkout: its gameday.toml and a state folder of its own ({PLATFORM})."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The state folder (default: $GAMEDAY_STATE, else .gameday in the checkout).")
    ] = None,
) -> None:
    """Where the stack is described, and where its state lies. Child processes inherit both."""
    if platform is not None:
        from gameday.stack.reading import platform_config

        if config is not None:
            raise ConfigError(f"--platform {platform} and --config {config} are two stacks. Remedy: one of them")
        config, state = platform_config(platform), state or State.of(platform).root
    if config is not None:
        os.environ["GAMEDAY_CONFIG"] = str(config.resolve())
    if state is not None:
        os.environ["GAMEDAY_STATE"] = str(state.resolve())
    State.default().check()


for command in (
    *(embedded.up, embedded.down, embedded.start),
    *(writing.init, looking.status, looking.check, looking.list_, watching.watch),
    *(running.run, undoing.abort, undoing.heal, undoing.hold, undoing.release),
    *(afterwards.history, afterwards.report, afterwards.selftest, writing.new),
):
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(failpoints, name="failpoints")


def main() -> None:
    """Run the command; errors that gameday can explain are one message and an exit code, never a traceback."""
    gc.set_threshold(GARBAGE_EVERY)
    console.tolerate()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # to look for some it reads every package's metadata
    try:
        code = app(standalone_mode=False) or 0  # what typer.Exit carried; 130 after Ctrl-C
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except signals.Stopped as e:
        code = EXIT_NO_VERDICT
        err.print(f"stopped by {e}{_left()}")
    except typer._click.ClickException as e:  # usage errors: click words them and knows their exit code
        e.show()
        code = e.exit_code
    except Exception as e:  # noqa: BLE001 - whatever it was, it is no fail of the platform: exit code 1 is only that
        code = explain(e)
    if code == EXIT_INTERRUPTED:
        err.print(f"interrupted{_left()}")
    out.file.flush()
    for line in console.lost():
        err.print(f"gameday: {line}. The exit code says what was found")
    gc.freeze()  # else Python looks for garbage once more as it ends, in all that was imported: a tenth of a status
    sys.exit(code)


def _left() -> str:
    """What an interrupted command says about what may be broken."""
    try:
        left = Journal(State.default().journal).open_acts()
    except GamedayError as e:
        return f"; whether something is broken is not known: {e}"
    if left:
        return f"; not mended yet: {', '.join(map(undoing.named, left))}. Remedy: gameday heal"
    return "; everything that was broken has been mended"
