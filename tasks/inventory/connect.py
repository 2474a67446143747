"""The connectors of Kafka Connect: what they copy, and whether their tasks run. An answer of another shape raises as
Python does."""

from __future__ import annotations

import json
from http import HTTPStatus

from gameday.errors import DriverError
from gameday.stack.init.seen import Connector, Connectors
from gameday.system.http import Unanswered, ask

__all__ = ["connect"]

ASK_WITHIN_S = 5.0
CONNECTORS_MAX = 50

TOLD = (
    "topics",
    "topics.regex",
    "topic.prefix",
    "database.hostname",
    "database.dbname",
    "table.include.list",
    "collection.include.list",
    "slot.name",
    "publication.name",
    "snapshot.mode",
    "errors.tolerance",
    "errors.deadletterqueue.topic.name",
    "insert.mode",
    "pk.mode",
    "pk.fields",
    "delete.enabled",
)
"""Settings that say what it copies and what becomes of a record that comes twice, can't be read, or is deleted. No
other is looked at: among them are passwords."""


def connect(url: str) -> tuple[Connectors, list[str]]:
    """What there is, and which tasks don't run. Raises DriverError where it doesn't answer."""
    url = url.rstrip("/")
    try:
        answer = ask("GET", f"{url}/connectors?expand=info&expand=status", ASK_WITHIN_S)
        if answer.status != HTTPStatus.OK:
            raise DriverError(f"Kafka Connect at {url} answered {answer.status}: {answer.body[:200]!r}", definite=True)
        told = json.loads(answer.body)
        found = [
            Connector(
                name=str(name),
                source=one["status"]["type"] == "source",
                kind=str(one["info"]["config"].get("connector.class", "")).rpartition(".")[2],
                state=str(one["status"]["connector"]["state"]),
                tasks=[str(task["state"]) for task in one["status"]["tasks"]],
                settings={key: str(v) for key in TOLD if (v := one["info"]["config"].get(key)) is not None},
            )
            for name, one in sorted(told.items())
        ]
    except Unanswered as e:
        raise DriverError(f"Kafka Connect at {url}: {e}", definite=True) from e
    troubles = [
        f"connector {one.name} is {one.state}, its tasks {', '.join(one.tasks) or 'none'}: gameday begins no test on it"
        for one in found
        if not one.runs
    ]
    return Connectors(url, found[:CONNECTORS_MAX], max(0, len(found) - CONNECTORS_MAX)), troubles
