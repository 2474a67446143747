"""`gameday failpoints`: look at the points in the code of running components, arm and disarm them by hand."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from gameday.cli.shared import AsJson, opened_stack, out

__all__ = ["failpoints"]

failpoints = typer.Typer(no_args_is_help=True, help="Failpoints in the code of running components: look, arm, disarm.")

TTL_S = 60.0
"""How long a point that is armed by hand stays armed."""

Role = Annotated[str, typer.Argument(help="A component, as `gameday status` names it.")]
PointName = Annotated[str, typer.Argument(metavar="POINT", help="See `gameday failpoints list COMPONENT`.")]


@failpoints.command(name="list")
def list_points(
    component: Annotated[str | None, typer.Argument(help="Only this component's.")] = None, as_json: AsJson = False
) -> None:
    """Every point with what it stands for, what is armed there, and how often it was hit and fired."""
    from concurrent.futures import ThreadPoolExecutor

    stack = opened_stack()
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

    stack = opened_stack()
    stack.touchable(component)
    points = stack.points(component)
    with mending.take_to_mend(stack):
        points.arm(point, term, ttl_s, "gameday failpoints arm")
    out.print(f"{point} of {component} is armed for {ttl_s:g} s: {term}")


@failpoints.command()
def disarm(component: Role, point: PointName) -> None:
    """Disarm a point, and let go who is paused there. During a run that armed it, this makes the run unknown."""
    stack = opened_stack()
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
    points = opened_stack().points(component)
    points.wait(point, fired, within_s)
    for last in points.firings(point)[-1:]:
        how = f"{last['action']} at hit {last['hit']} in pid {last['pid']}"
        out.print(f"{point} of {component} fired: {how}")
