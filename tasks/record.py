"""Keeps what a run found: in its folder first, then in history (gameday's Postgres), then as artifacts in Prefect."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from gameday import codec
from gameday.errors import GamedayError
from gameday.model import RunResult
from gameday.past import history
from gameday.reports import table
from gameday.run import Run

__all__ = ["record", "store"]


@task(name="record", cache_policy=NO_CACHE)
def record(run: Run, result: RunResult) -> None:
    """Store the result, and show it in Prefect."""
    store(run, result)
    if FlowRunContext.get() is not None:
        try:
            _artifacts(run, result)
        except Exception as e:  # noqa: BLE001 - the folder and history have what Prefect doesn't show
            run.say(f"{run.name}: no artifacts in Prefect: {e!r}")


def store(run: Run, result: RunResult) -> None:
    """Write result.json in the run's folder, then copy it to history.

    The file is what counts. A result that can't be copied now is copied by a later run.
    """
    dsn = run.stack.config.history.get_secret_value()
    try:
        codec.write_json(run.folder / "result.json", codec.encode(result))
    except GamedayError as e:
        run.say(f"{run.name}: only in history: {e}")
    try:
        history.record(dsn, result)
    except GamedayError as e:
        run.say(f"{run.name}: not yet in history, kept in {run.folder}: {e}")


def _artifacts(run: Run, result: RunResult) -> None:
    """Make a table, a text and a link for the run, under keys that stay the same from night to night."""
    key = run.name.replace("_", "-")
    create_table_artifact(
        key=f"{key}-findings",
        table=[{"check": f.check, "verdict": str(f.verdict), "why": f.why} for f in result.findings],
        description=f"What the checks of {run.name} found",
    )
    create_markdown_artifact(key=f"{key}-result", markdown=table.markdown([result]), description=result.why)
    report = run.stack.state.report(run.night)
    create_link_artifact(key=f"{key}-report", link=report.as_uri(), link_text=f"report of {run.night}")
