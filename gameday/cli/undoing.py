"""Commands that undo what a run broke, and those that keep scheduled nights from starting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from gameday.cli.shared import opened_stack, out
from gameday.errors import ConfigError
from gameday.state import State
from gameday.undo.journal import Entry, Journal

__all__ = ["abort", "heal", "hold", "named", "release"]


def abort() -> None:
    """Undo what a running test broke, now, from any terminal; that run's verdict becomes unknown."""
    from gameday.undo import mending

    state = State.default()
    healed = mending.abort(state)
    if not healed and Journal(state.journal).open_acts():  # run and guardian died, and nobody has mended since
        healed = mending.heal_open(opened_stack(), by="gameday abort", why="its run and its guardian were gone")
    out.print(
        "aborted; " + ("mended: " + ", ".join(named(a) for a in healed) if healed else "nothing was broken"),
    )


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

    stack = opened_stack()
    if displace is not None and not dry_run:
        from gameday.undo import claim

        run = claim.displace(stack.config.history.get_secret_value(), stack.name, displace)
        out.print(f"run {run} on machine {displace} has lost the stack")
    if dry_run:
        told = [_would(entry) for entry in Journal(stack.state.journal).open_entries()]
    else:
        acts = mending.heal_open(stack, by="gameday heal", why="asked on the command line")
        told = [f"mended {named(act)} of run {act.run}" for act in acts]
    for line in told or ["nothing is open"]:
        out.print(line)


def hold(
    until: Annotated[
        str | None, typer.Option(help="When the hold ends: ISO time or hours such as 8h (default: until release).")
    ] = None,
) -> None:
    """Keep scheduled nights from starting."""
    from gameday.undo import lease

    lease.hold(State.default().ensure(), _moment(until))
    out.print(lease.hold_reason(State.default()) or "")


def release() -> None:
    """Let scheduled nights start again."""
    from gameday.undo import lease

    lease.release(State.default())
    out.print("scheduled nights start again")


def named(act: Any) -> str:
    return f"{act.fault} of {act.args.get('component', '?')}"


def _would(entry: Entry) -> str:
    """What healing would do for one open act, and to whom."""
    from gameday.stack.registry import fault_from

    act = entry.act
    owner = "would be aborted first" if entry.owner.alive else "is gone"
    when = datetime.fromtimestamp(act.at_us / 1e6, UTC)
    undo = fault_from(act.fault, act.args).undo
    return f"would mend {named(act)}: {undo} (since {when:%H:%M:%S} UTC, by run {act.run}, which {owner})"


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
