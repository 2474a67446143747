"""What a gameday.toml says of logs that are not Kafka's: where they are, how far their consumers have come, and the
canary's records for them. And what an object store holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from gameday.stack.init.seen import Broker, ObjectStore, Topic

__all__ = ["KINDS", "aside", "cursors", "kept", "probe", "reached", "record"]

KINDS = {"kafka": "broker", "nats": "nats", "redis_streams": "redis"}
"""Driver of a log -> what kind of component keeps it."""

CONSUMER = {"nats": "consumer", "redis_streams": "group"}

LISTED_MAX = 12

NUMBER = re.compile(r'("\s*:\s*)(\{(?:n|now_ms|now_s)\})')
"""A place of a template where a number stands in an object of JSON."""


class Page(Protocol):
    """The file as it grows, as written.py has it."""

    def table(self, header: str, *notes: str) -> None: ...

    def set(self, key: str, value: Any, why: str = "", question: str = "") -> None: ...

    def literal(self, key: str, text: str) -> None: ...

    def ask(self, question: str) -> None: ...

    def note(self, text: str) -> None: ...

    def hidden(self, url: str, name: str) -> str: ...


def reached(page: Page, log: Broker, why: str = "") -> None:
    """Driver and address, in a table that names one."""
    page.set("driver", log.driver)
    page.set("url", page.hidden(log.address, KINDS[log.driver].upper()), why)


def kept(page: Page, topics: Sequence[Topic]) -> None:
    """What tells how a message lies in the log; and what a log that forgets it is asked about."""
    fields = {topic.field for topic in topics}
    if len(fields) == 1 and (field := fields.pop()):
        page.set("field", field, "of each entry, an object of JSON")
    elif len(fields) > 1:
        told = ", ".join(f"{topic.name}: {topic.field or 'all of them'}" for topic in topics)
        page.note(f"The message is in different fields, so these must be hops of their own: {told}")
    for topic in topics:
        if topic.cleanup:
            page.ask(
                f"{topic.name} has the retention {topic.cleanup}: a message is gone once it is acknowledged, and what "
                "is gone can't be judged. Can it keep them (retention limits), or is another stream the reference?"
            )


def probe(log: Broker, url: str) -> dict[str, Any]:
    """How its server shows that it serves."""
    return {"driver": log.driver, "url": url}


def cursors(page: Page, log: Broker, topics: Iterable[str], slug: Any) -> None:
    """Each consumer of these streams."""
    mine = [
        (group.name, topic, left) for group in log.groups for topic, left in group.behind.items() if topic in topics
    ]
    for name, topic, left in mine[:LISTED_MAX]:
        alone = sum(other == name for other, *_ in mine) == 1
        page.table(f"cursors.{slug(name if alone else f'{topic}-{name}')}")
        reached(page, log)
        page.set("topic", topic)
        page.set(CONSUMER[log.driver], name, f"{left:,} messages left when it was looked at")
    if not mine:
        page.note(f"No {CONSUMER[log.driver]} of {', '.join(topics)} was found: nothing says how far anybody is")
    page.table("watches.serving", "Each stream hands out its last message.")
    page.set("driver", f"{log.driver}.Serving")
    page.set("url", page.hidden(log.address, KINDS[log.driver].upper()))
    page.set("topics", list(topics))
    page.set("rate_hz", 2)
    page.set("timeout_s", 2)


def record(page: Page, log: Broker, topic: Topic, text: str) -> None:
    """Where a canary's record goes, and what it is."""
    reached(page, log)
    if log.driver == "nats":
        page.set("subject", topic.subject, "of its newest message")
        page.literal("text", text)
        return
    page.set("topic", topic.name)
    values: Mapping[str, str] = {topic.field: text} if topic.field else _texts(text)
    page.set("values", values, "the fields of an entry")


def _texts(text: str) -> dict[str, str]:
    """A template of an object as the fields of an entry, which are all texts."""
    whole = json.loads(NUMBER.sub(r'\1"\2"', text))
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in whole.items()}


def aside(objects: ObjectStore) -> Iterator[str]:
    """What a store holds, one sentence a bucket."""
    for bucket in objects.buckets:
        tables = f"; Iceberg tables: {', '.join(bucket.tables[:LISTED_MAX])}" if bucket.tables else ""
        yield f"bucket {bucket.name}: {bucket.objects:,} objects{'' if bucket.whole else ' and more'}{tables}"
    if any(bucket.tables for bucket in objects.buckets):
        yield 'A table in Iceberg can be a hop by its catalog: driver = "iceberg" (docs/records.md)'
    if objects.unread:
        yield f"{objects.unread} more buckets were not looked into"
