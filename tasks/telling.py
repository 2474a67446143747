"""Sends messages to people through the stack's channels, for the steps and for the night. Nothing here raises or
changes a verdict.

gameday/telling/messages.py makes the messages, gameday/telling/courier.py delivers them.
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
    """Send messages, and try again those that earlier runs could not send.

    Args:
        wanted: makes the messages, given those that this night has sent already.
        within_s: how long the delivery may take.

    Returns: why messages were not delivered, one line each; the user is told too.
    """
    if not stack.config.channels:
        return []
    try:
        courier = Courier(stack, secret)
        courier.post(*wanted(courier.told(night)))
        undelivered = courier.deliver(within_s)
    except Exception as e:  # noqa: BLE001 - whatever goes wrong with a message, the verdict stays
        undelivered = [f"nobody was told: {e if isinstance(e, GamedayError) else type(e).__name__}"]
    for line in undelivered:
        say(line)
    return undelivered


def tell_night(
    stack: Stack, say: Say, night: str, results: Sequence[RunResult], findings: Sequence[Finding]
) -> list[str]:
    """Send the night's message, with its runs in the thread below.

    A night of one run whose fail was sent already sends nothing more.
    """

    def wanted(told: Sequence[Message]) -> Sequence[Message]:
        bad_findings = [f for f in findings if f.verdict not in (Verdict.PASS, Verdict.SKIPPED)]
        if not results or (len(results) == 1 and not bad_findings and any(m.kind == "fail" for m in told)):
            return []
        only_test = results[0].test if len(results) == 1 else None
        summary = messages.night(night, stack.name, results, findings, places(stack, night, only_test), now())
        rows = [(r, _culprits(stack, r), places(stack, night, r.test, flow=False)) for r in results]
        return [summary, *messages.details(summary, rows, now())]

    return tell(stack, say, night, wanted, NIGHT_DELIVER_S)


def places(stack: Stack, night: str, test: str | None, flow: bool = True) -> Places:
    """Return where a message's reader finds the rest: report, runbook, flow run.

    Args:
        test: the test whose runbook is named; None: no runbook.
        flow: whether the present flow run belongs to the message.
    """
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
    """Return the value of a Secret block of Prefect.

    Raises:
        ConfigError: Prefect does not answer, or has no such block. The error never contains the value.
    """
    try:
        with get_client(sync_client=True) as client:
            return str(client.read_block_document_by_name(name, "secret").data["value"])
    except Exception as e:  # noqa: BLE001 - only the error's type is shown: its text might have the secret
        raise ConfigError(
            f"Prefect gives no Secret block {name!r} ({type(e).__name__}). Remedy: prefect block create secret, or the "
            f"page Blocks of its UI"
        ) from None


def machine() -> str:
    """Return this machine's name, so that the reader of a message knows where to stop the run."""
    return socket.gethostname()


def now() -> datetime:
    return datetime.now(UTC)


def _culprits(stack: Stack, result: RunResult) -> list[str]:
    """Return the hops and ids that a failed run found at fault, from the evidence in its folder."""
    if result.verdict is not Verdict.FAIL:
        return []
    try:
        return diagnose.culprits(codec.load_evidence(stack.state.run(result.id)))
    except GamedayError:
        return []


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"
