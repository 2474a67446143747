"""What stands around a backend: failpoints in front of the wire and behind it, counters, the bound on deliveries; and
the tally of what a broker says of deliveries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from failpoints import scenario
from pipelines.router.accounts import Ended
from pipelines.router.backends import Caps, Delivery, Info, Unpublished
from pipelines.router.metrics import Metrics
from pipelines.router.observer import Tally
from pipelines.router.settings import DECISIONS, REQUESTS
from pipelines.router.wire import Wire


@dataclass
class Fake:
    """A backend that does all that it is asked. calls: what it was asked, in order."""

    caps: Caps = field(default_factory=lambda: Caps("window", True, "router", True))
    given: list[Delivery] = field(default_factory=list)
    up: bool = True
    deaf: bool = False
    calls: list[Any] = field(default_factory=list)

    def connect(self) -> None:
        self.calls.append("connect")

    def publish(self, to: str, id: str, payload: bytes) -> None:
        self.calls.append(("publish", to, id))

    def fetch(self, most: int, within_s: float) -> list[Delivery]:
        self.calls.append("fetch")
        return self.given

    def ack(self, delivery: Delivery) -> bool:
        self.calls.append(("ack", delivery.id))
        return not self.deaf

    def nak(self, delivery: Delivery, delay_s: float, why: str) -> bool:
        self.calls.append(("nak", delivery.id))
        return True

    def dead(self, delivery: Delivery, why: str) -> bool:
        self.calls.append(("dead", delivery.id, delivery.attempt, why))
        return True

    def info(self) -> Info:
        return Info(self.up, 0, 0)


def wired(fake: Fake, defect: str = "", most: int | None = 5) -> tuple[Wire, Metrics]:
    metrics = Metrics("jetstream")
    wire = Wire(fake, REQUESTS, metrics, defect, most)
    wire.connect(threading.Event())
    return wire, metrics


def told(metrics: Metrics, name: str, **labels: str) -> float:
    """The value of a series, as Prometheus would read it."""
    for line in metrics.text().decode().splitlines():
        if line.startswith(name + "{") and all(f'{label}="{value}"' in line for label, value in labels.items()):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name} with {labels}")


@pytest.mark.parametrize(("point", "definite", "sent"), [("before", True, False), ("after", False, True)])
def test_a_publish_fails_in_front_of_the_wire_or_behind_it(point: str, definite: bool, sent: bool) -> None:
    """In front of it nothing is sent, and that is known; behind it the broker has it, and nobody knows."""
    fake = Fake()
    wire, metrics = wired(fake)
    with (
        scenario(f"broker::{point}_publish=1*return(away)"),
        pytest.raises(Unpublished, match="away") as raised,
    ):
        wire.publish(DECISIONS.requests, "a", b"")
    assert raised.value.definite == definite
    assert (("publish", "decisions", "a") in fake.calls) == sent
    outcome = "refused" if definite else "unknown"
    assert told(metrics, "router_messages_published_total", stream="decisions", outcome=outcome) == 1


@pytest.mark.parametrize(("point", "given"), [("before", False), ("after", True)])
@pytest.mark.parametrize("kind", ["ack", "nak", "dead"])
def test_an_answer_that_got_none_counts_as_none(point: str, given: bool, kind: str) -> None:
    """Whether or not the broker has it."""
    fake, one = Fake(), Delivery("a", b"", 1, None)
    wire, metrics = wired(fake)

    asks: dict[str, Callable[[Delivery], bool]] = {
        "ack": wire.ack,
        "nak": partial(wire.nak, delay_s=0.0, why=""),
        "dead": partial(wire.dead, why=""),
    }
    with scenario(f"broker::{point}_{kind}=1*return(away)"):
        assert not asks[kind](one)
    assert any(call[0] == kind for call in fake.calls) == given
    assert told(metrics, "router_answer_errors_total", stream="requests", kind=kind) == 1
    assert asks[kind](one)
    assert told(metrics, "router_messages_answered_total", stream="requests", kind=kind) == 1


def test_after_an_answer_that_is_not_confirmed_the_rest_of_a_batch_is_left_to_come_again() -> None:
    """A broker that was started again confirms nothing of it, and each answer would be waited for. A new batch is
    answered as ever."""
    first, second = Delivery("first", b"", 1, None), Delivery("second", b"", 1, None)
    fake = Fake(given=[first, second])
    wire, metrics = wired(fake)
    wire.fetch(10, 0.0)
    fake.deaf = True
    assert not wire.ack(first)
    fake.deaf = False
    assert not wire.ack(second)
    assert ("ack", "second") not in fake.calls
    assert told(metrics, "router_answer_errors_total", stream="requests", kind="ack") == 2
    wire.fetch(10, 0.0)
    assert wire.ack(second)


def test_what_was_handed_out_too_often_is_dead_and_not_handed_on() -> None:
    """The delivery beyond the bound is for its letter alone, which tells it as the others."""
    fake = Fake(given=[Delivery("often", b"", 6, None), Delivery("fine", b"", 5, None)])
    wire, metrics = wired(fake)
    assert [one.id for one in wire.fetch(10, 0.0)] == ["fine"]
    assert ("dead", "often", 6, "handed out 5 times") in fake.calls
    assert told(metrics, "router_messages_dead_total", stream="requests", reason="exhausted") == 1


def test_without_a_bound_the_broker_sees_to_it() -> None:
    """As Kafka does."""
    wire, _ = wired(Fake(given=[Delivery("often", b"", 6, None)]), most=None)
    assert [one.id for one in wire.fetch(10, 0.0)] == ["often"]


def test_a_broker_that_is_away_is_told_and_so_is_its_return() -> None:
    """It is looked at once a second; the defect asks for nothing from then on."""
    fake = Fake(given=[Delivery("a", b"", 1, None)])
    wire, metrics = wired(fake, "forget_after_reconnect")
    fake.up = False
    assert len(wire.fetch(10, 0.0)) == 0
    assert told(metrics, "router_broker_connected") == 0
    assert not wire.up


def test_deliveries_are_tallied_by_request() -> None:
    """Of each the highest count; numbers never fall; what came once is not listed."""
    tally = Tally()
    tally.add([Ended("a", 1), Ended("b", 3)], now_us=10)
    tally.add([Ended("b", 4), Ended("c", 2), Ended("b", 2)], now_us=20)
    assert tally.numbers() == {"deliveries": 9, "acked": 5, "redeliveries": 4}
    assert {one["id"]: one["deliveries"] for one in tally.again(0)} == {"b": 4, "c": 2}
    assert [one["id"] for one in tally.again(21)] == []
