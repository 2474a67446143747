"""`gameday run`: failure tests through Prefect, in this process, and what they came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gameday.cli.shared import (
    EXIT_FAIL,
    EXIT_NO_VERDICT,
    configuration,
    err,
    explain,
    opened_stack,
    out,
    quiet_prefect,
    say,
    split,
    writable,
)
from gameday.errors import ConfigError, NotUp
from gameday.model import Verdict
from gameday.state import State
from gameday.system import console, signals

if TYPE_CHECKING:
    from gameday.stack.config import StackConfig
    from gameday.stack.live import Stack
    from tasks.night import Night

__all__ = ["run"]

PREFECT_PATIENCE_S = 3.0


def run(
    names: Annotated[list[str] | None, typer.Argument(help="Failure tests (see `gameday list`).")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every failure test.")] = False,
    variants: Annotated[str, typer.Option(help="canonical (the first parameter set), rotating, or all.")] = "canonical",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter of the named test.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the results as JSON.")] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit XML.")
    ] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Write the evidence into the runbooks, on a branch gameday/NIGHT.")
    ] = False,
) -> None:
    """Run failure tests through Prefect, in this process: no worker needed."""
    if bool(names) == every:
        raise ConfigError("which tests? Remedy: gameday run NAME… or gameday run --all; `gameday list` shows them")
    config, down = configuration()
    quiet_prefect(config)
    from flows.nightly import carry_out
    from gameday.run import new_id
    from gameday.stack.reading import default_path
    from tasks.night import Night, night

    stack: Any = None if config is None else opened_stack()
    chosen = _choose(names or [], variants, param or [], stack)  # bad usage is told whether or not the stack is up
    for path in (json_file, junit_file):
        writable(path)
    if config is None or stack is None:
        raise down or NotUp("no configuration")
    _need_prefect(config)
    signals.obey()
    here = Night(new_id("night"), say=say)
    token = night.set(here)
    try:
        with console.impatient():
            carry_out(chosen, stack, str(default_path()), commit)
    except Exception as e:
        if here.verdict is not Verdict.FAIL:
            raise
        explain(e)  # and what was found before it stands
    finally:
        night.reset(token)
        _tell(here, json_file, junit_file)
    raise typer.Exit(_exit_code(here))


def _choose(names: list[str], variants: str, params: list[str], stack: Stack | None) -> Any:
    """The named tests with their parameters, or what the variants say."""
    from typing import get_args

    from flows import find, parameters
    from flows.nightly import Variants, choose

    if variants not in get_args(Variants):
        raise ConfigError(f"--variants {variants!r}: one of {', '.join(get_args(Variants))}")
    kind: Literal["canonical", "rotating", "all"] = variants  # type: ignore[assignment]
    if not params:
        return choose(names or None, kind, stack)
    if len(names) != 1:
        raise ConfigError("-p NAME=VALUE belongs to one test. Remedy: name exactly one test")
    given = dict(split(p) for p in params)
    flow = find(names[0])
    return [(flow, parameters(flow, given))]


def _need_prefect(config: StackConfig) -> None:
    """NotUp when the Prefect server does not answer, ConfigError when it does not let gameday in."""
    from gameday.drivers.prefect_api import Api, Refused
    from gameday.errors import DriverError

    try:
        Api.of(config.prefect).ask("POST", "/flows/filter", {"limit": 1}, PREFECT_PATIENCE_S)
    except Refused as e:
        raise ConfigError(f"[prefect]: {e}") from e
    except DriverError as e:
        raise NotUp(
            f"the Prefect server at {config.prefect.api_url} does not answer: {e}. Remedy: gameday up, or "
            f"prefect.api_url in gameday.toml"
        ) from e


def _exit_code(here: Night) -> int:
    verdict = here.verdict
    if verdict is Verdict.FAIL:
        return EXIT_FAIL
    return 0 if verdict in (Verdict.PASS, Verdict.SKIPPED) and here.results else EXIT_NO_VERDICT


def _tell(here: Night, json_file: Path | None, junit_file: Path | None) -> None:
    """The night's results, as files and as a table. Whatever goes wrong with that, the verdict stands."""
    from gameday.reports import junit, results, table

    judged = here.judged()
    try:
        with signals.Gate(), console.impatient():
            if json_file is not None:
                _write(json_file, json.dumps(results.to_json(here.id, judged, here.findings), indent=2) + "\n")
            if junit_file is not None:
                _write(junit_file, junit.render(here.id, judged, here.findings))
        if judged:
            out.print()
            out.print(table.render(judged))
            for finding in here.findings:
                out.print(f"{finding.check}: {finding.verdict}: {finding.why}")
            out.print(f"report: {State.default().report(here.id)}")
    except Exception as e:  # noqa: BLE001 - it is said, and changes no exit code
        explain(e)


def _write(path: Path, text: str) -> None:
    """What was found stands, also where it can't be written any more: that is said, and changes no exit code."""
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        err.print(
            f"gameday: {path} can't be written: {e.strerror}. The results are also in the state folder: gameday report",
            style="red",
        )
