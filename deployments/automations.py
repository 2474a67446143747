"""The watchman is watched: Prefect itself tells when a run of gameday's own failed, crashed, fell silent, or did not
begin.

Registered by register.py. What a run does about its own faults is guardian.py's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from prefect.automations import (
    Automation,
    CallWebhook,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    ResourceSpecification,
)
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from pydantic import SecretStr

__all__ = ["SILENT_S", "automate"]

SILENT_S = 95.0
"""Three heartbeats (Prefect sends none closer than 30 s) and some time for their way."""

BEGINS_S = 120.0
"""After Prefect has called a run late: time for a worker to come back."""

OURS = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.gameday"})
RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
HEARTBEAT, LATE, RUNNING, CRASHED, *OTHERS = (
    f"prefect.flow-run.{name}"
    for name in ("heartbeat", "Late", "Running", "Crashed", "Completed", "Skipped", "Failed", "Cancelled")
)
FAILED = {"prefect.flow-run.Failed", "prefect.flow-run.Fail"}
"""Failed: it ended by an error, without a verdict; nobody else tells that. Fail: with this verdict."""

ASKED_FOR = ResourceSpecification({"prefect.resource.role": "deployment"})
"""Of a night itself, not of each test in it, and not of what somebody runs at a terminal."""

ENDS = {CRASHED, *OTHERS, "prefect.flow-run.Unknown", "prefect.flow-run.Invalid", "prefect.flow-run.Fail"}
"""An event is named after the state's name, and ours are named after verdicts."""

BLOCK = "gameday-watchman"
PAYLOAD = """{"about": "gameday itself: %s", "flow": "{{ flow.name }}", "run": "{{ flow_run.name }}",
 "remedy": "gameday status, gameday heal; see docs/undo.md"}"""


def automate(alert_url: SecretStr | None, silent_s: float = SILENT_S) -> list[str]:
    """Create or replace the automations; their names. alert_url None: nobody is told, but a silent run is marked
    Crashed."""
    block = Webhook(url=alert_url, method="POST").save(BLOCK, overwrite=True) if alert_url is not None else None

    def tell(what: str) -> list[Any]:
        return [CallWebhook(block_document_id=cast("Any", block), payload=PAYLOAD % what)] if block else []

    crashed = EventTrigger(expect={CRASHED}, match=RUNS, match_related=OURS, posture=Posture.Reactive, threshold=1)
    failed = EventTrigger(
        expect=FAILED, match=RUNS, match_related=[OURS, ASKED_FOR], posture=Posture.Reactive, threshold=1
    )
    # Not forced: a heartbeat may arrive after the end of its run, and a final state is final.
    dead = ChangeFlowRunState(
        name=None, force=False, state=StateType.CRASHED, message=f"no heartbeat for {silent_s:g} s"
    )
    wanted = [
        Automation(
            name="gameday: a run crashed",
            description="Its guardian has mended what it had broken.",
            trigger=crashed,
            actions=tell("a run crashed"),
        ),
        Automation(
            name="gameday: a run failed",
            description="A night, or a test that was asked for, ended with the verdict fail or without any.",
            trigger=failed,
            actions=tell("a run failed"),
        ),
        Automation(
            name="gameday: a run fell silent",
            description="Its machine died, or it is frozen. Marked Crashed, which is told.",
            trigger=_missing({HEARTBEAT, *ENDS}, after=HEARTBEAT, within_s=silent_s),
            actions=[dead],
        ),
        Automation(
            name="gameday: a run did not begin",
            description="Its worker is away: nothing is being tested.",
            trigger=_missing({RUNNING, *ENDS}, after=LATE, within_s=BEGINS_S),
            actions=tell("a run did not begin"),
        ),
    ]
    with get_client(sync_client=True) as client:
        for known in [one for automation in wanted for one in client.read_automations_by_name(automation.name)]:
            client.delete_automation(known.id)
    useful = [automation for automation in wanted if automation.actions]
    for automation in useful:
        automation.create()
    return [automation.name for automation in useful]


def _missing(expect: set[str], after: str, within_s: float) -> EventTrigger:
    """For each run of ours: nothing that was expected came in time."""
    return EventTrigger(
        after={after},
        expect=expect,
        match=RUNS,
        match_related=OURS,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=within_s),
    )
