"""The `gameday` command. It stands above tasks/ and flows/, and imports them only when a command needs them: one that
looks does without Prefect (tests/unit/test_commands.py).

Exit codes (design): 0 pass or skipped; 1 a fail; 2 bad usage or configuration; 3 no verdict, stack down, busy or
aborted; 130 Ctrl-C. They say what was found, whoever watches: that it could not be printed changes none.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from gameday.errors import Busy, ConfigError, GamedayError, NotUp
from gameday.model import Verdict
from gameday.state import State
from gameday.system import console, signals
from gameday.undo.journal import Entry, Journal

if TYPE_CHECKING:
    from gameday.stack.config import StackConfig
    from gameday.stack.live import Stack
    from tasks.night import Night

__all__ = ["app", "main"]

app = typer.Typer(
    name="gameday",
    help="Failure tests for streaming data platforms: break it on purpose, tell with evidence whether it recovers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
failpoints = typer.Typer(no_args_is_help=True, help="Failpoints in the code of running components: look, arm, disarm.")
app.add_typer(failpoints, name="failpoints")

PIPED_COLUMNS = 400
"""Programs read a row on a line, however narrow the terminal is."""

_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed when the command began
# No markup: names and answers come from outside, and [archive] is one. What is coloured is a Text.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if _terminal else PIPED_COLUMNS)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

EXIT_FAIL, EXIT_NO_VERDICT, EXIT_INTERRUPTED = 1, 3, 130

TTL_S = 60.0
"""How long a point that is armed by hand stays armed."""

GARBAGE_EVERY = 50_000
"""Objects that are made until Python looks for garbage. After 700, its default, it would look through all that a
command imports again and again: a tenth of what `gameday status` takes."""

PREFECT_PATIENCE_S = 3.0

HEARTBEAT_S = "30"
"""How often a flow tells Prefect that it lives; deployments/automations.py waits for it. Prefect takes no less."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def settings(
    config: Annotated[
        Path | None,
        typer.Option(help="The gameday.toml of the stack (default: $GAMEDAY_CONFIG, else the embedded one)."),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="The state folder (default: $GAMEDAY_STATE, else .gameday in the checkout).")
    ] = None,
) -> None:
    """Where the stack is described, and where its state lies. Child processes inherit both."""
    if config is not None:
        os.environ["GAMEDAY_CONFIG"] = str(config.resolve())
    if state is not None:
        os.environ["GAMEDAY_STATE"] = str(state.resolve())
    State.default().check()


# ---- the embedded stack ------------------------------------------------------------------------------------


@app.command()
def up() -> None:
    """Start the reference platform; ready means that every probe is good. Doing it twice does nothing twice."""
    from compose.up import up as start

    start(State.default().ensure(), say)


@app.command()
def down() -> None:
    """Stop the reference platform. Nothing of it stays running; its data stay."""
    from compose.up import down as stop
    from gameday.undo import lease

    if (holder := lease.holder(State.default())) is not None:
        raise Busy(f"the stack is held by {holder}. Remedy: await its end, or gameday abort")
    stop(State.default(), say)


@app.command()
def start(component: Annotated[str, typer.Argument(help="A component, as `gameday status` names it.")]) -> None:
    """Start one component that was stopped, wherever it runs: what a runbook does about it. Only one that may be
    touched."""
    stack = _stack()
    stack.touchable(component)
    stack.host(component).start(component)
    out.print(f"{component} runs")


# ---- looking -----------------------------------------------------------------------------------------------


@app.command()
def init(
    project: Annotated[str, typer.Option(help="The Compose project, as `docker compose ls` has it.")] = "",
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Brokers, several separated by commas.")] = "",
    kafka_client: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting of librdkafka's, such as security.protocol=SASL_SSL."),
    ] = None,
    clickhouse: Annotated[str, typer.Option(metavar="URL", help="http://user:password@host:8123")] = "",
    postgres: Annotated[str, typer.Option(metavar="DSN", help="postgresql://user:password@host:5432/database")] = "",
    connect: Annotated[str, typer.Option(metavar="URL", help="Kafka Connect's REST: http://host:8083")] = "",
    prometheus: Annotated[str, typer.Option(metavar="URL", help="http://host:9090")] = "",
    prefect: Annotated[str, typer.Option(metavar="URL", help="gameday's own Prefect server.")] = "",
    canary: Annotated[
        bool, typer.Option("--canary", help="Judge by records that gameday writes, and declare none of the platform's.")
    ] = False,
) -> None:
    """Look at a running platform and write a gameday.toml for it: every guess with where it is from, and a QUESTION
    where only you know. Nothing of the platform is changed. Exit 3 when its records are not yet as the file says."""
    from gameday.reports.found import found
    from gameday.stack.init.written import OWN_TESTS
    from tasks.init import Asked, look_again, looked, text_of

    path = Path(os.environ.get("GAMEDAY_CONFIG") or "gameday.toml").resolve()
    client = dict(map(_split, kafka_client or ()))
    asked = Asked(project, kafka, client, clickhouse, postgres, connect, prometheus, prefect)
    asked.check()
    if path.exists():
        if not sys.stdin.isatty():
            raise ConfigError(f"{path} is there already. Remedy: gameday --config OTHER init, or move it away")
        typer.confirm(f"{path} is there already. Overwrite it?", abort=True)
    _writable(path)
    page = text_of(looked(asked, path.parent.name, lambda line: out.print(line)), canary)
    path.with_name(OWN_TESTS).mkdir(exist_ok=True)
    path.write_text(page.text, encoding="utf-8")
    out.print(f"{path} is written, with {len(page.questions)} questions:")
    for question in page.questions:
        out.print(f"- {question}")
    for name in page.secrets:
        out.print(f"export {name}=… before any other command: its value is not in the file")
    rows = look_again(page, path)
    out.print(found(rows))
    if not all(row["ok"] for row in rows):
        out.print(f"Next: answer the questions, mend what is a no, then gameday --config {path} check --look")
        raise typer.Exit(EXIT_NO_VERDICT)
    out.print(f"Next: answer the questions, then gameday --config {path} check")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Components, links, streams with their lag, open injections, and who holds the stack."""
    from gameday.reports.found import down
    from tasks.survey import survey

    seen = survey(_stack())
    if as_json:
        out.print_json(json.dumps(seen))
    elif (told := down(seen)) is not None:
        out.print(f"{told}. Remedy: gameday up, or start it as you do (docker compose up -d); gameday check says more")
    else:
        _print_status(seen)
    if not seen["well"]:
        raise typer.Exit(EXIT_NO_VERDICT)


@app.command()
def check(
    as_json: AsJson = False,
    looking: Annotated[
        bool,
        typer.Option("--look", help="Also read each hop's newest records, and hold the hops against each other."),
    ] = False,
) -> None:
    """The configuration against the running stack: what was found, what may be touched, what each test would skip and
    why. Exit 3 when something wasn't found or, with --look, is not as it is declared; or when no test can run."""
    _quiet_prefect(None)  # only a channel that refers to a block of Prefect's needs it
    from flows import definitions
    from gameday.reports.found import found
    from tasks.survey import requirements

    stack = _stack()
    rows = requirements(stack, definitions())
    if looking:
        from tasks.look import look

        rows += look(stack)
    if as_json:
        out.print_json(json.dumps(rows))
    else:
        out.print(found(rows))
    tests = [row["ok"] for row in rows if row["what"].startswith("test ")]
    if not any(tests) or not all(row["ok"] for row in rows if not row["what"].startswith("test ")):
        raise typer.Exit(EXIT_NO_VERDICT)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """The failure tests: their questions, parameters and targets."""
    from flows import definitions
    from tasks.definition import described, parameter_sets, question, required

    config, _ = _configuration()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "question": question(test),
            "parameters": described(test),
            "mttr_max_s": test(**dict.fromkeys(required(test), "")).mttr_max_s,
            "nightly": parameter_sets(test, config),
        }
        for name, test in definitions().items()
    ]
    if as_json:
        out.print_json(json.dumps(rows))
        return
    table = Table("test", "question", "parameter sets", "MTTR target", box=None, pad_edge=False)
    for row in rows:
        sets = "\n".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in row["nightly"])
        table.add_row(row["name"], row["question"], sets, f"{row['mttr_max_s']:g} s")
    out.print(table)


# ---- running -----------------------------------------------------------------------------------------------


@app.command()
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
    config, down = _configuration()
    _quiet_prefect(config)
    from flows.nightly import carry_out
    from gameday.run import new_id
    from gameday.stack.config import default_path
    from tasks.night import Night, night

    stack: Any = None if config is None else _stack()
    chosen = _choose(names or [], variants, param or [], stack)  # bad usage is told whether or not the stack is up
    for path in (json_file, junit_file):
        _writable(path)
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
        _explain(e)  # and what was found before it stands
    finally:
        night.reset(token)
        _tell(here, json_file, junit_file)
    raise typer.Exit(_exit_code(here))


@app.command()
def abort() -> None:
    """Undo what a running test broke, now, from any terminal; that run's verdict becomes unknown."""
    from gameday.undo import mending

    state = State.default()
    healed = mending.abort(state)
    if not healed and Journal(state.journal).open_acts():  # run and guardian died, and nobody has mended since
        healed = mending.heal_open(_stack(), by="gameday abort", why="its run and its guardian were gone")
    out.print(
        "aborted; " + ("mended: " + ", ".join(_act(a) for a in healed) if healed else "nothing was broken"),
    )


@app.command()
def heal(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is open and what would be done.")] = False,
    displace: Annotated[
        str | None,
        typer.Option(
            metavar="MACHINE", help="First take the stack from a run on that machine, which is gone for good."
        ),
    ] = None,
) -> None:
    """Mend whatever a run left broken. A live run is aborted first."""
    from gameday.undo import mending

    stack = _stack()
    if displace is not None and not dry_run:
        from gameday.undo import claim

        run = claim.displace(stack.config.history.get_secret_value(), stack.name, displace)
        out.print(f"run {run} on machine {displace} has lost the stack")
    if dry_run:
        told = [_would(entry) for entry in Journal(stack.state.journal).open_entries()]
    else:
        acts = mending.heal_open(stack, by="gameday heal", why="asked on the command line")
        told = [f"mended {_act(act)} of run {act.run}" for act in acts]
    for line in told or ["nothing is open"]:
        out.print(line)


@app.command()
def hold(
    until: Annotated[
        str | None, typer.Option(help="When the hold ends: ISO time or hours such as 8h (default: until release).")
    ] = None,
) -> None:
    """Keep scheduled nights from starting."""
    from gameday.undo import lease

    lease.hold(State.default().ensure(), _moment(until))
    out.print(lease.hold_reason(State.default()) or "")


@app.command()
def release() -> None:
    """Let scheduled nights start again."""
    from gameday.undo import lease

    lease.release(State.default())
    out.print("scheduled nights start again")


# ---- failpoints by hand ----------------------------------------------------------------------------------

Role = Annotated[str, typer.Argument(help="A component, as `gameday status` names it.")]
PointName = Annotated[str, typer.Argument(metavar="POINT", help="See `gameday failpoints list COMPONENT`.")]


@failpoints.command(name="list")
def list_points(
    component: Annotated[str | None, typer.Argument(help="Only this component's.")] = None, as_json: AsJson = False
) -> None:
    """Every point with what it stands for, what is armed there, and how often it was hit and fired."""
    from concurrent.futures import ThreadPoolExecutor

    stack = _stack()
    named = [role for role, c in stack.config.components.items() if c.points is not None]
    roles = [component] if component else named
    with ThreadPoolExecutor(len(roles) or 1) as pool:
        found = dict(zip(roles, pool.map(lambda points: points.listed(), map(stack.points, roles)), strict=True))
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("component", "point", "armed", "left", "hits", "fired", "stands for", box=None, pad_edge=False)
    for role, listed in found.items():
        for name, p in listed.items():
            left = "" if p["left_s"] is None else f"{p['left_s']:.0f} s"
            hits = "" if p["evaluated"] is None else str(p["evaluated"])
            table.add_row(role, name, p["term"] or "", left, hits, str(p["fired"]), p["about"])
    out.print(table)
    for role in [role for role, listed in found.items() if not listed]:
        out.print(f"{role}: no process listens. Remedy: start it with FAILPOINTS_ENABLE=1")


@failpoints.command()
def arm(
    component: Role,
    point: PointName,
    term: Annotated[str, typer.Argument(help="What is to happen at which hits, such as 3@kill: failpoints/README.md.")],
    ttl_s: Annotated[float, typer.Option(min=0.1, max=86400, help="It disarms itself after so long.")] = TTL_S,
) -> None:
    """Arm a point by hand, for a while, while no run holds the stack. Only in components that may be broken.

    It is not journalled: the process itself undoes it, at the end of the time to live or at its own.
    """
    from gameday.undo import mending

    stack = _stack()
    stack.touchable(component)
    points = stack.points(component)
    with mending.take_to_mend(stack):
        points.arm(point, term, ttl_s, "gameday failpoints arm")
    out.print(f"{point} of {component} is armed for {ttl_s:g} s: {term}")


@failpoints.command()
def disarm(component: Role, point: PointName) -> None:
    """Disarm a point, and let go who is paused there. During a run that armed it, this makes the run unknown."""
    stack = _stack()
    stack.touchable(component)
    stack.points(component).disarm(point)
    out.print(f"{point} of {component} is not armed")


@failpoints.command()
def wait(
    component: Role,
    point: PointName,
    fired: Annotated[int, typer.Option(min=1, help="So often since it was armed.")] = 1,
    within_s: Annotated[float, typer.Option(min=0.1, max=600)] = 30.0,
) -> None:
    """Wait until an armed point has fired. Exit 3 when it hasn't in time, or is not armed (any more)."""
    points = _stack().points(component)
    points.wait(point, fired, within_s)
    for last in points.firings(point)[-1:]:
        how = f"{last['action']} at hit {last['hit']} in pid {last['pid']}"
        out.print(f"{point} of {component} fired: {how}")


# ---- afterwards ------------------------------------------------------------------------------------------


@app.command()
def history(
    name: Annotated[str | None, typer.Argument(help="One failure test.")] = None,
    as_json: AsJson = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="How many runs, newest first.")] = 30,
    every: Annotated[bool, typer.Option("--all", help="Of every stack that shares this Postgres.")] = False,
) -> None:
    """How the tests went: MTTR and verdict of the last 30 runs, median, p95, trend. With NAME, or as Markdown or JSON,
    also run by run."""
    from gameday.past import history as past
    from gameday.reports import results, table
    from gameday.stack.config import load
    from gameday.verdict import trend

    config = load()
    dsn = config.history.get_secret_value()
    past.import_missing(dsn, State.default())
    test, stack = name.replace("-", "_") if name else None, None if every else config.name
    listed = past.runs(dsn, test=test, stack=stack, limit=limit) if name or as_json or markdown else []
    if as_json:
        out.print_json(json.dumps(results.to_json("history", listed)))
        return
    found = past.histories(dsn, trend.HISTORY_MAX, test=test, stack=stack)
    if markdown:
        typer.echo(f"{table.markdown(listed)}\n{table.histories_markdown(found)}", nl=False)
        return
    if listed:
        out.print(table.history(listed))
    out.print(table.histories(found) if found else "no runs yet. Remedy: gameday run --all")


@app.command()
def report(
    night: Annotated[str | None, typer.Argument(help="One night: its id or how that begins, or last.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Where the report is: the index of all nights, or the page of one."""
    import webbrowser

    from gameday.reports import site

    state = State.default()
    known = [path.parent.name for path in state.published()]
    if not known:
        raise NotUp("there is no report yet. Remedy: gameday run --all")
    index = site.refresh(state)
    found = index if night is None else state.report(_night(night, known))
    out.print(str(found))
    if open_ and not webbrowser.open(found.as_uri()):
        raise GamedayError(f"no browser could be opened. Remedy: open {found} yourself")


@app.command()
def selftest(as_json: AsJson = False) -> None:
    """Prove the checks against planted faults."""
    from gameday.verdict import selftest as proof

    findings = proof.run()
    if as_json:
        out.print_json(json.dumps([{"check": f.check, "verdict": str(f.verdict), "why": f.why} for f in findings]))
    else:
        for f in findings:
            out.print(f"{f.verdict!s:8} {f.check}: {f.why}")
    if any(f.verdict is not Verdict.PASS for f in findings):
        raise typer.Exit(EXIT_NO_VERDICT)


@app.command()
def new(
    what: Annotated[str, typer.Argument(metavar="[driver] NAME", help="A failure test, such as broker_disk_full.")],
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Write the two files of a new failure test: NAME.py and NAME.md, in the folders that gameday.toml names. Or, by
    `gameday new driver NAME`, a driver and its tests beside gameday.toml: docs/drivers.md."""
    from deployments import scaffold
    from gameday.stack.config import default_path, folder_of_runbooks, folder_of_tests

    if what == "driver" and name is not None:
        paths, lines = scaffold.driver(name, default_path().resolve().parent)
        for path in paths:
            out.print(str(path))
        out.print(f"\nIts tests pass: pytest {paths[1]}\nFor gameday.toml, each key a field of the class:\n")
        out.print(lines, markup=False, highlight=False)
        return
    if what == "driver" or name is not None:
        raise ConfigError(
            f"gameday new {what}{f' {name}' if name else ''}. Remedy: gameday new NAME for a failure test, "
            "gameday new driver NAME for a driver"
        )
    for path in scaffold.scaffold(what, folder_of_tests(), folder_of_runbooks()):
        out.print(str(path))


# ---- helpers -----------------------------------------------------------------------------------------------


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
        code = _explain(e)
    if code == EXIT_INTERRUPTED:
        err.print(f"interrupted{_left()}")
    out.file.flush()
    for line in console.lost():
        err.print(f"gameday: {line}. The exit code says what was found")
    gc.freeze()  # else Python looks for garbage once more as it ends, in all that was imported: a tenth of a status
    sys.exit(code)


def _explain(error: Exception) -> int:
    """Say what went wrong; the exit code for it. What gameday can't explain is a bug, and told with where it is."""
    if isinstance(error, GamedayError):
        err.print(f"gameday: {error}", style="red")
        return error.exit_code
    err.print("".join(traceback.format_exception(error)))
    return EXIT_NO_VERDICT


def _left() -> str:
    """What an interrupted command says about what may be broken."""
    try:
        left = Journal(State.default().journal).open_acts()
    except GamedayError as e:
        return f"; whether something is broken is not known: {e}"
    if left:
        return f"; not mended yet: {', '.join(map(_act, left))}. Remedy: gameday heal"
    return "; everything that was broken has been mended"


def say(text: str) -> None:
    """One line of progress, with the time."""
    out.print(f"{datetime.now():%H:%M:%S} {text}")


def _stack() -> Any:
    from gameday.stack.live import open_stack

    return open_stack()


def _configuration() -> tuple[StackConfig | None, NotUp | None]:
    """The configuration, or why it can't be known before the stack is up."""
    from gameday.stack.config import load

    try:
        return load(), None
    except NotUp as e:
        return None, e


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


def _quiet_prefect(config: StackConfig | None) -> None:
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
    given = dict(_split(p) for p in params)
    flow = find(names[0])
    return [(flow, parameters(flow, given))]


def _split(param: str) -> tuple[str, str]:
    name, equals, value = param.partition("=")
    if not equals:
        raise ConfigError(f"{param!r} is not NAME=VALUE")
    return name, value


def _night(wanted: str, known: list[str]) -> str:
    """The one night that is meant."""
    found = known[-1:] if wanted == "last" else [name for name in known if name.startswith(wanted)]
    if wanted in found:
        return wanted
    if len(found) != 1:
        told = f"more than one night: {', '.join(found[-5:])}" if found else f"no night; the newest is {known[-1]}"
        raise ConfigError(f"{wanted!r} is {told}. Remedy: gameday report shows them all")
    return found[0]


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
        _explain(e)


def _writable(path: Path | None) -> None:
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


def _write(path: Path, text: str) -> None:
    """What was found stands, also where it can't be written any more: that is said, and changes no exit code."""
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as e:
        err.print(
            f"gameday: {path} can't be written: {e.strerror}. The results are also in the state folder: gameday report",
            style="red",
        )


def _moment(text: str | None) -> datetime | None:
    """An ISO time (UTC when it names no zone) or a number of hours such as 8h."""
    if text is None:
        return None
    try:
        if text.endswith("h"):
            return datetime.now(UTC) + timedelta(hours=float(text[:-1]))
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigError(f"--until {text!r} is neither an ISO time (2026-01-31T08:00) nor hours (8h)") from e
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _act(act: Any) -> str:
    return f"{act.fault} of {act.args.get('component', '?')}"


def _would(entry: Entry) -> str:
    """What healing would do for one open act, and to whom."""
    from gameday.stack.live import fault_from

    act = entry.act
    owner = "would be aborted first" if entry.owner.alive else "is gone"
    when = datetime.fromtimestamp(act.at_us / 1e6, UTC)
    undo = fault_from(act.fault, act.args).undo
    return f"would mend {_act(act)}: {undo} (since {when:%H:%M:%S} UTC, by run {act.run}, which {owner})"


def _print_status(seen: dict[str, Any]) -> None:
    components = Table("component", "runs", "answers", "may be broken", box=None, pad_edge=False)
    for row in seen["components"]:
        components.add_row(row["name"], row["runs"], row["answers"], "yes" if row["opt_in"] else "no")
    out.print(components)
    if seen["streams"]:
        out.print()
        streams = Table("stream", "ledger", "visible", "behind", box=None, pad_edge=False)
        several = len({row["stream"] for row in seen["streams"]}) > 1
        for row in seen["streams"]:
            named = (row["stream"] if several or not row["group"] else "", row["group"])
            figures = (str(row[name]) for name in ("ledger", "visible", "behind"))
            streams.add_row(" ".join(filter(None, named)), *figures)
        out.print(streams)
    if seen["links"]:
        out.print()
        links = Table("link", "state", box=None, pad_edge=False)
        for row in seen["links"]:
            links.add_row(row["name"], _link(row))
        out.print(links)
    out.print()
    for line in seen["notes"]:
        out.print(line)


def _link(row: dict[str, Any]) -> str:
    """A link's state in words."""
    if "trouble" in row:
        return str(row["trouble"])
    toxics = ", ".join(str(toxic["name"]) for toxic in row["toxics"])
    return ("whole" if row["enabled"] else "cut") + (f", with {toxics}" if toxics else "")
