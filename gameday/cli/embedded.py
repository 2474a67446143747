"""The embedded stack: start and stop all of it; and one component of any stack."""

from __future__ import annotations

from typing import Annotated

import typer

from gameday.cli.shared import opened_stack, out, say
from gameday.errors import Busy
from gameday.state import State

__all__ = ["down", "start", "up"]


def up(
    own: Annotated[
        bool, typer.Option("--own", help="Only gameday's own Postgres and Prefect server, for a platform of yours.")
    ] = False,
) -> None:
    """Start the reference platform; ready means that every probe is good. Doing it twice does nothing twice."""
    from compose.own import SERVERS
    from compose.up import up as start
    from gameday.stack.reading import default_path, platform_of

    if own:
        start(State.default().ensure(), say, only=SERVERS)
    else:
        start(State.default().ensure(), say, platform=platform_of(default_path()))


def down() -> None:
    """Stop the reference platform. Nothing of it stays running; its data stay."""
    from compose.up import down as stop
    from gameday.undo import lease

    if (holder := lease.holder(State.default())) is not None:
        raise Busy(f"the stack is held by {holder}. Remedy: await its end, or gameday abort")
    stop(State.default(), say)


def start(component: Annotated[str, typer.Argument(help="A component, as `gameday status` names it.")]) -> None:
    """Start one component that was stopped, wherever it runs: what a runbook does about it. Only one that may be
    touched."""
    stack = opened_stack()
    stack.touchable(component)
    stack.host(component).start(component)
    out.print(f"{component} runs")
