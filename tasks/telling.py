"""Telling people through the stack's channels, from the steps and from the night. Nothing here raises or changes a
verdict.

What is told is gameday/telling/messages.py's, how it is delivered gameday/telling/courier.py's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from gameday import codec
from gameday.errors import ConfigError, GamedayError
from gameday.model import Finding, Message, RunResult, Verdict
from gameday.stack.live import Stack
from gameday.state import runbook_of
from gameday.telling import messages
from gameday.telling.courier import DELIVER_S, NIGHT_DELIVER_S, Courier
from gameday.telling.messages import Places
from gameday.verdict import diagnose

__all__ = ["machine", "now", "places", "secret", "tell", "tell_night"]

Say = Callable[[str], None]


def tell(
    stack: Stack,
    say: Say,
    night: str,
    wanted: Callable[[Sequence[Message]], Sequence[Message]],
    within_s: float = DELIVER_S,
) -> list[str]:
    """Tell what is wanted, given what this night has told already, and try again what earlier runs could not tell.

    What is not delivered is said, and returned.
    """
    if not stack.config.channels:
        return []
    try:
        courier = Courier(stack, secret)
        courier.post(*wanted(courier.told(night)))
        left = courier.deliver(within_s)
    except Exception as e:  # noqa: BLE001 - whatever keeps people from being told, what was found stands
        left = [f"nobody was told: {e if isinstance(e, GamedayError) else type(e).__name__}"]
    for line in left:
        say(line)
    return left


def tell_night(
    stack: Stack, say: Say, night: str, results: Sequence[RunResult], findings: Sequence[Finding]
) -> list[str]:
    """The night's message, with its runs in the thread below. A lone run that was told at once is not told twice."""

    def wanted(told: Sequence[Message]) -> Sequence[Message]:
        bad = [f for f in findings if f.verdict not in (Verdict.PASS, Verdict.SKIPPED)]
        if not results or (len(results) == 1 and not bad and any(m.kind == "fail" for m in told)):
            return []
        lone = results[0].test if len(results) == 1 else None
        summary = messages.night(night, stack.name, results, findings, places(stack, night, lone), now())
        rows = [(r, _culprits(stack, r), places(stack, night, r.test, flow=False)) for r in results]
        return [summary, *messages.details(summary, rows, now())]

    return tell(stack, say, night, wanted, NIGHT_DELIVER_S)


def places(stack: Stack, night: str, test: str | None, flow: bool = True) -> Places:
    """Where the rest stands. flow: whether the flow run that is under way belongs to it."""
    public, state = stack.config.public, stack.state
    report = (
        f"{_folder(public.reports_url)}{night}/report.html"
        if public.reports_url
        else str(state.night(night) / "report.html")
    )
    runbook = None
    if test is not None:
        url = public.runbooks_url
        runbook = f"{_folder(url)}{test}.md" if url else runbook_of(stack.runbooks_shown, test)
    context = FlowRunContext.get() if flow else None
    run = context.flow_run if context is not None else None
    ui = stack.config.prefect.ui_url
    return Places(report, runbook, f"{_folder(ui)}runs/flow-run/{run.id}" if run is not None and ui else None)


def secret(name: str) -> str:
    """The value of a Secret block of Prefect's. ConfigError when there is none, or no Prefect: never with its value."""
    try:
        with get_client(sync_client=True) as client:
            return str(client.read_block_document_by_name(name, "secret").data["value"])
    except Exception as e:  # noqa: BLE001 - of what Prefect raises only the kind is told
        raise ConfigError(
            f"Prefect gives no Secret block {name!r} ({type(e).__name__}). Remedy: prefect block create secret, or the "
            f"page Blocks of its UI"
        ) from None


def machine() -> str:
    """Where the run is, for who wants to stop it."""
    return socket.gethostname()


def now() -> datetime:
    return datetime.now(UTC)


def _culprits(stack: Stack, result: RunResult) -> list[str]:
    """The guilty hops and ids of a run that failed, from what it left."""
    if result.verdict is not Verdict.FAIL:
        return []
    try:
        return diagnose.culprits(codec.load_evidence(stack.state.run(result.id)))
    except GamedayError:
        return []


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"
