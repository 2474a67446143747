"""The selftest's platform as a broker and its own metrics tell of it: an account of deliveries, one of dead letters,
and the counters of a program; and what can be wrong with each.

Two messages can't be handled: they come five times each, and become dead letters. Two more come again through the
fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gameday.model import Json

__all__ = ["PLANTED", "Counting"]

AGAIN, RESULTS = "worker_again_total", "worker_results_total"
ACCOUNT = "account.again"
COME_S = 3.0
"""When all come again that do, from inject."""

CONTRACT: Json = {
    "prefixes": ["worker_"],
    "variants": {"label": "broker", "values": ["one", "two"]},
    "metrics": {
        AGAIN: {"type": "counter", "help": "Messages that came again.", "labels": {"topic": ["in"]}},
        RESULTS: {"type": "counter", "help": "Results.", "labels": {"outcome": ["done", "refused"]}},
    },
    "rises": [{"metric": AGAIN, "where": {"topic": "in"}, "as": ACCOUNT}],
}

FIRST_US = 1_700_000_000_000_000


def _letter(id: str, **other: Any) -> dict[str, Json]:
    """A dead letter as it should be."""
    told = {"id": id, "reason": "it raises", "attempts": 5, "rejected": False, "expected": True}
    return {**told, "at_us": FIRST_US + 500_000, **other}


@dataclass
class Counting:
    """again: message -> how often it was handed out. expected, letters: what must be dead, and is. rate: how often the
    metric counts each that came again. ended_s: when the worker dies, seconds from inject. labels: of that counter.
    late: whether it is there only since its first event."""

    again: dict[str, int] = field(default_factory=lambda: {"p1": 5, "p2": 5, "a": 2, "b": 2})
    expected: list[str] = field(default_factory=lambda: ["p1", "p2"])
    letters: list[dict[str, Json]] = field(default_factory=lambda: [_letter("p1"), _letter("p2")])
    buried_by: str = "broker"
    rate: int = 1
    ended_s: float | None = None
    labels: dict[str, str] = field(default_factory=lambda: {"broker": "one", "topic": "in"})
    late: bool = False

    def symptoms(self) -> dict[str, Json]:
        """What the run has been told."""
        redelivered = [{"id": id, "deliveries": n} for id, n in self.again.items()]
        return {
            "contract": CONTRACT,
            "accounts": {
                "deliveries": {"redelivered": redelivered, "most": 5, "buried_by": self.buried_by},
                "letters": {
                    "expected": self.expected,
                    "letters": self.letters,
                    "most": 5,
                    "buried_by": self.buried_by,
                },
            },
        }

    def series(self) -> Mapping[str, Callable[[float], float | None]]:
        """Series -> its value by the time from inject, in seconds; None: there is none."""
        counted, results = f"{AGAIN}{_json(self.labels)}", f"{RESULTS}{_json({'broker': 'one', 'outcome': 'done'})}"
        refused = f"{RESULTS}{_json({'broker': 'one', 'outcome': 'refused'})}"

        def again(t: float) -> float:
            return float(sum(n - 1 for n in self.again.values())) if t >= COME_S else 0.0

        def counter(t: float) -> float | None:
            if self.late and t < COME_S:
                return None
            began = again(self.ended_s) if self.ended_s is not None and t >= self.ended_s else 0.0
            return self.rate * (again(t) - began)

        return {
            ACCOUNT: again,
            f"metrics/worker/# counter {AGAIN}": lambda t: 1.0,
            f"metrics/worker/# counter {RESULTS}": lambda t: 1.0,
            f"metrics/worker/{counted}": counter,
            f"metrics/worker/{results}": lambda t: 100.0 + t,
            f"metrics/worker/{refused}": lambda t: 0.0,
            "metrics/worker.series": lambda t: 3.0,
        }


def _json(labels: Mapping[str, str]) -> str:
    return json.dumps(labels, sort_keys=True)


def _set(**values: Any) -> Callable[[Counting], None]:
    def spoil(counting: Counting) -> None:
        for name, value in values.items():
            setattr(counting, name, value)

    return spoil


ONE = {"broker": "one"}

PLANTED: Mapping[str, tuple[Callable[[Counting], None], tuple[str, ...], str]] = {
    "a message handed out six times": (_set(again={"p1": 6, "p2": 5, "a": 2}), ("delivered_at_most",), "fail"),
    "a dead letter that its consumer was handed once more": (
        _set(again={"p1": 6, "p2": 5, "a": 2}, buried_by="consumer"),
        ("delivered_at_most",),
        "pass",
    ),
    "a sound message handed out six times": (
        _set(again={"p1": 5, "p2": 5, "a": 6}, buried_by="consumer"),
        ("delivered_at_most",),
        "fail",
    ),
    "a fault that had nothing come again": (_set(again={"p1": 5, "p2": 5}), ("redelivered",), "invalid"),
    "a dead letter that is missing": (_set(letters=[_letter("p1")]), ("dead_lettered",), "fail"),
    "a dead letter twice": (_set(letters=[*map(_letter, ("p1", "p2", "p2"))]), ("dead_lettered",), "fail"),
    "a dead letter without a reason": (
        _set(letters=[_letter("p1"), _letter("p2", reason="")]),
        ("dead_lettered",),
        "fail",
    ),
    "a dead letter too soon": (_set(letters=[_letter("p1"), _letter("p2", attempts=3)]), ("dead_lettered",), "fail"),
    "a dead letter too late": (
        _set(letters=[_letter("p1"), _letter("p2", attempts=6)]),
        ("dead_lettered",),
        "fail",
    ),
    "a dead letter of its consumer's, after the delivery that is for it alone": (
        _set(letters=[_letter("p1"), _letter("p2", attempts=6)], buried_by="consumer"),
        ("dead_lettered",),
        "pass",
    ),
    "a sound message as a dead letter": (
        _set(letters=[_letter("p1"), _letter("p2"), _letter("a", attempts=2, expected=False)]),
        ("dead_lettered",),
        "fail",
    ),
    "a sound message as a dead letter before the fault": (
        _set(letters=[_letter("p1"), _letter("p2"), _letter("a", expected=False, at_us=FIRST_US - 1)]),
        ("dead_lettered",),
        "fail",
    ),
    "a counter that counts twice": (_set(rate=2), ("metrics_true",), "fail"),
    "a counter that counts nothing": (_set(rate=0), ("metrics_true",), "fail"),
    "a label that is missing": (_set(labels=ONE), ("metrics_true",), "fail"),
    "a message's id as a label": (_set(labels={**ONE, "topic": "in", "id": "a"}), ("metrics_true",), "fail"),
    "a value outside of a label's set": (_set(labels={**ONE, "topic": "out"}), ("metrics_true",), "fail"),
    "a counter that appears with its first event": (_set(late=True), ("metrics_true",), "fail"),
    "a counter whose process died": (_set(ended_s=5.0), ("metrics_true",), "pass"),
}
"""Name -> what is spoiled, which checks must say so, and what."""
