"""Does what follows a night, or a single run: corrects history, publishes gameday's own metrics, removes what is older
than `[retention]` keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gameday import codec
from gameday.errors import GamedayError
from gameday.past import history
from gameday.reports import metrics, site
from gameday.stack.live import Stack
from gameday.undo.journal import Journal

if TYPE_CHECKING:
    from tasks.night import Night

__all__ = ["publish"]


def publish(here: Night, stack: Stack) -> None:
    """Correct history, publish metrics, remove old runs. Never raises: what goes wrong is said, and no verdict depends
    on it."""

    def attempt(what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as e:  # noqa: BLE001 - whatever it is, the results are kept and judged already
            here.tell(f"{what}: {e if isinstance(e, GamedayError) else repr(e)}")

    if not here.trusted:
        attempt("history", lambda: _amend(here, stack))
    if (completed := here.completed) is not None:
        dsn = stack.config.history.get_secret_value()
        attempt("history", lambda: history.complete_night(dsn, here.id, stack.name, completed))
    attempt("metrics", lambda: _metrics(here, stack))
    attempt("retention", lambda: _forget(here, stack))


def _amend(here: Night, stack: Stack) -> None:
    """Record the runs again, as unknown: the night's checks missed a planted fault, so no verdict can be believed."""
    for result in here.judged():
        codec.write_json(stack.state.run(result.id) / "result.json", result)
        history.record(stack.config.history.get_secret_value(), result)


def _metrics(here: Night, stack: Stack) -> None:
    for trouble in metrics.publish(stack.config, stack.state, here.judged(), here.completed):
        here.tell(f"metrics: {trouble}")


def _forget(here: Night, stack: Stack) -> None:
    journal = Journal(stack.state.journal)
    if journal.damaged():
        return  # an act that can't be read may be open, so its run must stay
    keep_days = stack.config.retention.keep_days
    gone = history.forget(
        stack.config.history.get_secret_value(),
        stack.state,
        stack.name,
        keep_days,
        keep={act.run for act in journal.open_acts()},
        now=datetime.now(UTC),
    )
    if gone.nights:
        site.refresh(stack.state)
    if gone.runs or gone.nights:
        here.tell(f"retention: removed {gone.runs} runs and {gone.nights} nights older than {keep_days} days")
