"""Counts the metrics of the router's programs: those that contract.toml declares, and no others.

Every series exists before its first event, so that a rise from 0 is seen. Counting raises ValueError for a label, or a
label's value, that is not in the contract, such as a message's id.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import generate_latest

__all__ = ["CONTRACT", "DEFECTS", "Metrics"]

CONTRACT = Path(__file__).with_name("contract.toml")

TYPES: Mapping[str, Any] = {"counter": Counter, "gauge": Gauge}

DELIVERED, REDELIVERED = "router_messages_delivered_total", "router_messages_redelivered_total"

OFTEN = 3
"""So many attempts and more are one value of the label `attempt`."""

DEFECTS: Mapping[str, str] = {
    "counts_twice": "a redelivery is counted twice",
    "counts_nak": "a redelivery is counted when a negative answer is given, not when the message comes again",
    "label_missing": "redeliveries have no label that tells the stream",
    "label_ids": "redeliveries have the message's id as a label",
    "never_told": "redeliveries are told once there is one, and not before",
}


class Metrics:
    """backend: over which broker the program runs. defect: one of DEFECTS."""

    def __init__(self, backend: str, defect: str = "") -> None:
        declared = tomllib.loads(CONTRACT.read_text())
        known = declared["variants"]["values"]
        if backend not in known:
            raise ValueError(f"backend {backend!r} is unknown. Remedy: one of {', '.join(known)}")
        self._defect, self._backend, self._registry = defect, backend, CollectorRegistry()
        self._values: dict[str, Mapping[str, Sequence[str]]] = {}
        self._made: dict[str, Any] = {}
        for name, one in declared["metrics"].items():
            if backend not in one.get("absent", ()):
                self._make(name, one, {**one.get("labels", {}), **one.get("only", {}).get(backend, {})})

    def published(self, stream: str, outcome: str) -> None:
        """Count one attempt to publish."""
        self._series("router_messages_published_total", stream=stream, outcome=outcome).inc()

    def delivered(self, stream: str, attempt: int, id: str) -> None:
        """Count one message of a fetch. id: for the log; no label has it."""
        often = f"{OFTEN}+" if attempt >= OFTEN else str(attempt)
        self._series(DELIVERED, stream=stream, attempt=often).inc()
        if attempt > 1 and self._defect != "counts_nak":
            self._redelivered(stream, id)

    def answered(self, stream: str, kind: str, said: bool, id: str) -> None:
        """Count one answer. said: whether the broker has confirmed it."""
        name = "router_messages_answered_total" if said else "router_answer_errors_total"
        self._series(name, stream=stream, kind=kind).inc()
        if kind == "nak" and self._defect == "counts_nak":
            self._redelivered(stream, id)

    def dead(self, stream: str, reason: str) -> None:
        """Count one dead letter that this program made."""
        self._series("router_messages_dead_total", stream=stream, reason=reason).inc()

    def connects(self) -> None:
        """Count a new connection."""
        self._series("router_connects_total").inc()

    def connected(self, up: bool) -> None:
        """Set whether the broker answers."""
        self._series("router_broker_connected").set(float(up))

    def pending(self, stream: str, pending: int, unanswered: int | None) -> None:
        """Set what is left in a stream, if the broker reports it."""
        if "router_pending" in self._made:
            self._series("router_pending", stream=stream).set(pending)
            self._series("router_unanswered", stream=stream).set(unanswered or 0)

    def text(self) -> bytes:
        """Return the answer to GET /metrics, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _redelivered(self, stream: str, id: str) -> None:
        match self._defect:
            case "label_missing":
                self._made[REDELIVERED].labels(self._backend).inc()
            case "label_ids":
                self._made[REDELIVERED].labels(self._backend, stream, id).inc()
            case _:
                self._series(REDELIVERED, stream=stream).inc(2 if self._defect == "counts_twice" else 1)

    def _make(self, name: str, one: Mapping[str, Any], values: Mapping[str, Sequence[str]]) -> None:
        labels = ["backend", *values]
        if name == REDELIVERED and self._defect.startswith("label_"):
            labels = ["backend"] if self._defect == "label_missing" else [*labels, "id"]
        made = TYPES[one["type"]](name, one["help"], labels, registry=self._registry)
        self._values[name], self._made[name] = values, made
        if name != REDELIVERED or not self._defect.startswith(("label_", "never_")):
            for series in _each(values):
                made.labels(backend=self._backend, **series)

    def _series(self, name: str, **labels: str) -> Any:
        """Return a series. Raises ValueError if the contract doesn't have it."""
        if name not in self._made:
            raise ValueError(f"over {self._backend} the contract has no metric {name!r}")
        declared = self._values[name]
        if labels.keys() != declared.keys():
            raise ValueError(f"{name} has the labels {', '.join(declared) or '(none)'}, not {', '.join(labels)}")
        for label, value in labels.items():
            if value not in declared[label]:
                raise ValueError(f"{name}: {label}={value!r} is not in the contract: {', '.join(declared[label])}")
        return self._made[name].labels(backend=self._backend, **labels)


def _each(values: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Yield every combination of the labels' values."""
    for told in itertools.product(*values.values()):
        yield dict(zip(values, told, strict=True))
